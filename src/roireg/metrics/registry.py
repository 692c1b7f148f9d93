"""The similarities by the name that a method writes in the configuration.

To add one, add an entry to `SIMILARITIES` (docs/extending.md). The checks of the configuration read this registry
too, so the built-in functions are imported at the first call: this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roireg.metrics.similarity import Image, Scores, Weight


# Added to the variances of the images in an NCC, in squared units of the images.
EPS = 1e-5


@dataclass(frozen=True)
class SimilarityEntry:
    """A similarity of images in [0, 1].

    Attributes:
        function: from `(fixed, moving, weight)` to a value for each image; larger is better, and identical images have
            1. `fixed` and `moving` are `(B, 1, H, W)`, `weight` is that or None.
        has_epsilon: True if the function has a keyword `eps`, which is added to variances of the images.
    """

    function: Callable[..., Scores]
    has_epsilon: bool = False


def _mncc(fixed: Image, moving: Image, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    from roireg.metrics.similarity import mncc

    return mncc(fixed, moving, weight, eps=eps)


def _local_ncc(fixed: Image, moving: Image, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    from roireg.metrics.similarity import local_ncc

    return local_ncc(fixed, moving, weight, eps=eps)


def _global_ncc(fixed: Image, moving: Image, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    from roireg.metrics.similarity import global_ncc

    return global_ncc(fixed, moving, weight, eps=eps)


def _gradient_ncc(fixed: Image, moving: Image, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    from roireg.metrics.similarity import gradient_ncc

    return gradient_ncc(fixed, moving, weight, eps=eps)


def _ssim(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    from roireg.metrics.similarity import ssim

    return ssim(fixed, moving, weight)


def _mse(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    """`1 - mse`: in [0, 1] for images in [0, 1]."""
    from roireg.metrics.similarity import mse

    return 1 - mse(fixed, moving, weight)


def _mae(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    """`1 - mae`: in [0, 1] for images in [0, 1]."""
    from roireg.metrics.similarity import mae

    return 1 - mae(fixed, moving, weight)


def _psnr(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    """`min(psnr, 50 dB) / 50 dB`. An error of 50 dB is 0.3 % of the range; X-ray and DRR always differ by more."""
    from roireg.metrics.similarity import PSNR_OF_SIMILARITY_ONE_DB, psnr

    return psnr(fixed, moving, weight).clamp(max=PSNR_OF_SIMILARITY_ONE_DB) / PSNR_OF_SIMILARITY_ONE_DB


SIMILARITIES = {
    "mncc": SimilarityEntry(_mncc, has_epsilon=True),
    "local_ncc": SimilarityEntry(_local_ncc, has_epsilon=True),
    "global_ncc": SimilarityEntry(_global_ncc, has_epsilon=True),
    "gradient_ncc": SimilarityEntry(_gradient_ncc, has_epsilon=True),
    "ssim": SimilarityEntry(_ssim),
    "mse": SimilarityEntry(_mse),
    "mae": SimilarityEntry(_mae),
    "psnr": SimilarityEntry(_psnr),
}
