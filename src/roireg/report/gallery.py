"""The report's gallery: each X-ray, with the DRRs at the initial, the final and the true pose."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.pose_results import TraceRecord, pose_of_row
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.camera import Camera

JPEG_QUALITY = 85
SHADE_RGB, SHADE_ALPHA = (213, 94, 0), 0.35
GREY_RANGE = (0.01, 0.99)
MEASURES = ("init_mpd_mm", "mpd_mm", "tre_mm", "rotation_deg", "translation_mm", "objective", "seconds")


@dataclass(frozen=True)
class Entry:
    """One X-ray registered by one method.

    Attributes:
        measures: errors and run time; None for an undefined number, since JSON has no NaN.
        xray, start, end, truth: keys of `Gallery.images`: the X-ray, and the DRRs at three poses.
    """

    method: str
    label: str
    specimen: str
    projection: str
    measures: dict[str, float | None]
    xray: str
    start: str
    end: str
    truth: str


@dataclass
class Gallery:
    """Entries, and their images as data URIs by key; an image used by several entries is stored once."""

    entries: list[Entry] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The data that the page's script reads."""
        return {"entries": [asdict(entry) for entry in self.entries], "images": self.images}


def measures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a registration's row that the page shows; None for an undefined number."""
    return {key: float(row[key]) if math.isfinite(row[key]) else None for key in MEASURES}


def data_uri(image: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"] | None = None) -> str:
    """The image as a JPEG in a data URI; black is its 1st percentile, white its 99th.

    Args:
        image: grey values.
        mask: true for measured pixels; the others are shaded. None if all are.
    """
    low, high = torch.quantile(image.double(), torch.tensor(GREY_RANGE, dtype=torch.float64)).tolist()
    grey = ((image - low) / max(high - low, 1e-6)).clamp(0, 1) * 255
    buffer = io.BytesIO()
    picture = grey.round().to(torch.uint8).numpy()
    if mask is not None and not bool(mask.all()):
        shaded = ((1 - SHADE_ALPHA) * picture[..., None] + SHADE_ALPHA * np.array(SHADE_RGB)).round().astype(np.uint8)
        picture = np.where(mask.numpy()[..., None], picture[..., None], shaded)
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def from_best_to_worst(rows: pd.DataFrame, most: int | None) -> list[str]:
    """Choose at most `most` X-rays of a specimen, evenly spaced in the order of their errors, best and worst included.

    Args:
        rows: registrations of one specimen by any number of methods. X-rays are ordered by their median mpd over the
            methods; a registration without a result counts as infinite mpd.
        most: largest number of X-rays; None for all.

    Returns:
        Names of projections, in the order of the rows.
    """
    names = rows["projection"].drop_duplicates().tolist()
    if most is None or len(names) <= most:
        return names
    medians = rows.assign(mpd_mm=rows["mpd_mm"].fillna(math.inf)).groupby("projection")["mpd_mm"].median()
    ranked = medians.sort_values(kind="stable").index
    picks = np.linspace(0, len(ranked) - 1, most).round().astype(int) if most > 1 else [len(ranked) - 1]
    chosen = set(ranked[picks])
    return [name for name in names if name in chosen]


def add_specimen(
    gallery: Gallery,
    patient: Patient,
    xrays: Sequence[Xray],
    rows: pd.DataFrame,
    traces: dict[str, dict[str, TraceRecord]],
    labels: dict[str, str],
) -> None:
    """Add a specimen's registrations to a gallery, in place.

    Args:
        gallery: the gallery to extend.
        patient, xrays: the specimen.
        rows: registrations of the specimen by all methods.
        traces: traces by method, then by projection.
        labels: label by method, in gallery order.
    """
    by_name = {xray.name: xray for xray in xrays}

    def drr(key: str, camera: Camera, pose: Float[Tensor, "4 4"]) -> str:
        if key not in gallery.images:
            gallery.images[key] = data_uri(scaled(render(patient.volume, camera, pose[None]))[0])
        return key

    for method, label in labels.items():
        for _, row in rows[rows["method"] == method].iterrows():
            xray = by_name[row["projection"]]
            name = f"{patient.name}/{xray.name}"
            gallery.images.setdefault(name, data_uri(xray.image, xray.mask))
            start = traces[method][xray.name].poses[0]
            gallery.entries.append(
                Entry(
                    method=method,
                    label=label,
                    specimen=patient.name,
                    projection=xray.name,
                    measures=measures(row),
                    xray=name,
                    start=drr(f"{name}/start/{row['init']}", xray.camera, start),
                    end=drr(f"{name}/end/{method}", xray.camera, pose_of_row(row)),
                    truth=drr(f"{name}/truth", xray.camera, xray.known_pose),
                )
            )
