"""Collects the trainings and registrations of a run, for the estimate of its costs."""

from roireg.workflow.disk_space import data_bytes


def registered():
    """For each method that tables or figures show, the specimens that it registers."""
    everywhere = [
        *TABLE1_METHODS,
        *FIGURE_METHODS,
        *CAPTURE_RANGE["methods"],
        *BONES["methods"],
        *(
            name
            for pair in TABLE3_PAIRS.values()
            for name in (*pair.without, *pair.changed)
        ),
        *(name for cell in ABLATION for name in cell.methods),
    ]
    return {name: [CASE] for name in CASE_STUDY["methods"]} | dict.fromkeys(
        everywhere, SPECIMENS
    )


def planned():
    """Trainings and registrations of the run, with their settings and numbers of jobs and X-rays."""
    curves = [
        with_seed(name, seed)
        for name in LEARNING_CURVES["encoders"]
        for seed in LEARNING_CURVES["seeds"]
    ]
    xrays = plan.xray_counts(config, SPECIMENS)
    costs = plan.costs_of(config, registered(), curves, xrays)
    return costs | {"data_bytes": data_bytes(config, xrays) * max(len(CONDITIONS), 1)}
