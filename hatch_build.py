"""Puts the workflow's files into the wheel, from which `roireg workflow init` copies them."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# src/roireg/workflow/folder.py lists the same files, and finds them there; a test compares a folder with the checkout.
PARTS = ("Snakefile", "config.yaml", "config", "rules", "workflow_scripts", "profiles", "report", "envs")
TEMPLATE = "roireg/workflow/template"


class WorkflowFiles(BuildHookInterface):
    """An editable installation needs no copy: it has the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {str(Path(self.root) / part): f"{TEMPLATE}/{part}" for part in PARTS}
