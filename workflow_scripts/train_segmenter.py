"""Train a segmenter on all specimens but one."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu):
    from roireg.segment.batches import Fold
    from roireg.segment.save import save_segmenter
    from roireg.segment.train import SegmenterTraining, train_segmenter
    from roireg.segment.training_inputs import checkpoint_beside, read_sources, training_settings
    from roireg.training.loop import write_metrics
    from roireg.workflow.device import job_device

    params, output, wildcards = snakemake.params, snakemake.output, snakemake.wildcards
    device = job_device(snakemake.resources.gpu, "training.gpu")
    by_kind = read_sources(snakemake.input.get("xrays", []), snakemake.input.get("drrs", []), params.rois)
    sources = list(by_kind.values())
    fold = Fold(params.seed, wildcards.segmenter, wildcards.specimen)
    identity = {"rois": params.rois, **params.settings}
    checkpoint = checkpoint_beside(output.model, identity, params.code, fold, sources)
    settings = training_settings(**params.settings)
    training = SegmenterTraining(params.rois, sources, settings, fold, checkpoint, device)
    entry = params.settings["segmenter"]
    network, history = train_segmenter(entry, training)
    save_segmenter(output.model, entry, params.rois, network)
    images = {kind: len(source.images) for kind, source in by_kind.items()}
    write_metrics(output.metrics, history, params.seed, device, {"left_out": fold.left_out, "images": images})
    checkpoint.path.unlink(missing_ok=True)
