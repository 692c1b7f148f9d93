"""The preoperative stage: one pose encoder per encoder entry and specimen, and its reading of the X-rays.

Reads results/{dataset}/specimens/, drrs/ and segmenters/. Writes results/{dataset}/encoders/{encoder}/{specimen}/, where
{encoder} is a name, or name@n for the same with n added to the seed.
"""


rule train_encoder:
    """An encoder of one patient's pose, trained on DRRs of that patient."""
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
    # Two trainings side by side on two cores take half the time of two in turn that share the cores.
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
    """The encoder's pose of every X-ray of one specimen."""
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
