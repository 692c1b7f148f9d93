"""Compares the disk space that a run needs with what is free, after it was planned and before its first job starts.

Reads the plan and the config. Writes nothing.
"""

from roireg.workflow.disk_space import Job, check_space


def xrays_if_known():
    """Numbers of X-rays; 0 of each specimen where the data are yet to be downloaded and the config has no numbers."""
    try:
        return plan.xray_counts(config, SPECIMENS)
    except InputError:
        return dict.fromkeys(SPECIMENS, 0)


onstart:
    try:
        check_space(
            [
                Job(job.rule.name, dict(job.wildcards.items()), tuple(job.output))
                for job in workflow.dag.needrun_jobs()
            ],
            config,
            xrays_if_known(),
        )
    except InputError as error:
        raise WorkflowError(f"error: {error}") from None
