"""What the run will cost: jobs, core-hours, GPU-hours, disk."""

from roireg.workflow.job import job

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as logger:
    import torch

    from roireg.estimate.costs import report
    from roireg.estimate.plan import run_costs
    from roireg.estimate.steps import gflops
    from roireg.files import atomic_path

    torch.set_num_threads(1)
    # An estimate for a machine with GPUs may be made on one without.
    device = torch.device("cuda" if snakemake.resources.gpu and torch.cuda.is_available() else "cpu")
    costs = run_costs(snakemake.params.plan, snakemake.params.settings, device, logger)
    text = report(costs, gflops(), device.type == "cuda")
    with atomic_path(snakemake.output[0]) as path:
        path.write_text(text)
    logger.info("\n%s", text)
