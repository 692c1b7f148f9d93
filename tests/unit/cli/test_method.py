"""`roireg register --method`: any method of the configuration on own files, and what is told where it cannot."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from builders import attenuation, carm, middle_mm, phantom_ct
from imports import TRAINING, loaded_by
from own_patient import counted, write_carm_dicom, write_volume
from typer.testing import CliRunner

from roireg.cli.app import app
from roireg.data.readers.xray import read_xray
from roireg.data.writers.poses import read_pose
from roireg.drr import render
from roireg.encode.model import PoseEncoder, PoseFrame, load_encoder, save_encoder
from roireg.encode.network import ResNetSettings, build_network
from roireg.errors import InputError
from roireg.geometry.camera import Camera
from roireg.geometry.poses import carm_pose, perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.register.settings import MultiStartSettings, WeightSettings
from roireg.workflow.named_method import method_by_name

SIZE = 120
# The phantom has no femurs.
NO_FEMURS = "weights: {coverage+femurs: {exclude: []}}\n"
TWIST = torch.tensor([0.05, -0.04, 0.06, 6.0, -8.0, 7.0], dtype=torch.float64)


def phantom_camera() -> Camera:
    spacing = 300.0 / SIZE
    middle = ((SIZE - 1) / 2, (SIZE - 1) / 2)
    return carm(SIZE, SIZE, spacing, spacing, middle, np.eye(4)).camera()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A CT, an X-ray of it that lies turned on the table, and a configuration."""
    folder = tmp_path_factory.mktemp("method")
    ct, camera = phantom_ct(), phantom_camera()
    write_volume(folder / "ct.nii.gz", ct.hu.astype(np.int16), ct.volume_from_voxel())
    stored = counted(torch.exp(-render(attenuation(ct), camera, truth()[None])[0]))
    write_carm_dicom(folder / "x.dcm", stored, camera, (0.0, 0.0))
    (folder / "mine.yaml").write_text(NO_FEMURS)
    return folder


def truth() -> torch.Tensor:
    """`volume_from_camera` of the X-ray."""
    center = middle_mm(phantom_ct())
    return perturb(carm_pose(center, 734.4, 0.0, 0.0), TWIST, center)


def register(folder: Path, *args: object):
    given = ["--ct", folder / "ct.nii.gz", "--xray", folder / "x.dcm", "--size", 64, *args]
    return CliRunner().invoke(app, ["register", *map(str, given)])


def told(result) -> str:
    return " ".join((result.output + result.stderr).split())


def test_a_method_of_the_configuration_finds_the_pose(folder):
    done = register(folder, "--method", "multi_start+gn", "--config", folder / "mine.yaml", "-o", folder / "out")
    assert done.exit_code == 0, told(done)
    entries = json.loads((folder / "out" / "pose.json").read_text())
    assert entries["method"] == "multi_start+gn"
    pose = torch.tensor(entries["volume_from_camera"], dtype=torch.float64)
    landmarks = torch.from_numpy(np.stack([*phantom_ct().landmarks_mm.values()]))
    found = registration_errors(pose, truth(), phantom_camera(), landmarks, middle_mm(phantom_ct()))
    assert found["mpd_mm"] < 1
    # A method that searches once says nothing of rounds.
    assert "round" not in told(done)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("no-such-method", "the configuration has no such method. Methods: diffdrr, "),
        ("ours+gn", "it starts from an encoder, and none is given"),
        ("wide+unet", "it starts from the true pose, which is not known here"),
        ("perturbed", "it starts from the true pose, which is not known here"),
        # Its labels are those of the default configuration, and the CT has none.
        ("multi_start+gn", "the patient has no labels"),
    ],
)
def test_what_a_method_lacks_is_one_line(folder, method, said):
    done = register(folder, "--method", method, "-o", folder / "none")
    assert done.exit_code == 1
    assert said in told(done)
    assert "Traceback" not in told(done)
    assert not (folder / "none").exists()


@pytest.mark.parametrize("command", [("register", "--xray"), ("batch",)])
def test_a_wrong_configuration_is_told_before_the_ct_is_read(folder, tmp_path, command):
    def told_of(*options: str) -> str:
        # What stands there is no CT, which would be told if it were read first.
        (tmp_path / "ct.nii.gz").write_bytes(b"no CT")
        given = [command[0], "--ct", tmp_path / "ct.nii.gz", *command[1:], folder / "x.dcm", "-o", tmp_path / "none"]
        done = CliRunner().invoke(app, [*map(str, given), *options])
        assert done.exit_code == 1
        assert "Traceback" not in told(done)
        return told(done)

    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("methods: {mine: {init: nowhere}}\n")
    assert "no such method" in told_of("--method", "none")
    assert "methods.mine: 'label' is missing" in told_of("--method", "ours+gn", "--config", str(wrong))
    assert "--config: it has no effect without --method" in told_of("--config", str(folder / "mine.yaml"))


