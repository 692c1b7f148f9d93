"""Methods on all X-rays of one specimen, which start from the same poses."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as logger:
    from dataclasses import replace

    import pandas as pd
    import torch

    from roireg.data.results import read_estimates
    from roireg.data.specimen import read_specimen
    from roireg.files import write_csv
    from roireg.register.first_look import first_look
    from roireg.register.method import guided_by, method_from_config, starting_from
    from roireg.register.run import Where, register_specimen, write_traces
    from roireg.segment.model import load_segmenter
    from roireg.workflow.device import job_device
    from roireg.workflow.shards import of_part

    # The renderer has the cores; images are too small for torch's second thread to pay.
    torch.set_num_threads(1)
    params, output = snakemake.params, snakemake.output
    specimen = read_specimen(snakemake.input.specimen[0])
    xrays = specimen.xrays[: params.xrays]
    specimen = replace(specimen, xrays=of_part(xrays, params.part) if params.part else xrays)
    device = job_device(snakemake.resources.gpu, "registration.gpu")
    where = Where(device, snakemake.resources.xrays_together if device.type == "cuda" else 1)
    estimates = read_estimates(snakemake.input.estimates) if snakemake.input.get("estimates") else None
    files = zip(params.segmenters, snakemake.input.segmenters, strict=True)
    segmenters = {name: load_segmenter(file, params.rois, device) for name, file in files}
    for (name, settings), registrations, traces in zip(
        params.methods.items(), output.registrations, output.traces, strict=True
    ):
        method = method_from_config(name, **settings, rois=params.rois, step_mm=params.render["step_mm"])
        if estimates is not None:
            method = starting_from(method, estimates)
        if method.regions is not None:
            method = guided_by(method, segmenters)
        found = register_specimen(specimen, method, params.seed, where)
        results = list(progress(found, len(specimen.xrays), "registered X-ray"))
        results.sort(key=lambda result: result.row["projection"])
        rows = pd.DataFrame([result.row for result in results])
        logger.info("%s", first_look(rows))
        write_csv(registrations, rows)
        write_traces(traces, results)
