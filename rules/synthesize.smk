"""Render DRRs of every specimen at random poses, with ROI maps: training data without annotation.

Reads results/{dataset}/specimens/. Writes results/{dataset}/drrs/{specimen}.h5.
"""


rule synthesize_drrs:
    """Render the pool of DRRs of one specimen, which all encoders and segmenters are trained with."""
    input:
        specimen=rules.prepare_specimen.output,
    output:
        f"{OUT}/drrs/{{specimen}}.h5",
    log:
        f"{LOGS}/synthesize_drrs/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/synthesize_drrs/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=plan.synthesis_memory(config),
        runtime=120,
        gpu=0,
    params:
        synthesize=config["synthesize"],
        rois=config["rois"],
        attenuation=ATTENUATION,
        render=config["render"],
        seed=config["seed"],
        code=code("synthesize_drrs"),
    script:
        "../workflow_scripts/synthesize_drrs.py"
