"""docs/extending.md: its examples, run as they stand there, register the phantom."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "extending.md").read_text()
SCRIPT = """
import json
import sys

import yaml

from roireg.errors import InputError
from roireg.workflow.config import check_references, merged, validated

assert "torch" not in sys.modules
above = yaml.safe_load(open("my_config.yaml"))
default = validated({"plugins": above["plugins"]})
config = validated(merged(default, above))
check_references(config)
assert "torch" not in sys.modules, "a plugin imports torch while the workflow plans"

refused = ""
try:
    validated(merged(config, {"optimizers": {"compass": {"type": "compass", "rotation_rad": -1}}}))
except InputError as error:
    refused = str(error)

from dataclasses import replace

from volumes import phantom_specimen

from roireg.data.xray import expected_pose
from roireg.geometry.se3 import translation
from roireg.metrics.similarity import similarity
from roireg.register.method import method_from_config
from roireg.register.run import register_specimen

patient, (xray,) = phantom_specimen(1)
# The expected pose is the true one, from which the example's start is 8 mm away.
xrays = [replace(xray, rig_from_camera=translation(-patient.center_mm) @ xray.true_pose)]
entry = config["methods"]["mine"]
method = method_from_config(
    "mine",
    entry,
    config["initial_poses"][entry["init"]],
    config["optimizers"][entry["optimizer"]],
    config["roi_terms"][entry["roi"]],
    config["weights"][entry["weights"]],
    ["Dense"],
    None,
)
(result,) = register_specimen(patient, xrays, method, seed=0)
shift = result.trace.poses[0][:3, 3] - expected_pose(patient, xrays[0])[:3, 3]
weights = method.regions.make(patient, xrays, xrays[0].true_pose[None])(xrays[0].camera, xrays[0].true_pose[None])
image = xrays[0].image[None, None]

import torch

from roireg.segment.batches import Fold
from roireg.segment.examples import Examples
from roireg.segment.model import load_segmenter
from roireg.segment.save import save_segmenter
from roireg.segment.train import SegmenterTraining, train_segmenter
from roireg.segment.training_inputs import checkpoint_beside, training_settings
from roireg.workflow.plan import segmenter_settings, training_modules

assert training_modules(config, ["small", "unet"]) == ["roireg.segment.train_unet", "roireg_plugin_my_segmenter"]
settings = segmenter_settings(config, "small")
bright = Examples(image[0], (image[0] > 0.5).to(torch.uint8))
fold = Fold(0, "small", "none")
checkpoint = checkpoint_beside("small.safetensors", settings, "code", fold, [bright])
training = SegmenterTraining(["Bright"], [bright], training_settings(**settings), fold, checkpoint, torch.device("cpu"))
network, history = train_segmenter(settings["segmenter"], training)
save_segmenter("small.safetensors", settings["segmenter"], ["Bright"], network)
loaded = load_segmenter("small.safetensors", ["Bright"], torch.device("cpu"))
print(json.dumps({
    "row": {key: value for key, value in result.row.items() if isinstance(value, (int, float, str))},
    "shift_mm": shift.tolist(),
    "weights": sorted(set(weights.flatten().tolist())),
    "losses": [record.loss for record in history],
    "loaded_equals_trained": torch.equal(loaded.probabilities(image[0]), network.probabilities(image[0])),
    "cosine": similarity("cosine")(image, 2 * image, None).tolist(),
    "refused": refused,
}))
"""


def _blocks() -> dict[str, str]:
    """The code blocks of the page that name a file in their first line, by that name."""
    return {name: code for code, name in re.findall(r"^```\w+\n(# (\S+)\n.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> dict:
    """What a registration with all the examples gives, in a new process as in the workflow."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, code in _blocks().items():
        (folder / name).write_text(code)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_page_has_a_complete_file_for_each_part():
    assert set(_blocks()) == {
        "my_config.yaml",
        "my_similarity.py",
        "my_roi_term.py",
        "my_optimizer.py",
        "my_start.py",
        "my_segmenter.py",
    }


def test_an_added_start_is_where_the_registration_begins(outcome):
    assert outcome["shift_mm"] == pytest.approx([8.0, 0.0, 0.0])


def test_an_added_similarity_is_one_for_proportional_images(outcome):
    assert outcome["cosine"] == pytest.approx([1.0])


def test_an_added_roi_term_weights_the_silhouette_only(outcome):
    assert outcome["weights"] == [0.0, 1.0]


def test_an_added_segmenter_trains_and_is_read_again(outcome):
    losses = outcome["losses"]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.1
    assert outcome["loaded_equals_trained"]


def test_an_added_optimizer_finds_the_pose(outcome):
    row = outcome["row"]
    assert row["init_mpd_mm"] > 5
    assert row["mpd_mm"] < 1
    assert (row["similarity"], row["roi"], row["optimizer"], row["init"]) == ("cosine", "bones", "compass", "beside")


def test_the_settings_of_an_added_optimizer_are_checked(outcome):
    assert "config: optimizers.compass.rotation_rad" in outcome["refused"]
