"""An X-ray from DICOM: pixels, camera and the C-arm's position from the tags that C-arms and detectors write.

Tags are those of PS3.3, C.8.7 (X-Ray Angiographic) and C.8.11 (Digital X-Ray). What no tag says is assumed, and said.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from roireg.data.preprocess import SIZE_PX, GreyScale
from roireg.data.readers.dicom_file import pixel_frames, read_dicom
from roireg.data.readers.dicom_header import Header, source_of
from roireg.data.readers.picture import Picture
from roireg.data.readers.shutters import stated_invalid
from roireg.data.xray import DIRECTIONS, POLARITY, Fact, Xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION, carm_pose

MODALITIES = ("XA", "RF", "DX", "CR", "RG", "XC")
# Positioner angles of DX's view positions: where the detector is.
VIEW_POSITIONS = {"PA": (0.0, 0.0), "AP": (180.0, 0.0), "LL": (90.0, 0.0), "RL": (-90.0, 0.0)}
NEEDED = "Write a camera file and give it with --camera (docs/own-data.md)"


POSITION_TAGS = {"PositionerPrimaryAngle": "PositionerPrimaryAngleIncrement"}
POSITION_TAGS["PositionerSecondaryAngle"] = "PositionerSecondaryAngleIncrement"
DISTANCE_MM = (100.0, 5000.0)
PIXEL_MM = (0.005, 10.0)
MAGNIFICATION = (0.9, 10.0)
FULL_TURN = 360.0
METRES_REMEDY = "Correct the tag: it is in millimetres"


@dataclass
class Tags:
    """A header, and what was read from it or assumed instead."""

    header: Header
    facts: list[Fact]
    warnings: list[str]

    def fact(self, name: str, value: str, keyword: str) -> None:
        """Note what a tag says."""
        self.facts.append(Fact(name, value, source_of(keyword)))

    def warn(self, text: str) -> None:
        """Note what was assumed, or cannot be meant."""
        self.warnings.append(text)

    def number(self, keyword: str, name: str, unit: str, bounds: tuple[float, float]) -> float | None:
        """A number; None where the tag is not there or empty.

        Raises:
            InputError: it is none, or out of bounds.
        """
        value = self.header.number(keyword, bounds, unit)
        if value is not None:
            self.fact(name, f"{value:.6g} {unit}".strip(), keyword)
        return value

    def angle_deg(self, keyword: str, name: str) -> float | None:
        """A positioner angle of this frame in -180 to 180: the tag's, plus the frame's increment.

        A tag with as many angles as there are frames has one for each.

        Raises:
            InputError: it is no angle, or there is another number of angles or increments than of frames.
        """
        frames, frame = self.header.frames, self.header.frame
        stated = self.header.numbers(keyword, None, (-FULL_TURN, FULL_TURN), "°")
        if stated is None:
            return None
        if len(stated) not in (1, frames):
            where = f"{self.header.path}: {source_of(keyword)}"
            what = f"it holds {len(stated)} angles, and there {'is 1 frame' if frames == 1 else f'are {frames} frames'}"
            raise InputError(where, what, NEEDED)
        angle = stated[frame if len(stated) > 1 else 0]
        increment_tag = POSITION_TAGS[keyword]
        increments = self.header.numbers(increment_tag, None, (-FULL_TURN, FULL_TURN), "°")
        if increments is not None and len(stated) == 1 and (frames > 1 or any(increments)):
            if len(increments) not in (1, frames):
                where = f"{self.header.path}: {source_of(increment_tag)}"
                raise InputError(where, f"it holds {len(increments)} angles, and there are {frames} frames", NEEDED)
            step = increments[frame] if len(increments) == frames else frame * increments[0]
            angle += step
            self.fact(f"{name}, of frame {frame}", f"{step:+.6g} °", increment_tag)
        self.fact(name, f"{angle:.6g} °", keyword)
        return (angle + FULL_TURN / 2) % FULL_TURN - FULL_TURN / 2 if abs(angle) > FULL_TURN / 2 else angle

    def assume(self, name: str, value: str, warning: str) -> None:
        """Note what no tag says."""
        self.facts.append(Fact(name, value, "assumed"))
        self.warnings.append(warning)


def read_dicom_xray(path: str | Path, frame: int = 0, crop_px: int = 0, size_px: int = SIZE_PX) -> Xray:
    """An X-ray from a DICOM file.

    Args:
        path: the file.
        frame: of a sequence, from 0.
        crop_px: taken off each side of what tags and flat borders leave of the image.
        size_px: longer side of the image that is registered.

    Raises:
        InputError: it is no DICOM, is damaged, is no X-ray, or does not say how it was taken.
    """
    path = Path(path)
    header = Header(path, read_dicom(path), frame)
    modality = header.word("Modality")
    if modality not in MODALITIES:
        fault = f"its modality is {modality or 'not stated'}"
        raise InputError(path, fault, f"Give an X-ray, of modality {', '.join(MODALITIES)}")
    stored = dicom_pixels(header)
    tags = Tags(header, [], [])
    camera = _camera(path, tags, *stored.shape)
    rig_from_camera, camera = _position(path, tags, camera)
    grey_scales = _grey_scales(tags)
    picture = Picture(path, stored, camera, stated_invalid(header, stored, tags))
    return picture.as_xray(grey_scales, rig_from_camera, crop_px, size_px, tags.facts, tags.warnings)


def centred_camera(
    height: int, width: int, spacing_mm: tuple[float, float], source_to_detector_mm: float, from_behind: bool
) -> Camera:
    """A camera whose central ray meets the middle of the image.

    Args:
        height, width: pixels.
        spacing_mm: of a pixel on the detector, along a row and along a column.
        source_to_detector_mm: focal length.
        from_behind: whether the image is seen from behind the detector, as C-arms show it.
    """
    fx, fy = source_to_detector_mm / spacing_mm[0], source_to_detector_mm / spacing_mm[1]
    k = [[-fx if from_behind else fx, 0.0, (width - 1) / 2], [0.0, fy, (height - 1) / 2], [0.0, 0.0, 1.0]]
    return Camera(torch.tensor(k, dtype=torch.float64), height, width, spacing_mm)


def dicom_pixels(header: Header) -> Shaped[np.ndarray, "R C"]:
    """Grey values of the header's frame, as they are stored.

    Raises:
        InputError: it is in colour, has no pixels or too few, cannot be decoded, or has no such frame.
    """
    if not 0 <= header.frame < header.frames:
        last = header.frames - 1
        told = f"it has {header.frames} frame{'s' if last else ''}"
        raise InputError(header.path, told, f"Give --frame 0 to {last}" if last else "Give --frame 0")
    return pixel_frames(header, [header.frame])[0]


def _camera(path: Path, tags: Tags, height: int, width: int) -> Camera:
    focal_mm = tags.number("DistanceSourceToDetector", "source to detector", "mm", (0.0, DISTANCE_MM[1]))
    if not focal_mm:
        raise InputError(path, f"{source_of('DistanceSourceToDetector')} is missing", NEEDED)
    if focal_mm < DISTANCE_MM[0]:
        where = f"{path}: {source_of('DistanceSourceToDetector')}"
        raise InputError(where, f"it is {focal_mm:g} mm", METRES_REMEDY)
    keyword = "ImagerPixelSpacing"
    spacing = tags.header.numbers(keyword, 2, PIXEL_MM, "mm")
    on_patient = tags.header.numbers("PixelSpacing", 2, PIXEL_MM, "mm") if spacing is None else None
    if on_patient is not None:
        name = "EstimatedRadiographicMagnificationFactor"
        magnification = tags.number(name, "magnification", "", MAGNIFICATION)
        if magnification is None:
            fault = f"{source_of('ImagerPixelSpacing')} is missing, and PixelSpacing may be that in the patient"
            raise InputError(path, fault, NEEDED)
        keyword, spacing = "PixelSpacing", tuple(magnification * x for x in on_patient)
        tags.warn("detector's pixel size from PixelSpacing times the magnification")
    if spacing is None:
        raise InputError(path, f"{source_of('ImagerPixelSpacing')} is missing", NEEDED)
    # DICOM gives the distance of rows first.
    along_column, along_row = spacing
    tags.fact("pixel on the detector", f"{along_row:.6g} x {along_column:.6g} mm", keyword)
    tags.assume("central ray", "the middle of the image", "the central ray is taken to meet the middle of the image")
    return centred_camera(height, width, (along_row, along_column), focal_mm, from_behind=True)


def _position(path: Path, tags: Tags, camera: Camera) -> tuple[Float[Tensor, "4 4"], Camera]:
    """The camera in the frame of the C-arm's isocentre, and the camera with the side from which its image is seen."""
    keyword = "DistanceSourceToPatient"
    if tags.header.raw(keyword) is None and tags.header.raw("DistanceSourceToIsocenter") is not None:
        keyword = "DistanceSourceToIsocenter"
    isocenter_mm = tags.number(keyword, "source to isocentre", "mm", (0.0, DISTANCE_MM[1]))
    if not isocenter_mm:
        isocenter_mm = SOURCE_TO_ISOCENTER_FRACTION * camera.source_to_detector_mm
        guess = f"{isocenter_mm:.0f} mm"
        tags.assume("source to isocentre", guess, f"the patient is searched for {guess} from the source")
    elif isocenter_mm >= camera.source_to_detector_mm:
        fault = f"{source_of(keyword)} is not less than the distance to the detector"
        raise InputError(path, fault, NEEDED)
    elif isocenter_mm < DISTANCE_MM[0] / 2:
        raise InputError(f"{path}: {source_of(keyword)}", f"it is {isocenter_mm:g} mm", METRES_REMEDY)
    primary = tags.angle_deg("PositionerPrimaryAngle", "primary angle (+ LAO)")
    secondary = tags.angle_deg("PositionerSecondaryAngle", "secondary angle (+ cranial)")
    position = tags.header.word("ViewPosition")
    if primary is None and position in VIEW_POSITIONS:
        primary, secondary = VIEW_POSITIONS[position]
        tags.fact("view", position, "ViewPosition")
    elif primary is None:
        primary, secondary = 0.0, secondary or 0.0
        tags.assume("C-arm's angles", "0° and 0°", "no tag says from where: posterior-anterior is assumed")
    pose = carm_pose(torch.zeros(3, dtype=torch.float64), isocenter_mm, primary, secondary or 0.0)
    return _as_shown(tags, pose, camera)


