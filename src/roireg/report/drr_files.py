"""Writes a patient's DRR and projected ROIs at a pose as image files (command `roireg render`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.volume import Volume
from roireg.data.writers.poses import StoredPose, write_json
from roireg.data.writers.secondary_capture import write_secondary_capture
from roireg.drr import render
from roireg.drr.rois import project_rois
from roireg.files import atomic_path

WHITE = 65535


def write_rendering(
    folder: str | Path, patient: Patient, stored: StoredPose, rois: Sequence[str], size_px: int | None
) -> list[Path]:
    """Write drr.png and drr.dcm (16 bits, bone bright), drr.tif (line integrals); with labels, rois.png and rois.json.

    Args:
        folder: output folder, created if missing.
        patient: the CT and its labels.
        stored: pose and camera.
        rois: names of labels; where projections overlap, the later label wins. Empty: all labels.
        size_px: longer side of the images; None keeps the size of the camera.

    Returns:
        Paths of the files.

    Raises:
        InputError: a ROI is not among the patient's labels.
    """
    folder, camera = Path(folder), stored.camera
    if size_px is not None:
        scale = size_px / max(camera.height, camera.width)
        camera = camera.resized(round(camera.height * scale), round(camera.width * scale))
    integrals = render(patient.volume, camera, stored.pose[None])
    grey = (scaled(integrals)[0] * WHITE).round().numpy().astype(np.uint16)
    written = [
        _picture(folder / "drr.png", Image.fromarray(grey)),
        _picture(folder / "drr.tif", Image.fromarray(integrals[0].numpy().astype(np.float32))),
        folder / "drr.dcm",
    ]
    write_secondary_capture(folder / "drr.dcm", grey, replace(stored, camera=camera))
    if patient.labels is not None:
        names = list(rois) or list(patient.label_names.values())
        frame = patient.volume.volume_from_voxel
        volumes = [Volume(patient.label_mask([name], "--roi").float(), frame) for name in names]
        numbers = project_rois(volumes, camera, stored.pose[None])[0].numpy()
        written.append(_picture(folder / "rois.png", Image.fromarray(numbers)))
        write_json(folder / "rois.json", {str(number): name for number, name in enumerate(names, start=1)})
        written.append(folder / "rois.json")
    return written


def _picture(path: Path, image: Image.Image) -> Path:
    with atomic_path(path) as temporary:
        image.save(temporary)
    return path
