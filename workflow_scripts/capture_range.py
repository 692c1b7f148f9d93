"""Share of X-rays that are registered, by the error where they began."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.error_figures import capture_range
    from roireg.figures import save_figure
    from roireg.results import read_registrations

    params = snakemake.params
    rows = read_registrations(snakemake.input.registrations)
    save_figure(capture_range(rows, params.labels, params.edges_mm, params.seed), snakemake.output, params.dpi)
