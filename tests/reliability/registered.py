"""Damaged CTs, labels and X-rays of a simulated patient, registered: is a wrong answer ever trusted?

`python -m reliability.registered --inputs 500` prints the figures. The method is that of `roireg register`, with an
X-ray of 64 px and voxels of 4 mm, at which the whole files are trusted in a second.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
import torch
import yaml
from own_patient import carm_camera, chest_hu, chest_xray, itk_image, write_carm_dicom, write_ct_series
from PIL import Image

from reliability.mutations import BINARY_HEADER, PIXELS, TAGGED_HEADER, TEXT_HEADER, Mutator
from reliability.parts import dicom_header
from roireg.data.patient import Patient
from roireg.data.readers.ct import read_patient
from roireg.data.readers.volumes import read_volume
from roireg.data.readers.xray import read_xray
from roireg.errors import InputError
from roireg.geometry.camera import Camera, project
from roireg.geometry.poses import carm_pose, perturb
from roireg.geometry.se3 import transform_points
from roireg.register.method import search_method
from roireg.register.registration import register_xrays
from roireg.register.verdict import Grade

SIZE_PX, VOXEL_MM, STRIDE = 64, 4.0, 4
CAMERA = carm_camera(160)
SOURCE_MM = 720.0
LIE = torch.tensor([0.05, -0.04, 0.06, 14.0, -20.0, 12.0], dtype=torch.float64)
# As in benchmarks/own_patient.py: bone projected farther away than this, in mm on the detector, is another answer.
TRUE_MM = 2.0
HEART = (51,)
LABEL = "label 1"
REFUSED, FAULT = "refused", "fault"
CT, LABELS, XRAY = "CT", "labels", "X-ray"


@dataclass(frozen=True)
class Result:
    """What became of a damaged file: REFUSED, FAULT or a verdict; and the error on the detector, mm."""

    number: int
    file: str
    damage: str
    result: str
    error_mm: float | None = None
    told: str = ""


@dataclass(frozen=True, eq=False)
class Whole:
    """The files before the damage, and the true pose.

    Attributes:
        folder: of the files.
        bone_mm: points of bone `(N, 3)`.
        pixels: where the X-ray shows them, `(N, 2)`.
    """

    folder: Path
    bone_mm: torch.Tensor
    pixels: torch.Tensor


def write_whole(folder: Path) -> Whole:
    """Write the patient's CT in three formats, labels, and the X-ray as DICOM and as TIFF."""
    hu, ids, frame = chest_hu()
    frame = frame @ np.diag([STRIDE, STRIDE, 1.0, 1.0])
    hu, ids = hu[:, ::STRIDE, ::STRIDE], np.isin(ids[:, ::STRIDE, ::STRIDE], HEART).astype(np.uint8)
    sitk.WriteImage(itk_image(hu, frame), str(folder / "ct.nrrd"))
    sitk.WriteImage(itk_image(hu, frame), str(folder / "ct.nii.gz"))
    sitk.WriteImage(itk_image(ids, frame), str(folder / "labels.nrrd"))
    write_ct_series(folder / "series", hu, frame)
    patient = read_patient(folder / "ct.nrrd", voxel_mm=VOXEL_MM)
    truth = perturb(carm_pose(patient.center_mm, SOURCE_MM, 0.0, 0.0), LIE, patient.center_mm)
    image = chest_xray(truth, CAMERA)
    write_carm_dicom(folder / "x.dcm", image, CAMERA, (0.0, 0.0), DistanceSourceToPatient=SOURCE_MM)
    Image.fromarray(image).save(folder / "x.tif")
    entries = {"source_to_detector_mm": 1000.0, "pixel_spacing_mm": CAMERA.pixel_spacing_mm[0], "bone": "dark"}
    entries |= {"intensity": "linear", "primary_deg": 0.0, "source_to_isocenter_mm": SOURCE_MM}
    (folder / "camera.yaml").write_text(yaml.safe_dump(entries))
    return Whole(folder, patient.bone_points_mm, project(patient.bone_points_mm, CAMERA, truth))


