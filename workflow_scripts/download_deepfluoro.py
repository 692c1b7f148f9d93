"""Download the DeepFluoro data set from its archive."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.deepfluoro_archive import download_deepfluoro

    # The address is not a parameter of the rule, because the file is the same on every mirror.
    server = snakemake.config["deepfluoro"]["server"]
    download_deepfluoro(snakemake.output[0], snakemake.params.sha256, server)
