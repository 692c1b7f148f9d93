"""What was opened: files of the CT and of X-rays, and how they are read, by the readers of `roireg register`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from roireg.data.couch import Couch
from roireg.data.patient import Patient
from roireg.data.preprocess import SIZE_PX
from roireg.data.readers.ct import read_patient
from roireg.data.readers.gate import Content, content_of
from roireg.data.readers.xray import read_xray
from roireg.data.xray import Xray
from roireg.errors import InputError
from roireg.files import atomic_path

# Longer side of the picture that is shown when the hand rests; larger X-rays are shrunk.
SHOWN_PX = 1024
# Entries of a camera file from which a person goes on if nothing says how a picture was taken: a common C-arm's.
ASSUMED = {
    "source_to_detector_mm": 1000.0,
    "pixel_spacing_mm": 0.3,
    "bone": "dark",
    "intensity": "log",
    "primary_deg": 0.0,
    "secondary_deg": 0.0,
    "roll_deg": 0.0,
    "source_to_isocenter_mm": 720.0,
}
ASSUMED_WARNING = "nothing says how it was taken: a common C-arm is assumed; set its geometry"


@dataclass(frozen=True)
class CtSource:
    """The files of a CT; see `read_patient`."""

    path: Path
    labels: Path | None = None
    label_names: Path | None = None
    center_on: tuple[str, ...] = ()
    rescale: tuple[float, float] = (1.0, 0.0)
    couch: Couch = "remove"


@dataclass(frozen=True)
class XraySource:
    """The files of an X-ray; see `read_xray`.

    Attributes:
        path: the picture.
        camera: its camera file, or None.
        frame: of a sequence, from 0.
        crop_px: taken off each side.
        mirror: flipped left to right.
        entries: entries of a camera file that were set in the page: they replace the camera file or the tags.
    """

    path: Path
    camera: Path | None = None
    frame: int = 0
    crop_px: int = 0
    mirror: bool = False
    entries: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RecordSource:
    """An X-ray of a specimen that the workflow has prepared; its geometry is that of the data set.

    Attributes:
        path: the specimen's file.
        name: of the X-ray.
    """

    path: Path
    name: str
    crop_px: int = 0


@dataclass(frozen=True, eq=False)
class View:
    """An X-ray as it is shown, and as it is registered: the same picture at two sizes.

    Attributes:
        source: where it is from.
        shown: at most `SHOWN_PX` on its longer side.
        registered: of the size that is registered.
    """

    source: XraySource | RecordSource
    shown: Xray
    registered: Xray

    @property
    def file_source(self) -> XraySource:
        """Its files.

        Raises:
            InputError: it is of a workflow's results.
        """
        if isinstance(self.source, RecordSource):
            what = "the workflow has prepared it; its geometry is that of the data set"
            raise InputError(f"X-ray {self.source.name}", what, "Open its own file to change it")
        return self.source


def open_ct(source: CtSource) -> Patient:
    """Read a CT.

    Raises:
        InputError: see `read_patient`.
    """
    return read_patient(
        source.path, source.labels, source.label_names, source.center_on, source.rescale, couch=source.couch
    )


def open_xray(source: XraySource, folder: Path, size_px: int = SIZE_PX) -> View:
    """Read an X-ray at both sizes.

    Args:
        source: its files.
        folder: a folder of the session, where a camera file is written if its entries were set in the page.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: see `read_xray`.
    """
    assumed = needs_geometry(source)
    if assumed:
        source = replace(source, entries=ASSUMED)
    camera = source.camera
    if source.entries is not None:
        camera = folder / "geometry.yaml"
        write_camera_file(camera, source.entries)
    shown, registered = (
        read_xray(source.path, camera, source.frame, source.crop_px, size) for size in (SHOWN_PX, size_px)
    )
    if source.mirror:
        shown, registered = shown.mirrored(), registered.mirrored()
    if assumed:
        shown = replace(shown, warnings=(ASSUMED_WARNING, *shown.warnings))
    return View(source, shown, registered)


def write_camera_file(path: Path, entries: Mapping[str, Any]) -> None:
    """Write the entries of a camera file, which `--camera` reads."""
    with atomic_path(path) as temporary:
        temporary.write_text(camera_text(entries), encoding="utf-8")


def camera_text(entries: Mapping[str, Any]) -> str:
    """The entries of a camera file as YAML."""
    return yaml.safe_dump(dict(entries), sort_keys=False, default_flow_style=None)


def with_entries(source: XraySource, entries: Mapping[str, Any], crop_px: int) -> XraySource:
    """The X-ray with another geometry; a flip that was asked for is part of the entries from then on."""
    return replace(source, entries=dict(entries), crop_px=crop_px, mirror=False)


def needs_geometry(source: XraySource) -> bool:
    """Whether nothing says how the X-ray was taken: a picture without a camera file.

    Raises:
        InputError: it is no regular file.
    """
    return source.camera is None and source.entries is None and content_of(source.path) is not Content.DICOM
