"""Tables and figures.

Reads results/{dataset}/specimens/, segmentations/, encoders/, registrations/ and traces/. Writes results/{dataset}/tables/ and figures/.
"""

TABLE1_METHODS = config["tables"]["table1"]["methods"]
TABLE3_PAIRS = table3_pairs(config)
ABLATION = ablation_cells(config)
TABLE2_SEGMENTERS = config["tables"]["table2"]["segmenters"]
FIGURE_METHODS = config["figures"]["methods"]
LEARNING_CURVES = config["figures"]["learning_curves"]


rule table1:
    """Table 1: methods compared, beside the paper's figures."""
    input:
        registrations=expand(
            rules.register.output.registrations,
            method=TABLE1_METHODS,
            specimen=SPECIMENS,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table1.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1", "content": "methods compared"},
        ),
        md=f"{OUT}/tables/table1.md",
        tex=f"{OUT}/tables/table1.tex",
    log:
        f"{LOGS}/table1.log",
    benchmark:
        f"{BENCHMARKS}/table1.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        labels=labels_of(TABLE1_METHODS),
        notes=config["tables"]["notes"],
        seed=config["seed"],
        code=code("table1"),
    script:
        "../workflow_scripts/table1.py"


rule table2:
    """Table 2: Dice of the segmenters on X-rays and DRRs, beside the paper's figures."""
    input:
        dice=expand(
            rules.segment_dice.output.dice,
            segmenter=TABLE2_SEGMENTERS,
            specimen=SPECIMENS,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table2.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2", "content": "segmenters compared"},
        ),
        md=f"{OUT}/tables/table2.md",
        tex=f"{OUT}/tables/table2.tex",
    log:
        f"{LOGS}/table2.log",
    benchmark:
        f"{BENCHMARKS}/table2.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        segmenters=described(TABLE2_SEGMENTERS),
        notes=config["tables"]["notes"],
        seed=config["seed"],
        code=code("table2"),
    script:
        "../workflow_scripts/table2.py"


rule table3:
    """Table 3: similarities with and without the ROI term, beside the paper's figures."""
    input:
        registrations=expand(
            rules.register.output.registrations,
            method=[
                name
                for pair in TABLE3_PAIRS.values()
                for name in (*pair.without, *pair.changed)
            ],
            specimen=SPECIMENS,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table3.csv",
            caption="../report/table3.rst",
            category="Tables",
            labels={"table": "3", "content": "similarities with and without ROIs"},
        ),
        md=f"{OUT}/tables/table3.md",
        tex=f"{OUT}/tables/table3.tex",
    log:
        f"{LOGS}/table3.log",
    benchmark:
        f"{BENCHMARKS}/table3.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        pairs={name: vars(pair) for name, pair in TABLE3_PAIRS.items()},
        notes=config["tables"]["notes"],
        seed=config["seed"],
        code=code("table3"),
    script:
        "../workflow_scripts/table3.py"


rule ablation:
    """What ROI terms and weights bring, by optimizer; not in the paper."""
    input:
        registrations=expand(
            rules.register.output.registrations,
            method=[name for cell in ABLATION for name in cell.methods],
            specimen=SPECIMENS,
        ),
    output:
        csv=report(
            f"{OUT}/tables/ablation.csv",
            caption="../report/ablation.rst",
            category="Tables",
            labels={"table": "ablation", "content": "ROI terms and weights"},
        ),
        md=f"{OUT}/tables/ablation.md",
        tex=f"{OUT}/tables/ablation.tex",
    log:
        f"{LOGS}/ablation.log",
    benchmark:
        f"{BENCHMARKS}/ablation.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        cells=[vars(cell) for cell in ABLATION],
        notes=config["tables"]["notes"],
        seed=config["seed"],
        code=code("ablation"),
    script:
        "../workflow_scripts/ablation.py"


rule figure1:
    """Figure 1: bones and landmarks in 3D beside the 2D mask."""
    input:
        specimen=expand(rules.prepare_specimen.output, specimen=SPECIMENS[0]),
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
    """Typical and worst segmentations of one segmenter, X-ray and DRR side by side."""
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
    """Figure 4: landmarks under each method's estimate and under the truth."""
    input:
        specimens=expand(rules.prepare_specimen.output, specimen=SPECIMENS),
        registrations=expand(
            rules.register.output.registrations,
            method=FIGURE_METHODS,
            specimen=SPECIMENS,
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
        labels=labels_of(FIGURE_METHODS),
        dpi=config["figures"]["dpi"],
        code=code("figure4"),
    script:
        "../workflow_scripts/figure4.py"


rule strips:
    """Every X-ray: the DRR at the start, at the end and at the truth."""
    input:
        specimens=expand(rules.prepare_specimen.output, specimen=SPECIMENS),
        registrations=expand(
            rules.register.output.registrations, specimen=SPECIMENS, allow_missing=True
        ),
        traces=expand(
            rules.register.output.traces, specimen=SPECIMENS, allow_missing=True
        ),
    output:
        report(
            expand(
                f"{OUT}/figures/strips/{{method}}/{{specimen}}.png",
                specimen=SPECIMENS,
                allow_missing=True,
            ),
            caption="../report/strips.rst",
            category="Every X-ray",
            labels={"method": "{method}"},
        ),
    log:
        f"{LOGS}/strips/{{method}}.log",
    benchmark:
        f"{BENCHMARKS}/strips/{{method}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
        gpu=0,
    params:
        label=lambda wildcards: config["methods"][wildcards.method]["label"],
        dpi=config["figures"]["dpi"],
        code=code("strips"),
    script:
        "../workflow_scripts/strips.py"


rule convergence:
    """Objective and error by iteration."""
    input:
        traces=expand(
            rules.register.output.traces, method=FIGURE_METHODS, specimen=SPECIMENS
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
        labels=labels_of(FIGURE_METHODS),
        dpi=config["figures"]["dpi"],
        code=code("convergence"),
    script:
        "../workflow_scripts/convergence.py"


rule learning_curves:
    """Validation error of encoders while they learn."""
    input:
        histories=expand(
            rules.train_encoder.output.history,
            encoder=[
                seeded(encoder, seed)
                for encoder in LEARNING_CURVES["encoders"]
                for seed in LEARNING_CURVES["seeds"]
            ],
            specimen=SPECIMENS,
        ),
    output:
        png=report(
            f"{OUT}/figures/learning_curves.png",
            caption="../report/learning_curves.rst",
            category="Figures",
            labels={
                "figure": "learning curves",
                "content": "encoders while they learn",
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


rule tables:
    input:
        rules.table1.output,
        rules.table2.output if TABLE2_SEGMENTERS else [],
        rules.table3.output if TABLE3_PAIRS else [],
        rules.ablation.output if ABLATION else [],


rule figures:
    input:
        rules.figure1.output,
        expand(rules.segmentations.output, segmenter=TABLE2_SEGMENTERS),
        rules.learning_curves.output if LEARNING_CURVES["encoders"] else [],
        rules.figure4.output,
        rules.convergence.output,
        expand(rules.strips.output, method=FIGURE_METHODS),
