"""Ablation: effect of ROI terms and pixel weights on the error, by optimizer."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.results import read_registrations
    from roireg.tables.ablation import ABLATION_NOTES, ablation
    from roireg.tables.comparison import Cell
    from roireg.tables.table import write_table

    params, output = snakemake.params, snakemake.output
    cells = [Cell(**cell) for cell in params.cells]
    table = ablation(read_registrations(snakemake.input.registrations), cells, params.seed)
    write_table(table, output.csv, output.md, output.tex, [*params.notes, *ABLATION_NOTES])
    logger.info("\n%s", table.text)
