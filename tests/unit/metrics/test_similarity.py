"""Similarities equal their peers without weights; with weights, hidden pixels do not exist for them."""

import ast
from pathlib import Path

import pytest
import torch
from diffdrr.metrics import (
    GradientNormalizedCrossCorrelation2d,
    MultiscaleNormalizedCrossCorrelation2d,
    NormalizedCrossCorrelation2d,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.metrics import psnr as kornia_psnr
from kornia.metrics import ssim as kornia_ssim
from monai.losses import DiceLoss
from monai.metrics import DiceMetric
from torch.nn import functional
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from roireg.metrics import similarity as module
from roireg.metrics.registry import SIMILARITIES
from roireg.metrics.similarity import (
    dice,
    global_ncc,
    gradient_ncc,
    local_ncc,
    mae,
    mncc,
    mse,
    psnr,
    similarity,
    ssim,
)

PIXELS = (1, 2, 3)


def _peer_gradient_ncc(fixed, moving):
    return GradientNormalizedCrossCorrelation2d(patch_size=None, sigma=1.0).to(fixed.dtype)(fixed, moving)


PEERS = {
    "local_ncc/diffdrr": (local_ncc, NormalizedCrossCorrelation2d(13)),
    "global_ncc/diffdrr": (global_ncc, NormalizedCrossCorrelation2d(None)),
    "gradient_ncc/diffdrr": (gradient_ncc, _peer_gradient_ncc),
    "mncc/diffdrr": (mncc, MultiscaleNormalizedCrossCorrelation2d([None, 13], [0.5, 0.5])),
    "ssim/torchmetrics": (
        ssim,
        lambda f, m: structural_similarity_index_measure(m, f, data_range=1.0, reduction="none"),
    ),
    "ssim/kornia": (ssim, lambda f, m: kornia_ssim(f, m, 11).mean(PIXELS)),
    "mse/torch": (mse, lambda f, m: functional.mse_loss(m, f, reduction="none").mean(PIXELS)),
    "mae/torch": (mae, lambda f, m: functional.l1_loss(m, f, reduction="none").mean(PIXELS)),
    "psnr/torchmetrics": (
        psnr,
        lambda f, m: peak_signal_noise_ratio(m, f, data_range=1.0, reduction="none", dim=PIXELS),
    ),
    "psnr/kornia": (psnr, lambda f, m: torch.stack([kornia_psnr(b, a, 1.0) for a, b in zip(f, m, strict=True)])),
}
MEASURES = {"local_ncc": local_ncc, "global_ncc": global_ncc, "gradient_ncc": gradient_ncc, "mncc": mncc}
MEASURES |= {"ssim": ssim, "mse": mse, "mae": mae, "psnr": psnr}
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
every_peer = pytest.mark.parametrize(("measure", "peer"), PEERS.values(), ids=PEERS)


def images(batch=2, height=37, width=44, seed=0):
    """A smooth fixed image in [0, 1] and a moving one that resembles it; float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, 7, 8, generator=generator, dtype=torch.float64)
    fixed = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    noise = torch.rand(fixed.shape, generator=generator, dtype=torch.float64)
    return fixed, (0.8 * fixed.roll(2, -1) + 0.2 * noise)


def weights(like, seed=1):
    """Weights in [0.5, 1], but 0 in a quarter of the image, at a border, and at a single pixel."""
    weight = 0.5 + 0.5 * torch.rand(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
    weight[..., :19, :22] = 0
    weight[..., -1, :] = 0
    weight[..., 28, 30] = 0
    return weight


def gradient(measure, fixed, moving, weight):
    moving = moving.clone().requires_grad_()
    measure(fixed, moving, weight).sum().backward()
    return moving.grad


@every_peer
def test_without_weights_the_value_and_gradient_are_the_peers(measure, peer):
    fixed, moving = images()
    expected = peer(fixed, moving)
    # torchmetrics' PSNR takes its logarithm of 10 in float32.
    rtol = 1e-7 if measure is psnr else 0
    torch.testing.assert_close(measure(fixed, moving), expected, rtol=rtol, atol=1e-8)
    torch.testing.assert_close(measure(fixed, moving, torch.ones_like(fixed)), expected, rtol=rtol, atol=1e-8)
    peer_gradient = gradient(lambda f, m, _: peer(f, m), fixed, moving, None)
    torch.testing.assert_close(gradient(measure, fixed, moving, None), peer_gradient, rtol=rtol, atol=1e-8)


@every_peer
def test_float32_gives_the_peers_value_as_float32(measure, peer):
    fixed, moving = images()
    value = measure(fixed.float(), moving.float(), torch.ones_like(fixed))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), peer(fixed, moving), rtol=1e-6, atol=1e-5)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(patch_size=st.integers(1, 20), height=st.integers(20, 33), width=st.integers(20, 33), seed=st.integers(0, 1000))
def test_local_ncc_equals_diffdrr_for_any_window_and_image_size(patch_size, height, width, seed):
    fixed, moving = images(1, height, width, seed)
    expected = NormalizedCrossCorrelation2d(patch_size)(fixed, moving)
    torch.testing.assert_close(local_ncc(fixed, moving, patch_size=patch_size), expected, rtol=0, atol=1e-8)


@every_measure
@pytest.mark.parametrize("content", [0.5, 1e6, float("nan"), float("inf")])
def test_pixels_of_weight_zero_do_not_matter(measure, content):
    fixed, moving = images()
    weight = weights(fixed)
    hidden = weight == 0
    noise = content * torch.rand(fixed.shape, generator=torch.Generator().manual_seed(2), dtype=fixed.dtype)
    other_fixed, other_moving = fixed.where(~hidden, noise), moving.where(~hidden, 1 - noise)
    assert torch.equal(measure(fixed, moving, weight), measure(other_fixed, other_moving, weight))
    before, after = (gradient(measure, f, m, weight) for f, m in ((fixed, moving), (other_fixed, other_moving)))
    assert torch.equal(before, after)
    assert (before[hidden] == 0).all()
    assert before[~hidden].abs().max() > 0


@every_measure
def test_only_the_ratio_of_weights_matters(measure):
    fixed, moving = images()
    weight = weights(fixed)
    torch.testing.assert_close(measure(fixed, moving, 1e-3 * weight), measure(fixed, moving, weight), rtol=1e-9, atol=0)
    assert not torch.allclose(measure(fixed, moving, weight), measure(fixed, moving, (weight > 0).double()), rtol=1e-9)


@every_measure
def test_the_weight_is_a_constant_of_any_type_and_the_moving_image_sets_the_precision(measure):
    fixed, moving = images()
    weight = (weights(fixed) > 0).double().requires_grad_()
    value = measure(fixed, moving.clone().requires_grad_(), weight)
    value.sum().backward()
    assert weight.grad is None
    assert torch.equal(measure(fixed, moving, weight > 0), value)
    single = measure(fixed, moving.float(), weight)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), value, rtol=1e-5, atol=1e-5)


@every_measure
def test_one_weight_map_serves_a_batch_and_images_do_not_mix(measure):
    fixed, moving = images()
    weight = weights(fixed[:1])
    one_by_one = [measure(f[None], m[None], weight) for f, m in zip(fixed, moving, strict=True)]
    torch.testing.assert_close(measure(fixed, moving, weight), torch.cat(one_by_one), rtol=1e-12, atol=1e-12)


@every_measure
def test_analytic_gradients_are_the_finite_differences(measure):
    fixed, moving = images()
    fixed, moving, weight = (x[:1, :, 14:34, 15:35].clone() for x in (fixed, moving, weights(fixed)))
    fixed, moving = fixed.requires_grad_(), moving.requires_grad_()
    assert torch.autograd.gradcheck(lambda f, m: measure(f, m, weight), (fixed, moving), fast_mode=True)
    assert torch.autograd.gradcheck(lambda f, m: measure(f, m, torch.ones_like(f)), (fixed, moving), fast_mode=True)


@every_measure
def test_no_weight_gives_no_gradient_and_no_nan(measure):
    fixed, moving = images()
    weight = torch.zeros_like(fixed)
    weight[1] = 1
    expected = 1.0 if measure in (mse, mae) else 0.0
    value = measure(fixed, moving, weight)
    assert value[0] == expected
    torch.testing.assert_close(value[1:], measure(fixed[1:], moving[1:]), rtol=1e-12, atol=0)
    found = gradient(measure, fixed, moving, weight)
    assert found.isfinite().all()
    assert (found[0] == 0).all()


@every_measure
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_images_have_finite_values_and_gradients(measure, dtype):
    varied = images(1)[0].to(dtype)
    for level in (0.0, 0.3, 1.0):
        flat = torch.full_like(varied, level)
        for fixed, moving in ((flat, varied), (varied, flat), (flat, flat)):
            for weight in (None, weights(flat)):
                assert measure(fixed, moving, weight).isfinite().all()
                assert gradient(measure, fixed, moving, weight).isfinite().all()


@pytest.mark.parametrize("measure", [global_ncc, mse, mae, psnr])
def test_a_rectangle_of_weight_one_equals_the_crop(measure):
    fixed, moving = images()
    weight = torch.zeros_like(fixed)
    weight[..., 5:30, 8:35] = 1
    cropped = measure(fixed[..., 5:30, 8:35], moving[..., 5:30, 8:35])
    torch.testing.assert_close(measure(fixed, moving, weight), cropped, rtol=1e-10, atol=1e-10)


def _weighted_moments(share, f, m):
    share = share / share.sum()
    mean_f, mean_m = (share * f).sum(), (share * m).sum()
    var_f, var_m = (share * (f - mean_f) ** 2).sum(), (share * (m - mean_m) ** 2).sum()
    return mean_f, mean_m, var_f, var_m, (share * (f - mean_f) * (m - mean_m)).sum()


def test_weighted_local_ncc_is_the_definition_window_by_window():
    fixed, moving = (x[:1, :, 10:30, 12:34] for x in images())
    weight = weights(images()[0])[:1, :, 10:30, 12:34]
    numerator, denominator, p = 0.0, 0.0, 7
    for row in range(20 - p + 1):
        for column in range(22 - p + 1):
            f, m, w = (x[0, 0, row : row + p, column : column + p] for x in (fixed, moving, weight))
            if w.sum() > 0:
                _, _, var_f, var_m, cov = _weighted_moments(w, f, m)
                numerator += w.sum() * cov / ((var_f + 1e-5) * (var_m + 1e-5)).sqrt()
                denominator += w.sum()
    expected = (numerator / denominator).reshape(1)
    torch.testing.assert_close(local_ncc(fixed, moving, weight, patch_size=p), expected, rtol=0, atol=1e-10)


def test_weighted_ssim_is_the_definition_window_by_window():
    fixed, moving = (x[:1, :, 10:26, 12:30] for x in images())
    weight = weights(images()[0])[:1, :, 10:26, 12:30]
    f, m, w = (functional.pad(x, (5,) * 4, mode="reflect")[0, 0] for x in (fixed, moving, weight))
    line = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    gaussian, c1, c2 = torch.outer(line, line), (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    expected = 0.0
    for row in range(16):
        for column in range(18):
            window = slice(row, row + 11), slice(column, column + 11)
            if weight[0, 0, row, column] > 0:
                a, b, var_a, var_b, cov = _weighted_moments(gaussian * w[window], f[window], m[window])
                value = (2 * a * b + c1) * (2 * cov + c2) / ((a * a + b * b + c1) * (var_a + var_b + c2))
                expected += weight[0, 0, row, column] * value
    expected = (expected / weight.sum()).reshape(1)
    torch.testing.assert_close(ssim(fixed, moving, weight, data_range=2.0), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("sigma", "reach"), [(0.0, 1), (0.5, 3), (1.0, 4)])
def test_gradient_ncc_leaves_out_derivatives_that_see_a_pixel_of_weight_zero(sigma, reach):
    fixed, moving = images()
    weight = torch.ones_like(fixed)
    weight[..., 12:20, 15:18] = 0
    peer = GradientNormalizedCrossCorrelation2d(patch_size=None, sigma=sigma).double()
    seen = torch.ones_like(fixed, dtype=torch.bool)
    seen[..., 12 - reach : 20 + reach, 15 - reach : 18 + reach] = False
    # A 1-pixel-wide image of the remaining derivatives: global NCC does not care where pixels are.
    remaining = [peer.sobel(x)[seen.expand(-1, 2, -1, -1)].reshape(4, 1, -1, 1) for x in (fixed, moving)]
    expected = NormalizedCrossCorrelation2d(None)(*remaining).reshape(2, 2).mean(1)
    torch.testing.assert_close(gradient_ncc(fixed, moving, weight, sigma=sigma), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("measure", [local_ncc, mncc, ssim])
def test_float32_gradients_stay_accurate_where_the_images_are_flat(measure):
    fixed, moving = images(1, 64, 64)
    fixed[..., :30, :] = 0.97
    moving[..., :30, :] = 0.95 + 0.01 * moving[..., :30, :]
    fixed, moving = fixed.float(), moving.float()
    exact = gradient(measure, fixed.double(), moving.double(), None)
    error = gradient(measure, fixed, moving, None).double() - exact
    assert error.norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_is_one_at_identical_images_and_falls_as_they_part(name):
    fixed, _ = images(1, 64, 64)
    assert similarity(name)(fixed, fixed, weights(fixed)).item() == pytest.approx(1, abs=0.01)
    values = [similarity(name)(fixed, fixed.roll(shift, -1), weights(fixed)).item() for shift in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] <= 1 + 1e-9
    assert values[0] - values[-1] > 0.01


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_without_overlap_is_zero(name):
    fixed, _ = images(1)
    assert similarity(name)(fixed, fixed, torch.zeros_like(fixed)).item() == 0


def test_psnr_of_identical_images_is_finite_with_zero_gradient():
    fixed, _ = images()
    assert (psnr(fixed, fixed) == 100).all()
    assert (gradient(psnr, fixed, fixed, None) == 0).all()


def test_psnr_depends_on_the_error_relative_to_the_range():
    fixed, moving = images()
    torch.testing.assert_close(psnr(255 * fixed, 255 * moving, data_range=255.0), psnr(fixed, moving))


def test_an_unknown_similarity_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match=r"'nmi'.*mncc, local_ncc, global_ncc, gradient_ncc, ssim, mse, mae, psnr"):
        similarity("nmi")


@every_measure
def test_images_of_different_shapes_are_refused(measure, unchecked):
    fixed, moving = images()
    with pytest.raises(ValueError, match="B C H W"):
        measure(fixed, moving[:, 0])
    with pytest.raises(ValueError, match="B C H W"):
        measure(fixed[:1], moving)


@pytest.mark.parametrize("measure", [local_ncc, mncc, ssim, gradient_ncc])
def test_an_image_smaller_than_the_window_is_refused(measure):
    fixed, moving = (x[..., :3, :3] for x in images())
    with pytest.raises(ValueError, match="pixels"):
        measure(fixed, moving)


def masks(seed=3):
    """One-hot fixed masks and soft moving masks of 3 ROIs, the background dropped; float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 12, 14), generator=generator)
    scores = torch.randn(2, 4, 12, 14, generator=generator, dtype=torch.float64)
    one_hot = functional.one_hot(labels, 4).permute(0, 3, 1, 2).double()
    return one_hot[:, 1:], scores.softmax(1)[:, 1:]


