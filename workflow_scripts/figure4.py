"""Figure 4: one X-ray of each specimen, landmarks under each method's estimate and under the truth."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.figures import figure4, save_figure
    from roireg.results import read_registrations
    from roireg.specimen import read_specimen

    specimens = [read_specimen(path) for path in snakemake.input.specimens]
    figure = figure4(specimens, read_registrations(snakemake.input.registrations), snakemake.params.labels)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
