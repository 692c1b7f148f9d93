"""The figures.

Reads results/{dataset}/specimens/, segmentations/, encoders/, registrations/ and traces/. Writes results/{dataset}/figures/.
"""

FIGURE_METHODS = config["figures"]["methods"]
LEARNING_CURVES = config["figures"]["learning_curves"]
CASE_STUDY = config["figures"]["case_study"]
CASE = CASE_STUDY["specimen"] or SPECIMENS[0]
CAPTURE_RANGE = config["figures"]["capture_range"]


rule figure1:
    """Figure 1: ROIs and landmarks in 3D and in an X-ray."""
    input:
        specimen=expand(
            rules.prepare_specimen.output, specimen=SPECIMENS[0], allow_missing=True
        ),
    output:
        png=report(
            f"{OUT}/figures/figure1.png",
            caption="../report/figure1.rst",
            category="Figures",
            labels={"figure": "1", "content": "ROIs and landmarks"},
        ),
        pdf=f"{OUT}/figures/figure1.pdf",
    log:
        f"{LOGS}/figure1.log",
    benchmark:
        f"{BENCHMARKS}/figure1.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        rois=config["rois"],
        dpi=config["figures"]["dpi"],
        code=code("figure1"),
    script:
        "../workflow_scripts/figure1.py"


rule segmentations:
    """Typical and worst segmentation of one segmenter, on X-ray and DRR."""
    input:
        maps=expand(
            rules.segment_dice.output.maps, specimen=SPECIMENS, allow_missing=True
        ),
    output:
        png=report(
            f"{OUT}/figures/segmentations/{{segmenter}}.png",
            caption="../report/segmentations.rst",
            category="Figures",
            labels={
                "figure": "segmentations",
                "content": "typical and worst of {segmenter}",
            },
        ),
        pdf=f"{OUT}/figures/segmentations/{{segmenter}}.pdf",
    log:
        f"{LOGS}/segmentations/{{segmenter}}.log",
    benchmark:
        f"{BENCHMARKS}/segmentations/{{segmenter}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        specimens=SPECIMENS,
        label=lambda wildcards: config["segment"][wildcards.segmenter]["label"],
        rois=config["rois"],
        dpi=config["figures"]["dpi"],
        code=code("segmentations"),
    script:
        "../workflow_scripts/segmentations.py"


rule figure4:
    """Figure 4: landmarks and pelvis under each method's estimate and under the truth."""
    input:
        specimens=expand(
            rules.prepare_specimen.output, specimen=SPECIMENS, allow_missing=True
        ),
        registrations=expand(
            REGISTRATIONS,
            method=FIGURE_METHODS,
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        png=report(
            f"{OUT}/figures/figure4.png",
            caption="../report/figure4.rst",
            category="Figures",
            labels={"figure": "4", "content": "landmarks under estimate and truth"},
        ),
        pdf=f"{OUT}/figures/figure4.pdf",
    log:
        f"{LOGS}/figure4.log",
    benchmark:
        f"{BENCHMARKS}/figure4.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        labels=plan.labels_of(config, FIGURE_METHODS),
        dpi=config["figures"]["dpi"],
        code=code("figure4"),
    script:
        "../workflow_scripts/figure4.py"


rule figure5:
    """Figure 5: Dice of segmenters and landmarks in 3D for one patient."""
    input:
        specimen=expand(
            rules.prepare_specimen.output, specimen=CASE, allow_missing=True
        ),
        dice=expand(
            rules.segment_dice.output.dice,
            segmenter=CASE_STUDY["segmenters"],
            specimen=CASE,
            allow_missing=True,
        ),
        registrations=expand(
            REGISTRATIONS,
            method=CASE_STUDY["methods"],
            specimen=CASE,
            allow_missing=True,
        ),
    output:
        png=report(
            f"{OUT}/figures/figure5.png",
            caption="../report/figure5.rst",
            category="Figures",
            labels={"figure": "5", "content": "case study"},
        ),
        pdf=f"{OUT}/figures/figure5.pdf",
    log:
        f"{LOGS}/figure5.log",
    benchmark:
        f"{BENCHMARKS}/figure5.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        segmenters={
            name: config["segment"][name]["label"] for name in CASE_STUDY["segmenters"]
        },
        methods=plan.labels_of(config, CASE_STUDY["methods"]),
        dpi=config["figures"]["dpi"],
        code=code("figure5"),
    script:
        "../workflow_scripts/figure5.py"


