"""Train a U-Net on all specimens but one."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu):
    from dataclasses import asdict

    from roireg.segment.batches import Fold
    from roireg.segment.save import save_segmenter
    from roireg.segment.settings import checkpoint_beside, read_sources, training_settings
    from roireg.segment.train_unet import train_unet
    from roireg.segment.unet import UNetSettings
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
    architecture = UNetSettings(entry["image_size_px"], tuple(entry["widths"]))
    settings = training_settings(**params.settings)
    network, history = train_unet(architecture, params.rois, sources, settings, fold, checkpoint, device)
    save_segmenter(output.model, "unet", asdict(architecture), params.rois, network)
    images = {kind: len(source.images) for kind, source in by_kind.items()}
    write_metrics(output.metrics, history, params.seed, device, {"left_out": fold.left_out, "images": images})
    checkpoint.path.unlink(missing_ok=True)
