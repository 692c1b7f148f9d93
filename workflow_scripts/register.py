"""Register the X-rays of one specimen by one or more methods that start from the same poses."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as logger:
    import pandas as pd
    import torch

    from roireg.data.pose_results import read_estimates
    from roireg.data.records import read_specimen
    from roireg.files import write_csv
    from roireg.register.log_summary import log_summary
    from roireg.register.method import method_from_config, with_estimates, with_segmenters
    from roireg.register.run import Placement, register_specimen, write_traces
    from roireg.segment.model import load_segmenter
    from roireg.workflow.device import job_device
    from roireg.workflow.shards import of_shard

    # The renderer uses all cores; the images are too small for torch to benefit from more threads.
    torch.set_num_threads(1)
    params, output = snakemake.params, snakemake.output
    patient, xrays = read_specimen(snakemake.input.specimen[0])
    xrays = xrays[: params.xrays]
    xrays = of_shard(xrays, params.shard) if params.shard else xrays
    device = job_device(snakemake.resources.gpu, "registration.gpu")
    placement = Placement(device, snakemake.resources.xrays_together if device.type == "cuda" else 1)
    estimates = read_estimates(snakemake.input.estimates) if snakemake.input.get("estimates") else None
    files = zip(params.segmenters, snakemake.input.segmenters, strict=True)
    segmenters = {name: load_segmenter(file, params.rois, device) for name, file in files}
    for (name, settings), registrations, traces in zip(
        params.methods.items(), output.registrations, output.traces, strict=True
    ):
        method = method_from_config(name, **settings, rois=params.rois, step_mm=params.render["step_mm"])
        if estimates is not None:
            method = with_estimates(method, estimates)
        if method.regions is not None:
            method = with_segmenters(method, segmenters)
        found = register_specimen(patient, xrays, method, params.seed, placement)
        results = list(progress(found, len(xrays), "registered X-ray"))
        results.sort(key=lambda result: result.row["projection"])
        rows = pd.DataFrame([result.row for result in results])
        logger.info("%s", log_summary(rows))
        write_csv(registrations, rows)
        write_traces(traces, results)
