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
    xrays = xray_counts(config, SPECIMENS)
    methods = registered()
    curves = [
        seeded(name, seed)
        for name in LEARNING_CURVES["encoders"]
        for seed in LEARNING_CURVES["seeds"]
    ]
    encoders = list(dict.fromkeys([*encoders_of(methods), *curves]))
    guides = [config["encoders"][seed_parts(name)[0]] for name in encoders]
    segmenters = dict.fromkeys(
        [
            *TABLE2_SEGMENTERS,
            *segmenters_for(methods),
            *(guide["segmenter"] for guide in guides if guide["loss"]["roi"] > 0),
        ]
    )
    per_job = config["registration"]["xrays_per_job"]
    plan = {"segmenters": {}, "encoders": {}, "methods": {}}
    for name in segmenters:
        settings = segmenter_settings(SimpleNamespace(segmenter=name))
        plan["segmenters"][name] = {"settings": settings, "jobs": len(SPECIMENS)}
    for name in encoders:
        plan["encoders"][name] = {
            "settings": encoder_settings(SimpleNamespace(encoder=name)),
            "segmenter": config["encoders"][seed_parts(name)[0]]["segmenter"],
            "jobs": len(SPECIMENS),
        }
    for name, specimens in methods.items():
        limit = config["methods"][name].get("xrays")
        counts = [min(xrays[one], limit or xrays[one]) for one in specimens]
        plan["methods"][name] = {
            "settings": method_settings(name),
            "jobs": sum(len(part_names(count, per_job or count)) for count in counts),
            "xrays": sum(counts),
        }
    return plan
