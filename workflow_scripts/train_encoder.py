"""Train a pose encoder of one specimen on DRRs of that specimen."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu):
    from roireg.data.records import read_specimen
    from roireg.data.volume import attenuation_settings
    from roireg.encode.history import write_history
    from roireg.encode.model import save_encoder
    from roireg.encode.settings import checkpoint_beside, encoder_settings, training_data
    from roireg.encode.train import Run, train_encoder
    from roireg.segment.model import load_segmenter
    from roireg.training.drrs import read_pool, settings_from_config
    from roireg.training.loop import write_metrics
    from roireg.workflow.device import job_device

    params, inputs, output = snakemake.params, snakemake.input, snakemake.output
    device = job_device(snakemake.resources.gpu, "training.gpu")
    patient, xrays = read_specimen(inputs.specimen[0])
    pool = read_pool(inputs.pool) if inputs.get("pool") else None
    segmenter = load_segmenter(inputs.segmenter, params.rois, device) if inputs.get("segmenter") else None
    synthesis = settings_from_config(params.synthesize, attenuation_settings(params.attenuation))
    run = Run(params.seed, params.encoder, patient.name)
    settings = encoder_settings(**params.settings)
    entry, step_mm = params.settings["encoder"], params.render["step_mm"]
    data = training_data(patient, xrays[0], entry, synthesis, params.rois, pool, segmenter, step_mm, run, device)
    checkpoint = checkpoint_beside(output.model, params.settings, params.code, run, pool, data.validation)
    encoder, history = train_encoder(data, settings, run, checkpoint, device)
    save_encoder(output.model, encoder, settings.network)
    write_history(output.history, history)
    write_metrics(output.metrics, history, params.seed, device, {"encoder": run.encoder, "specimen": patient.name})
    checkpoint.path.unlink(missing_ok=True)
