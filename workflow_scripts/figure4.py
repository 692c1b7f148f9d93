"""Figure 4: landmarks and pelvis under each method's estimate and under the truth, for an X-ray of each specimen."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.records import read_specimen
    from roireg.data.results import read_registrations
    from roireg.figures.figure4 import figure4
    from roireg.figures.style import save_figure

    specimens = [read_specimen(path) for path in snakemake.input.specimens]
    figure = figure4(specimens, read_registrations(snakemake.input.registrations), snakemake.params.labels)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
