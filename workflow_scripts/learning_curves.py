"""Figure: validation error of encoders during training."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from pathlib import Path

    from roireg.encode.history import read_histories
    from roireg.figures.learning_curves import learning_curves
    from roireg.figures.style import save_figure

    curves = {}
    for encoder, label in snakemake.params.labels.items():
        # Paths are .../encoders/{encoder}/{specimen}/history.csv, or with {encoder}@{seed} instead of {encoder}.
        own = [path for path in snakemake.input.histories if Path(path).parts[-3].partition("@")[0] == encoder]
        curves[label] = read_histories(own)
    save_figure(learning_curves(curves), snakemake.output, snakemake.params.dpi)
