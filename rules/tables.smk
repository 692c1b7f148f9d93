"""The tables.

Reads results/{dataset}/segmentations/, registrations/ and bones/. Writes results/{dataset}/tables/.
"""

TABLE1_METHODS = config["tables"]["table1"]["methods"]
TABLE3_PAIRS = table3_pairs(config)
ABLATION = ablation_cells(config)
BONES = config["bones"]
TABLE2_SEGMENTERS = config["tables"]["table2"]["segmenters"]


rule table1:
    """Table 1: comparison of methods, beside the paper's results."""
    input:
        registrations=expand(
            REGISTRATIONS,
            method=TABLE1_METHODS,
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table1.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1", "content": "comparison of methods"},
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
        labels=plan.labels_of(config, TABLE1_METHODS),
        notes=table_notes,
        seed=config["seed"],
        code=code("table1"),
    script:
        "../workflow_scripts/table1.py"


rule table2:
    """Table 2: Dice of the segmenters on X-rays and DRRs, beside the paper's results."""
    input:
        dice=expand(
            rules.segment_dice.output.dice,
            segmenter=TABLE2_SEGMENTERS,
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table2.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2", "content": "comparison of segmenters"},
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
        segmenters=plan.described(config, TABLE2_SEGMENTERS),
        notes=table_notes,
        seed=config["seed"],
        code=code("table2"),
    script:
        "../workflow_scripts/table2.py"


rule table3:
    """Table 3: similarities without and with the ROI term, beside the paper's results."""
    input:
        registrations=expand(
            REGISTRATIONS,
            method=[
                name
                for pair in TABLE3_PAIRS.values()
                for name in (*pair.without, *pair.changed)
            ],
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        csv=report(
            f"{OUT}/tables/table3.csv",
            caption="../report/table3.rst",
            category="Tables",
            labels={
                "table": "3",
                "content": "similarities without and with the ROI term",
            },
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
        notes=table_notes,
        seed=config["seed"],
        code=code("table3"),
    script:
        "../workflow_scripts/table3.py"


rule ablation:
    """Ablation: effect of ROI terms and pixel weights, by optimizer; not in the paper."""
    input:
        registrations=expand(
            REGISTRATIONS,
            method=[name for cell in ABLATION for name in cell.methods],
            specimen=SPECIMENS,
            allow_missing=True,
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
        notes=table_notes,
        seed=config["seed"],
        code=code("ablation"),
    script:
        "../workflow_scripts/ablation.py"


rule bones:
    """Bones registered from the pose of the whole CT, before and after; not in the paper."""
    input:
        bones=expand(
            rules.register_bones.output,
            method=BONES["methods"],
            specimen=SPECIMENS,
            allow_missing=True,
        ),
    output:
        csv=report(
            f"{OUT}/tables/bones.csv",
            caption="../report/bones.rst",
            category="Tables",
            labels={"table": "bones", "content": "bones with poses of their own"},
        ),
        md=f"{OUT}/tables/bones.md",
        tex=f"{OUT}/tables/bones.tex",
    log:
        f"{LOGS}/bones.log",
    benchmark:
        f"{BENCHMARKS}/bones.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    params:
        labels=plan.labels_of(config, BONES["methods"]),
        notes=table_notes,
        seed=config["seed"],
        code=code("bones"),
    script:
        "../workflow_scripts/bones.py"


rule tables:
    input:
        everywhere(rules.table1.output),
        everywhere(rules.table2.output) if TABLE2_SEGMENTERS else [],
        everywhere(rules.table3.output) if TABLE3_PAIRS else [],
        everywhere(rules.ablation.output) if ABLATION else [],
        everywhere(rules.bones.output) if BONES["methods"] else [],
