"""Writes a pose of the list as `roireg register` would: into a folder, or as one archive to download."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

from roireg.errors import InputError
from roireg.register.registration import Registration
from roireg.report.result_files import write_result
from roireg.view.registering import registration_at
from roireg.view.threads import compiled_code
from roireg.view.workbench import Workbench


def result_of(workbench: Workbench, number: int) -> Registration:
    """The whole result of a pose of the list; one that a session file brought back is judged again.

    Raises:
        InputError: the list has no such pose.
    """
    state = workbench.state
    if not 0 <= number < len(state.found):
        raise InputError(f"pose {number + 1}", "there is none in the list", "Choose another")
    one = state.found[number]
    if one.registration is None:
        return replace(registration_at(state, one.rig_pose), method=one.name)
    return one.registration


def write_found(workbench: Workbench, number: int, folder: Path) -> list[Path]:
    """Write all result files of a pose of the list.

    Raises:
        InputError: the list has no such pose, or the folder cannot be written to.
    """
    with compiled_code():
        result = result_of(workbench, number)
        return write_result(folder, workbench.state.known_patient, result)


def archive(workbench: Workbench, number: int) -> bytes:
    """The result files of a pose of the list as a ZIP archive.

    Raises:
        InputError: the list has no such pose.
    """
    folder = workbench.private_folder()
    write_found(workbench, number, folder)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return out.getvalue()
