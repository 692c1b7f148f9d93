"""Reads an X-ray from DICOM: pixels, camera and the C-arm's position, from the tags that C-arms and detectors write.

Tags are those of PS3.3, C.8.7 (X-Ray Angiographic) and C.8.11 (Digital X-Ray). Values without a tag are assumed, and a
warning says so.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import torch
from jaxtyping import Float
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from torch import Tensor

from roireg.data.preprocess import SIZE_PX, GreyScale, cut_out, preprocess, size_within
from roireg.data.xray import DIRECTIONS, Fact, Xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose

MODALITIES = ("XA", "RF", "DX", "CR", "RG", "XC")
# Positioner angles (primary, secondary) of the view positions of digital X-rays (DX).
VIEW_POSITIONS = {"PA": (0.0, 0.0), "AP": (180.0, 0.0), "LL": (90.0, 0.0), "RL": (-90.0, 0.0)}
NEEDED = "Write a camera file and give it with --camera (docs/own-data.md)"


@dataclass
class Tags:
    """A DICOM header, with a record of what was read from it (`facts`) and what was assumed instead (`warnings`)."""

    header: Dataset
    facts: list[Fact]
    warnings: list[str]

    def number(self, keyword: str, name: str, unit: str) -> float | None:
        """The number in a tag; None if the tag is missing or empty."""
        value = self.header.get(keyword)
        if value is None or value == "":
            return None
        self.facts.append(Fact(name, f"{float(value):.6g} {unit}", source_of(keyword)))
        return float(value)

    def assume(self, name: str, value: str, warning: str) -> None:
        """Record a value that no tag gives and that was assumed."""
        self.facts.append(Fact(name, value, "assumed"))
        self.warnings.append(warning)


def source_of(keyword: str) -> str:
    """The tag of a keyword in the form `(gggg,eeee) Keyword`."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def read_dicom_xray(path: str | Path, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX) -> Xray:
    """Read an X-ray from a DICOM file.

    Args:
        path: the file.
        frame: number of the frame of a sequence, from 0.
        crop_px: pixels cropped from each side, in addition to the collimator and shutter given by tags.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: the file is not DICOM or not an X-ray, or its tags do not give the geometry of the exposure.
    """
    try:
        header = pydicom.dcmread(path)
    except (InvalidDicomError, OSError):
        raise InputError(path, "it is not a DICOM file", "Give a DICOM X-ray, or a picture with --camera") from None
    if header.get("Modality") not in MODALITIES:
        fault = f"its modality is {header.get('Modality', 'not stated')}"
        raise InputError(path, fault, f"Give an X-ray, of modality {', '.join(MODALITIES)}")
    tags = Tags(header, [], [])
    stored = dicom_pixels(path, header, frame)
    camera = _camera(path, tags, *stored.shape)
    rig_from_camera, camera = _position(path, tags, camera)
    grey_scale = _grey_scale(tags)
    rows, columns = _opening(tags, *stored.shape)
    rows, columns = (slice(span.start + crop_px, span.stop - crop_px) for span in (rows, columns))
    if rows.stop - rows.start < 2 or columns.stop - columns.start < 2:
        raise InputError(path, "the crop leaves nothing of the image", "Crop less")
    part, window = cut_out(stored, rows, columns, camera)
    image, small = preprocess(path, part, window, grey_scale, size_within(part.shape, size_px))
    facts, warnings = tuple(tags.facts), tuple(tags.warnings)
    return Xray(Path(path).name, image, small, rig_from_camera, camera, facts=facts, warnings=warnings)


