"""Figure 1: ROIs and landmarks in 3D and in an X-ray."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.records import read_specimen
    from roireg.figures.anatomy import figure1
    from roireg.figures.style import save_figure

    patient, xrays = read_specimen(snakemake.input.specimen[0])
    figure = figure1(patient, xrays[0], snakemake.params.rois)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
