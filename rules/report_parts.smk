"""Collects the tables, figures and metrics of the report, with their titles."""


def of_conditions(path):
    """The path in each condition, by the prefix of titles in that condition."""
    if not CONDITIONS:
        return {"": path}
    return {
        f"{name}: ": expand(path, condition=name, allow_missing=True)[0]
        for name in CONDITIONS
    }


def shown_specimens():
    """Names of specimens in the report, in the order of its input files."""
    return [
        f"{prefix}{specimen}" for prefix in of_conditions(OUT) for specimen in SPECIMENS
    ]


def report_files(pattern):
    """For each method of Table 1 and each specimen: the specimen's name in the report, and the path of a file."""
    return [
        (f"{prefix}{specimen}", path.format(method=method, specimen=specimen))
        for prefix, path in of_conditions(pattern).items()
        for method in TABLE1_METHODS
        for specimen in SPECIMENS
    ]


def report_tables():
    """Titles of the Markdown tables, and their paths."""
    tables = {"Table 1: methods": rules.table1.output.md}
    if TABLE2_SEGMENTERS:
        tables["Table 2: segmenters"] = rules.table2.output.md
    if TABLE3_PAIRS:
        tables["Table 3: similarities with and without ROIs"] = rules.table3.output.md
    if ABLATION:
        tables["Ablation: ROI terms and weights"] = rules.ablation.output.md
    if BONES["methods"]:
        tables["Bones with poses of their own"] = rules.bones.output.md
    return [
        (prefix + title, path)
        for title, pattern in tables.items()
        for prefix, path in of_conditions(pattern).items()
    ]


def report_figures():
    """Titles of the PNG figures, their paths, and their captions."""
    figures = {"Figure 1": (rules.figure1.output.png, "figure1")}
    figures["Figure 4"] = (rules.figure4.output.png, "figure4")
    if CASE_STUDY["methods"]:
        figures["Figure 5"] = (rules.figure5.output.png, "figure5")
    figures["Errors"] = (rules.errors.output.png, "errors")
    if CAPTURE_RANGE["methods"]:
        figures["Capture range"] = (rules.capture_range.output.png, "capture_range")
    figures["Convergence"] = (rules.convergence.output.png, "convergence")
    if LEARNING_CURVES["encoders"]:
        figures["Learning curves"] = (
            rules.learning_curves.output.png,
            "learning_curves",
        )
    for name in TABLE2_SEGMENTERS:
        path = expand(
            rules.segmentations.output.png, segmenter=name, allow_missing=True
        )[0]
        label = config["segment"][name]["label"]
        figures[f"Segmentations: {label}"] = (path, "segmentations")
    return [
        (
            prefix + title,
            path,
            (BASE / "report" / f"{name}.rst").read_text(encoding="utf-8"),
        )
        for title, (pattern, name) in figures.items()
        for prefix, path in of_conditions(pattern).items()
    ]


def report_trainings():
    """Label and metrics file of every trained network in Tables 1 and 2."""
    segmenters = [
        (config["segment"][name]["label"], f"{OUT}/segmenters/{name}")
        for name in TABLE2_SEGMENTERS
    ]
    encoders = [
        (f"encoder {config['encoders'][name]['label']}", f"{OUT}/encoders/{name}")
        for name in plan.encoders_of(config, TABLE1_METHODS)
    ]
    return [
        (prefix + label, f"{folder}/{specimen}/metrics.json")
        for label, pattern in segmenters + encoders
        for prefix, folder in of_conditions(pattern).items()
        for specimen in SPECIMENS
    ]
