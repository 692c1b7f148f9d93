"""The configuration, its schema, and the pins of the environment."""

import copy
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from snakemake.utils import update_config

from roireg.errors import InputError
from roireg.workflow.config import check_references, check_schema

ROOT = Path(__file__).parents[3]
SCHEMA_PATH = ROOT / "config" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text())
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
OVERLAYS = sorted(path for path in (ROOT / "config").glob("*.yaml") if path != SCHEMA_PATH)
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def changed(dotted: str, value) -> dict:
    """The default configuration with one key set."""
    config = copy.deepcopy(DEFAULT)
    *parents, last = dotted.split("/")
    section = config
    for key in parents:
        section = section[key]
    section[last] = value
    return config


def check(config: dict) -> None:
    check_schema(config, SCHEMA_PATH)
    check_references(config)


def refused(config: dict) -> InputError:
    with pytest.raises(InputError) as caught:
        check(config)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.remedy
    return caught.value


def resolved(node: dict) -> dict:
    while "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        node = {**SCHEMA["$defs"][node["$ref"].removeprefix("#/$defs/")], **beside}
    return node


def nodes(node: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict]]:
    """Every schema below a schema, with its dotted path; `*` for names that the user chooses."""
    node = resolved(node)
    yield ".".join(path), node
    for key, child in node.get("properties", {}).items():
        yield from nodes(child, (*path, key))
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], (*path, "*"))
    for branch in node.get("allOf", []):
        yield from nodes(branch["then"], path)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


def test_the_default_configuration_is_valid():
    check(copy.deepcopy(DEFAULT))


def test_there_are_overlays():
    assert {"smoke.yaml", "study.yaml"} <= {path.name for path in OVERLAYS}


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_each_overlay_is_valid_and_changes_what_it_says(path):
    overlay = yaml.safe_load(path.read_text())
    config = copy.deepcopy(DEFAULT)
    update_config(config, overlay)
    check(config)
    assert config["dataset"]["name"] == overlay["dataset"]["name"] != DEFAULT["dataset"]["name"]
    assert config["seed"] == overlay.get("seed", DEFAULT["seed"])


def test_every_leaf_of_the_schema_is_described():
    leaves = {path: node for path, node in nodes(SCHEMA) if node.get("type") != "object"}
    assert len(leaves) > 30
    assert [path for path, node in leaves.items() if len(node.get("description", "")) < 10] == []


def test_numbers_with_a_unit_name_it_in_their_key():
    for path, node in nodes(SCHEMA):
        unit = re.search(r"\bin (mm|px|rad|degrees|1/mm)\b", node.get("description", ""))
        if unit and node.get("type") != "object":
            ending = {"degrees": "deg", "1/mm": "per_mm"}.get(unit[1], unit[1])
            assert path.endswith(f"_{ending}"), path


def test_every_object_of_the_schema_refuses_unknown_keys():
    objects = [(path, node) for path, node in nodes(SCHEMA) if node.get("type") == "object"]
    assert len(objects) > 10
    for path, node in objects:
        if "allOf" in node:
            # One branch for each type, which refuses unknown keys in its turn.
            cases = [branch["if"]["properties"]["type"]["const"] for branch in node["allOf"]]
            assert cases == node["properties"]["type"]["enum"], path
        elif "properties" in node:
            assert node["additionalProperties"] is False, path
        else:
            assert node["propertyNames"] == {"$ref": "#/$defs/name"}, path


def test_every_property_is_required():
    optional, required = set(), set()
    for path, node in nodes(SCHEMA):
        for key in node.get("properties", {}):
            dotted = f"{path}.{key}".lstrip(".")
            (required if key in node.get("required", []) else optional).add(dotted)
    assert optional == set()
    assert {"seed", "prepare.crop_px", "methods.*.weights.coverage", "optimizers.*.iterations"} <= required


