"""Disk space of a run, said before anything starts: what each job will write, against what is free.

Imports no torch, as Snakemake's main process asks. Sizes are those of files as written at commit e3f7bd5, within some
tenths; what is not listed (tables, figures, logs) is small.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from roireg.errors import InputError
from roireg.segment.registry import SEGMENTERS
from roireg.workflow.plan import encoder_entry, trace_bytes, xrays_of

Config = Mapping[str, Any]
MB, GB = 1e6, 1e9
FLOAT_BYTES = 4
# Download of the demo's CT; of a specimen, compressed: CT and labels, an X-ray with its segmentation, the prepared CT.
DEMO_DOWNLOAD_BYTES, DEMO_CT_BYTES, DEMO_XRAY_BYTES, DEMO_VOLUME_BYTES = 2.4e6, 2e6, 0.63e6, 3.5e6
# DeepFluoro's archive (docs/datasets.md), which is unpacked beside itself.
DEEPFLUORO_BYTES = 2.5e9
# A prepared CT of 360^3 voxels and labels, compressed as the demo's.
FULL_VOLUME_BYTES = 0.4 * 360**3 * (FLOAT_BYTES + 1)
# A pixel of an X-ray or DRR in float32, and its label.
PIXEL_BYTES = FLOAT_BYTES + 1
# A pixel of a picture in the report, as JPEG in base64; the report's figures; what else a job writes.
PICTURE_BYTES, FIGURES_BYTES, OTHER_BYTES = 0.4, 2e6, 0.1e6
# Copies of the weights in a checkpoint: the network's own, and those of the optimizer.
CHECKPOINT_COPIES = {"sgd": 2, "adam": 3, "adamw": 3}


@dataclass(frozen=True)
class Job:
    """A job that will run.

    Attributes:
        rule: its name.
        wildcards: by name.
        outputs: its files.
    """

    rule: str
    wildcards: Mapping[str, str]
    outputs: tuple[str, ...]


def encoder_bytes(network: Mapping[str, Any]) -> float:
    """Size of an encoder's weights (`roireg.encode.network`)."""
    widths, size = network["widths"], network["image_size_px"]
    if network["type"] == "resnet":
        numbers = 49.0 * widths[0]
        inputs = widths[0]
        for wide, blocks in zip(widths, network["layers"], strict=True):
            numbers += 18 * wide**2 * blocks - 9 * wide * (wide - inputs)
            numbers += inputs * wide if inputs != wide else 0
            inputs = wide
        side = 1 if network["pooling"] == "average" else -(-size // 32)
    else:
        # Convolutions down and up, and self-attention with a feed-forward of twice the width.
        numbers = 9.0 * widths[0] + sum(13 * one * other for one, other in pairwise(widths)) + 8 * widths[-1] ** 2
        side = size >> len(widths)
        numbers += side**2 * widths[-1]
    return FLOAT_BYTES * (numbers + 6 * side**2 * widths[-1])


def job_bytes(job: Job, config: Config, xrays: Mapping[str, int]) -> float:
    """Bytes that a job's outputs take, about.

    Args:
        job: the job.
        config: the configuration, with the methods that Table 3 and the ablation add.
        xrays: number of X-rays by specimen.
    """
    own = config["dataset"]["path"] is not None
    demo = not own and config["dataset"]["source"] == "demo"
    count = xrays.get(job.wildcards.get("specimen", ""), 0)
    if job.rule == "download_demo_ct":
        return DEMO_DOWNLOAD_BYTES
    if job.rule == "download_deepfluoro":
        return 2 * DEEPFLUORO_BYTES
    if job.rule == "make_demo_dataset":
        return sum(DEMO_CT_BYTES + DEMO_XRAY_BYTES * number for number in xrays.values())
    if job.rule == "prepare_specimen":
        image = PIXEL_BYTES * config["prepare"]["image_size_px"] ** 2
        return (DEMO_VOLUME_BYTES if demo else FULL_VOLUME_BYTES) + count * image
    if job.rule == "synthesize_drrs":
        return config["synthesize"]["drrs_per_specimen"] * PIXEL_BYTES * config["prepare"]["image_size_px"] ** 2
    if job.rule in ("train_segmenter", "train_encoder"):
        return network_bytes(job, config)
    if job.rule in ("register", "register_pair", "gather"):
        return _trace_bytes(job, config, count)
    return _report_bytes(config, xrays) if job.rule == "report_html" else OTHER_BYTES


def data_bytes(config: Config, xrays: Mapping[str, int]) -> float:
    """Bytes of the dataset, unless it is the user's own, of prepared specimens and of DRRs, in each condition."""
    dataset = config["dataset"]
    source = {"demo": "make_demo_dataset", "deepfluoro": "download_deepfluoro"}[dataset["source"]]
    rules = [("prepare_specimen", name) for name in xrays] + [("synthesize_drrs", name) for name in xrays]
    if dataset["path"] is None:
        rules.append((source, ""))
    return sum(job_bytes(Job(rule, {"specimen": name}, ()), config, xrays) for rule, name in rules)


def network_bytes(job: Job, config: Config) -> float:
    """Size of the weights that a job trains."""
    if job.rule == "train_encoder":
        return encoder_bytes(encoder_entry(config, job.wildcards["encoder"])["network"])
    entry = config["segment"][job.wildcards["segmenter"]]
    return SEGMENTERS[entry["type"]].model_bytes(entry)


def _trace_bytes(job: Job, config: Config, count: int) -> float:
    """Each iterate of each X-ray; pairs of Table 3 are methods that the configuration lists by their files' names."""
    total = OTHER_BYTES
    for path in job.outputs:
        parts = Path(path).parts
        if len(parts) < 3 or parts[-3] != "traces":
            continue
        total += trace_bytes(config, parts[-2], xrays_of(config, parts[-2], count))
    return total


def _report_bytes(config: Config, xrays: Mapping[str, int]) -> float:
    """Pictures of X-rays: each with a DRR at the true pose, and at start and end of every method of Table 1."""
    most = config["report"]["xrays_per_specimen"]
    shown = sum(count if most is None else min(count, most) for count in xrays.values()) * max(
        len(config["conditions"]), 1
    )
    pictures = shown * (2 + 2 * len(config["tables"]["table1"]["methods"]))
    return FIGURES_BYTES + pictures * PICTURE_BYTES * config["prepare"]["image_size_px"] ** 2


def checkpoint_bytes(job: Job, config: Config) -> float:
    """Size of the checkpoint that a training keeps until it ends; 0 for other jobs."""
    if not job.rule.startswith("train_"):
        return 0.0
    if job.rule == "train_encoder":
        recipe = encoder_entry(config, job.wildcards["encoder"])["recipe"]
    else:
        recipe = config["segment"][job.wildcards["segmenter"]]["recipe"]
    return network_bytes(job, config) * CHECKPOINT_COPIES[config["recipes"][recipe]["optimizer"]]


def check_space(jobs: Iterable[Job], config: Config, xrays: Mapping[str, int]) -> None:
    """Check that what jobs will write fits on the disks that they write to.

    Jobs whose results are there already are not among them. The checkpoint of one training counts twice: it is replaced
    by a new one that is written first.

    Raises:
        InputError: names the folder, what is needed there, and what is free.
    """
    needed: dict[int, float] = defaultdict(float)
    checkpoints: dict[int, float] = defaultdict(float)
    folders: dict[int, Path] = {}
    for job in jobs:
        if not job.outputs:
            continue
        folder = _existing(Path(job.outputs[0]))
        disk = folder.stat().st_dev
        folders.setdefault(disk, folder)
        needed[disk] += job_bytes(job, config, xrays)
        checkpoints[disk] = max(checkpoints[disk], 2 * checkpoint_bytes(job, config))
    for disk, folder in folders.items():
        total, free = needed[disk] + checkpoints[disk], shutil.disk_usage(folder).free
        if total > free:
            what = f"the run will write about {_told(total)} there, and {_told(free)} are free"
            raise InputError(folder.resolve(), what, "Make space, or give another folder with --directory")


def _told(size: float) -> str:
    return f"{size / MB:.0f} MB" if size < GB else f"{size / GB:.1f} GB"


def _existing(path: Path) -> Path:
    """The innermost folder above a path that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())
