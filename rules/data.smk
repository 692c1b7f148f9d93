"""Download or simulate the dataset, and write one file for each specimen.

Reads the config, or the user's own file in the DeepFluoro layout.
Writes results/downloads/, results/{dataset}/dataset.h5 and results/{dataset}/specimens/{specimen}.h5.
"""


rule download_demo_ct:
    """Download the demo CT and its labels, and check their hashes."""
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
    """Download the DeepFluoro data set from its archive; an interrupted download is resumed."""
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
    """Deform the demo CT to several specimens, simulate their X-rays, and write a file in the DeepFluoro layout."""
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


# The dataset by `dataset.source`, used if the config gives no file.
SOURCES = {
    "demo": rules.make_demo_dataset.output[0],
    "deepfluoro": rules.download_deepfluoro.output[0],
}


rule prepare_specimen:
    """Preprocess one specimen of the dataset, and write it to a file for all later stages."""
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
