"""From nothing but the demo's CT as NIfTI and an X-ray as DICOM: `roireg` gives the pose; and its networks train."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_patient import carm_angles_deg, write_carm_dicom, write_volume

from roireg.data.deepfluoro import read_ct, read_parameters, read_projection, specimen_names
from roireg.data.readers.hdf5_file import open_dataset
from roireg.geometry.camera import Camera, rotate_image_180
from roireg.geometry.conversions import pose_from_deepfluoro
from roireg.metrics.pose_errors import registration_errors

NAME = "000"
CROP_PX = 15
ROIS = ["--roi", "left hemipelvis", "--roi", "right hemipelvis"]
FEW = ["--drrs", "10", "--epochs", "1", "--config", "short.yaml"]
FEMURS = ("--exclude", "left femur", "--exclude", "right femur")


@pytest.fixture(scope="module")
def patient(smoke, tmp_path_factory) -> tuple[Path, Camera, torch.Tensor, torch.Tensor]:
    """Folder with a CT, labels and X-ray; the camera, the true pose, the landmarks."""
    folder = tmp_path_factory.mktemp("own")
    with open_dataset(smoke.folder / "results" / "smoke" / "dataset.h5") as file:
        specimen, parameters = specimen_names(file)[0], read_parameters(file)
        ct, projection = read_ct(file, specimen), read_projection(file, specimen, NAME, parameters)
    frame = ct.volume_from_voxel()
    write_volume(folder / "ct.nii.gz", ct.hu.astype(np.int16), frame)
    write_volume(folder / "labels.nii.gz", ct.labels.astype(np.uint8), frame)
    (folder / "names.yaml").write_text("\n".join(f"{label}: {name}" for label, name in ct.label_names.items()))
    camera = parameters.camera()
    pose = pose_from_deepfluoro(
        torch.from_numpy(projection.poses["cam-to-pelvis-vol"]), torch.from_numpy(parameters.extrinsic)
    )
    intensity = projection.intensity
    if projection.rotate_180_for_up:
        camera, pose = rotate_image_180(camera, pose)
        intensity = intensity[::-1, ::-1]
    # DICOM's tags know no central ray beside the middle of the image: the part about it, to half a pixel.
    column, row = (round(x) for x in camera.intrinsics_px[:2, 2].tolist())
    half = min(column, row, camera.width - 1 - column, camera.height - 1 - row)
    rows, columns = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
    camera = camera.window(rows, columns)
    write_carm_dicom(folder / "xray.dcm", np.ascontiguousarray(intensity[rows, columns]), camera, carm_angles_deg(pose))
    landmarks = torch.from_numpy(np.stack(list(ct.landmarks_mm.values())))
    return folder, camera, pose, landmarks


def roireg(folder: Path, *args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from roireg.cli.app import app; app()", *map(str, args)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def files(labels: bool = True) -> list[str]:
    given = ["--ct", "ct.nii.gz", "--xray", "xray.dcm", "--crop", str(CROP_PX)]
    return given + (["--labels", "labels.nii.gz", "--label-names", "names.yaml"] if labels else [])


@pytest.mark.parametrize("labels", [True, False])
def test_the_pose_is_within_a_millimetre(patient, labels):
    folder, camera, truth, landmarks = patient
    done = roireg(folder, "register", *files(labels), *(FEMURS if labels else ()), "-o", f"out-{labels}")
    assert done.returncode == 0, done.stderr + done.stdout
    entries = json.loads((folder / f"out-{labels}" / "pose.json").read_text())
    pose = torch.tensor(entries["volume_from_camera"], dtype=torch.float64)
    assert registration_errors(pose, truth, camera, landmarks, landmarks.mean(0))["mpd_mm"] < 1
    assert entries["verdict"] == "trusted"


@pytest.fixture(scope="module")
def segmenter(patient) -> str:
    """A U-Net, hardly trained."""
    folder, *_ = patient
    (folder / "short.yaml").write_text(
        "encoders: {ours: {batches_per_epoch: 2, batch_size: 4}}\nsegment: {unet: {batches_per_epoch: 2}}\n"
    )
    done = roireg(folder, "train", "segmenter", *files(), *ROIS, *FEW, "-o", "unet.safetensors")
    assert done.returncode == 0, done.stderr + done.stdout
    return "unet.safetensors"


def test_networks_train_on_the_users_own_ct_and_serve(patient, segmenter):
    folder, *_ = patient
    network = [*files(), "--encoder", "ours", "--segmenter", segmenter, *ROIS]
    done = roireg(folder, "train", "encoder", *network, *FEW, "-o", "encoder.safetensors")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "median mpd" in done.stdout
    # Hardly trained, so that the verdict is open; both are used, and the overlap is on record.
    used = ["--encoder", "encoder.safetensors", "--segmenter", segmenter, *ROIS]
    done = roireg(folder, "register", *files(), *used, "-o", "with-networks")
    assert done.returncode in (0, 3), done.stderr + done.stdout
    assert "round 1: the given start" in done.stderr
    entries = json.loads((folder / "with-networks" / "pose.json").read_text())
    assert 0 <= entries["evidence"]["roi_dice"] <= 1


def test_a_network_of_other_rois_is_told(patient, segmenter):
    folder, *_ = patient
    used = ["--segmenter", segmenter, "--roi", "vertebrae"]
    done = roireg(folder, "register", *files(), *used, "-o", "other")
    assert done.returncode == 1
    assert "was trained for other ROIs" in " ".join(done.stderr.split())


def test_inspect_tells_of_the_data_set(smoke):
    done = roireg(smoke.folder, "inspect", "results/smoke/dataset.h5")
    assert done.returncode == 0, done.stderr
    assert "demo-01" in done.stdout
    assert "1020 mm from the source" in " ".join(done.stdout.split())
