"""Table 2 of the paper: Dice of segmenters on X-rays and on DRRs rendered at the same true poses."""

import math

import numpy as np
import pandas as pd

from roireg.metrics.statistics import specimen_bootstrap
from roireg.tables.paper import COMPARABLE_NOTE, INTERVAL_NOTE, PAPER_TABLE2
from roireg.tables.table import Table

IMAGES = {"xray": "X-ray", "drr": "DRR"}
ROI_SEPARATOR = " / "

TABLE2_NOTES = (
    "Dice of an image: mean over the ROIs that its true mask contains. Cells: mean ± SD over the images of all "
    "specimens, each segmented by the network that was trained without that specimen.",
    "True masks: of a DRR (rendered at the X-ray's true pose), the CT's labels projected at that pose; of an X-ray, "
    "the dataset's own masks, which show each bone where it was at the exposure.",
    "MedSAM is prompted with the bounding box of each ROI's true mask, as a user would draw it; the U-Net gets the "
    "image only.",
    INTERVAL_NOTE,
    "Paper: WSReg, Table 2, on DeepFluoro, with U-Net and MedSAM trained on X-rays only; " + COMPARABLE_NOTE,
)


def image_dice(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over ROIs by image, as `specimen, projection, dice`. Images without true masks are left out."""
    return rows.groupby(["specimen", "projection"], sort=True)["dice"].mean().dropna().reset_index()


def table2(rows: pd.DataFrame, segmenters: dict[str, dict], seed: int) -> Table:
    """Table 2.

    Args:
        rows: columns `specimen, segmenter, projection, image, roi, dice`, of all segmenters.
        segmenters: entries with `label`, `type` and `train_on`, by segmenter name, in the order of the rows.
        seed: seed of the bootstrap.
    """
    numbers, shown = [], []
    for name, entry in segmenters.items():
        for image, image_label in IMAGES.items():
            own = rows[(rows["segmenter"] == name) & (rows["image"] == image)]
            summary = _summary(own, seed)
            by_roi = own.groupby("roi", sort=False)["dice"].mean()
            columns = {f"dice_{roi.replace(' ', '_')}": value for roi, value in by_roi.items()}
            numbers.append({"segmenter": name, "image": image, **summary, **columns})
            paper = PAPER_TABLE2.get((entry["type"], image), "–")
            shown.append(_shown_row(entry, image_label, summary, by_roi, paper))
    return Table(pd.DataFrame(numbers), pd.DataFrame(shown))


def _summary(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    dice = image_dice(rows)
    if dice.empty:
        return {"images": 0, "specimens": 0}
    low, high = specimen_bootstrap(dice, "dice", np.mean, seed)
    return {
        "images": len(dice),
        "specimens": dice["specimen"].nunique(),
        "dice_mean": float(dice["dice"].mean()),
        "dice_sd": float(dice["dice"].std(ddof=1)),
        "dice_mean_ci_low": low,
        "dice_mean_ci_high": high,
        "dice_median": float(dice["dice"].median()),
        "dice_min": float(dice["dice"].min()),
    }


def _shown_row(entry: dict, image: str, s: dict[str, float], by_roi: pd.Series, paper: str) -> dict[str, str]:
    def cell(*keys: str) -> list[str]:
        return [f"{s[key]:.2f}" if math.isfinite(s.get(key, math.nan)) else "–" for key in keys]

    return {
        "Segmenter": entry["label"],
        "learned from": " and ".join({"xrays": "X-rays", "drrs": "DRRs"}[source] for source in entry["train_on"]),
        "image": image,
        "Dice": " ± ".join(cell("dice_mean", "dice_sd")) if s["images"] else "no masks",
        "paper: Dice": paper,
        "95% interval": " to ".join(cell("dice_mean_ci_low", "dice_mean_ci_high")),
        "median": cell("dice_median")[0],
        "worst": cell("dice_min")[0],
        ROI_SEPARATOR.join(by_roi.index): ROI_SEPARATOR.join(
            f"{value:.2f}" if math.isfinite(value) else "–" for value in by_roi
        ),
        "images": f"{s['images']}",
    }
