"""Check that the dataset follows the documented conventions, before trainings. The demo data set is not checked.

Reads the dataset. Writes results/{dataset}/check/: check.md, check.csv, {specimen}.png.
"""


rule check_dataset:
    """Compare landmarks, projected labels and DRRs at the stored poses with the X-rays; report what to set or correct."""
    input:
        dataset=rules.prepare_specimen.input.dataset,
    output:
        page=f"{OUT}/check/check.md",
        table=f"{OUT}/check/check.csv",
        pictures=expand(
            f"{OUT}/check/{{specimen}}.png", specimen=SPECIMENS, allow_missing=True
        ),
    log:
        f"{LOGS}/check_dataset.log",
    benchmark:
        f"{BENCHMARKS}/check_dataset.tsv"
    # Runs before trainings, but trainings do not depend on it.
    priority: 100
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=60,
        gpu=0,
    params:
        specimens=SPECIMENS,
        prepare={
            key: config["prepare"][key]
            for key in (
                "ct_shift_voxels",
                "attenuation",
                "bone_multiplier",
                "mu_water_per_mm",
                "mu_bone_per_mm",
            )
        },
        rois=config["rois"],
        xrays=8,
        expected_xrays=config["deepfluoro"]["xrays"],
        code=code("check_dataset"),
    script:
        "../workflow_scripts/check_dataset.py"