@dataclass(frozen=True)
class Case:
    """Which files are given to the command, which of them is damaged, and how."""

    file: str
    damage: str
    change: Callable[[Path, np.random.Generator], str]
    ct: str = "ct.nrrd"
    xray: str = "x.dcm"
    labelled: bool = False


def _bytes(name: str, header: Callable[[bytes], int], mutators: Sequence[Mutator]) -> Callable[..., str]:
    """Mutations of the bytes, of the pixels more often than of the header."""

    def change(folder: Path, rng: np.random.Generator) -> str:
        path = folder / name
        data = path.read_bytes()
        length = header(data)
        in_header = rng.random() < 0.4
        low, high = (0, length) if in_header else (length, len(data))
        chosen = mutators if in_header else PIXELS
        one = chosen[int(rng.integers(len(chosen)))](data, low, high, rng)
        path.write_bytes(one.data)
        return f"{one.kind} at {one.first}"

    return change


def _span(length: int, rng: np.random.Generator) -> slice:
    size = int(rng.uniform(0.1, 0.6) * length)
    at = int(rng.integers(length - size + 1))
    return slice(at, at + size)


def damaged_values(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A part of an image, as long as before, is not what was measured."""
    out = values.copy()
    axis = int(rng.integers(values.ndim))
    span = _span(values.shape[axis], rng)
    part = [slice(None)] * values.ndim
    part[axis] = span
    region = out[tuple(part)]
    low, high = int(values.min()), int(values.max())
    what = int(rng.integers(9))
    if what == 0:
        region[...] = 0
    elif what == 1:
        region[...] = low
    elif what == 2:
        region[...] = rng.integers(low, high + 1, region.shape)
    elif what == 3:
        region[...] = region.byteswap()
    elif what == 4:
        region[...] = np.flip(region, axis)
    elif what == 5:
        region[...] = np.roll(region, int(rng.integers(1, max(region.shape[axis], 2))), axis)
    elif what == 6:
        # Rows against each other; all moved alike is the same patient at another place.
        region[...] = np.roll(region, int(rng.integers(1, 9)), (axis + 1) % values.ndim)
    elif what == 7:
        out = np.flip(out, axis).copy()
    else:
        keep = int(rng.integers(2, 10))
        region[...] = np.take(region, np.arange(region.shape[axis]) // keep * keep, axis)
    names = (
        "zero",
        "least value",
        "noise",
        "bytes swapped",
        "turned round",
        "moved",
        "moved aside",
        "mirrored",
        "steps",
    )
    return out, f"{names[what]}, axis {axis}, {span.start} to {span.stop}"


def _nrrd_values(name: str) -> Callable[..., str]:
    def change(folder: Path, rng: np.random.Generator) -> str:
        image = sitk.ReadImage(str(folder / name))
        values, told = damaged_values(sitk.GetArrayFromImage(image), rng)
        other = sitk.GetImageFromArray(values)
        other.CopyInformation(image)
        sitk.WriteImage(other, str(folder / name))
        return told

    return change


def _nrrd_geometry(folder: Path, rng: np.random.Generator) -> str:
    """Spacing, directions or the origin of the CT are others."""
    image = sitk.ReadImage(str(folder / "ct.nrrd"))
    what = int(rng.integers(4))
    axis = int(rng.integers(3))
    if what == 0:
        spacing = list(image.GetSpacing())
        spacing[axis] *= float(rng.choice([0.5, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 2.0]))
        image.SetSpacing(spacing)
        told = f"spacing {spacing}"
    elif what == 1:
        directions = np.array(image.GetDirection()).reshape(3, 3)
        directions[:, axis] *= -1
        image.SetDirection(directions.flatten().tolist())
        told = f"axis {axis} turned round"
    elif what == 2:
        directions = np.array(image.GetDirection()).reshape(3, 3)[:, rng.permutation(3)]
        image.SetDirection(directions.flatten().tolist())
        told = f"directions {directions.tolist()}"
    else:
        origin = (np.array(image.GetOrigin()) + rng.normal(0, 200, 3)).tolist()
        image.SetOrigin(origin)
        told = f"origin {origin}"
    sitk.WriteImage(image, str(folder / "ct.nrrd"))
    return told


def _series_slices(folder: Path, rng: np.random.Generator) -> str:
    """Pixels of slices are exchanged, are missing, or are those of others; headers are whole."""
    names = sorted((folder / "series").iterdir())
    what = int(rng.integers(3))
    first, second = sorted(int(one) for one in rng.choice(len(names), 2, replace=False))
    chosen = names[first : second + 1]
    if what == 0:
        for name in chosen[1:-1]:
            name.unlink()
        return f"{len(chosen) - 2} slices missing"
    found = [pydicom.dcmread(name) for name in chosen]
    pixels = [one.PixelData for one in found]
    order = list(rng.permutation(len(found))) if what == 1 else [0] * len(found)
    for name, one, source in zip(chosen, found, order, strict=True):
        one.PixelData = pixels[source]
        one.save_as(name)
    return f"{len(found)} slices {'shuffled' if what == 1 else 'are one'}"


def _xray_values(folder: Path, rng: np.random.Generator) -> str:
    dataset = pydicom.dcmread(folder / "x.dcm")
    values, told = damaged_values(dataset.pixel_array, rng)
    dataset.PixelData = values.tobytes()
    dataset.save_as(folder / "x.dcm")
    return told


def _xray_tags(folder: Path, rng: np.random.Generator) -> str:
    """A number in a tag is another one."""
    dataset = pydicom.dcmread(folder / "x.dcm")
    factor = float(rng.choice([0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2.0, 4.0]))
    what = int(rng.integers(5))
    if what == 0:
        dataset.DistanceSourceToDetector = f"{1000 * factor:.1f}"
        return f"source to detector x {factor}"
    if what == 1:
        dataset.ImagerPixelSpacing = [f"{x * factor:.6f}" for x in CAMERA.pixel_spacing_mm]
        return f"pixel x {factor}"
    if what == 2:
        dataset.PositionerPrimaryAngle = f"{rng.uniform(-180, 180):.1f}"
        return f"angle {dataset.PositionerPrimaryAngle}"
    if what == 3:
        dataset.ImagerPixelSpacing = [f"{CAMERA.pixel_spacing_mm[0] * factor:.6f}", f"{CAMERA.pixel_spacing_mm[1]:.6f}"]
        return f"pixel along a column x {factor}"
    dataset.PixelIntensityRelationshipSign = -1
    return "the opposite polarity"


def _head(data: bytes) -> int:
    return data.find(b"\n\n") + 2


def cases() -> list[Case]:
    """All kinds of damage, one after the other."""
    ct = _bytes("ct.nrrd", _head, TEXT_HEADER)
    gzipped = _bytes("ct.nii.gz", lambda data: 10, BINARY_HEADER)
    series = _bytes("series/0040.dcm", dicom_header, TAGGED_HEADER)
    return [
        Case(CT, "bytes of a NRRD file", ct),
        Case(CT, "voxels", _nrrd_values("ct.nrrd")),
        Case(CT, "geometry", _nrrd_geometry),
        Case(CT, "bytes of a gzipped file", gzipped, ct="ct.nii.gz"),
        Case(CT, "bytes of a slice", series, ct="series"),
        Case(CT, "slices", _series_slices, ct="series"),
        Case(CT, "voxels", _nrrd_values("ct.nrrd")),
        Case(LABELS, "bytes of a NRRD file", _bytes("labels.nrrd", _head, TEXT_HEADER), labelled=True),
        Case(LABELS, "voxels", _nrrd_values("labels.nrrd"), labelled=True),
        Case(XRAY, "bytes of a DICOM file", _bytes("x.dcm", dicom_header, TAGGED_HEADER)),
        Case(XRAY, "pixels", _xray_values),
        Case(XRAY, "tags", _xray_tags),
        Case(XRAY, "bytes of a TIFF file", _bytes("x.tif", lambda data: 200, BINARY_HEADER), xray="x.tif"),
        Case(XRAY, "pixels", _xray_values),
    ]


def error_mm(whole: Whole, ct: Path, patient: Patient, camera: Camera, pose: torch.Tensor) -> float:
    """Mean distance on the detector from where bone is shown to where a pose projects it.

    Bone is known by its voxels: where a header says that the same voxels lie elsewhere, the right pose follows.
    """
    # A series is stored in another order of slices than a file, so indices are those of the same file before.
    before, now = (torch.from_numpy(read_volume(one).frame) for one in (whole.folder / ct.name, ct))
    voxels = transform_points(torch.linalg.inv(before), whole.bone_mm)
    found = project(transform_points(now, voxels), camera, pose)
    return float((found - whole.pixels).norm(dim=-1).mean()) * CAMERA.pixel_spacing_mm[0]


def registered(whole: Whole, case: Case, number: int, seed: int) -> Result:
    """One damaged file, registered with the others."""
    with tempfile.TemporaryDirectory(prefix="roireg-damaged-") as name:
        folder = Path(name) / "files"
        shutil.copytree(whole.folder, folder)
        rng = np.random.default_rng([seed, zlib.crc32(case.damage.encode()), number])
        told = f"{case.damage}: {case.change(folder, rng)}"
        try:
            labels = folder / "labels.nrrd" if case.labelled else None
            patient = read_patient(folder / case.ct, labels, voxel_mm=VOXEL_MM)
            camera_file = folder / "camera.yaml" if case.xray.endswith(".tif") else None
            xray = read_xray(folder / case.xray, camera_file, size_px=SIZE_PX)
            method = search_method([LABEL] if case.labelled else [])
            found = register_xrays(patient, [xray], method)
            stored = xray.stored_camera or xray.camera
            error = error_mm(whole, folder / case.ct, patient, stored, found.pose)
        except InputError as fault:
            return Result(number, case.file, told, REFUSED, None, str(fault))
        except Exception:
            return Result(number, case.file, told, FAULT, None, traceback.format_exc())
        return Result(number, case.file, told, str(found.verdict.grade), error, found.verdict.reasons[0])


def figures(results: Sequence[Result]) -> str:
    """A line for each kind of file, and one for all."""
    lines = []
    for name in (CT, LABELS, XRAY, ""):
        chosen = [one for one in results if name in (one.file, "")]
        counts = Counter(one.result for one in chosen)
        trusted = [one for one in chosen if one.result == Grade.TRUSTED]
        wrong = sum(one.error_mm is None or not one.error_mm <= TRUE_MM for one in trusted)
        parts = ", ".join(f"{one} {counts[one]}" for one in (REFUSED, "failed", "check", FAULT))
        right = f"trusted with the same answer (to {TRUE_MM:g} mm) {len(trusted) - wrong}"
        lines.append(
            f"{name or 'damaged and registered'}: {len(chosen)}: {parts}, {right}, trusted with another answer {wrong}"
        )
    return "\n".join(lines)


def main() -> int:
    """Damage, register, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: list[Result] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roireg-whole-") as name:
        whole = write_whole(Path(name))
        plain = registered(whole, Case(CT, "none", lambda folder, rng: "whole"), 0, 0)
        print(f"whole files: {plain.result}, {plain.error_mm} mm")
        if plain.result != Grade.TRUSTED or plain.error_mm is None or plain.error_mm > TRUE_MM / 2:
            return 1
        chosen = cases()
        for number in range(options.inputs):
            results.append(registered(whole, chosen[number % len(chosen)], number, options.seed))
            one = results[-1]
            if one.result == FAULT or (one.result == Grade.TRUSTED and not (one.error_mm or 0) <= TRUE_MM):
                print(f"FAULT {one}", file=sys.stderr, flush=True)
            if options.out is not None and number % 10 == 9:
                options.out.write_text(json.dumps([asdict(one) for one in results]))
    print(figures(results))
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    bad = any(
        one.result == FAULT or (one.result == Grade.TRUSTED and not (one.error_mm or 0) <= TRUE_MM) for one in results
    )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
