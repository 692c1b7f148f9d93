"""Labels of a CT, brought onto its grid in space, and their names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from roireg.data.label_names import check_distinct
from roireg.data.readers.grid import StoredVolume, size_text
from roireg.data.readers.text import read_yaml
from roireg.data.readers.volumes import read_volume
from roireg.errors import InputError

# Ids in memory are of 8 bits; larger ones of a file are numbered anew.
MAX_LABELS = 255
GREATEST_ID = 2**31
ROUNDING = 0.01
SAME_GRID_MM = 1e-3
WORTH_SAYING_VOXELS = 0.01
# Of the labelled voxels, outside the CT.
OUTSIDE_SHARE = 0.05
NAMES_REMEDY = "Write lines such as '1: left hemipelvis'"


@dataclass(frozen=True, eq=False)
class Labels:
    """Label ids on a CT's grid.

    Attributes:
        ids: `(z, y, x)`.
        names: by id.
        notes: what was done to bring them there.
    """

    ids: UInt8[np.ndarray, "D H W"]
    names: dict[int, str]
    notes: tuple[str, ...]


def read_labels(path: str | Path, ct: StoredVolume, label_names: str | Path | None = None) -> Labels:
    """Labels from a file, on the grid of a CT by nearest voxels.

    Args:
        path: a volume of integers in the patient's space, on any grid.
        ct: the CT.
        label_names: a YAML file with the name of each id; without it the names that the file holds, or "label 1".

    Raises:
        InputError: values are no labels, they lie elsewhere than the CT, or names are wrong.
    """
    path = Path(path)
    stored = read_volume(path)
    whole, notes = _integers(path, stored)
    if not whole.any():
        raise InputError(path, "no voxel has a label", "Give a segmentation of this CT")
    placed, more = _on_grid(path, whole, stored, ct)
    present = [int(label) for label in np.unique(placed) if label]
    if not present:
        raise InputError(path, "no label lies within the CT", "Give a segmentation of this CT")
    if len(present) > MAX_LABELS:
        raise InputError(path, f"it has {len(present)} labels", f"Give {MAX_LABELS} labels at most")
    named = stored.label_names if label_names is None else read_label_names(label_names)
    names = {label: named.get(label, f"label {label}") for label in present}
    where = path if label_names is None else label_names
    check_distinct(names.values(), where, "Give each id a name of its own")
    stated = [*stored.notes, *notes, *more]
    if present[-1] > MAX_LABELS:
        placed = (np.searchsorted(present, placed) + 1) * (placed > 0)
        names = {number: names[label] for number, label in enumerate(present, start=1)}
        stated.append(f"its ids go to {present[-1]}: they are numbered from 1 to {len(present)} here")
    return Labels(placed.astype(np.uint8), names, tuple(f"labels: {note}" for note in stated))


def _integers(path: Path, stored: StoredVolume) -> tuple[Integer[np.ndarray, "D H W"], tuple[str, ...]]:
    """Whole numbers, where a scale or floats have made them nearly whole."""
    values = stored.values
    notes: tuple[str, ...] = ()
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError(path, "it holds NaN or infinite values", "Labels are integers from 0")
        whole = np.rint(values)
        if np.abs(values - whole).max() > ROUNDING:
            if stored.unscaled is None or stored.unscaled.dtype.kind == "f":
                what = f"its values are no whole numbers (from {values.min():g} to {values.max():g})"
                raise InputError(path, what, "Labels are integers from 0: give a segmentation")
            whole = stored.unscaled
            notes = ("its header scales them to fractions: the stored whole numbers were taken",)
        values = whole
    if values.min() < 0 or values.max() > GREATEST_ID:
        what = f"its values go from {values.min():g} to {values.max():g}"
        raise InputError(path, what, "Labels are integers from 0: give a segmentation")
    return values.astype(np.int32 if values.max() > MAX_LABELS else np.uint8), notes


def _on_grid(
    path: Path, labels: Integer[np.ndarray, "D H W"], stored: StoredVolume, ct: StoredVolume
) -> tuple[Integer[np.ndarray, "Z Y X"], tuple[str, ...]]:
    """The label of the nearest voxel, 0 beyond the labels' grid."""
    if stored.size == ct.size and np.abs(_corners(stored) - _corners(ct)).max() <= SAME_GRID_MM:
        return labels, ()
    from_ct = np.linalg.inv(stored.frame) @ ct.frame
    width, height, depth = ct.size
    out = np.zeros(ct.values.shape, labels.dtype)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    flat = np.stack([x, y, np.zeros_like(x), np.ones_like(x)]).reshape(4, -1).astype(float)
    limits = np.array(stored.size)[:, None]
    furthest = 0.0
    for z in range(depth):
        flat[2] = z
        at = (from_ct @ flat)[:3]
        nearest = np.rint(at).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
        if inside.any():
            furthest = max(furthest, float(np.abs(at - nearest)[:, inside].max()))
            i, j, k = nearest[:, inside]
            out[z].reshape(-1)[inside] = labels[k, j, i]
    outside = _outside_share(labels, stored, ct)
    if outside > OUTSIDE_SHARE:
        sizes = f"{size_text(stored.size)} voxels against {size_text(ct.size)}"
        apart = float(np.abs(_corners(stored) - _corners(ct)).max())
        what = f"it lies elsewhere than the CT: {outside:.0%} of its labels are outside ({sizes}, corners up to "
        raise InputError(path, f"{what}{apart:.3g} mm apart)", "Give a segmentation of this CT")
    how = "flipped, permuted or cropped to it" if furthest < WORTH_SAYING_VOXELS else "by nearest voxels"
    moved = "" if furthest < WORTH_SAYING_VOXELS else f", moved by up to {furthest:.2g} voxels"
    return out, (f"brought from another grid ({size_text(stored.size)} voxels) onto the CT's, {how}{moved}",)


def _outside_share(labels: Integer[np.ndarray, "D H W"], stored: StoredVolume, ct: StoredVolume) -> float:
    """Of the labelled voxels, the share that no voxel of the CT is near."""
    voxels = np.argwhere(labels)[:, ::-1].T
    voxels = voxels[:, :: max(voxels.shape[1] // 100_000, 1)]
    to_ct = np.linalg.inv(ct.frame) @ stored.frame
    at = to_ct[:3, :3] @ voxels + to_ct[:3, 3:]
    return float(1 - ((at > -1) & (at < np.array(ct.size)[:, None])).all(axis=0).mean())


def _corners(volume: StoredVolume) -> np.ndarray:
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(volume.size) - 1
    return (corners @ volume.frame.T)[:, :3]


def read_label_names(path: str | Path) -> dict[int, str]:
    """Names by id from a YAML file.

    Raises:
        InputError: an id is no whole number or stands twice, or a name is missing or stands twice.
    """
    entries = read_yaml(path, NAMES_REMEDY)
    if not isinstance(entries, dict) or not entries:
        raise InputError(path, "it does not name labels", NAMES_REMEDY)
    named: dict[int, str] = {}
    for key, name in entries.items():
        try:
            label = int(key)
        except (TypeError, ValueError, OverflowError):
            label = -1
        if isinstance(key, bool | float) or not 0 <= label <= GREATEST_ID:
            raise InputError(path, f"{key!r} is no label", NAMES_REMEDY)
        if label in named:
            raise InputError(path, f"label {label} stands twice", "Give each id once")
        if name is None or isinstance(name, dict | list) or not str(name).strip():
            raise InputError(path, f"label {label} has no name", NAMES_REMEDY)
        named[label] = str(name).strip()
    check_distinct(named.values(), path, "Give each id a name of its own")
    return named