def test_dice_is_monais():
    fixed, moving = masks()
    loss = DiceLoss(include_background=True, reduction="none", smooth_nr=0, smooth_dr=1e-5)(moving, fixed)
    torch.testing.assert_close(dice(fixed, moving), 1 - loss.mean(PIXELS), rtol=0, atol=1e-8)
    torch.testing.assert_close(dice(fixed, moving, torch.ones_like(fixed[:, :1])), dice(fixed, moving))
    binary = (moving > 0.4).double()
    metric = DiceMetric(include_background=True, reduction="none")(binary, fixed).mean(1)
    torch.testing.assert_close(dice(fixed, binary), metric.double(), rtol=0, atol=1e-6)
    assert torch.autograd.gradcheck(lambda m: dice(fixed, m), moving.requires_grad_(), fast_mode=True)


def test_dice_of_identical_masks_is_one():
    fixed, _ = masks()
    torch.testing.assert_close(dice(fixed, fixed), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_dice_leaves_out_rois_that_the_fixed_masks_do_not_show():
    fixed, moving = masks()
    fixed[0, 1] = 0
    expected = torch.cat([dice(fixed[:1, [0, 2]], moving[:1, [0, 2]]), dice(fixed[1:], moving[1:])])
    torch.testing.assert_close(dice(fixed, moving), expected)
    moving[0, 1] = 0
    torch.testing.assert_close(dice(fixed, moving), expected)


def test_dice_of_no_roi_is_zero_with_zero_gradient():
    fixed, moving = masks()
    for nothing in (0 * moving, moving):
        assert (dice(0 * fixed, nothing) == 0).all()
        assert (gradient(dice, 0 * fixed, nothing, None) == 0).all()
    assert (gradient(dice, fixed, moving, torch.zeros_like(fixed[:, :1])) == 0).all()


def test_dice_does_not_see_pixels_of_weight_zero():
    fixed, moving = masks()
    weight = torch.ones_like(fixed[:, :1])
    weight[..., 4:, :] = 0
    torch.testing.assert_close(dice(fixed, moving, weight), dice(fixed[..., :4, :], moving[..., :4, :]))
    hidden = (weight == 0).expand_as(moving)
    assert torch.equal(dice(fixed, moving.masked_fill(hidden, torch.nan), weight), dice(fixed, moving, weight))
    assert (gradient(dice, fixed, moving, weight)[hidden] == 0).all()


def test_importing_similarity_needs_torch_and_jaxtyping_only():
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    own = {name for name in imported if name.startswith("roireg")}
    assert own == {"roireg.metrics.overlap", "roireg.metrics.registry"}
    others = {name.split(".")[0] for name in imported - own}
    assert others == {"torch", "jaxtyping", "collections", "functools", "typing"}


@pytest.mark.parametrize("name", ["mncc", "local_ncc", "global_ncc", "gradient_ncc"])
def test_the_epsilon_of_an_ncc_is_in_squared_units_of_the_images(name):
    generator = torch.Generator().manual_seed(3)
    fixed, moving = (0.02 * torch.rand(2, 1, 40, 40, generator=generator) for _ in range(2))
    of_standardised = similarity(name)(fixed / 0.1494, moving / 0.1494)
    torch.testing.assert_close(similarity(name, 1e-5 * 0.1494**2)(fixed, moving), of_standardised, rtol=1e-4, atol=1e-6)
    # Where images vary little the larger one flattens the similarity.
    assert (similarity(name, 1e-5)(fixed, moving) - of_standardised).abs().max() > 1e-3


def test_a_similarity_without_an_epsilon_does_not_mind_one():
    image = torch.rand(1, 1, 30, 30)
    assert torch.equal(similarity("ssim", 0.5)(image, image), similarity("ssim")(image, image))
