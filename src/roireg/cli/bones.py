"""`roireg register --bone NAME`: each bone its own pose."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roireg.cli.common import err, out
from roireg.cli.printing import COLOURS
from roireg.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from roireg.data.patient import Patient
    from roireg.data.xray import Xray
    from roireg.register.bone_judgement import BoneResult

# X-rays are read at this size: the part about a bone is cut out of them.
SIZE_PX = 1024
# As the CT is stored.
VOXEL_MM = 0.0


def searched_start(
    names: Sequence[str], patient: Callable[[], "Patient"], xrays: Callable[[], list["Xray"]], seed: int
) -> "Float[Tensor, '4 4']":
    """`volume_from_rig` (mm) of the whole CT, from which bones are taken not to be far; rays through them do not count.

    Raises:
        InputError: the CT has no labels, so that it may hold the bone alone, which a search would not find.
    """
    from roireg.register.bone import labels_of
    from roireg.register.method import search_method
    from roireg.register.registration import register_xrays

    whole = patient()
    if whole.labels is None:
        what = "the CT has no labels, so it is taken to hold that bone alone, and nothing says about where it is"
        raise InputError(f"--bone {names[0]}", what, "Give a start with --initial, or labels with --labels")
    with err.status("compiling and searching for the whole CT"):
        method = search_method(label for name in names for label in labels_of(name))
        found = register_xrays(whole, xrays(), method, seed, None, err.print)
    err.print(f"the whole CT: {found.verdict.grade}, {found.verdict.reasons[0]}", markup=False)
    return found.rig_pose


def print_bones(results: Sequence["BoneResult"], folders: Sequence[Path]) -> None:
    """The verdict on each bone, what is uncertain, and where the files are."""
    for result in results:
        out.print(f"[bold {COLOURS[result.verdict.grade]}]{result.verdict.grade}[/] ", end="")
        out.print(f"{result.bone.name}: {'; '.join(result.verdict.reasons)}", markup=False, soft_wrap=True)
        for one in result.views:
            sd = one.spread
            where = f"{sd.across_mm:.2f} mm across, {sd.down_mm:.2f} mm down, {sd.depth_mm:.2f} mm in depth"
            out.print(f"  {one.xray.name}: predicted sd {where}", markup=False, soft_wrap=True)
    for folder in folders:
        out.print(f"  {folder}/: pose.json, overlay.png", markup=False)
