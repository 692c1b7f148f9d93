"""The configuration: its models, the files written from them, its errors, and the pins of the environment."""

import copy
import dataclasses
import json
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from jsonschema import Draft202012Validator
from snakemake.utils import update_config

from roireg.errors import InputError
from roireg.geometry.poses import SOURCE_TO_ISOCENTER_FRACTION
from roireg.metrics.registry import SIMILARITIES
from roireg.register.registry import OPTIMIZERS, ROI_TERMS, STARTS
from roireg.workflow.config import check_comparisons, check_references, merged, validated
from roireg.workflow.config_files.__main__ import outdated
from roireg.workflow.config_files.yaml_file import config_yaml
from roireg.workflow.schema import nodes
from roireg.workflow.schema.prepare import Prepare
from roireg.workflow.schema.similarities import Similarity

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


def check(config: dict) -> dict:
    filled = validated(config)
    check_comparisons(filled)
    check_references(filled)
    return filled


def refused(config: dict) -> InputError:
    with pytest.raises(InputError) as caught:
        check(config)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.remedy
    return caught.value


def keys(node: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict]]:
    """Every key of the models with its node, by its dotted path; `*` for names that the user chooses."""
    inner = next((nodes.resolved(one) for one in node.get("anyOf", []) if "$ref" in one), node)
    for variant in [inner, *nodes.variants(inner).values()]:
        for key, child in nodes.properties(variant):
            yield ".".join((*path, key)), child
            yield from keys(child, (*path, key))
    entry = nodes.entry(inner)
    if entry is not None:
        yield from keys(entry, (*path, "*"))


KEYS = list(keys(nodes.schema()))


def test_files_on_disk_are_what_the_models_say():
    assert outdated(ROOT) == {}


def test_a_file_that_was_edited_by_hand_is_found(tmp_path):
    for folder in ("config", "docs"):
        (tmp_path / folder).mkdir()
    for path, text in outdated(tmp_path).items():
        path.write_text(text)
    assert outdated(tmp_path) == {}
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1", 1))
    assert list(outdated(tmp_path)) == [path]


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *OVERLAYS], ids=lambda path: path.stem)
def test_an_editor_finds_no_fault_in_our_files(path):
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "wrong",
    [{"sede": 1}, {"optimizers": {"adam": {"iterations": 0}}}, {"segment": {"unet": {"type": "vnet"}}}],
    ids=["unknown", "range", "type"],
)
def test_an_editor_finds_a_fault(wrong):
    assert not Draft202012Validator(SCHEMA).is_valid(wrong)


def test_config_yaml_holds_the_defaults():
    assert validated({}) == validated(DEFAULT) == DEFAULT == yaml.safe_load(config_yaml())


def test_a_validated_configuration_is_plain_and_valid():
    filled = check(copy.deepcopy(DEFAULT))
    assert json.loads(json.dumps(filled)) == filled == validated(filled)


def test_numbers_of_equal_value_are_equal_however_they_are_written():
    whole, fraction = (changed("initial_poses/perturbed/rotation_sd_deg", value) for value in (3, 3.0))
    assert json.dumps(validated(whole)) == json.dumps(validated(fraction))


