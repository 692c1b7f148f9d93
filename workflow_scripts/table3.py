"""Table 3: similarities without and with the ROI term, beside the paper's results."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.results import read_registrations
    from roireg.tables.comparison import Pair
    from roireg.tables.table import write_table
    from roireg.tables.table3 import TABLE3_NOTES, table3

    params, output = snakemake.params, snakemake.output
    pairs = {name: Pair(**pair) for name, pair in params.pairs.items()}
    table = table3(read_registrations(snakemake.input.registrations), pairs, params.seed)
    write_table(table, output.csv, output.md, output.tex, [*params.notes, *TABLE3_NOTES])
    logger.info("\n%s", table.text)
