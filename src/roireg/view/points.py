r"""The pose from pairs of points: where points of the CT are seen in X-rays (perspective-n-point, PnP).

The pose minimises the sum of squared distances on the detectors, over all X-rays at once,

$$\min_T \sum_{v, i} \| s_v (\pi_v(T^{-1} p_i) - u_{v i}) \|^2,$$

with trust regions, from the present pose and from 24 turns of the patient by right angles, of which the best is
kept. OpenCV's solvers know one camera only, and none whose picture is mirrored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from roireg.errors import InputError
from roireg.geometry.se3 import invert
from roireg.view.state import PointPair, State

LEAST_POINTS = 4
# Of the smallest singular value of the Jacobian to the largest: below it, the points do not fix the pose.
DETERMINED = 1e-6
# Turns and shifts are scaled so that both move points by about a millimetre.
RAD_PER_MM = 0.01
# Of a point that is seen nowhere.
FAR_MM = 1e6


@dataclass(frozen=True, eq=False)
class PointPose:
    """A pose from points.

    Attributes:
        rig_pose: `volume_from_rig`, mm.
        residuals_px: distance of each point in each X-ray from where it was clicked: (point, X-ray, px).
    """

    rig_pose: Float[Tensor, "4 4"]
    residuals_px: tuple[tuple[int, int, float], ...]


def solved(state: State) -> PointPose:
    """The pose that fits the pairs of points best.

    Raises:
        InputError: there are fewer than four whole pairs, or they do not fix the pose.
    """
    pairs = [
        (number, view, point)
        for number, point in enumerate(state.points)
        for view in point.pixels
        if point.ct_mm is not None and view < len(state.views)
    ]
    if len({number for number, _, _ in pairs}) < LEAST_POINTS:
        what = f"{len({number for number, _, _ in pairs})} points are marked both in the CT and in an X-ray"
        raise InputError("points", what, f"Mark at least {LEAST_POINTS}")
    problem = _problem(state, pairs)
    fits = [(start, least_squares(problem.misses_mm, np.zeros(6), args=(start,))) for start in _starts(state, problem)]
    start, best = min(fits, key=lambda fit: float(fit[1].cost))
    singular = np.linalg.svd(best.jac, compute_uv=False)
    if singular[-1] < DETERMINED * singular[0]:
        raise InputError("points", "they lie so that they do not fix the pose", "Mark points that are not on one line")
    distances = np.linalg.norm(problem.offsets_px(best.x, start), axis=1)
    found = tuple((number, view, float(px)) for (number, view, _), px in zip(pairs, distances, strict=True))
    return PointPose(torch.from_numpy(problem.moved(best.x) @ start), found)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Pairs of points in numbers.

    Attributes:
        points_mm: of the CT.
        center_mm: their middle, about which a start is turned.
        seen_px: where they were clicked, in pixels of the picture that is shown.
        spacing_mm: of these pixels.
        pixel_from_rig: from the rig to pixels, homogeneous.
    """

    points_mm: Float[np.ndarray, "N 3"]
    center_mm: Float[np.ndarray, "3"]
    seen_px: Float[np.ndarray, "N 2"]
    spacing_mm: Float[np.ndarray, "N 2"]
    pixel_from_rig: Float[np.ndarray, "N 3 4"]

    def moved(self, change: Float[np.ndarray, "6"]) -> Float[np.ndarray, "4 4"]:
        """The motion of a start that a change (scaled rotation vector, mm) stands for."""
        out = np.eye(4)
        out[:3, :3] = Rotation.from_rotvec(change[:3] * RAD_PER_MM).as_matrix()
        out[:3, 3] = self.center_mm + change[3:] - out[:3, :3] @ self.center_mm
        return out

    def offsets_px(self, change: Float[np.ndarray, "6"], start: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "N 2"]:
        """From where each point was clicked to where it is seen at a changed start `volume_from_rig`."""
        rig_from_volume = np.linalg.inv(self.moved(change) @ start)
        in_rig = self.points_mm @ rig_from_volume[:3, :3].T + rig_from_volume[:3, 3]
        homogeneous = np.einsum("nij,nj->ni", self.pixel_from_rig, np.c_[in_rig, np.ones(len(in_rig))])
        with np.errstate(divide="ignore", invalid="ignore"):
            return homogeneous[:, :2] / homogeneous[:, 2:] - self.seen_px

    def misses_mm(self, change: Float[np.ndarray, "6"], start: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "M"]:
        """The same in mm on the detectors."""
        misses = (self.offsets_px(change, start) * self.spacing_mm).ravel()
        return np.nan_to_num(misses, nan=FAR_MM, posinf=FAR_MM, neginf=-FAR_MM)


def _problem(state: State, pairs: Sequence[tuple[int, int, PointPair]]) -> _Problem:
    points = np.array([point.ct_mm for _, _, point in pairs])
    shown = [state.views[view].shown for _, view, _ in pairs]
    return _Problem(
        points_mm=points,
        center_mm=points.mean(axis=0),
        seen_px=np.array([shown_pixel(state, view, point.pixels[view]) for _, view, point in pairs]),
        spacing_mm=np.array([xray.camera.pixel_spacing_mm for xray in shown]),
        pixel_from_rig=np.array(
            [(xray.camera.intrinsics_px @ invert(xray.rig_from_camera)[:3]).numpy() for xray in shown]
        ),
    )


def _starts(state: State, problem: _Problem) -> list[Float[np.ndarray, "4 4"]]:
    """The present pose, with the patient turned about the middle of the points onto each of a cube's 24 rotations."""
    starts = []
    for turn in Rotation.create_group("O").as_matrix():
        moved = np.eye(4)
        moved[:3, :3] = turn
        moved[:3, 3] = problem.center_mm - turn @ problem.center_mm
        starts.append(moved @ state.rig_pose.numpy())
    return starts


def shown_pixel(state: State, view: int, stored: tuple[float, float]) -> tuple[float, float]:
    """The pixel of the picture that is shown, of a pixel of the picture as it is stored."""
    shown = state.views[view].shown
    camera = shown.camera if shown.stored_camera is None else shown.stored_camera
    shown_from_stored = shown.camera.intrinsics_px @ torch.linalg.inv(camera.intrinsics_px)
    column, row, _ = (shown_from_stored @ shown_from_stored.new_tensor([*stored, 1.0])).tolist()
    return column, row