def test_a_new_entry_gets_the_defaults_of_its_type():
    config = merged(DEFAULT, {"optimizers": {"slow": {"type": "adam", "iterations": 900}}})
    slow = check(config)["optimizers"]["slow"]
    settings = OPTIMIZERS["adam"].settings(iterations=900)
    assert slow == {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def test_a_file_laid_over_another_changes_its_keys_alone():
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(below, {"a": {"c": [3]}, "e": None}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": None}
    assert below == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_merging_is_what_snakemake_does():
    for path in OVERLAYS:
        overlay = yaml.safe_load(path.read_text())
        config = copy.deepcopy(DEFAULT)
        update_config(config, overlay)
        assert merged(DEFAULT, overlay) == config


def test_there_are_overlays():
    assert {"smoke.yaml", "study.yaml"} <= {path.name for path in OVERLAYS}


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_each_overlay_is_valid_and_changes_what_it_says(path):
    overlay = yaml.safe_load(path.read_text())
    config = check(merged(DEFAULT, overlay))
    assert config["dataset"]["name"] == overlay["dataset"]["name"] != DEFAULT["dataset"]["name"]
    assert config["seed"] == overlay.get("seed", DEFAULT["seed"])


def test_every_key_is_described():
    assert len(KEYS) > 150
    assert [path for path, node in KEYS if len(nodes.words(node).what) < 10] == []


def test_every_key_is_documented():
    documented = set()
    for section in (ROOT / "docs" / "configuration.md").read_text().split("\n## ")[1:]:
        title = re.match(r"`([^`]+)`", section)
        above = f"{title[1]}." if title else ""
        documented |= {above + key for key in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)}
    sections = {path for path, _ in KEYS if any(other.startswith(f"{path}.") for other in documented)}
    assert {path for path, _ in KEYS} - documented == sections - documented
    assert "encoders.*.loss.geodesic" in documented


def test_every_number_has_a_range():
    numbers = [(path, node) for path, node in KEYS if nodes.type_text(node).split(",")[0] in ("integer", "number")]
    assert len(numbers) > 60
    assert [path for path, node in numbers if not nodes.range_text(node)] == []


def test_every_kind_of_the_library_is_in_the_configuration_and_documented():
    page = (ROOT / "docs" / "configuration.md").read_text()
    for section, kinds in (("initial_poses", STARTS), ("optimizers", OPTIMIZERS), ("roi_terms", ROI_TERMS)):
        entries = nodes.entry(nodes.resolved(nodes.schema()["properties"][section]))
        assert set(nodes.variants(entries)) == set(kinds)
        for kind in kinds:
            assert f"## `{section}.*`, type `{kind}`" in page


def test_every_similarity_of_the_library_can_be_asked_for():
    assert get_args(Similarity) == tuple(SIMILARITIES)


def test_importing_the_checks_loads_no_heavy_library():
    code = "import sys, roireg.workflow.config, roireg.workflow.plan; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pydantic" in loaded
    assert {"torch", "numpy", "pandas", "h5py", "jsonschema"} & set(loaded) == set()


@pytest.mark.parametrize("key", [path for path, _ in KEYS if "*" not in path and path.split(".")[0] != "deepfluoro"])
def test_a_key_that_is_left_out_has_its_default(key):
    config = copy.deepcopy(DEFAULT)
    *parents, last = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    del section[last]
    assert validated(config) == DEFAULT


@pytest.mark.parametrize(
    "key",
    ["methods/ours/label", "methods/ours/init", "encoders/psss/network", "roi_terms/mask/fixed", "segment/unet/type"],
)
def test_a_key_without_a_default_must_be_there(key):
    config = copy.deepcopy(DEFAULT)
    section, name, last = key.split("/")
    del config[section][name][last]
    error = refused(config)
    assert error.where == f"config: {section}.{name}"
    assert error.what == f"'{last}' is missing"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sede", 1),
        ("prepare/image_size", 128),
        ("dataset/url", "x"),
        ("weights/coverage/robust", True),
        ("initial_poses/pa/rotation_deg", 3),
        ("optimizers/adam/lr", 0.1),
        ("demo/views/mean_deg", [0.0, 0.0, 0.0]),
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
    assert f"'{last}' is not a known key" in error.what
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
        ("optimizers/gauss_newton/local_sigma_px", []),
        ("optimizers/gauss_newton/tolerance_translation_mm", 0),
        ("optimizers/gauss_newton/robust", "huber"),
        ("optimizers/gauss_newton/type", "newton"),
        ("initial_poses/multi_start/starts", 0),
        ("initial_poses/multi_start/local_sigma_px", 0),
        ("methods/diffdrr/similarity", "ncc"),
        ("methods/diffdrr/label", ""),
        ("weights/coverage+femurs/exclude_margin_mm", -0.1),
        ("tables/table1/methods", []),
        ("figures/dpi", 5),
        ("dataset/name", "a/b"),
        ("dataset/name", "../up"),
        ("dataset/specimens", []),
        ("rois", []),
        ("rois", ["a", "a"]),
        ("synthesize/drrs_per_specimen", 0),
        ("synthesize/rotation_sd_deg", [1.0, 2.0]),
        ("synthesize/min_roi_fraction", 1.5),
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
        ("weights/coverage/coverage", "yes"),
        ("methods/diffdrr/weights", {"coverage": True}),
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
        ("methods/ours/weights", "legs", "legs", "coverage+femurs"),
        ("tables/table3/weights", "legs", "legs", "none"),
        ("tables/table3/init", "xvr", "xvr", "perturbed"),
        ("tables/ablation/weights", ["none", "legs"], "legs", "coverage"),
        ("tables/ablation/rois", ["vnet"], "vnet", "mask"),
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
    assert "2.0 is larger than 1.0" in error.what


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("encoders/ours/segmenter", None, "there is no segmenter"),
        ("encoders/ours/segmenter", "medsam", "needs boxes"),
        ("encoders/psss/samples", "online", "stages need a stored pool"),
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


@pytest.mark.parametrize(("start", "said"), [("far_away", "not defined"), ("ours", "starts from an encoder")])
def test_a_fallback_is_a_start_without_a_network(start, said):
    with pytest.raises(InputError, match=said) as raised:
        check_references(validated(changed("methods/ours+gn/fallback", start)))
    assert raised.value.where == "config: methods.ours+gn.fallback"
    check_references(validated(changed("methods/ours+gn/fallback", "multi_start")))


@pytest.mark.parametrize("views", [0, -1, 1.5, "two"])
def test_views_are_counted(views):
    assert refused(changed("methods/ours+gn/views", views)).where == "config: methods.ours+gn.views"


def test_adam_has_one_view():
    with pytest.raises(InputError) as raised:
        check_references(validated(changed("methods/ours/views", 2)))
    assert raised.value.where == "config: methods.ours.views"
    assert "adam registers each X-ray alone" in raised.value.what
    assert "gauss_newton" in raised.value.remedy
    check_references(validated(changed("methods/ours+gn/views", 2)))


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
        ("perturbed+gn", "optimizer", "adam", "builtin"),
        ("perturbed", "similarity", "builtin", "adam"),
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
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["workflow"], *extras["gpu"], *extras["diffdrr"]]
    assert {requirement_name(line) for line in wanted} - {"roireg"} - set(conda_pins) == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_direct_dependency_is_locked(lock, project):
    extras = project["optional-dependencies"]
    unlocked = set() if "bench" in lock.name else {"bench"}
    wanted = [*project["dependencies"], *(line for extra in extras.keys() - unlocked for line in extras[extra])]
    assert {requirement_name(line) for line in wanted} - {"roireg"} - set(locked(lock)) == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_file_holds_hashes_and_no_address(lock):
    lines = lock.read_text().splitlines()
    assert [line for line in lines if "://" in line or line.startswith(("--index", "--extra", "-i ", "-f "))] == []
    assert sum("--hash=sha256:" in line for line in lines) >= len(locked(lock)) > 50


def test_the_bench_lock_adds_to_the_lock_and_changes_nothing():
    lock, bench = locked(ROOT / "requirements.lock"), locked(ROOT / "requirements-bench.lock")
    assert {name: pins for name, pins in lock.items() if bench.get(name) != pins} == {}
    assert "itk-rtk" in bench.keys() - lock.keys()


def test_where_the_isocentre_lies_by_default_is_what_the_rest_of_the_library_takes():
    assert Prepare.model_fields["source_to_isocenter"].default == SOURCE_TO_ISOCENTER_FRACTION
