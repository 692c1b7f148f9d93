"""Share of X-rays below an error, by method."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.error_figures import cumulative_errors
    from roireg.figures import save_figure
    from roireg.results import read_registrations

    figure = cumulative_errors(read_registrations(snakemake.input.registrations), snakemake.params.labels)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
