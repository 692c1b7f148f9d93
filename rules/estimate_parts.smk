"""What there is to estimate."""


def registered():
    """Specimens by method, of all registrations that tables and figures show."""
    everywhere = [
        *TABLE1_METHODS,
        *FIGURE_METHODS,
        *CAPTURE_RANGE["methods"],
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
    """Trainings and registrations of the run, with their settings and how many jobs and X-rays there are."""
    curves = [
        with_seed(name, seed)
        for name in LEARNING_CURVES["encoders"]
        for seed in LEARNING_CURVES["seeds"]
    ]
    return plan.costs_of(
        config, registered(), curves, plan.xray_counts(config, SPECIMENS)
    )
