"""The report's gallery of X-rays: each one's image, and the DRRs at the start, at the end and at the truth."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.results import TraceRecord, pose_of_row
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.camera import Camera

JPEG_QUALITY = 85
GREY_RANGE = (0.01, 0.99)
MEASURES = ("init_mpd_mm", "mpd_mm", "tre_mm", "rotation_deg", "translation_mm", "objective", "seconds")


@dataclass(frozen=True)
class Entry:
    """One X-ray under one method: keys of its images, and measures (None for no number: JSON has no NaN)."""

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
    """Entries, and images as data URIs by key; images that entries share are held once."""

    entries: list[Entry] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        return {"entries": [asdict(entry) for entry in self.entries], "images": self.images}


def measures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """What the page says in numbers of a registration's row; None where there is none."""
    return {key: float(row[key]) if math.isfinite(row[key]) else None for key in MEASURES}


def data_uri(image: Float[Tensor, "H W"]) -> str:
    """A grey JPEG of an image, from its 1st to its 99th percentile, as a data URI."""
    low, high = torch.quantile(image.double(), torch.tensor(GREY_RANGE, dtype=torch.float64)).tolist()
    grey = ((image - low) / max(high - low, 1e-6)).clamp(0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray(grey.round().to(torch.uint8).numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def from_best_to_worst(rows: pd.DataFrame, most: int | None) -> list[str]:
    """At most so many X-rays of a specimen, evenly spaced in the order of their errors, best and worst included.

    Args:
        rows: registrations of one specimen by any number of methods; an X-ray's rank is that of its median mpd, and
            without a number it is the worst.
        most: None for all.

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
    """Add a specimen's registrations to a gallery.

    Args:
        gallery: grows.
        patient, xrays: the specimen.
        rows: its registrations by all methods.
        traces: by method, then by projection.
        labels: label by method, in the order of the gallery.
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
            gallery.images.setdefault(name, data_uri(xray.image))
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
