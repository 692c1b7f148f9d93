"""Figure: fraction of successfully registered X-rays, by initial error."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.results import read_registrations
    from roireg.figures.errors import capture_range
    from roireg.figures.style import save_figure

    params = snakemake.params
    rows = read_registrations(snakemake.input.registrations)
    save_figure(capture_range(rows, params.labels, params.edges_mm, params.seed), snakemake.output, params.dpi)
