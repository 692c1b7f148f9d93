"""The table of files of poses and cameras that `roireg convert` reads and writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from roireg.data.pose_formats.mayacam import read_mayacam, write_mayacam
from roireg.data.pose_formats.packages import (
    read_deepdrr,
    read_deepfluoro,
    read_diffdrr,
    read_nanodrr,
    write_deepdrr,
    write_deepfluoro,
    write_nanodrr,
)
from roireg.data.pose_formats.plain import read_itk, read_matrix, read_slicer, write_slicer
from roireg.data.pose_formats.rtk_file import read_rtk, write_rtk
from roireg.data.writers.poses import (
    StoredPose,
    read_pose,
    write_diffdrr,
    write_itk,
    write_matrix,
    write_pose,
    write_slicer_points,
)
from roireg.errors import InputError
from roireg.geometry.camera import Camera

Write = Callable[[str | Path, StoredPose], None]


@dataclass(frozen=True)
class PoseFormat:
    """A kind of file.

    Attributes:
        ending: of its name.
        write: writes a pose and its camera.
        read: reads both from a file that holds both, or None.
        read_with: reads one that needs a camera for what it does not say, or None.
    """

    ending: str
    write: Write
    read: Callable[[str | Path], StoredPose] | None = None
    read_with: Callable[[str | Path, Camera], StoredPose] | None = None


def _write_roireg(path: str | Path, stored: StoredPose) -> None:
    write_pose(path, stored.pose, stored.camera)


def _write_xreg(path: str | Path, stored: StoredPose) -> None:
    # HDF5 is no part of the base installation.
    from roireg.data.pose_formats.xreg_file import write_xreg

    write_xreg(path, stored)


def _read_xreg(path: str | Path) -> StoredPose:
    from roireg.data.pose_formats.xreg_file import read_xreg

    return read_xreg(path)


FORMATS: dict[str, PoseFormat] = {
    "roireg": PoseFormat(".pose.json", _write_roireg, read=read_pose),
    "matrix": PoseFormat(".txt", write_matrix, read_with=read_matrix),
    "itk": PoseFormat(".tfm", write_itk, read_with=read_itk),
    "slicer": PoseFormat(".slicer.txt", write_slicer, read_with=read_slicer),
    "slicer-points": PoseFormat(".mrk.json", write_slicer_points),
    "diffdrr": PoseFormat(".diffdrr.json", write_diffdrr, read=read_diffdrr),
    "nanodrr": PoseFormat(".nanodrr.json", write_nanodrr, read=read_nanodrr),
    "deepdrr": PoseFormat(".deepdrr.json", write_deepdrr, read=read_deepdrr),
    "deepfluoro": PoseFormat(".deepfluoro.json", write_deepfluoro, read=read_deepfluoro),
    "xreg": PoseFormat(".xreg.h5", _write_xreg, read=_read_xreg),
    "rtk": PoseFormat(".rtk.xml", write_rtk, read_with=read_rtk),
    "mayacam": PoseFormat(".mayacam.txt", write_mayacam, read_with=read_mayacam),
}


def format_of(name: str, option: str) -> PoseFormat:
    """The format of a name.

    Raises:
        InputError: there is none; it names the option.
    """
    if name not in FORMATS:
        raise InputError(f"{option} {name}", "there is no such format", f"Known: {', '.join(FORMATS)}")
    return FORMATS[name]


def read_as(path: str | Path, name: str, camera: Camera | None) -> StoredPose:
    """Read a file of a format.

    Args:
        path: the file.
        name: of the format.
        camera: for what the file does not say, or None.

    Raises:
        InputError: there is no such format, it is written only, needs a camera, or the file is damaged.
    """
    known = format_of(name, "--from")
    if known.read is not None:
        return known.read(path)
    if known.read_with is None:
        raise InputError(f"--from {name}", "such files are written only", "Give the pose in another format")
    if camera is None:
        raise InputError(path, "it does not say all of the camera", "Give a pose.json of that camera with --camera")
    return known.read_with(path, camera)
