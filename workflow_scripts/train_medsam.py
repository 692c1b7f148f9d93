"""Train MedSAM on all specimens but one."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu):
    from roireg.segment.batches import Fold
    from roireg.segment.medsam import MedSamSettings
    from roireg.segment.save import save_segmenter
    from roireg.segment.settings import checkpoint_beside, read_sources, training_settings
    from roireg.segment.train_medsam import train_medsam
    from roireg.training.loop import write_metrics
    from roireg.workflow.device import job_device

    params, output, wildcards = snakemake.params, snakemake.output, snakemake.wildcards
    device = job_device(snakemake.resources.gpu, "training.gpu")
    by_kind = read_sources(snakemake.input.get("xrays", []), snakemake.input.get("drrs", []), params.rois)
    sources = list(by_kind.values())
    fold = Fold(params.seed, wildcards.segmenter, wildcards.specimen)
    identity = {"rois": params.rois, **params.settings}
    checkpoint = checkpoint_beside(output.model, identity, params.code, fold, sources)
    entry = params.settings["segmenter"]
    pretrained = entry["checkpoint"] or {"path": None, "sha256": None}
    key = f"segment.{fold.segmenter}.checkpoint"
    architecture = MedSamSettings(entry["variant"], pretrained["path"], pretrained["sha256"], key)
    settings, jitter_px = training_settings(**params.settings), entry["box_jitter_px"]
    network, history = train_medsam(architecture, params.rois, sources, settings, jitter_px, fold, checkpoint, device)
    save_segmenter(output.model, "medsam", {"variant": entry["variant"]}, params.rois, network)
    images = {kind: len(source.images) for kind, source in by_kind.items()}
    write_metrics(output.metrics, history, params.seed, device, {"left_out": fold.left_out, "images": images})
    checkpoint.path.unlink(missing_ok=True)
