"""RTK's geometry as its XML file holds it, version 3, with one projection."""

import math
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path

from roireg.data.pose_formats.fields import ENTRIES, REMEDY, stored_pose
from roireg.data.readers.gate import brief
from roireg.data.readers.numbers import number_of
from roireg.data.readers.text import read_text
from roireg.data.writers.poses import StoredPose
from roireg.errors import InputError
from roireg.files import atomic_path
from roireg.geometry.camera import Camera
from roireg.geometry.rtk import RtkProjection, from_rtk, rtk_origin_mm, rtk_pixel_mm, to_rtk

ROOT, VERSION = "RTKThreeDCircularGeometry", "3"
NAMES = {
    "source_to_isocenter": "SourceToIsocenterDistance",
    "source_to_detector": "SourceToDetectorDistance",
    "gantry_deg": "GantryAngle",
    "out_of_plane_deg": "OutOfPlaneAngle",
    "in_plane_deg": "InPlaneAngle",
    "source_offset_x": "SourceOffsetX",
    "source_offset_y": "SourceOffsetY",
    "projection_offset_x": "ProjectionOffsetX",
    "projection_offset_y": "ProjectionOffsetY",
}
# RTK wraps angles so.
FULL_TURN_DEG = 360.0


def write_rtk(path: str | Path, stored: StoredPose) -> None:
    """Write one projection; a comment says which pixels its picture must have.

    Raises:
        InputError: the camera's axes are skewed.
    """
    camera = stored.camera
    try:
        projection = to_rtk(camera, stored.pose)
    except ValueError as error:
        raise InputError("the camera", str(error), "RTK has no parameter for that: take another format") from None
    across, down = rtk_pixel_mm(camera)
    left, top = rtk_origin_mm(camera)
    turned = "" if float(camera.intrinsics_px[0, 0]) < 0 else "; direction of x -1"
    size = f"picture of {camera.width} x {camera.height} px"
    picture = f"{size}; spacing {across!r} x {down!r}; origin {left!r}, {top!r}{turned}"
    lines = [
        f"    <{NAMES[one.name]}>{_value(projection, one.name)!r}</{NAMES[one.name]}>" for one in fields(projection)
    ]
    matrix = [" ".join(repr(x) for x in row) for row in projection.matrix().tolist()]
    text = [
        '<?xml version="1.0"?>',
        "<!DOCTYPE RTKGEOMETRY>",
        f"<!-- fixed frame: that of the CT (LPS, mm); {picture} -->",
        f'<{ROOT} version="{VERSION}">',
        "  <Projection>",
        *lines,
        "    <Matrix>",
        *(f"      {row}" for row in matrix),
        "    </Matrix>",
        "  </Projection>",
        f"</{ROOT}>",
        "",
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(text), encoding="utf-8")


def _value(projection: RtkProjection, name: str) -> float:
    value: float = getattr(projection, name)
    return math.fmod(value + FULL_TURN_DEG, FULL_TURN_DEG) if name.endswith("_deg") else value


def read_rtk(path: str | Path, camera: Camera) -> StoredPose:
    """The only projection of a file.

    Args:
        path: the file.
        camera: one with the picture's size, pixels and side, which the file does not hold.

    Raises:
        InputError: it is no such file, or has several projections.
    """
    text = read_text(path)
    if "<!ENTITY" in text:
        raise InputError(path, "it defines entities", REMEDY)
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(path, f"it is not XML that can be read ({brief(error)})", REMEDY) from None
    projections = root.findall("Projection")
    if root.tag != ROOT or len(projections) != 1:
        what = f"it holds {len(projections)} projections of {ROOT}"
        raise InputError(path, what, "Give a file with one projection")
    values = {}
    for field, name in NAMES.items():
        # What all projections share may stand above them, and what is 0 nowhere.
        found = projections[0].findtext(name) or root.findtext(name) or "0"
        values[field] = number_of(f"{path}: {name}", found, ENTRIES, "", REMEDY)
    if values["source_to_detector"] <= 0:
        raise InputError(f"{path}: SourceToDetectorDistance", "it is not positive", "Parallel rays have no pose")
    found_camera, pose = from_rtk(RtkProjection(**values), camera)
    return stored_pose(path, pose, found_camera)
