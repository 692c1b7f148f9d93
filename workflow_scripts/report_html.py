"""Write the self-contained HTML report."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads) as logger:
    from dataclasses import replace
    from pathlib import Path

    import pandas as pd
    import yaml

    from roireg.data.pose_results import read_traces
    from roireg.data.records import read_specimen
    from roireg.data.results import read_registrations
    from roireg.files import atomic_path
    from roireg.report.gallery import Gallery, add_specimen, from_best_to_worst
    from roireg.report.page import (
        figure_section,
        page,
        run_times,
        table_section,
        training_seconds,
        which_are_shown,
    )

    params, inputs = snakemake.params, snakemake.input
    files = zip(params.registrations, inputs.registrations, inputs.traces, strict=True)
    parts, traces = [], {}
    for name, registrations, trace in files:
        parts.append(read_registrations([registrations]).assign(specimen=name))
        traces[name, parts[-1]["method"].iloc[0]] = trace
    rows = pd.concat(parts, ignore_index=True)
    gallery = Gallery()
    named = list(zip(params.specimens, inputs.specimens, strict=True))
    for name, path in progress(named, len(named), "specimen"):
        patient, xrays = read_specimen(path)
        of_methods = {method: read_traces(traces[name, method]) for method in params.labels}
        own = rows[rows["specimen"] == name]
        own = own[own["projection"].isin(from_best_to_worst(own, params.xrays_per_specimen))]
        add_specimen(gallery, replace(patient, name=name), xrays, own, of_methods, params.labels)
    tables = [
        table_section(title, Path(path).read_text(encoding="utf-8"))
        for title, path in zip(params.tables, inputs.tables, strict=True)
    ]
    figures = [
        figure_section(title, caption, path)
        for (title, caption), path in zip(params.figures, inputs.figures, strict=True)
    ]
    trainings = training_seconds(params.trainings, inputs.metrics)
    settings = yaml.safe_dump(params.settings, sort_keys=False)
    pictured = len({(entry.specimen, entry.projection) for entry in gallery.entries})
    total = len(rows[["specimen", "projection"]].drop_duplicates())
    times = run_times(rows, trainings, params.labels)
    html = page(params.title, tables, figures, gallery, which_are_shown(pictured, total), times, settings)
    with atomic_path(snakemake.output[0]) as path:
        path.write_text(html, encoding="utf-8")
    logger.info("%d of %d X-rays, %.1f MB", pictured, total, len(html) / 1e6)
