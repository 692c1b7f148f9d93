"""Figure 1: bones and landmarks in 3D beside the 2D mask."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.specimen import read_specimen
    from roireg.figures.anatomy import figure1
    from roireg.figures.style import save_figure

    specimen = read_specimen(snakemake.input.specimen[0])
    figure = figure1(specimen, specimen.xrays[0], snakemake.params.rois)
    save_figure(figure, snakemake.output, snakemake.params.dpi)
