"""Figure: typical and worst segmentation of one segmenter, on X-ray and DRR."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.figures.anatomy import segmentation_figure
    from roireg.figures.segmentation_cases import typical_and_worst
    from roireg.figures.style import save_figure
    from roireg.segment.evaluate import read_segmented

    params = snakemake.params
    maps = {name: read_segmented(path) for name, path in zip(params.specimens, snakemake.input.maps, strict=True)}
    title = f"{params.label}, on specimens that the network was not trained on"
    figure = segmentation_figure(typical_and_worst(maps, params.label), params.rois, title)
    save_figure(figure, snakemake.output, params.dpi)
