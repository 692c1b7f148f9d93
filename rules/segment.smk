"""ROI segmentation: train each segmenter without each specimen, and measure its Dice on that specimen.

Reads results/{dataset}/specimens/ and drrs/. Writes results/{dataset}/segmenters/{segmenter}/{specimen}/, where
{specimen} is the one LEFT OUT of the training, and results/{dataset}/segmentations/{segmenter}/{specimen}.{csv,h5}.
"""


rule train_segmenter:
    """Train a segmenter on all specimens but one."""
    input:
        unpack(training_data),
    output:
        model=f"{OUT}/segmenters/{{segmenter}}/{{specimen}}/model.safetensors",
        metrics=f"{OUT}/segmenters/{{segmenter}}/{{specimen}}/metrics.json",
    log:
        f"{LOGS}/train_segmenter/{{segmenter}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/train_segmenter/{{segmenter}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    # On two cores, two trainings at once take half the time of two in turn with two threads each.
    threads: 1
    resources:
        mem_mb=lambda wildcards: plan.segmenter_memory(config, wildcards.segmenter),
        runtime=1440,
        gpu=config["training"]["gpu"],
    params:
        settings=lambda wildcards: plan.segmenter_settings(config, wildcards.segmenter),
        rois=config["rois"],
        seed=config["seed"],
        code=lambda wildcards: code(
            "train_segmenter", plan.training_modules(config, [wildcards.segmenter])
        ),
    script:
        "../workflow_scripts/train_segmenter.py"


rule segment_dice:
    """Measure the Dice of one segmenter on X-rays and DRRs of the specimen that it was trained without."""
    input:
        specimen=rules.prepare_specimen.output,
        model=f"{OUT}/segmenters/{{segmenter}}/{{specimen}}/model.safetensors",
    output:
        dice=f"{OUT}/segmentations/{{segmenter}}/{{specimen}}.csv",
        maps=f"{OUT}/segmentations/{{segmenter}}/{{specimen}}.h5",
    log:
        f"{LOGS}/segment_dice/{{segmenter}}/{{specimen}}.log",
    benchmark:
        f"{BENCHMARKS}/segment_dice/{{segmenter}}/{{specimen}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=config["training"]["gpu"],
    params:
        rois=config["rois"],
        render=config["render"],
        code=code("segment_dice"),
    script:
        "../workflow_scripts/segment_dice.py"
