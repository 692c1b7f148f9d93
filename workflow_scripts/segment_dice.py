"""Measure the Dice of one segmenter on X-rays and DRRs of the specimen that it was trained without."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as logger:
    import pandas as pd

    from roireg.data.records import read_specimen
    from roireg.files import write_csv
    from roireg.segment.evaluate import dice_rows, segment_specimen, write_segmented
    from roireg.segment.model import load_segmenter
    from roireg.workflow.device import job_device

    params, output = snakemake.params, snakemake.output
    device = job_device(snakemake.resources.gpu, "training.gpu")
    patient, xrays = read_specimen(snakemake.input.specimen[0])
    segmenter = load_segmenter(snakemake.input.model, params.rois, device)
    found = segment_specimen(patient, xrays, segmenter, params.render["step_mm"], device)
    results = list(progress(found, 2 * len(xrays), "image"))
    rows = pd.DataFrame(dice_rows(results, patient.name, snakemake.wildcards.segmenter, params.rois))
    logger.info("mean Dice: %s", rows.groupby("image")["dice"].mean().round(3).to_dict())
    write_segmented(output.maps, results)
    write_csv(output.dice, rows)
