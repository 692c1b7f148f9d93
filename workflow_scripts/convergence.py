"""Figure: objective and error by iteration, for each method."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.pose_results import read_traces
    from roireg.figures.convergence import convergence
    from roireg.figures.style import save_figure

    records = [record for path in snakemake.input.traces for record in read_traces(path).values()]
    traces = {
        label: [record for record in records if record.method == method]
        for method, label in snakemake.params.labels.items()
    }
    save_figure(convergence(traces), snakemake.output, snakemake.params.dpi)