def centred_camera(
    height: int, width: int, spacing_mm: tuple[float, float], source_to_detector_mm: float, from_behind: bool
) -> Camera:
    """A camera whose central ray meets the centre of the image.

    Args:
        height, width: size in pixels.
        spacing_mm: size of a pixel on the detector, along a row and along a column.
        source_to_detector_mm: focal length.
        from_behind: whether the image is seen from behind the detector, as C-arms show it.
    """
    fx, fy = source_to_detector_mm / spacing_mm[0], source_to_detector_mm / spacing_mm[1]
    k = [[-fx if from_behind else fx, 0.0, (width - 1) / 2], [0.0, fy, (height - 1) / 2], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), height, width, spacing_mm)


def dicom_pixels(path: str | Path, header: Dataset, frame: int) -> np.ndarray:
    """The grey values of one frame.

    Raises:
        InputError: the image is in colour, cannot be decoded, or has no such frame.
    """
    if header.get("SamplesPerPixel", 1) != 1:
        raise InputError(path, "it is a colour image", "Give the X-ray itself instead of a photo or a screenshot of it")
    try:
        pixels = header.pixel_array
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(path, f"its pixels cannot be decoded ({error})", "Save it uncompressed") from None
    frames = pixels[None] if pixels.ndim == 2 else pixels
    if not 0 <= frame < len(frames):
        raise InputError(path, f"it has {len(frames)} frames", f"Give --frame 0 to {len(frames) - 1}")
    return frames[frame]


def _camera(path: str | Path, tags: Tags, height: int, width: int) -> Camera:
    focal_mm = tags.number("DistanceSourceToDetector", "source to detector", "mm")
    if not focal_mm:
        raise InputError(path, f"{source_of('DistanceSourceToDetector')} is missing", NEEDED)
    spacing = tags.header.get("ImagerPixelSpacing")
    keyword = "ImagerPixelSpacing"
    if spacing is None and tags.header.get("PixelSpacing") is not None:
        magnification = tags.number("EstimatedRadiographicMagnificationFactor", "magnification", "")
        if magnification is None:
            fault = f"{source_of('ImagerPixelSpacing')} is missing, and PixelSpacing may be that in the patient"
            raise InputError(path, fault, NEEDED)
        keyword, spacing = "PixelSpacing", [magnification * float(x) for x in tags.header.PixelSpacing]
        tags.warnings.append("the pixel size on the detector is computed as PixelSpacing times the magnification")
    if spacing is None:
        raise InputError(path, f"{source_of('ImagerPixelSpacing')} is missing", NEEDED)
    # DICOM gives the distance between rows first.
    along_column, along_row = (float(x) for x in spacing)
    tags.facts.append(Fact("pixel on the detector", f"{along_row:.6g} x {along_column:.6g} mm", source_of(keyword)))
    tags.assume("central ray", "centre of the image", "the central ray is assumed to meet the centre of the image")
    return centred_camera(height, width, (along_row, along_column), focal_mm, from_behind=True)


def _position(path: str | Path, tags: Tags, camera: Camera) -> tuple[Float[Tensor, "4 4"], Camera]:
    """`rig_from_camera`, the camera's pose relative to the C-arm's isocentre; and the camera, mirrored if needed."""
    isocenter_mm = tags.number("DistanceSourceToPatient", "source to isocentre", "mm")
    if not isocenter_mm:
        isocenter_mm = SOURCE_TO_ISOCENTER_FRACTION * camera.source_to_detector_mm
        guess = f"{isocenter_mm:.0f} mm"
        tags.assume("source to isocentre", guess, f"the patient is assumed {guess} from the source")
    elif isocenter_mm >= camera.source_to_detector_mm:
        fault = f"{source_of('DistanceSourceToPatient')} is not less than the distance to the detector"
        raise InputError(path, fault, NEEDED)
    primary = tags.number("PositionerPrimaryAngle", "primary angle (+ LAO)", "°")
    secondary = tags.number("PositionerSecondaryAngle", "secondary angle (+ cranial)", "°")
    if primary is None and tags.header.get("ViewPosition") in VIEW_POSITIONS:
        position = tags.header.ViewPosition
        primary, secondary = VIEW_POSITIONS[position]
        tags.facts.append(Fact("view", position, source_of("ViewPosition")))
    elif primary is None:
        primary, secondary = 0.0, secondary or 0.0
        tags.assume("C-arm's angles", "0° and 0°", "no tag gives the C-arm's angles: posterior-anterior is assumed")
    pose = carm_pose(torch.zeros(3, dtype=torch.float64), isocenter_mm, primary, secondary or 0.0)
    return _as_shown(tags, pose, camera)