def _as_shown(tags: Tags, pose: Float[Tensor, "4 4"], camera: Camera) -> tuple[Float[Tensor, "4 4"], Camera]:
    """Turn the camera about its central ray, and mirror it, until rows and columns run as PatientOrientation says."""
    stated = [part[:1] for part in tags.header.words("PatientOrientation")]
    if len(stated) != 2 or any(part not in DIRECTIONS for part in stated):
        tags.assume("sides", "as C-arms show them", "no tag says which side is left: seen from behind the detector")
        return pose, camera
    tags.fact("rows, columns run to", "\\".join(stated), "PatientOrientation")
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
    # The first of equals: as C-arms show it.
    _, turned, shown = max(options, key=lambda option: round(option[0], 6))
    return turned, shown


def _grey_scales(tags: Tags) -> tuple[GreyScale, GreyScale | None]:
    """What stored values mean; and the opposite, where that is assumed."""
    sign = tags.header.number("PixelIntensityRelationshipSign", (-1, 1))
    relation = tags.header.word("PixelIntensityRelationship")
    if sign in (1, -1):
        bone_bright, source = sign == -1, source_of("PixelIntensityRelationshipSign")
    else:
        bone_bright, source = _bone_bright(tags), "assumed"
        tags.warn(f"{POLARITY}: bone is taken to have {_told(bone_bright)}")
    tags.facts.append(Fact("bone has", _told(bone_bright), source))
    stated = _grey_scale(bone_bright, relation)
    source = source_of("PixelIntensityRelationship") if relation else "assumed"
    tags.facts.append(Fact("values are", "intensities" if stated.linear else "their logarithm, or for display", source))
    return stated, None if sign in (1, -1) else _grey_scale(not bone_bright, relation)


def _told(bone_bright: bool) -> str:
    return "large values" if bone_bright else "small values"


def _grey_scale(bone_bright: bool, relation: str) -> GreyScale:
    return GreyScale(bone_bright, relation == "LIN" or (not relation and not bone_bright))


def _bone_bright(tags: Tags) -> bool:
    """Whether bone has large stored values, by how the picture is shown.

    MONOCHROME1 shows small values white, and so does an inverse look-up table; a negative slope turns values round
    before. Radiographs are shown with white bone, those of C-arms with black bone or, in MONOCHROME1, with white.
    """
    slope = tags.header.number("RescaleSlope", (-1e6, 1e6))
    turned = slope is not None and slope < 0
    shown_white = tags.header.word("PhotometricInterpretation") != "MONOCHROME1"
    if tags.header.word("PresentationLUTShape") == "INVERSE":
        shown_white = not shown_white
    radiograph = tags.header.word("Modality") in ("DX", "CR", "RG")
    return (shown_white and radiograph) != turned
