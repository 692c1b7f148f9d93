"""Check whether CTs, labels, landmarks, poses and X-rays of the dataset are consistent with each other."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from pathlib import Path

    from roireg.check.dataset import settings_from_config
    from roireg.check.files import check_dataset
    from roireg.data.readers.hdf5_file import open_dataset

    params = snakemake.params
    settings = settings_from_config(params.prepare, params.rois, params.xrays)
    folder = Path(snakemake.output.page).parent
    with open_dataset(snakemake.input.dataset) as file:
        findings = check_dataset(file, params.specimens, settings, params.expected_xrays, folder)
    for finding in findings:
        logger.info("%s: %s", finding.level, finding.text)
