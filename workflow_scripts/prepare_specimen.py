"""Preprocess one specimen of the dataset, and write it to a file for all later stages."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    from roireg.data.prepare import prepare_settings, prepare_specimen
    from roireg.data.readers.hdf5_file import open_dataset
    from roireg.data.records import write_specimen

    settings = prepare_settings(snakemake.params.prepare)
    with open_dataset(snakemake.input.dataset) as file:
        patient, xrays = prepare_specimen(file, snakemake.wildcards.specimen, settings)
    logger.info("%s: %d X-rays, CT grid shifted by %g voxels", patient.name, len(xrays), settings.ct_shift_voxels)
    write_specimen(snakemake.output[0], patient, xrays)
