"""A folder with the workflow: what a user edits, apart from the library, which stays where it is installed."""

import shutil
from pathlib import Path

import roireg
from roireg.errors import InputError
from roireg.files import check_writable

# In a checkout they lie beside src/; a wheel has them in TEMPLATE (hatch_build.py).
PARTS = ("Snakefile", "config.yaml", "config", "rules", "workflow_scripts", "profiles", "report", "envs")
PACKAGE = Path(roireg.__file__).parent
TEMPLATE = PACKAGE / "workflow" / "template"


def workflow_source() -> Path:
    """The folder with the workflow's files: that of the installed package, or of the checkout.

    Raises:
        InputError: the package was installed without them.
    """
    for folder in (TEMPLATE, PACKAGE.parents[1]):
        if (folder / "Snakefile").is_file():
            return folder
    raise InputError("roireg", "it was installed without the workflow's files", "Install it from its wheel")


def init_workflow(folder: str | Path) -> list[Path]:
    """Copy the workflow's files to a folder, which is created if missing.

    Returns:
        What was written there: files and folders.

    Raises:
        InputError: one of them exists already, or the folder cannot be written to.
    """
    source, folder = workflow_source(), Path(folder)
    there = [part for part in PARTS if (folder / part).exists()]
    if there:
        raise InputError(folder / there[0], "it exists already", "Give an empty folder")
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / part, folder / part)
    return [folder / part for part in PARTS]
