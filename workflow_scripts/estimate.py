"""Estimate jobs, core-hours, GPU-hours and disk space of the run."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as logger:
    import torch

    from roireg.estimate.costs import report
    from roireg.estimate.plan import run_costs
    from roireg.estimate.steps import gflops
    from roireg.files import atomic_path

    torch.set_num_threads(1)
    # A run on GPUs can be estimated on a machine without any.
    device = torch.device("cuda" if snakemake.resources.gpu and torch.cuda.is_available() else "cpu")
    costs = run_costs(snakemake.params.plan, snakemake.params.settings, device, logger)
    text = report(costs, gflops(), snakemake.params.plan["data_bytes"])
    with atomic_path(snakemake.output[0]) as path:
        path.write_text(text, encoding="utf-8")
    logger.info("\n%s", text)
