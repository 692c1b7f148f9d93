"""A copy of the workflow in a temporary folder, and calls of snakemake in it."""

import contextlib
import glob
import io
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = {path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py")}
# A U-Net's training of the smoke run that saves a checkpoint long before its end, to be killed in between.
LONG = {"segment": {"unet": {"epochs": 400}}}
LONG_MODEL = "results/smoke/segmenters/unet/demo-01/model.safetensors"
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
class RuleFacts:
    """What a rule has.

    Attributes:
        name: of the rule.
        script: name of its script without ending, or None.
        stated: of docstring, log, benchmark and environment those that it states.
        resources: names of the resources that it states.
        code: its parameter of that name, or None; of a rule that trains segmenters, that of the U-Net.
    """

    name: str
    script: str | None
    stated: frozenset[str]
    resources: frozenset[str]
    code: str | None


@dataclass(frozen=True)
class Workflow:
    """A copy of the workflow."""

    folder: Path

    def run(self, *arguments: str, overlays: tuple[dict, ...] = (), base: str = "config/smoke.yaml") -> Result:
        """Call snakemake with `base` and further settings laid over the default config."""
        command = [sys.executable, "-m", "snakemake", *self._arguments(arguments, overlays, base)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout + done.stderr)

    def plan(self, *arguments: str, overlays: tuple[dict, ...] = (), base: str = "config/smoke.yaml") -> Result:
        """What `run("-n", ...)` gives, in a sixth of its time: by a process in which Snakemake is loaded already."""
        arguments = self._arguments(("-n", *arguments), overlays, base)
        return _planner().submit(_call_snakemake, self.folder, arguments).result()

    def rules(self, overlays: tuple[dict, ...] = (), base: str = "config/smoke.yaml") -> list[RuleFacts]:
        """The rules that Snakemake has read, in their order."""
        files = [self.folder / name for name in self._arguments((), overlays, base)[3:]]
        return _planner().submit(_read_rules, self.folder, files).result()

    def _arguments(self, arguments: tuple[str, ...], overlays: tuple[dict, ...], base: str) -> list[str]:
        files = [base]
        for index, overlay in enumerate(overlays):
            path = self.folder / f"overlay{index}.yaml"
            path.write_text(yaml.safe_dump(overlay), encoding="utf-8")
            files.append(path.name)
        return ["--cores", "2", *arguments, "--configfile", *files]


@cache
def _planner() -> ProcessPoolExecutor:
    """A process of its own, as Snakemake and the rules change paths and variables of the one they run in."""
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


def _call_snakemake(folder: Path, arguments: list[str]) -> Result:
    """The command in this process."""
    from snakemake.cli import main

    output = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            main(arguments)
        except SystemExit as end:
            return Result(end.code, output.getvalue())


def _read_rules(folder: Path, config_files: list[Path]) -> list[RuleFacts]:
    """By Snakemake's own reading of the rules, which it gives to no command."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, ResourceSettings

    config = ConfigSettings(configfiles=config_files)
    with SnakemakeApi() as api:
        workflow = api.workflow(ResourceSettings(cores=1), config, snakefile=folder / "Snakefile", workdir=folder)
        return [
            RuleFacts(
                name=rule.name,
                script=Path(rule.script).stem if rule.script else None,
                stated=frozenset(
                    word
                    for word, value in {
                        "docstring": rule.docstring,
                        "log": rule.log,
                        "benchmark": rule.benchmark,
                        "environment": rule.conda_env,
                    }.items()
                    if value
                ),
                resources=frozenset(rule.resources),
                code=code(SimpleNamespace(segmenter="unet")) if callable(code := rule.params.get("code")) else code,
            )
            for rule in workflow._workflow.rules
        ]


def copy_workflow(folder: Path) -> Workflow:
    """The files that make up the workflow, with their times, so that what Python and Numba compiled goes along."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            # Names of files that another process is about to write.
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("*.pyc.*", "*.tmp.*"))
        else:
            shutil.copy(source, folder / part)
    return Workflow(folder)


def keep_compiled(workflow: Workflow) -> None:
    """Put what Numba compiled in a copy beside the library's sources that it comes from, for copies to come."""
    for index in (workflow.folder / "src").rglob("*.nbi"):
        ours = REPOSITORY / index.relative_to(workflow.folder)
        if not ours.exists():
            ours.parent.mkdir(exist_ok=True)
            for path in (*index.parent.glob(f"{glob.escape(index.stem)}.*.nbc"), index):
                temporary = ours.with_name(f"{path.name}.tmp.{os.getpid()}")
                shutil.copy2(path, temporary)
                temporary.replace(ours.with_name(path.name))
