"""Pose encoders: train each one for each specimen, and estimate the poses of the specimen's X-rays.

Reads results/{dataset}/specimens/, drrs/ and segmenters/. Writes results/{dataset}/encoders/{encoder}/{specimen}/, where
{encoder} is a name of `encoders`, or name@n for the same encoder trained with n added to the seed.
"""


rule train_encoder:
    """Train a pose encoder of one specimen on DRRs of that specimen."""
    input:
        unpack(encoder_data),
        specimen=rules.prepare_specimen.output,
    output:
        model=f"{OUT}/encoders/{{encoder}}/{{specimen}}/model.safetensors",
        metrics=f"{OUT}/encoders/{{encoder}}/{{specimen}}/metrics.json",
        history=f"{OUT}/encoders/{{encoder}}/{{specimen}}/history.csv",
    log:
        f"{LOGS}/train_encoder/{{encoder}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/train_encoder/{{encoder}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    # On two cores, two trainings at once take half the time of two in turn with two threads each.
    threads: 1
    resources:
        mem_mb=4000,
        runtime=2880,
        gpu=config["training"]["gpu"],
    params:
        settings=lambda wildcards: plan.encoder_settings(config, wildcards.encoder),
        encoder=lambda wildcards: seed_parts(wildcards.encoder)[0],
        synthesize=config["synthesize"],
        rois=config["rois"],
        attenuation=ATTENUATION,
        render=config["render"],
        seed=lambda wildcards: config["seed"] + seed_parts(wildcards.encoder)[1],
        code=code("train_encoder"),
    script:
        "../workflow_scripts/train_encoder.py"


rule estimate_poses:
    """Estimate the poses of all X-rays of one specimen with its encoder."""
    input:
        specimen=rules.prepare_specimen.output,
        model=rules.train_encoder.output.model,
    output:
        poses=f"{OUT}/encoders/{{encoder}}/{{specimen}}/poses.csv",
    log:
        f"{LOGS}/estimate_poses/{{encoder}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/estimate_poses/{{encoder}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
        gpu=0,
    params:
        code=code("estimate_poses"),
    script:
        "../workflow_scripts/estimate_poses.py"
