"""Render DRRs of one specimen at random poses, with ROI maps."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads):
    from roireg.data.records import read_specimen
    from roireg.data.volume import attenuation_settings
    from roireg.data.xray import expected_pose
    from roireg.training.drrs import settings_from_config, synthesize, write_pool

    params = snakemake.params
    settings = settings_from_config(params.synthesize, attenuation_settings(params.attenuation))
    patient, xrays = read_specimen(snakemake.input.specimen[0])
    camera, pa = xrays[0].camera, expected_pose(patient, xrays[0])
    drrs = synthesize(patient, camera, pa, params.rois, settings, params.render["step_mm"], params.seed)
    write_pool(snakemake.output[0], list(progress(drrs, settings.count, "DRR")), camera, params.rois)
