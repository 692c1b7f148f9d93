"""What the report holds, by title."""


def report_tables():
    """Markdown tables by title."""
    shown = {"Table 1: methods": rules.table1.output.md}
    if TABLE2_SEGMENTERS:
        shown["Table 2: segmenters"] = rules.table2.output.md
    if TABLE3_PAIRS:
        shown["Table 3: similarities with and without ROIs"] = rules.table3.output.md
    if ABLATION:
        shown["Ablation: ROI terms and weights"] = rules.ablation.output.md
    return shown


def report_figures():
    """PNG figures by title, with their captions."""
    shown = {"Figure 1": (rules.figure1.output.png, "figure1")}
    shown["Figure 4"] = (rules.figure4.output.png, "figure4")
    if CASE_STUDY["methods"]:
        shown["Figure 5"] = (rules.figure5.output.png, "figure5")
    shown["Errors"] = (rules.errors.output.png, "errors")
    if CAPTURE_RANGE["methods"]:
        shown["Capture range"] = (rules.capture_range.output.png, "capture_range")
    shown["Convergence"] = (rules.convergence.output.png, "convergence")
    if LEARNING_CURVES["encoders"]:
        shown["Learning curves"] = (
            rules.learning_curves.output.png,
            "learning_curves",
        )
    for name in TABLE2_SEGMENTERS:
        path = rules.segmentations.output.png.format(segmenter=name)
        shown[f"Segmentations: {config['segment'][name]['label']}"] = (
            path,
            "segmentations",
        )
    return {
        title: (path, (BASE / "report" / f"{name}.rst").read_text())
        for title, (path, name) in shown.items()
    }


def report_trainings():
    """Label and metrics file of every network that the tables show."""
    segmenters = [
        (config["segment"][name]["label"], f"{OUT}/segmenters/{name}")
        for name in TABLE2_SEGMENTERS
    ]
    encoders = [
        (f"encoder {config['encoders'][name]['label']}", f"{OUT}/encoders/{name}")
        for name in encoders_of(TABLE1_METHODS)
    ]
    return [
        (label, f"{folder}/{specimen}/metrics.json")
        for label, folder in segmenters + encoders
        for specimen in SPECIMENS
    ]
