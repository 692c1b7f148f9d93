"""Figure 5: Dice of segmenters and landmarks in 3D for one patient."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.records import read_specimen
    from roireg.data.results import read_dice, read_registrations
    from roireg.figures.figure5 import case_study
    from roireg.figures.style import save_figure

    params, inputs = snakemake.params, snakemake.input
    figure = case_study(
        *read_specimen(inputs.specimen[0]),
        read_dice(inputs.dice),
        params.segmenters,
        read_registrations(inputs.registrations),
        params.methods,
    )
    save_figure(figure, snakemake.output, params.dpi)