@pytest.mark.parametrize("key", [path for path, _ in nodes(SCHEMA) if path and "*" not in path])
def test_every_key_must_be_there(key):
    config = copy.deepcopy(DEFAULT)
    *parents, last = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    del section[last]
    error = refused(config)
    assert error.where == "config: " + (".".join(parents) or "top level")
    assert f"'{last}'" in error.what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sede", 1),
        ("prepare/image_size", 128),
        ("dataset/url", "x"),
        ("methods/diffdrr/weights/robust", True),
        ("initial_poses/pa/rotation_deg", 3),
        ("optimizers/adam/lr", 0.1),
        ("segment/unet/variant", "tiny"),
        ("segment/medsam/widths", [8, 8, 8, 8, 8, 8]),
        ("recipes/sgd/nesterov", True),
        ("optimizers/gauss_newton/decay_factor", 0.9),
        ("initial_poses/multi_start/seed", 1),
    ],
)
def test_an_unknown_key_is_named(key, value):
    *parents, last = key.split("/")
    error = refused(changed(key, value))
    assert error.where == "config: " + (".".join(parents) or "top level")
    assert f"'{last}' was unexpected" in error.what
    assert error.remedy.startswith("Known keys: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("demo/specimens", 0),
        ("demo/xrays_per_specimen", 1000),
        ("prepare/image_size_px", 15),
        ("prepare/image_size_px", 2000),
        ("prepare/crop_px", -1),
        ("prepare/ct_shift_voxels", 1.5),
        ("prepare/source_to_isocenter", 0.0),
        ("prepare/source_to_isocenter", 1.0),
        ("prepare/mu_water_per_mm", 19.2),
        ("prepare/isocenter", ["a", "a"]),
        ("render/step_mm", 0),
        ("initial_poses/perturbed/rotation_sd_deg", -3),
        ("optimizers/adam/iterations", 0),
        ("optimizers/adam/decay_factor", 1.1),
        ("optimizers/adam/learning_rate_rotation_rad", 0),
        ("optimizers/adam/learning_rate_rotation_rad", math.nan),
        ("optimizers/adam/learning_rate_translation_mm", math.inf),
        ("optimizers/gauss_newton/levels_px", []),
        ("optimizers/gauss_newton/levels_px", [32, 32]),
        ("optimizers/gauss_newton/local_sigma_px", []),
        ("optimizers/gauss_newton/tolerance_translation_mm", 0),
        ("optimizers/gauss_newton/robust", "huber"),
        ("optimizers/gauss_newton/type", "newton"),
        ("initial_poses/multi_start/starts", 0),
        ("initial_poses/multi_start/local_sigma_px", 0),
        ("methods/diffdrr/similarity", "ncc"),
        ("methods/diffdrr/label", ""),
        ("methods/perturbed/weights/exclude_margin_mm", -0.1),
        ("tables/table1/methods", []),
        ("figures/dpi", 5),
        ("dataset/name", "a/b"),
        ("dataset/name", "../up"),
        ("dataset/specimens", []),
        ("rois", []),
        ("rois", ["a", "a"]),
        ("synthesize/drrs_per_specimen", 0),
        ("synthesize/rotation_sd_deg", [1.0, 2.0]),
        ("synthesize/min_roi_share", 1.5),
        ("training/gpu", 2),
        ("recipes/sgd/momentum", 0),
        ("recipes/sgd/learning_rate", 0),
        ("recipes/adam/schedule", "linear"),
        ("augmentation/invert_probability", -0.1),
        ("segment/unet/image_size_px", 100),
        ("segment/unet/image_size_px", 32),
        ("segment/unet/widths", [8, 8, 8, 8, 8]),
        ("segment/unet/train_on", []),
        ("segment/unet/type", "vnet"),
        ("segment/medsam/variant", "vit_h"),
        ("segment/medsam/box_jitter_px", -1),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    error = refused(changed(key, value))
    assert error.where == "config: " + key.replace("/", ".")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "0"),
        ("seed", 0.5),
        ("seed", True),
        ("dataset/path", 3),
        ("dataset/specimens", "17-1882"),
        ("prepare/crop_px", None),
        ("prepare/isocenter", "left hemipelvis"),
        ("optimizers/adam/iterations", "250"),
        ("optimizers/adam/learning_rate_rotation_rad", "7.5e-3"),
        ("optimizers/adam", None),
        ("methods/diffdrr/weights/coverage", "yes"),
        ("methods", ["diffdrr"]),
    ],
)
def test_a_value_of_the_wrong_type_is_named(key, value):
    error = refused(changed(key, value))
    assert error.where == "config: " + key.replace("/", ".")
    assert "type" in error.what


def test_a_name_that_cannot_be_a_folder_is_refused():
    error = refused(changed("methods/a b", DEFAULT["methods"]["diffdrr"]))
    assert error.where == "config: methods"
    assert "'a b'" in error.what


def test_a_perturbed_start_needs_its_spread():
    error = refused(changed("initial_poses/wide", {"type": "perturbed", "rotation_sd_deg": 3.0}))
    assert error.where == "config: initial_poses.wide"
    assert "translation_sd_mm" in error.what


@pytest.mark.parametrize(
    ("key", "value", "named", "known"),
    [
        ("methods/diffdrr/init", "encoder", "encoder", "perturbed"),
        ("methods/perturbed/optimizer", "lbfgs", "lbfgs", "adam"),
        ("tables/table1/methods", ["diffdrr", "xvr"], "xvr", "perturbed+weights"),
        ("figures/methods", ["xvr"], "xvr", "diffdrr"),
        ("methods/ours/roi", "vnet", "vnet", "projected"),
        ("roi_terms/unet/fixed", "vnet", "vnet", "medsam"),
        ("roi_terms/unet/moving", "vnet", "vnet", "projected"),
        ("roi_terms/medsam/boxes", "vnet", "vnet", "projected"),
        ("roi_terms/unet/rois", ["left shoe"], "left shoe", "upper sacrum"),
        ("figures/learning_curves/encoders", ["xvr"], "xvr", "psss"),
        ("initial_poses/ours/encoder", "xvr", "xvr", "diffpose"),
        ("encoders/ours/recipe", "lion", "lion", "adamw"),
        ("encoders/ours/segmenter", "vnet", "vnet", "unet"),
        ("segment/unet/recipe", "lion", "lion", "adamw"),
        ("tables/table2/segmenters", ["unet", "vnet"], "vnet", "medsam"),
    ],
)
def test_a_name_that_is_not_defined_is_named_with_those_that_are(key, value, named, known):
    error = refused(changed(key, value))
    assert error.where == "config: " + key.replace("/", ".")
    assert repr(named) in error.what
    assert known in error.remedy


