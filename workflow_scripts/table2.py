"""Table 2: Dice of the segmenters on X-rays and DRRs, beside the paper's results."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.results import read_dice
    from roireg.tables.table import write_table
    from roireg.tables.table2 import TABLE2_NOTES, table2

    params, output = snakemake.params, snakemake.output
    table = table2(read_dice(snakemake.input.dice), params.segmenters, params.seed)
    write_table(table, output.csv, output.md, output.tex, [*params.notes, *TABLE2_NOTES])
    logger.info("\n%s", table.text)
