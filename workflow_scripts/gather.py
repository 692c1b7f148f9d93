"""Join the shards of one method's registrations of one specimen."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.workflow.shards import join_rows, join_traces

    join_rows(snakemake.output.registrations, snakemake.input.registrations)
    join_traces(snakemake.output.traces, snakemake.input.traces)
