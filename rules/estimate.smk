"""What a run will cost: `make estimate`. It needs no data.

Reads nothing but the config. Writes results/{dataset}/estimate.md.
"""


rule estimate:
    """Core-hours, GPU-hours and disk of the run, from steps measured here."""
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
        code=code("estimate"),
    script:
        "../workflow_scripts/estimate.py"
