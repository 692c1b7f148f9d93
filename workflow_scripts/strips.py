"""For each X-ray of each specimen: the X-ray, and the DRR at the start, at the end and at the truth."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.figures import save_figure, strips
    from roireg.results import read_registrations, read_traces
    from roireg.specimen import read_specimen

    inputs = zip(snakemake.input.specimens, snakemake.input.registrations, snakemake.input.traces, strict=True)
    for (specimen, rows, traces), output in zip(inputs, snakemake.output, strict=True):
        figure = strips(
            read_specimen(specimen), read_registrations([rows]), read_traces(traces), snakemake.params.label
        )
        save_figure(figure, [output], snakemake.params.dpi)
