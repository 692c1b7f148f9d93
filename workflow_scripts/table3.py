"""Table 3: similarities with and without the ROI term, beside the paper's figures."""

from roireg.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.grids import Pair
    from roireg.results import read_registrations
    from roireg.table3 import TABLE3_NOTES, table3
    from roireg.tables import write_table

    params, output = snakemake.params, snakemake.output
    pairs = {name: Pair(**pair) for name, pair in params.pairs.items()}
    table = table3(read_registrations(snakemake.input.registrations), pairs, params.seed)
    write_table(table, output.csv, output.md, output.tex, [*params.notes, *TABLE3_NOTES])
    logger.info("\n%s", table.text)