@pytest.mark.parametrize(
    "key",
    [
        "synthesize/bone_contrast",
        "augmentation/gamma",
        "encoder_augmentation/gamma",
        "encoder_augmentation/blur_sigma_px",
    ],
)
def test_a_range_that_is_upside_down_is_named(key):
    error = refused(changed(key, [2.0, 1.0]))
    assert error.where == "config: " + key.replace("/", ".")
    assert "2.0 is more than 1.0" in error.what


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("encoders/ours/segmenter", None, "there is no segmenter"),
        ("encoders/ours/segmenter", "medsam", "needs boxes"),
        ("encoders/psss/samples", "online", "stages open a pool"),
        ("encoders/psss/network/heads", 5, "5 does not divide"),
    ],
)
def test_an_encoder_that_cannot_be_trained_is_refused(key, value, what):
    error = refused(changed(key, value))
    named = {"samples": "stages"}.get(key.split("/")[-1], key.split("/")[-1])
    assert error.where == "config: " + ".".join([*key.split("/")[:-1], named])
    assert what in error.what


def test_boxes_do_not_come_from_a_segmenter_that_needs_boxes():
    error = refused(changed("roi_terms/medsam/boxes", "medsam"))
    assert error.where == "config: roi_terms.medsam.boxes"
    assert "needs boxes itself" in error.what
    assert "projected" in error.remedy


def test_none_is_no_name_of_a_roi_term():
    error = refused(changed("roi_terms/none", DEFAULT["roi_terms"]["unet"]))
    assert error.where == "config: roi_terms.none"


def test_gauss_newton_takes_a_mask_and_no_dice_term():
    error = refused(changed("methods/ours+gn/roi", "unet"))
    assert error.where == "config: methods.ours+gn.roi"
    assert "mask" in error.remedy
    check(changed("methods/ours+gn/roi", "mask"))


def test_a_pretrained_network_needs_its_digest():
    error = refused(changed("segment/medsam/checkpoint", {"path": "medsam_vit_b.pth"}))
    assert error.where == "config: segment.medsam.checkpoint"
    assert "sha256" in error.what


@pytest.mark.parametrize(
    ("method", "key", "value", "word"),
    [
        ("perturbed+gn", "similarity", "mncc", "gauss_newton"),
        ("perturbed+gn", "optimizer", "adam", "own"),
        ("perturbed", "similarity", "own", "adam"),
        ("perturbed", "optimizer", "gauss_newton", "mncc"),
    ],
)
def test_gauss_newton_goes_with_its_own_similarity_alone(method, key, value, word):
    error = refused(changed(f"methods/{method}/{key}", value))
    assert error.where == f"config: methods.{method}.similarity"
    assert word in error.what


def test_every_level_needs_its_window():
    error = refused(changed("optimizers/gauss_newton/local_sigma_px", [12.0, 8.0]))
    assert error.where == "config: optimizers.gauss_newton.local_sigma_px"
    assert "2 values for 3 levels" in error.what


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> dict[str, set[str]]:
    """Versions by package: several where they depend on the platform or on Python."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9][\w.-]*)==([^ ;\\\n]+)", path.read_text(), re.MULTILINE):
        pins.setdefault(normalized(name), set()).add(version)
    return pins


def requirement_name(requirement: str) -> str:
    return normalized(re.match(r"[\w.-]+", requirement)[0])


@pytest.fixture(scope="module")
def conda_pins() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "envs" / "roireg.yaml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return {normalized(name): version for name, version in (line.split("==") for line in pip)}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_conda_environment_pins_what_the_lock_pins(conda_pins):
    lock = locked(ROOT / "requirements.lock")
    assert len(conda_pins) > 20
    assert {name: version for name, version in conda_pins.items() if version not in lock.get(name, set())} == {}


def test_the_conda_environment_holds_every_direct_dependency(conda_pins, project):
    assert {requirement_name(line) for line in project["dependencies"]} - set(conda_pins) == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_direct_dependency_is_locked(lock, project):
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *(extras["bench"] if "bench" in lock.name else [])]
    assert {requirement_name(line) for line in wanted} - set(locked(lock)) == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_holds_hashes_and_no_address(lock):
    lines = lock.read_text().splitlines()
    assert [line for line in lines if "://" in line or line.startswith(("--index", "--extra", "-i ", "-f "))] == []
    assert sum("--hash=sha256:" in line for line in lines) >= len(locked(lock)) > 50


def test_the_bench_lock_adds_to_the_lock_and_changes_nothing():
    lock, bench = locked(ROOT / "requirements.lock"), locked(ROOT / "requirements-bench.lock")
    assert {name: pins for name, pins in lock.items() if bench.get(name) != pins} == {}
    assert "itk-rtk" in bench.keys() - lock.keys()