rule errors:
    """Fraction of X-rays with an error below x, for the methods of Table 1."""
    input:
        registrations=expand(
            REGISTRATIONS,
            method=TABLE1_METHODS,
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        png=report(
            f"{OUT}/figures/errors.png",
            caption="../report/errors.rst",
            category="Figures",
            labels={
                "figure": "errors",
                "content": "fraction of X-rays below an error",
            },
        ),
        pdf=f"{OUT}/figures/errors.pdf",
    log:
        f"{LOGS}/errors.log",
    benchmark:
        f"{BENCHMARKS}/errors.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        labels=plan.labels_of(config, TABLE1_METHODS),
        dpi=config["figures"]["dpi"],
        code=code("errors"),
    script:
        "../workflow_scripts/errors.py"


rule capture_range:
    """Fraction of successfully registered X-rays, by initial error."""
    input:
        registrations=expand(
            REGISTRATIONS,
            method=CAPTURE_RANGE["methods"],
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        png=report(
            f"{OUT}/figures/capture_range.png",
            caption="../report/capture_range.rst",
            category="Figures",
            labels={"figure": "capture range", "content": "success by initial error"},
        ),
        pdf=f"{OUT}/figures/capture_range.pdf",
    log:
        f"{LOGS}/capture_range.log",
    benchmark:
        f"{BENCHMARKS}/capture_range.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        labels=plan.labels_of(config, CAPTURE_RANGE["methods"]),
        edges_mm=CAPTURE_RANGE["edges_mm"],
        seed=config["seed"],
        dpi=config["figures"]["dpi"],
        code=code("capture_range"),
    script:
        "../workflow_scripts/capture_range.py"


rule convergence:
    """Objective and error by iteration."""
    input:
        traces=expand(
            TRACES, method=FIGURE_METHODS, specimen=SPECIMENS, allow_missing=True
        ),
    output:
        png=report(
            f"{OUT}/figures/convergence.png",
            caption="../report/convergence.rst",
            category="Figures",
            labels={
                "figure": "convergence",
                "content": "objective and error by iteration",
            },
        ),
        pdf=f"{OUT}/figures/convergence.pdf",
    log:
        f"{LOGS}/convergence.log",
    benchmark:
        f"{BENCHMARKS}/convergence.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        labels=plan.labels_of(config, FIGURE_METHODS),
        dpi=config["figures"]["dpi"],
        code=code("convergence"),
    script:
        "../workflow_scripts/convergence.py"


rule learning_curves:
    """Validation error of encoders during training."""
    input:
        histories=expand(
            rules.train_encoder.output.history,
            encoder=[
                with_seed(encoder, seed)
                for encoder in LEARNING_CURVES["encoders"]
                for seed in LEARNING_CURVES["seeds"]
            ],
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        png=report(
            f"{OUT}/figures/learning_curves.png",
            caption="../report/learning_curves.rst",
            category="Figures",
            labels={
                "figure": "learning curves",
                "content": "validation error of encoders",
            },
        ),
        pdf=f"{OUT}/figures/learning_curves.pdf",
    log:
        f"{LOGS}/learning_curves.log",
    benchmark:
        f"{BENCHMARKS}/learning_curves.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        labels={
            name: config["encoders"][name]["label"]
            for name in LEARNING_CURVES["encoders"]
        },
        dpi=config["figures"]["dpi"],
        code=code("learning_curves"),
    script:
        "../workflow_scripts/learning_curves.py"


rule figures:
    input:
        everywhere(rules.figure1.output),
        everywhere(
            expand(
                rules.segmentations.output,
                segmenter=TABLE2_SEGMENTERS,
                allow_missing=True,
            )
        ),
        everywhere(rules.learning_curves.output) if LEARNING_CURVES["encoders"] else [],
        everywhere(rules.figure4.output),
        everywhere(rules.figure5.output) if CASE_STUDY["methods"] else [],
        everywhere(rules.errors.output),
        everywhere(rules.capture_range.output) if CAPTURE_RANGE["methods"] else [],
        everywhere(rules.convergence.output),
