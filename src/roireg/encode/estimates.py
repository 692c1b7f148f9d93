"""Rows of the CSV with the poses that an encoder estimates for X-rays."""

import time
from collections.abc import Iterator, Sequence

from roireg.data.patient import Patient
from roireg.data.xray import Xray
from roireg.encode.model import PoseEncoder
from roireg.metrics.pose_errors import registration_errors


def estimate_rows(
    encoder: PoseEncoder, patient: Patient, xrays: Sequence[Xray], name: str
) -> Iterator[dict[str, str | float]]:
    """A row for each X-ray: the encoder's pose, its errors (see `registration_errors`), and `seconds`.

    `seconds` excludes reading files. A first estimate is discarded, so that `seconds` excludes lazy initialisation.
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
            **registration_errors(pose, xray.true_pose, xray.camera, patient.error_points_mm, patient.center_mm),
            "seconds": seconds,
            **{f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)},
        }
