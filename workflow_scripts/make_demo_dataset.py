"""Simulate the demo dataset and write it in the DeepFluoro layout."""

from roireg.workflow.job import job, progress

with job(snakemake.log[0], snakemake.threads):
    from roireg.demo.dataset import make_dataset
    from roireg.demo.exposures import exposure_settings

    demo = snakemake.params.demo
    make_dataset(
        snakemake.input.ct,
        snakemake.input.labels,
        snakemake.output[0],
        specimens=demo["specimens"],
        xrays_per_specimen=demo["xrays_per_specimen"],
        seed=demo["seed"],
        ct_below_landmarks_mm=demo["ct_below_landmarks_mm"],
        views=exposure_settings(demo["views"]),
        progress=progress,
    )