@pytest.mark.parametrize("term", ["unet", "medsam+unet"])
def test_a_roi_term_without_a_segmenter_is_one_line(folder, term):
    path = folder / "roi.yaml"
    path.write_text(f"methods: {{mine: {{label: Mine, init: pa, roi: {term}}}}}\n")
    done = register(folder, "--method", "mine", "--config", path, "-o", folder / "none")
    assert done.exit_code == 1
    assert "its ROI term needs a segmenter, and none is given" in told(done)


def test_a_method_that_registers_each_alone_refuses_two_x_rays(folder):
    done = register(folder, "--method", "diffdrr", "--xray", folder / "x.dcm", "-o", folder / "none")
    assert done.exit_code == 1
    assert "registers one X-ray alone, and there are 2" in told(done)


@pytest.fixture(scope="module")
def encoder(folder) -> Path:
    """An encoder that takes every X-ray to be near the true pose; where exactly, its random weights say."""
    near = perturb(truth(), 0.3 * TWIST, middle_mm(phantom_ct()))
    architecture = ResNetSettings(32, (1, 1, 1, 1), (4, 8, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(architecture)
    unit = torch.tensor([1e-3] * 3 + [1e-1] * 3, dtype=torch.float64)
    frame = PoseFrame(near, middle_mm(phantom_ct()), unit, phantom_camera())
    save_encoder(folder / "encoder.safetensors", PoseEncoder(network, frame), architecture)
    return folder / "encoder.safetensors"


def test_a_method_that_starts_from_an_encoder_finds_the_pose_and_loads_nothing_of_training(folder, encoder):
    out = folder / "encoded"
    files = ["--ct", folder / "ct.nii.gz", "--xray", folder / "x.dcm", "--encoder", encoder]
    args = ["register", *files, "--method", "ours+gn", "--config", folder / "mine.yaml", "--size", 64, "-o", out]
    code = f"from roireg.cli.app import app; app({[str(arg) for arg in args]}, standalone_mode=False)"
    assert loaded_by(code) & TRAINING == set()
    landmarks = torch.from_numpy(np.stack([*phantom_ct().landmarks_mm.values()]))
    pose = read_pose(out / "pose.json").pose
    assert registration_errors(pose, truth(), phantom_camera(), landmarks, middle_mm(phantom_ct()))["mpd_mm"] < 1


def test_an_encoder_is_applied_to_the_first_x_ray_only(folder, encoder):
    (folder / "other").mkdir()
    turned = pydicom.dcmread(folder / "x.dcm")
    turned.PixelData = turned.pixel_array[::-1].tobytes()
    turned.save_as(folder / "other" / "x.dcm")
    first, second = read_xray(folder / "x.dcm", size_px=64), read_xray(folder / "other" / "x.dcm", size_px=64)
    assert first.name == second.name
    loaded = load_encoder(encoder, torch.device("cpu"))
    for xrays in ([first, second], [second, first]):
        method = method_by_name("ours+gn", folder / "mine.yaml", xrays, encoder)
        expected = loaded.estimate(xrays[0].image, xrays[0].camera)
        assert torch.equal(method.estimates["x.dcm"].pose, expected)
        assert not torch.allclose(expected, loaded.estimate(xrays[1].image, xrays[1].camera))


def test_a_method_that_starts_from_an_encoder_needs_an_x_ray(folder, encoder):
    with pytest.raises(InputError, match="there is no X-ray"):
        method_by_name("ours+gn", folder / "mine.yaml", [], encoder)


def test_a_users_own_method_is_run_by_its_name(folder):
    path = folder / "own.yaml"
    path.write_text(
        "methods: {mine: {label: Mine, init: close, similarity: builtin, optimizer: short, weights: coverage}}\n"
        "initial_poses: {close: {type: multi_start, starts: 50, keep: 3}}\n"
        "optimizers: {short: {type: gauss_newton, levels_px: [32], local_sigma_px: [9.0]}}\n"
    )
    done = register(folder, "--method", "mine", "--config", path, "-o", folder / "mine")
    assert done.exit_code in (0, 3), told(done)
    entries = json.loads((folder / "mine" / "pose.json").read_text())
    assert entries["method"] == "mine"
    method = method_by_name("mine", path)
    assert (method.start, method.search.levels_px) == (MultiStartSettings(starts=50, keep=3), (32,))
    assert method.pixels == WeightSettings(coverage=True)
    landmarks = torch.from_numpy(np.stack([*phantom_ct().landmarks_mm.values()]))
    pose = torch.tensor(entries["volume_from_camera"], dtype=torch.float64)
    assert registration_errors(pose, truth(), phantom_camera(), landmarks, middle_mm(phantom_ct()))["mpd_mm"] < 2
