"""Poses of X-rays that an encoder estimates, as rows of a file."""

import time
from collections.abc import Iterator, Sequence

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.encode.model import PoseEncoder
from roireg.metrics.pose_errors import registration_errors


def estimate_rows(
    encoder: PoseEncoder, patient: Patient, xrays: Sequence[Xray], name: str
) -> Iterator[dict[str, str | float]]:
    """For each X-ray the encoder's pose, its errors (see `registration_errors`), and its time.

    `seconds` is without reading files; the first X-ray is read twice, so that lazy set-up does not count.
    """
    encoder.estimate(xrays[0].image, xrays[0].camera)
    for xray in xrays:
        start = time.perf_counter()
        pose = encoder.estimate(xray.image, xray.camera)
        seconds = time.perf_counter() - start
        pose = pose.cpu()
        yield {
            "specimen": patient.name,
            "projection": xray.name,
            "encoder": name,
            **registration_errors(pose, xray.known_pose, xray.camera, patient.error_points_mm, patient.center_mm),
            "seconds": seconds,
            **{f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)},
        }
