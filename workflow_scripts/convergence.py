"""Objective and error by iteration, for each method."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.figures import convergence, save_figure
    from roireg.results import read_traces

    records = [record for path in snakemake.input.traces for record in read_traces(path).values()]
    traces = {
        label: [record for record in records if record.method == method]
        for method, label in snakemake.params.labels.items()
    }
    save_figure(convergence(traces), snakemake.output, snakemake.params.dpi)
