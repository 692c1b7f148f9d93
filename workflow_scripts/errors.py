"""Figure: fraction of X-rays with an error below x, by method."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.results import read_registrations
    from roireg.figures.errors import cumulative_errors
    from roireg.figures.style import save_figure

    figure = cumulative_errors(read_registrations(snakemake.input.registrations), snakemake.params.labels)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
