"""Similarity of a fixed X-ray and a moving DRR: pure functions, differentiable in both images, one value per image.

All measures are dimensionless except PSNR (dB), and take an optional `weight` map. Pixels that the CT cannot explain
(rays that leave through its ends, metal, the collimator) should get weight 0, all others a positive weight.

- A pixel of weight 0 is ignored: it changes neither the value nor any gradient, even if the pixel is NaN.
- The weight is a constant: no gradient flows to it.
- Only relative weights matter: `2 * weight` gives the same value as `weight`; `None` is the same as 1 everywhere.

If all weights are 0, the similarity is 0 with zero gradient. mse and mae are then 1 and psnr is 0 dB, the worst values
of images in [0, 1], so that a pose without any overlap is never a perfect match.

Sources: section 2.3 (mNCC, Dice) and Table 3 of Cui, Meng and Min, "WSReg", MICCAI 2025. Without weights the values are
those of `diffdrr.metrics` (NCC), `torchmetrics` (SSIM, PSNR) and `monai` (Dice); the tests compare them.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from roireg.metrics.overlap import dice_of_each
from roireg.metrics.registry import EPS, SIMILARITIES

Image = Float[Tensor, "B 1 H W"]
# One map for all images, or one for each, of any type of number.
Weight = Shaped[Tensor, "#B 1 H W"]
Masks = Float[Tensor, "B R H W"]
Gradients = Float[Tensor, "B 2 H W"]
Scores = Float[Tensor, "B"]
LineFilter = Float[Tensor, "N N"]

PATCH_SIZE = 13
SSIM_SIGMA_PX, SSIM_RADIUS_PX = 1.5, 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
PSNR_LIMIT_DB = 100.0
PSNR_OF_SIMILARITY_ONE_DB = 50.0


def local_ncc(
    fixed: Image, moving: Image, weight: Weight | None = None, *, patch_size: int = PATCH_SIZE, eps: float = EPS
) -> Scores:
    r"""Local normalised cross-correlation, over all windows W_k that lie inside the image (stride 1).

    $$\frac{\sum_k N_k\, c_k}{\sum_k N_k}, \quad N_k = \sum_{W_k} w, \quad
    c_k = \frac{\mathrm{cov}_{W_k}(I, \hat I)}{\sqrt{(\mathrm{var}_{W_k} I + \epsilon)(\mathrm{var}_{W_k} \hat I +
    \epsilon)}}$$

    with mean, variance and covariance weighted by w. A window in which an image is constant contributes 0 to the mean,
    so identical images reach 1 only if the variance in their windows is well above `eps`.
    Source: section 2.3; `diffdrr.metrics.NormalizedCrossCorrelation2d(patch_size)`.
    """
    fixed, moving, weight = _compared(fixed, moving, weight)
    if patch_size > min(moving.shape[-2:]):
        raise ValueError(f"patch_size {patch_size} exceeds the image, {tuple(moving.shape[-2:])} pixels")
    total, _, _, var_fixed, var_moving, cov = _window_statistics(
        fixed, moving, weight, lambda x: _BoxSum.apply(x, patch_size)
    )
    ncc = cov * ((var_fixed + eps) * (var_moving + eps)).rsqrt()
    return _weighted_mean(ncc, total).to(moving.dtype)


def global_ncc(fixed: Image, moving: Image, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    r"""Normalised cross-correlation of the whole images, with the mean, variance and covariance weighted by w.

    $$\frac{\mathrm{cov}(I, \hat I)}{\sqrt{(\mathrm{var} I + \epsilon)(\mathrm{var} \hat I + \epsilon)}}$$

    Source: section 2.3; `diffdrr.metrics.NormalizedCrossCorrelation2d(None)`.
    """
    return _ncc(*_compared(fixed, moving, weight), eps)


def gradient_ncc(
    fixed: Image, moving: Image, weight: Weight | None = None, *, sigma: float = 1.0, eps: float = EPS
) -> Scores:
    """Global NCC of the x- and y-derivatives (Sobel, after a Gaussian of `sigma` pixels), averaged over both.

    A derivative gets the lowest weight in the footprint of its filters (9x9 pixels at sigma 1). This also leaves out
    the margin around pixels of weight 0, where edges of the weight map would look like anatomy. As in the source, the
    Gaussian reflects at the image border and the Sobel filter assumes zeros beyond it.
    Source: Table 3; `diffdrr.metrics.GradientNormalizedCrossCorrelation2d(patch_size=None, sigma)`.
    """
    fixed, moving, weight = _compared(fixed, moving, weight)
    radius = (int(6 * sigma + 1) | 1) // 2 if sigma > 0 else 0
    height, width = fixed.shape[-2:]
    blur_y, blur_x = (_gaussian_operator(n, sigma, radius, moving) for n in (height, width))
    smooth_y, smooth_x = _band_operator(height, (1, 2, 1), moving), _band_operator(width, (1, 2, 1), moving)
    differ_y, differ_x = _band_operator(height, (1, 0, -1), moving), _band_operator(width, (1, 0, -1), moving)
    along_x = smooth_y @ blur_y, (differ_x @ blur_x).T
    along_y = differ_y @ blur_y, (smooth_x @ blur_x).T

    def sobel(image: Image) -> Gradients:
        return torch.cat([rows @ image @ columns for rows, columns in (along_x, along_y)], dim=1)

    return _ncc(sobel(fixed), sobel(moving), _least_weight(weight, radius + 1), eps)


def mncc(
    fixed: Image, moving: Image, weight: Weight | None = None, *, patch_size: int = PATCH_SIZE, eps: float = EPS
) -> Scores:
    """Mean of `local_ncc` and `global_ncc`, the paper's mNCC (section 2.3).

    Source: `diffdrr.metrics.MultiscaleNormalizedCrossCorrelation2d([None, patch_size], [0.5, 0.5])`.
    """
    local = local_ncc(fixed, moving, weight, patch_size=patch_size, eps=eps)
    return (local + global_ncc(fixed, moving, weight, eps=eps)) / 2


def ssim(fixed: Image, moving: Image, weight: Weight | None = None, *, data_range: float = 1.0) -> Scores:
    r"""Structural similarity (Wang et al. 2004), Gaussian windows of 11x11 pixels with sigma 1.5, reflected borders.

    $$\frac{(2 \mu_I \mu_{\hat I} + c_1)(2\,\mathrm{cov} + c_2)}{(\mu_I^2 + \mu_{\hat I}^2 + c_1)(\mathrm{var} I +
    \mathrm{var} \hat I + c_2)}, \quad c_i = (k_i \cdot \mathrm{data\_range})^2$$

    The window of a pixel is the Gaussian times w; the SSIM map is averaged with the weights of the pixels.
    Source: Table 3; `torchmetrics.functional.image.structural_similarity_index_measure`.
    """
    fixed, moving, weight = _compared(fixed, moving, weight)
    double = weight.double()
    rows, columns = (_gaussian_operator(n, SSIM_SIGMA_PX, SSIM_RADIUS_PX, double) for n in fixed.shape[-2:])
    _, mean_fixed, mean_moving, var_fixed, var_moving, cov = _window_statistics(
        fixed, moving, weight, lambda x: rows @ x @ columns.T
    )
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    luminance = (2 * mean_fixed * mean_moving + c1) / (mean_fixed.square() + mean_moving.square() + c1)
    structure = (2 * cov + c2) / (var_fixed + var_moving + c2)
    return _weighted_mean(luminance * structure, double).to(moving.dtype)


def mse(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    r"""Mean squared error, $\sum w (I - \hat I)^2 / \sum w$, in squared units of the images."""
    fixed, moving, weight = _compared(fixed, moving, weight)
    return _weighted_mean((fixed - moving).square(), weight, of_nothing=1.0)


def mae(fixed: Image, moving: Image, weight: Weight | None = None) -> Scores:
    r"""Mean absolute error, $\sum w |I - \hat I| / \sum w$, in units of the images."""
    fixed, moving, weight = _compared(fixed, moving, weight)
    return _weighted_mean((fixed - moving).abs(), weight, of_nothing=1.0)


def psnr(fixed: Image, moving: Image, weight: Weight | None = None, *, data_range: float = 1.0) -> Scores:
    r"""Peak signal-to-noise ratio, $10 \log_{10}(\mathrm{data\_range}^2 / \mathrm{mse})$ in dB.

    Limited to 100 dB, the value of identical images, so that value and gradient stay finite.
    Source: Table 3; `torchmetrics.functional.image.peak_signal_noise_ratio`.
    """
    relative_mse = mse(fixed / data_range, moving / data_range, weight)
    return -10 * relative_mse.clamp(min=10 ** (-PSNR_LIMIT_DB / 10)).log10()


def dice(fixed: Masks, moving: Masks, weight: Weight | None = None, *, eps: float = EPS) -> Scores:
    r"""Soft Dice coefficient, averaged over the P regions of interest (channels) that the fixed masks contain.

    $$\frac{1}{P} \sum_p \frac{2 \sum w M_p \hat M_p}{\sum w (M_p + \hat M_p) + \epsilon}$$

    Denominators are linear, as in the paper. A ROI whose fixed mask is empty (outside the field of view, or where all
    weights are 0) is left out of the mean, whatever its moving mask. If all ROIs are left out, the value is 0 with zero
    gradient. `fixed` is one-hot or soft, `moving` holds probabilities, both in [0, 1].
    Source: section 2.3; `monai.losses.DiceLoss(smooth_nr=0, smooth_dr=eps)`.
    """
    fixed, moving, weight = _compared(fixed, moving, weight)
    score = dice_of_each(fixed, moving, weight, eps=eps)
    shown = ((weight * fixed).sum((-2, -1)) > 0).to(score.dtype)
    return (shown * score).sum(1) / shown.sum(1).clamp(min=1)


def similarity(name: str, eps: float = EPS) -> Callable[..., Scores]:
    """The similarity of that name, a function `(fixed, moving, weight) -> Scores`; larger is better.

    Args:
        name: a key of `roireg.metrics.registry.SIMILARITIES`.
        eps: added to the variances of both images in an NCC, in squared units of the images; other similarities ignore
            it. Dividing both images by s and `eps` by s^2 leaves an NCC unchanged.

    Raises:
        ValueError: there is no similarity of that name.
    """
    if name not in SIMILARITIES:
        raise ValueError(f"unknown similarity {name!r}; known: {', '.join(SIMILARITIES)}")
    entry = SIMILARITIES[name]
    return partial(entry.function, eps=eps) if entry.has_epsilon else entry.function


def _compared(fixed: Masks, moving: Masks, weight: Weight | None) -> tuple[Masks, Masks, Weight]:
    """Both images with pixels of weight 0 set to 0 (weighting alone would keep NaN), and the weight, detached."""
    if fixed.ndim != 4 or fixed.shape != moving.shape:
        raise ValueError(f"expected two B C H W tensors, got fixed {tuple(fixed.shape)}, moving {tuple(moving.shape)}")
    fixed = fixed.to(moving.dtype)
    if weight is None:
        return fixed, moving, moving.new_ones(1, 1, 1, 1).expand(len(moving), 1, *moving.shape[-2:])
    weight = weight.detach().to(moving.dtype).expand(len(moving), 1, *moving.shape[-2:])
    visible = weight > 0
    return torch.where(visible, fixed, 0), torch.where(visible, moving, 0), weight


def _where_positive(total: Tensor) -> Tensor:
    """The total weight as a safe denominator: 1 instead of 0, since the numerator is 0 there as well."""
    return torch.where(total > 0, total, 1)


def _weighted_mean(values: Image, weight: Weight, of_nothing: float = 0.0) -> Scores:
    total = weight.sum((1, 2, 3))
    mean = (weight * values).sum((1, 2, 3)) / _where_positive(total)
    return torch.where(total > 0, mean, of_nothing)


def _ncc(fixed: Masks, moving: Masks, weight: Weight, eps: float) -> Scores:
    """Weighted NCC of each channel over all its pixels, averaged over the channels."""
    pixels = (-2, -1)
    fraction = weight / _where_positive(weight.sum(pixels, keepdim=True))
    fixed = fixed - (fraction * fixed).sum(pixels, keepdim=True)
    moving = moving - (fraction * moving).sum(pixels, keepdim=True)
    weighted = fraction * moving
    cov, var_moving = (weighted * fixed).sum(pixels), (weighted * moving).sum(pixels)
    var_fixed = (fraction * fixed.square()).sum(pixels)
    return (cov * ((var_fixed + eps) * (var_moving + eps)).rsqrt()).mean(1)


def _window_statistics(
    fixed: Image, moving: Image, weight: Weight, window_sum: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """For each window: total weight, mean of fixed and of moving, variance of fixed and of moving, covariance.

    Computed in float64: in float32, E[x^2] - E[x]^2 cancels in nearly constant windows, where the gradient is largest.
    """
    fixed, moving, weight = fixed.double(), moving.double(), weight.double()
    in_fixed, in_moving = weight * fixed, weight * moving
    # Two calls, so that no gradient is computed for the sums that depend on the constant fixed image only.
    total, *of_fixed = window_sum(torch.cat([weight, in_fixed, in_fixed * fixed], 1)).split(1, 1)
    of_moving = window_sum(torch.cat([in_moving, in_moving * moving, in_moving * fixed], 1)).split(1, 1)
    norm = 1 / _where_positive(total)
    mean_fixed, square_fixed = (x * norm for x in of_fixed)
    mean_moving, square_moving, product = (x * norm for x in of_moving)
    var_fixed = (square_fixed - mean_fixed.square()).clamp(min=0)
    var_moving = (square_moving - mean_moving.square()).clamp(min=0)
    return total, mean_fixed, mean_moving, var_fixed, var_moving, product - mean_fixed * mean_moving


class _BoxSum(torch.autograd.Function):
    """Sums over all size x size windows inside the image: B C H W to B C H-size+1 W-size+1.

    Unlike with cumulative sums, windows of zeros sum to exactly 0. The backward pass is the same sum of the zero-padded
    gradient; it takes half the time that autograd would need for the slices.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _run_sum(_run_sum(image, size, -2), size, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _BoxSum.apply(functional.pad(grad, (ctx.size - 1,) * 4), ctx.size), None


def _run_sum(x: Tensor, length: int, dim: int) -> Tensor:
    """Sums of `length` consecutive entries along `dim`, built from sums of 1, 2, 4, ...: 5 additions for length 13."""
    count = x.shape[dim] - length + 1
    total, start, run, span = x.new_zeros(()), 0, x, 1
    while True:
        if length & span:
            total = total + run.narrow(dim, start, count)
            start += span
        if 2 * span > length:
            return total
        pairs = run.shape[dim] - span
        run = run.narrow(dim, 0, pairs) + run.narrow(dim, span, pairs)
        span *= 2


def _least_weight(weight: Weight, radius: int) -> Weight:
    """The lowest weight in the square of that radius around each pixel; the square is clipped to the image."""
    size = 2 * radius + 1
    rows = functional.max_pool2d(-weight, (size, 1), 1, (radius, 0))
    return -functional.max_pool2d(rows, (1, size), 1, (0, radius))


# Filters as banded matrices are faster than conv2d for 64 to 256 pixels on CPU, and are never rounded to TF32 on GPU.
def _gaussian_operator(n: int, sigma: float, radius: int, like: Tensor) -> LineFilter:
    """Matrix that blurs a line of n pixels, reflecting it at its ends; `sigma` and `radius` in pixels."""
    if radius >= n:
        raise ValueError(f"a filter of radius {radius} needs more than {radius} pixels, the image has {n}")
    offset = torch.arange(-radius, radius + 1, device=like.device)
    kernel = torch.softmax(-0.5 * (offset.to(like.dtype) / max(sigma, EPS)).square(), 0)
    source = (torch.arange(n, device=like.device)[:, None] + offset).abs()
    source = n - 1 - (n - 1 - source).abs()
    return like.new_zeros(n, n).scatter_add_(1, source, kernel.expand(n, -1))


def _band_operator(n: int, taps: tuple[float, float, float], like: Tensor) -> LineFilter:
    """Matrix that correlates a line of n pixels with three taps, assuming zeros beyond its ends."""
    bands = (torch.diag(like.new_full((n - abs(k),), tap), k) for k, tap in zip((-1, 0, 1), taps, strict=True))
    return reduce(torch.add, bands)
