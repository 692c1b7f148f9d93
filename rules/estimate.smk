"""Estimate the time and disk space of a run (`make estimate`); needs no data.

Reads the config only. Writes results/{dataset}/estimate.md.
"""


rule estimate:
    """Measure single steps on this machine, and estimate core-hours, GPU-hours and disk space of the run."""
    output:
        f"results/{DATASET}/estimate.md",
    log:
        f"results/{DATASET}/logs/estimate.log",
    benchmark:
        f"results/{DATASET}/benchmarks/estimate.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=16000,
        runtime=120,
        gpu=config["training"]["gpu"],
    params:
        plan=lambda wildcards: planned(),
        settings={
            key: config[key]
            for key in ("prepare", "synthesize", "rois", "training", "registration")
        },
        code=code("estimate", plan.training_modules(config, config["segment"])),
    script:
        "../workflow_scripts/estimate.py"
