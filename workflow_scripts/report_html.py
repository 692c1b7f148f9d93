"""The report: one self-contained page."""

from roireg.job import job, progress

with job(snakemake.log[0], snakemake.threads) as logger:
    import json
    from pathlib import Path

    import yaml

    from roireg.files import atomic_path
    from roireg.report.gallery import Gallery, add_specimen
    from roireg.report.page import figure_section, page, run_times, table_section
    from roireg.results import read_registrations, read_traces
    from roireg.specimen import read_specimen

    params, inputs = snakemake.params, snakemake.input
    rows = read_registrations(inputs.registrations)
    gallery = Gallery()
    traces = dict(zip(params.traces, inputs.traces, strict=True))
    for path in progress(inputs.specimens, len(inputs.specimens), "specimen"):
        specimen = read_specimen(path)
        of_methods = {method: read_traces(traces[f"{method}/{specimen.name}"]) for method in params.labels}
        add_specimen(gallery, specimen, rows[rows["specimen"] == specimen.name], of_methods, params.labels)
    tables = [
        table_section(title, Path(path).read_text()) for title, path in zip(params.tables, inputs.tables, strict=True)
    ]
    figures = [
        figure_section(title, caption, path)
        for (title, caption), path in zip(params.figures, inputs.figures, strict=True)
    ]
    trainings: dict[str, list[float]] = {}
    for label, path in zip(params.trainings, inputs.metrics, strict=True):
        trainings.setdefault(label, []).append(json.loads(Path(path).read_text())["seconds"])
    settings = yaml.safe_dump(params.settings, sort_keys=False)
    html = page(params.title, tables, figures, gallery, run_times(rows, trainings, params.labels), settings)
    with atomic_path(snakemake.output[0]) as path:
        path.write_text(html)
    logger.info("%d X-rays, %.1f MB", len(gallery.entries), len(html) / 1e6)
