"""The commands `roireg workflow`: the Snakemake workflow without a checkout of the repository."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from roireg.cli.common import one_line_errors, out

app = typer.Typer(no_args_is_help=True, help="The Snakemake workflow that makes the paper's tables and figures.")


@app.callback()
def workflow() -> None:
    """The Snakemake workflow that makes the paper's tables and figures."""


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Folder for the workflow; created if missing.")]) -> None:
    """Write the workflow to a folder: Snakefile, rules, scripts, configuration and profiles, to run and to edit."""
    with one_line_errors():
        from roireg.workflow.folder import init_workflow

        init_workflow(folder)
        if find_spec("snakemake") is None:
            out.print('to run it, first: pip install "roireg[workflow]"', markup=False)
        commands = (
            f"cd {folder}",
            "snakemake --cores all --configfile config/smoke.yaml   # a test of every rule, in minutes",
            "snakemake --cores all                                  # the demo",
        )
        for line in commands:
            out.print(line, markup=False, soft_wrap=True)
