"""Poses of X-rays that an encoder estimates, as rows of a file."""

import time
from collections.abc import Iterator

from roireg.data.specimen import Specimen
from roireg.encode.model import PoseEncoder
from roireg.metrics.pose_errors import registration_errors


def estimate_rows(encoder: PoseEncoder, specimen: Specimen, name: str) -> Iterator[dict[str, str | float]]:
    """For each X-ray the encoder's pose, its errors (see `registration_errors`), and its time.

    `seconds` is without reading files; the first X-ray is read twice, so that lazy set-up does not count.
    """
    encoder.estimate(specimen.xrays[0].image, specimen.xrays[0].camera)
    for xray in specimen.xrays:
        start = time.perf_counter()
        pose = encoder.estimate(xray.image, xray.camera)
        seconds = time.perf_counter() - start
        pose = pose.cpu()
        yield {
            "specimen": specimen.name,
            "projection": xray.name,
            "encoder": name,
            **registration_errors(pose, xray.pose, xray.camera, specimen.landmarks_mm, specimen.isocenter_mm),
            "seconds": seconds,
            **{f"pose_{r}{c}": float(pose[r, c]) for r in range(3) for c in range(4)},
        }
