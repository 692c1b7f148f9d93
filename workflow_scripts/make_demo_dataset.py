"""Simulate the demo dataset and write it in the DeepFluoro layout."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads):
    from roireg.demo.dataset import make_dataset

    make_dataset(
        snakemake.input.ct,
        snakemake.input.labels,
        snakemake.output[0],
        specimens=snakemake.params.specimens,
        xrays_per_specimen=snakemake.params.xrays_per_specimen,
        seed=snakemake.params.seed,
        progress=progress,
    )
