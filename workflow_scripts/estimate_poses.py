"""Estimate the poses of all X-rays of one specimen with its encoder."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads) as logger:
    import pandas as pd
    import torch

    from roireg.data.records import read_specimen
    from roireg.encode.estimates import estimate_rows
    from roireg.encode.model import load_encoder
    from roireg.files import write_csv

    patient, xrays = read_specimen(snakemake.input.specimen[0])
    encoder = load_encoder(snakemake.input.model, torch.device("cpu"))
    rows = pd.DataFrame(estimate_rows(encoder, patient, xrays, snakemake.wildcards.encoder))
    write_csv(snakemake.output.poses, rows)
    logger.info("median mpd %.1f mm on %d X-rays", rows["mpd_mm"].median(), len(rows))
