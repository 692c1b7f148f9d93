"""Table 1: comparison of methods, beside the paper's results."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.results import read_registrations
    from roireg.tables.table import write_table
    from roireg.tables.table1 import TABLE1_NOTES, table1

    rows = read_registrations(snakemake.input.registrations)
    table = table1(rows, snakemake.params.labels, snakemake.params.seed)
    notes = [*snakemake.params.notes, *TABLE1_NOTES]
    write_table(table, snakemake.output.csv, snakemake.output.md, snakemake.output.tex, notes)
    logger.info("\n%s", table.text)
