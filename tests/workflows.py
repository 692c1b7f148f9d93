"""A copy of the workflow in a temporary folder, and calls of snakemake in it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config.yaml", "config", "rules", "workflow_scripts", "src", "profiles", "envs", "report")


@dataclass(frozen=True)
class Result:
    """How a call of snakemake ended."""

    status: int
    output: str

    @property
    def jobs(self) -> dict[str, int]:
        """Number of jobs by rule, from the table that snakemake prints, without target rules."""
        found = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", self.output, re.DOTALL)
        rows = (line.split() for line in found[1].splitlines()) if found else []
        targets = ("all", "tables", "figures", "data", "registrations")
        return {rule: int(count) for rule, count in rows if rule not in targets}


@dataclass(frozen=True)
class Workflow:
    """A copy of the workflow."""

    folder: Path

    def run(self, *arguments: str, overlays: tuple[dict, ...] = (), base: str = "config/smoke.yaml") -> Result:
        """Call snakemake with `base` and further settings laid over the default config."""
        files = [base]
        for index, overlay in enumerate(overlays):
            path = self.folder / f"overlay{index}.yaml"
            path.write_text(yaml.safe_dump(overlay))
            files.append(path.name)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", *files]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout + done.stderr)


def copy_workflow(folder: Path) -> Workflow:
    """The files that make up the workflow, with file times of now."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return Workflow(folder)