def _as_shown(tags: Tags, pose: Float[Tensor, "4 4"], camera: Camera) -> tuple[Float[Tensor, "4 4"], Camera]:
    """Rotate the camera about its central ray, and mirror it, so that the image agrees with PatientOrientation."""
    stated = [part[:1] for part in tags.header.get("PatientOrientation") or []]
    if len(stated) != 2 or any(part not in DIRECTIONS for part in stated):
        warning = "no tag gives the patient's sides: the image is assumed to be seen from behind the detector"
        tags.assume("sides", "as C-arms show them", warning)
        return pose, camera
    tags.facts.append(Fact("rows, columns run to", "\\".join(stated), source_of("PatientOrientation")))
    along_row, along_column = (pose.new_tensor(DIRECTIONS[part]) for part in stated)
    options = []
    for quarter in range(4):
        angle = quarter * math.pi / 2
        turn = torch.eye(4, dtype=pose.dtype)
        turn[:2, :2] = pose.new_tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turned = pose @ turn
        for shown in (camera, camera.mirrored()):
            right = math.copysign(1.0, float(shown.intrinsics_px[0, 0])) * turned[:3, 0]
            options.append((float(right @ along_row + turned[:3, 1] @ along_column), turned, shown))
    # Among equally good options the first is taken, which is how C-arms show the image.
    _, turned, shown = max(options, key=lambda option: round(option[0], 6))
    return turned, shown


def _grey_scale(tags: Tags) -> GreyScale:
    sign = tags.header.get("PixelIntensityRelationshipSign")
    relation = tags.header.get("PixelIntensityRelationship")
    if sign in (1, -1):
        bone_bright = sign == -1
        source = source_of("PixelIntensityRelationshipSign")
    else:
        # MONOCHROME1 displays small values as white. X-rays are displayed with white bone, on C-arms often with black.
        bone_bright = tags.header.get("PhotometricInterpretation") == "MONOCHROME2" and tags.header.Modality in (
            "DX",
            "CR",
            "RG",
        )
        source = "assumed"
        shown = "large" if bone_bright else "small"
        tags.warnings.append(f"no tag gives the meaning of grey values: bone is assumed to have {shown} values")
    tags.facts.append(Fact("bone has", "large values" if bone_bright else "small values", source))
    linear = relation == "LIN" or (relation is None and not bone_bright)
    source = "assumed" if relation is None else source_of("PixelIntensityRelationship")
    tags.facts.append(Fact("values are", "intensities" if linear else "their logarithm, or for display", source))
    return GreyScale(bone_bright, linear)


def _opening(tags: Tags, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns inside a rectangular collimator and shutter, whose edges DICOM counts from 1."""
    top, bottom, left, right = 1, height, 1, width
    for prefix in ("Collimator", "Shutter"):
        if "RECTANGULAR" not in (tags.header.get(f"{prefix}Shape") or []):
            continue
        edges = [
            tags.header.get(f"{prefix}{side}Edge")
            for side in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
        ]
        if None in edges:
            continue
        top, bottom = max(top, int(edges[0])), min(bottom, int(edges[1]))
        left, right = max(left, int(edges[2])), min(right, int(edges[3]))
        value = f"rows {top} to {bottom}, columns {left} to {right}"
        tags.facts.append(Fact(f"{prefix.lower()} opening", value, source_of(f"{prefix}Shape")))
    return slice(top - 1, max(bottom, top)), slice(left - 1, max(right, left))
