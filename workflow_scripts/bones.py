"""Table of bones that are registered from the pose of the whole CT."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.results import read_bones
    from roireg.tables.bones import BONES_NOTES, bones_table
    from roireg.tables.table import write_table

    params, output = snakemake.params, snakemake.output
    table = bones_table(read_bones(snakemake.input.bones), params.labels, params.seed)
    write_table(table, output.csv, output.md, output.tex, [*params.notes, *BONES_NOTES])
    logger.info("\n%s", table.text)
