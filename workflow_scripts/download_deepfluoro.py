"""The DeepFluoro data set, from its archive."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.deepfluoro_archive import download_deepfluoro

    # The address is no parameter of the rule: another mirror has the same file.
    server = snakemake.config["deepfluoro"]["server"]
    download_deepfluoro(snakemake.output[0], snakemake.params.sha256, server)
