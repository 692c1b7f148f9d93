"""Known mistakes of dataset files, each with its correction; one whose correction helps explains the evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from roireg.check.evidence import Agreement, Scan, StoredView, agreement, is_camera, landmark_residual_px, silhouettes
from roireg.data.volume import Volume

AXES = "xyz"
# A change of the mean over X-rays counts if it is larger than this.
CLEAR = 0.05
# A landmark residual counts as wrong above this fraction of the image's width.
LANDMARK_FRACTION = 0.005
NEARLY_ALL = 0.75


def same_scan(scan: Scan) -> Scan:
    """The scan without a correction."""
    return scan


def same_view(view: StoredView) -> StoredView:
    """The view without a correction."""
    return view


@dataclass(frozen=True)
class Hypothesis:
    """A possible mistake: `sentence` says what is wrong and what to do; the functions `scan` and `view` correct it."""

    sentence: str
    scan: Callable[[Scan], Scan] = same_scan
    view: Callable[[StoredView], StoredView] = same_view


@dataclass(frozen=True)
class Explanation:
    """A mistake that explains the evidence, with the mean agreement as stored and with the mistake corrected."""

    sentence: str
    stored: Agreement
    undone: Agreement


def _flipped(volume: Volume, axis: int) -> Volume:
    return Volume(volume.values.flip(2 - axis), volume.volume_from_voxel)


def _negated(volume: Volume, axis: int) -> Volume:
    frame = volume.volume_from_voxel.clone()
    frame[:3, axis] *= -1
    return Volume(volume.values, frame)


def _transposed(volume: Volume) -> Volume:
    return Volume(volume.values.permute(2, 1, 0).contiguous(), volume.volume_from_voxel)


def _half_turned(volume: Volume) -> Volume:
    turn = torch.diag(volume.volume_from_voxel.new_tensor([-1.0, -1.0, 1.0, 1.0]))
    return Volume(volume.values, turn @ volume.volume_from_voxel)


def _both(change: Callable[[Volume], Volume]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, volume=change(scan.volume), labels=scan.labels and change(scan.labels))


def _ct(change: Callable[[Volume], Volume]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, volume=change(scan.volume))


def _labels(change: Callable[[Volume], Volume]) -> Callable[[Scan], Scan]:
    return lambda scan: replace(scan, labels=scan.labels and change(scan.labels))


def _labels_on_the_cts_grid(scan: Scan) -> Scan:
    if scan.labels is None or scan.labels.values.shape != scan.volume.values.shape:
        return scan
    return replace(scan, labels=Volume(scan.labels.values, scan.volume.volume_from_voxel))


def _landmarks_turned(scan: Scan) -> Scan:
    turned = {name: point * [-1.0, -1.0, 1.0] for name, point in scan.landmarks_mm.items()}
    return replace(scan, landmarks_mm=turned)


def _focal(columns: float, rows: float) -> Callable[[StoredView], StoredView]:
    def undo(view: StoredView) -> StoredView:
        k = view.parameters.intrinsic * np.array([[columns, 1, 1], [1, rows, 1], [1, 1, 1]])
        return replace(view, parameters=replace(view.parameters, intrinsic=k))

    return undo


def _swapped_intrinsic(view: StoredView) -> StoredView:
    k = view.parameters.intrinsic.copy()
    k[0, 0], k[1, 1], k[0, 2], k[1, 2] = k[1, 1], k[0, 0], k[1, 2], k[0, 2]
    return replace(view, parameters=replace(view.parameters, intrinsic=k))


def _swapped_focal(view: StoredView) -> StoredView:
    k = view.parameters.intrinsic.copy()
    k[0, 0], k[1, 1] = k[1, 1], k[0, 0]
    return replace(view, parameters=replace(view.parameters, intrinsic=k))


def _inverse_poses(view: StoredView) -> StoredView:
    return replace(view, poses={key: np.linalg.inv(pose) for key, pose in view.poses.items()})


def _inverse_extrinsic(view: StoredView) -> StoredView:
    return replace(view, parameters=replace(view.parameters, extrinsic=np.linalg.inv(view.parameters.extrinsic)))


def _turned_poses(view: StoredView) -> StoredView:
    turn = np.diag([-1.0, -1.0, 1.0, 1.0])
    return replace(view, poses={key: turn @ pose for key, pose in view.poses.items()})


def _swapped_landmarks(view: StoredView) -> StoredView:
    return replace(view, landmarks_px={name: pixel[::-1].copy() for name, pixel in view.landmarks_px.items()})


def _image(dims: tuple[int, ...]) -> Callable[[StoredView], StoredView]:
    return lambda view: replace(view, image=view.image.flip(dims))


def _image_and_segmentation(dims: tuple[int, ...]) -> Callable[[StoredView], StoredView]:
    def undo(view: StoredView) -> StoredView:
        segmentation = None if view.segmentation is None else view.segmentation.flip(dims)
        return replace(view, image=view.image.flip(dims), segmentation=segmentation)

    return undo


def _segmentation(dims: tuple[int, ...]) -> Callable[[StoredView], StoredView]:
    return lambda view: replace(view, segmentation=None if view.segmentation is None else view.segmentation.flip(dims))


def _inverted(view: StoredView) -> StoredView:
    return replace(view, image=1 - view.image)


def _per_axis(sentence: str, undo: Callable[[int], Callable[[Scan], Scan]]) -> list[Hypothesis]:
    return [Hypothesis(sentence.format(axis=name, number=axis + 1), undo(axis)) for axis, name in enumerate(AXES)]


def _flips(sentence: str, undo: Callable[[tuple[int, ...]], Callable[[StoredView], StoredView]]) -> list[Hypothesis]:
    flips = {"flipped left to right": (1,), "flipped upside down": (0,), "rotated by 180 degrees": (0, 1)}
    return [Hypothesis(sentence.format(flip=flip), view=undo(dims)) for flip, dims in flips.items()]


HYPOTHESES: tuple[Hypothesis, ...] = (
    Hypothesis(
        "the focal entries of proj-params/intrinsic have the wrong sign: make K[0, 0] and K[1, 1] negative",
        view=_focal(-1, -1),
    ),
    Hypothesis(
        "K[0, 0] of proj-params/intrinsic has the wrong sign: change it, since X-rays are seen from the other side",
        view=_focal(-1, 1),
    ),
    Hypothesis("K[1, 1] of proj-params/intrinsic has the wrong sign: make it negative", view=_focal(1, -1)),
    Hypothesis("columns and rows are exchanged in proj-params/intrinsic (focal and centre)", view=_swapped_intrinsic),
    Hypothesis("the focal entries of columns and rows are exchanged in proj-params/intrinsic", view=_swapped_focal),
    Hypothesis("gt-poses are stored inverted (volume to camera): store cam-to-*-vol", view=_inverse_poses),
    Hypothesis("proj-params/extrinsic is stored inverted (camera to world)", view=_inverse_extrinsic),
    Hypothesis("gt-poses map to RAS instead of LPS: negate their first two rows", view=_turned_poses),
    *_per_axis(
        "the CT and its labels are reversed along their {axis} axis: flip vol/pixels and vol-seg/image/pixels along "
        "it, or negate column {number} of dir-mat and move the origin to the other end",
        lambda axis: _both(lambda volume: _flipped(volume, axis)),
    ),
    *_per_axis(
        "column {number} of dir-mat ({axis} axis) has the wrong sign: negate it",
        lambda axis: _both(lambda volume: _negated(volume, axis)),
    ),
    *_per_axis(
        "the CT is reversed along its {axis} axis, its labels are not: flip vol/pixels along it",
        lambda axis: _ct(lambda volume: _flipped(volume, axis)),
    ),
    *_per_axis(
        "the labels are reversed along their {axis} axis, the CT is not: flip vol-seg/image/pixels along it",
        lambda axis: _labels(lambda volume: _flipped(volume, axis)),
    ),
    *_per_axis(
        "column {number} of vol-seg/image/dir-mat ({axis} axis) has the wrong sign: negate it",
        lambda axis: _labels(lambda volume: _negated(volume, axis)),
    ),
    Hypothesis("origin and dir-mat of the CT are RAS instead of LPS: negate their x and y", _both(_half_turned)),
    Hypothesis("vol/pixels is stored as (x, y, z): store CT and labels as (z, y, x)", _both(_transposed)),
    Hypothesis(
        "the header of the labels places them elsewhere than the CT: give vol-seg/image the CT's spacing, origin and "
        "dir-mat",
        _labels_on_the_cts_grid,
    ),
    Hypothesis("vol-landmarks are RAS instead of LPS: negate their x and y", _landmarks_turned),
    Hypothesis("gt-landmarks are stored as (row, column): store (column, row)", view=_swapped_landmarks),
    *_flips("image/pixels are {flip} relative to gt-seg and the poses", _image),
    *_flips("image/pixels and gt-seg are {flip} relative to the poses", _image_and_segmentation),
    *_flips("gt-seg/pixels are {flip} relative to the X-rays", _segmentation),
    Hypothesis("bone is bright in image/pixels: store the detector's intensity, in which bone is dark", view=_inverted),
)


def mean_agreement(found: Sequence[Agreement]) -> Agreement:
    """Means over X-rays, ignoring NaN."""
    columns = zip(*((one.landmarks_px, one.dice, one.ncc) for one in found), strict=True)
    means = []
    for column in columns:
        values = [value for value in column if not np.isnan(value)]
        means.append(float(np.mean(values)) if values else float("nan"))
    return Agreement(*means)


def _scores(found: Sequence[Agreement], width_px: int) -> np.ndarray:
    """Scores `(3, X-rays)` of landmarks (negated residual), Dice and NCC; larger is better, NaN: nothing to compare."""
    unit = LANDMARK_FRACTION * width_px / CLEAR
    rows = [[-one.landmarks_px / unit, one.dice, one.ncc] for one in found]
    return np.clip(np.array(rows).T, -1e3, None)


def explain(scan: Scan, views: Sequence[StoredView]) -> tuple[list[Agreement], Explanation | None]:
    """The agreement as stored, and the mistake that explains it; None if no correction makes it clearly better.

    A mistake explains the evidence if correcting it clearly improves landmarks, Dice or NCC in nearly all X-rays, and
    makes none of them worse. Among several mistakes, the one is chosen that improves most of the three, and among those
    the one with the highest scores.

    Args:
        scan: the CT, at a coarse resolution.
        views: a few X-rays.
    """
    # Projecting labels takes most of the time, and many corrections do not change the projections.
    known = [silhouettes(scan, view) if is_camera(view.parameters) else {} for view in views]
    stored = [agreement(scan, view, shown) for view, shown in zip(views, known, strict=True)]
    width = views[0].parameters.columns
    before = _scores(stored, width)
    # If the parameters describe no camera, there is no agreement to improve on.
    lost = all(np.isnan([one.landmarks_px, one.dice, one.ncc]).all() for one in stored)
    best, best_rank = None, (0, 0.0)
    for hypothesis in HYPOTHESES:
        changed = hypothesis.scan(scan)
        others = [hypothesis.view(view) for view in views]
        if _spoils_landmarks(changed, others, before, width):
            continue
        undone = []
        for view, other, shown in zip(views, others, known, strict=True):
            undone.append(_undone(scan, changed, view, other, shown))
            # With few X-rays, a correction that does not improve the first one cannot improve nearly all of them.
            if (
                len(views) * (1 - NEARLY_ALL) < 1
                and not lost
                and not (_scores(undone[:1], width) > before[:, :1]).any()
            ):
                break
        if len(undone) < len(views):
            continue
        after = _scores(undone, width)
        if lost:
            before = np.where(np.isnan(after), np.nan, -1.0)
        gain = after - before
        better = _clearly(gain)
        if not better.any() or _clearly(-gain).any():
            continue
        rank = (int(better.sum()), float(np.nanmean(after[1:])) if np.isfinite(after[1:]).any() else 0.0)
        if best is None or rank > best_rank:
            best = Explanation(hypothesis.sentence, mean_agreement(stored), mean_agreement(undone))
            best_rank = rank
    return stored, best


def _spoils_landmarks(scan: Scan, views: Sequence[StoredView], before: np.ndarray, width_px: int) -> bool:
    """True if a correction clearly worsens landmarks; tested first because projecting points is fast."""
    if not all(is_camera(view.parameters) for view in views):
        return True
    residuals = [Agreement(landmark_residual_px(scan, view), np.nan, np.nan) for view in views]
    return bool(_clearly(before - _scores(residuals, width_px))[0])


def _undone(scan: Scan, changed: Scan, view: StoredView, other: StoredView, shown: Mapping[int, Tensor]) -> Agreement:
    """Agreement with a mistake corrected; `shown` are the silhouettes before the correction, reused if unchanged."""
    same = changed.labels is scan.labels and other.parameters is view.parameters and other.poses is view.poses
    return agreement(changed, other, shown if same else None)


def _clearly(gain: np.ndarray) -> np.ndarray:
    """For landmarks, Dice and NCC: True if the mean gain exceeds `CLEAR` and nearly all X-rays gain."""
    out = []
    for row in gain:
        known = row[~np.isnan(row)]
        out.append(len(known) > 0 and known.mean() > CLEAR and (known > 0).mean() >= NEARLY_ALL)
    return np.array(out)
