"""Poses, landmarks, data sets, models and configurations that are fuzzed."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import yaml

from reliability.fuzzed_xrays import CAMERA
from reliability.mutations import BINARY_HEADER, TAGGED_HEADER, odd_tree
from reliability.parts import GEOMETRY, VALUES, Parts, Subject, text_part
from roireg.data.deepfluoro import projection_names, read_ct, read_parameters, read_projection, specimen_names
from roireg.data.deepfluoro_records import Ct, Projection, ProjectionParameters
from roireg.data.readers.hdf5_file import open_dataset
from roireg.data.writers.deepfluoro import write_parameters, write_specimen
from roireg.data.writers.poses import pose_entries, read_pose, write_json, write_slicer_points
from roireg.encode.model import PoseEncoder, PoseFrame, load_encoder, save_encoder
from roireg.encode.network import ResNetSettings, build_network
from roireg.geometry.poses import pa_pose
from roireg.metrics.pose_file_errors import pose_errors, read_markups
from roireg.segment.model import load_segmenter
from roireg.segment.save import save_segmenter
from roireg.segment.unet import TORCH_BLOCKS, UNet, UNetSettings
from roireg.workflow.config import default_config

CENTER = torch.tensor([12.0, -40.0, 300.0], dtype=torch.float64)
POSE = pa_pose(CENTER, 720.0)
CPU = torch.device("cpu")


def _write_pose(folder: Path) -> None:
    points = (CENTER + torch.tensor([[50.0, 0, 0], [0, -30, 0], [0, 10, 60]], dtype=torch.float64)).tolist()
    entries = {**pose_entries(POSE, CAMERA), "bone_points_mm": points, "covariance": {"center_mm": CENTER.tolist()}}
    write_json(folder / "pose.json", entries)
    write_json(folder / "truth.json", entries)
    write_slicer_points(folder / "points.mrk.json", read_pose(folder / "pose.json"))


def _read_pose(folder: Path) -> Parts:
    found = read_pose(folder / "pose.json")
    pose_errors(folder / "pose.json", folder / "truth.json", None)
    write_slicer_points(folder / "again.mrk.json", found)
    return {VALUES: found.pose.numpy(), GEOMETRY: found.camera.intrinsics_px.numpy()}


def _read_points(folder: Path) -> Parts:
    pose_errors(folder / "truth.json", folder / "truth.json", folder / "points.mrk.json")
    return {VALUES: read_markups(folder / "points.mrk.json")[0].numpy()}


def odd_json(name: str) -> Callable[[Path, np.random.Generator], str]:
    """A tree in JSON with an odd node."""

    def odd(folder: Path, rng: np.random.Generator) -> str:
        path = folder / name
        path.write_text(json.dumps(odd_tree(json.loads(path.read_text()), rng)))
        return "odd entry"

    return odd


SMALL = ProjectionParameters(np.eye(4), np.array([[-600.0, 0, 20.0], [0, -600.0, 18.0], [0, 0, 1]]), 40, 44, 1.5, 1.55)


def _write_dataset(folder: Path) -> None:
    rng = np.random.default_rng(2)
    hu = rng.integers(-1000, 900, (12, 10, 14)).astype(np.float32)
    labels = rng.integers(0, 3, hu.shape).astype(np.uint8)
    ct = Ct(hu, labels, np.array([2.0, 2, 3]), np.array([1.0, 2, 3]), np.eye(3), {1: "hip", 2: "femur"}, {})
    ct.landmarks_mm.update({"FH-l": np.array([1.0, 2, 3]), "FH-r": np.array([9.0, 2, 3])})
    pixels = rng.integers(1, 60000, (40, 44)).astype(np.uint16)
    poses = {"cam-to-pelvis-vol": np.eye(4)}
    xray = Projection("000", pixels, (pixels % 3).astype(np.uint8), {"FH-l": np.array([3.0, 4])}, poses, True, None)
    with h5py.File(folder / "data.h5", "w") as file:
        write_parameters(file, SMALL)
        write_specimen(file, "P01", ct, [xray])


def _read_dataset(folder: Path) -> Parts:
    values, rest, told = [], [], []
    with open_dataset(folder / "data.h5") as file:
        parameters = read_parameters(file)
        rest += [parameters.extrinsic, parameters.intrinsic]
        for name in specimen_names(file):
            ct = read_ct(file, name)
            values += [ct.hu, ct.labels]
            rest += [ct.spacing_mm, ct.origin_mm, ct.direction, *ct.landmarks_mm.values()]
            told += [name, str(ct.label_names), str([*ct.landmarks_mm])]
            for key in projection_names(file, name):
                one = read_projection(file, name, key, parameters)
                values += [one.intensity, *([] if one.segmentation is None else [one.segmentation])]
                rest += [*one.poses.values(), *one.landmarks_px.values()]
                told += [key, str(one.rotate_180_for_up), str(one.good_fov)]
    return {
        VALUES: np.concatenate([one.ravel().astype(np.float64) for one in values]),
        GEOMETRY: np.concatenate([one.ravel() for one in rest]),
        "words": text_part("\n".join(told)),
    }


def _odd_dataset(folder: Path, rng: np.random.Generator) -> str:
    """An entry is missing, of another kind, of another shape, or a link that goes nowhere or in circles."""
    with h5py.File(folder / "data.h5", "r+") as file:
        keys: list[str] = []
        file.visit(keys.append)
        key = keys[int(rng.integers(len(keys)))]
        what = int(rng.integers(12))
        del file[key]
        if what == 1:
            file.create_group(key)
        elif what == 2:
            file[key] = h5py.Empty("f4")
        elif what == 3:
            file[key] = h5py.SoftLink(f"/{key}")
        elif what == 4:
            file[key] = h5py.ExternalLink("data.h5", f"/{key}")
        elif what == 5:
            file[key] = h5py.SoftLink("/")
        elif what == 6:
            file.create_dataset(key, shape=(10**6, 10**6, 10), dtype="f4", chunks=(100, 100, 1))
        elif what == 7:
            file[key] = np.full(int(rng.choice([1, 3, 9, 16])), rng.choice([np.nan, np.inf, -1, 0, 1e300]))
        elif what == 8:
            file[key] = "\udcff text \n\0".encode("utf-8", "surrogateescape").replace(b"\0", b"")
        elif what == 9:
            file[key] = np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])
        elif what == 10:
            file[key] = np.array([1 + 2j])
        elif what == 11:
            file.create_dataset(key, shape=(0,), dtype="f8")
    return f"{key}: odd entry {what}"


def _write_models(folder: Path) -> None:
    torch.manual_seed(0)
    settings = ResNetSettings(32, (1, 1, 1, 1), (4, 4, 8, 8))
    frame = PoseFrame(POSE, CENTER, torch.ones(6, dtype=torch.float64), CAMERA)
    save_encoder(folder / "encoder.safetensors", PoseEncoder(build_network(settings), frame), settings)
    network = UNet(UNetSettings(32, (4, 8)), 2, TORCH_BLOCKS)
    entry = {"type": "unet", "image_size_px": 32, "widths": [4, 8]}
    save_segmenter(folder / "segmenter.safetensors", entry, ["hip", "femur"], network)


def _state(network: torch.nn.Module) -> np.ndarray:
    return np.concatenate([one.numpy().ravel().astype(np.float64) for one in network.state_dict().values()])


def _read_encoder(folder: Path) -> Parts:
    encoder = load_encoder(folder / "encoder.safetensors", CPU)
    image = torch.linspace(0, 1, CAMERA.height * CAMERA.width).reshape(CAMERA.height, CAMERA.width)
    pose = encoder.estimate(image, CAMERA)
    return {VALUES: _state(encoder.network), "seen": pose.numpy()}


def _read_segmenter(folder: Path) -> Parts:
    segmenter = load_segmenter(folder / "segmenter.safetensors", ["hip", "femur"], CPU)
    seen = segmenter.probabilities(torch.linspace(0, 1, 1024).reshape(1, 32, 32))
    return {VALUES: _state(segmenter.network), "seen": seen.numpy()}


def safetensors_header(data: bytes) -> int:
    """The length of the description in JSON, and its own length."""
    return 8 + int.from_bytes(data[:8], "little") if len(data) > 8 else len(data)


def _odd_model(name: str, description: str) -> Callable[[Path, np.random.Generator], str]:
    def odd(folder: Path, rng: np.random.Generator) -> str:
        path = folder / name
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        if rng.random() < 0.7:
            told = json.loads(header["__metadata__"][description])
            header["__metadata__"][description] = json.dumps(odd_tree(told, rng))
        else:
            header = odd_tree(header, rng)
        new = json.dumps(header).encode()
        new += b" " * (-len(new) % 8)
        path.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
        return "odd description"

    return odd


def _write_config(folder: Path) -> None:
    root = Path(__file__).parents[2]
    (folder / "mine.yaml").write_text((root / "config" / "smoke.yaml").read_text(encoding="utf-8"), encoding="utf-8")


def _read_config(folder: Path) -> Parts:
    return {"words": text_part(json.dumps(default_config(folder / "mine.yaml"), sort_keys=True))}


def _odd_config(folder: Path, rng: np.random.Generator) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.dump(odd_tree(yaml.safe_load(path.read_text()), rng)))
    return "odd entry"


MODEL = {
    "header": safetensors_header,
    "header_mutators": TAGGED_HEADER,
    "protected": frozenset({VALUES, "seen"}),
}
TABLES = (
    Subject("pose.json", _write_pose, "pose.json", _read_pose, odd=odd_json("pose.json"), weight=2.0),
    Subject("landmarks", _write_pose, "points.mrk.json", _read_points, odd=odd_json("points.mrk.json"), weight=2.0),
    Subject(
        "HDF5 data set",
        _write_dataset,
        "data.h5",
        _read_dataset,
        None,
        BINARY_HEADER,
        odd=_odd_dataset,
        weight=3.0,
    ),
    Subject(
        "encoder",
        _write_models,
        "encoder.safetensors",
        _read_encoder,
        odd=_odd_model("encoder.safetensors", "roireg_encoder"),
        **MODEL,
    ),
    Subject(
        "segmenter",
        _write_models,
        "segmenter.safetensors",
        _read_segmenter,
        odd=_odd_model("segmenter.safetensors", "roireg_segmenter"),
        **MODEL,
    ),
    Subject("configuration", _write_config, "mine.yaml", _read_config, odd=_odd_config, weight=0.5),
)
