"""Errors of a registered pose against the true one: projection, 3D, rotation and translation errors."""

import torch
from jaxtyping import Float
from torch import Tensor

from roireg.geometry.camera import Camera, project
from roireg.geometry.se3 import invert, transform_points
from roireg.geometry.so3 import rotation_angle

# DeepFluoro's pixel spacing (mm). DiffPose's released code multiplies by it distances that are already in mm.
LEGACY_FACTOR = 0.194


def detector_points_mm(
    points_mm: Float[Tensor, "N 3"], camera: Camera, pose: Float[Tensor, "4 4"]
) -> Float[Tensor, "N 3"]:
    """The points projected onto the detector of `pose`; camera frame, mm."""
    pixels = project(points_mm, camera, pose)
    return torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=-1) @ camera.rays_mm().to(pixels).T


def projection_distances_mm(
    estimates: Float[Tensor, "*#B 4 4"],
    truths: Float[Tensor, "*#B 4 4"],
    camera: Camera,
    landmarks_mm: Float[Tensor, "N 3"],
) -> Float[Tensor, "*#B"]:
    """`mpd_mm` of each pose: mean distance on the detector between landmarks projected under truth and estimate."""
    offsets_px = project(landmarks_mm, camera, truths) - project(landmarks_mm, camera, estimates)
    return (offsets_px * offsets_px.new_tensor(camera.pixel_spacing_mm)).norm(dim=-1).mean(-1)


def registration_errors(
    estimate: Float[Tensor, "4 4"],
    truth: Float[Tensor, "4 4"],
    camera: Camera,
    landmarks_mm: Float[Tensor, "N 3"],
    isocenter_mm: Float[Tensor, "3"],
) -> dict[str, float]:
    r"""Errors of an estimated pose.

    The paper's "mTRE" (section 3.1), an "average Euclidean distance between ... 3D landmark projections", may be
    `mpd_mm`, or `mpd_legacy` if its code follows DiffPose's; it does not say which.

    Args:
        estimate: the pose, `volume_from_camera`, mm.
        truth: the true pose, likewise.
        camera: the detector.
        landmarks_mm: volume frame.
        isocenter_mm: point whose displacement is the translation error, volume frame.

    Returns:
        `mpd_mm`: mean distance, on the detector plane, between landmarks projected under the truth and the estimate.
        `mrpd_mm`: mean 3D distance of the projections, each placed on the detector of its own pose (volume frame).
        `tre_mm`: mean 3D distance of the landmarks in the camera frame.
        `mpd_legacy`: `0.194 * mrpd_mm`, which DiffPose's released code reports as mm.
        `rotation_deg`: geodesic angle of $R^\top \hat R$.
        `translation_mm`: distance between the isocentre's two positions in the camera frame.
    """
    true_detector = transform_points(truth, detector_points_mm(landmarks_mm, camera, truth))
    estimated_detector = transform_points(estimate, detector_points_mm(landmarks_mm, camera, estimate))
    mrpd = (true_detector - estimated_detector).norm(dim=-1).mean()
    moved = transform_points(invert(estimate), landmarks_mm) - transform_points(invert(truth), landmarks_mm)
    isocenter = isocenter_mm[None]
    offset = transform_points(invert(estimate), isocenter) - transform_points(invert(truth), isocenter)
    return {
        "mpd_mm": float(projection_distances_mm(estimate, truth, camera, landmarks_mm)),
        "mrpd_mm": float(mrpd),
        "tre_mm": float(moved.norm(dim=-1).mean()),
        "mpd_legacy": LEGACY_FACTOR * float(mrpd),
        "rotation_deg": float(torch.rad2deg(rotation_angle(truth[:3, :3].T @ estimate[:3, :3]))),
        "translation_mm": float(offset.norm()),
    }
