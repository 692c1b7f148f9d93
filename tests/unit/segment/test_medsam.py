"""MedSAM is the official SAM, batched and differentiable; boxes mean what they say; checkpoints load or explain."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import build_sam_vit_b
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from roireg.data.images import scaled
from roireg.errors import InputError
from roireg.segment.medsam import ARCHITECTURES, MedSam, MedSamSettings, build_medsam, input_boxes, jittered
from roireg.segment.pretrained import load_checkpoint
from roireg.segment.relative_attention import RelativeAttention

TINY = ARCHITECTURES["tiny"]
SIZE_PX = TINY.image_size_px
KEY = "segment.medsam.checkpoint"
ABSENT = [torch.nan] * 4
PEAK_LIMIT_GB = 16


def network(seed: int = 0, recompute: bool = False) -> MedSam:
    """Random weights everywhere, also where SAM starts from zeros (positions)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = MedSam(replace(TINY, recompute=recompute))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net


def images(count: int, height: int = SIZE_PX, width: int = SIZE_PX) -> Tensor:
    return 3 * torch.rand(count, height, width, generator=torch.Generator().manual_seed(1)) - 1


def boxes(count: int, rois: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    corner = 60 * torch.rand(count, rois, 2, generator=generator)
    return torch.cat([corner, corner + 5 + 60 * torch.rand(count, rois, 2, generator=generator)], -1).round()


def test_equals_the_official_sam_image_by_image():
    net, image, prompts = network(), images(3), boxes(3, 4)
    prompts[1, 2] = prompts[2, 0] = torch.nan
    sam = Sam(net.image_encoder, net.prompt_encoder, net.mask_decoder, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    with torch.no_grad():
        logits = net(image, prompts)
    for picture, box, mine in zip(scaled(image), prompts, logits, strict=True):
        present = ~box.isnan().any(-1)
        record = {"image": picture.expand(3, -1, -1), "boxes": box[present], "original_size": picture.shape}
        (official,) = sam([record], multimask_output=False)
        masks = sam.postprocess_masks(official["low_res_logits"], picture.shape, picture.shape)[:, 0]
        assert official["low_res_logits"].shape[-1] == SIZE_PX // 2
        torch.testing.assert_close(mine[present], masks, rtol=1e-5, atol=1e-5)
        assert masks.std() > 0.01


def test_attention_equals_that_of_the_official_sam():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        official = Attention(12, num_heads=3, use_rel_pos=True, input_size=(5, 5))
        # They start from zeros.
        for table in (official.rel_pos_h, official.rel_pos_w):
            nn.init.normal_(table)
        tokens = torch.randn(2, 5, 5, 12)
    mine = RelativeAttention(official)
    assert list(mine.state_dict()) == list(official.state_dict())
    torch.testing.assert_close(mine(tokens), official(tokens), rtol=1e-6, atol=1e-6)


def test_has_the_parameters_of_the_released_checkpoints():
    with torch.device("meta"):
        mine, official = MedSam(ARCHITECTURES["vit_b"]), build_sam_vit_b()
    shapes = {name: value.shape for name, value in mine.state_dict().items()}
    assert shapes == {name: value.shape for name, value in official.state_dict().items()}
    frozen = {name for name, value in mine.named_parameters() if not value.requires_grad}
    assert frozen == {name for name, _ in mine.named_parameters() if name.startswith("prompt_encoder.")}


def test_gradient_to_the_image_is_that_of_finite_differences():
    net, image, prompts = network().double(), images(1).double(), boxes(1, 2)
    mix = torch.randn(1, 2, SIZE_PX, SIZE_PX, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def value(picture: Tensor) -> Tensor:
        return (net.probabilities(picture, prompts.expand(len(picture), -1, -1)) * mix).sum((1, 2, 3))

    image.requires_grad_()
    (gradient,) = torch.autograd.grad(value(image).sum(), image)
    # The lightest and the darkest pixel set the scale of all others.
    flat = image.detach().flatten()
    pixels = torch.cat([torch.arange(7, SIZE_PX**2, 331), flat.argmin()[None], flat.argmax()[None]])
    steps = torch.zeros(len(pixels), SIZE_PX**2, dtype=torch.float64)
    steps[torch.arange(len(pixels)), pixels] = 1e-6
    with torch.no_grad():
        slopes = [
            (value(image + step) - value(image - step)) / 2e-6 for step in steps.view(-1, SIZE_PX, SIZE_PX).split(13)
        ]
    exact, slopes = gradient.flatten()[pixels], torch.cat(slopes)
    assert cosine_similarity(exact, slopes, dim=0) > 0.999
    # Without the two extremes, which outweigh the rest.
    assert cosine_similarity(exact[:-2], slopes[:-2], dim=0) > 0.999
    torch.testing.assert_close(exact, slopes, rtol=1e-3, atol=1e-5 * float(exact.abs().max()))


def test_recomputing_changes_no_gradient():
    image, prompts = images(2), boxes(2, 2)
    gradients = []
    for net in (network(recompute=False), network(recompute=True)):
        picture = image.clone().requires_grad_()
        net(picture, prompts).square().mean().backward()
        gradients.append([picture.grad, *(p.grad for p in net.image_encoder.parameters())])
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(stored, recomputed)


def test_the_scale_of_the_image_does_not_matter():
    net, image, prompts = network(), images(2), boxes(2, 2)
    with torch.no_grad():
        torch.testing.assert_close(net(image, prompts), net(40 * image + 7, prompts), rtol=1e-4, atol=1e-4)


def test_an_absent_roi_has_probability_0_and_gradient_0():
    net, image, prompts = network(), images(2).requires_grad_(), boxes(2, 3)
    prompts[0, 1] = prompts[1, 0] = torch.nan
    probability = net.probabilities(image, prompts)
    absent = prompts.isnan().any(-1)
    assert (probability[absent] == 0).all()
    assert (probability[~absent] > 0).all()
    (of_absent,) = torch.autograd.grad(probability[absent].sum(), image, retain_graph=True)
    assert (of_absent == 0).all()
    probability.square().sum().backward()
    parameters = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in [image.grad, *parameters])
    assert (image.grad.flatten(1).norm(dim=1) > 0).all()
    assert binary_cross_entropy_with_logits(net(image, prompts), torch.zeros_like(probability)).isfinite()


def test_no_roi_at_all_leaves_zero_gradients():
    net, image = network(), images(1).requires_grad_()
    probability = net.probabilities(image, torch.tensor([[ABSENT, ABSENT]]))
    probability.sum().backward()
    assert (probability == 0).all()
    assert (image.grad == 0).all()


def test_a_flat_image_has_finite_gradients():
    net, image = network(), torch.full((1, SIZE_PX, SIZE_PX), 2.0, requires_grad=True)
    net.probabilities(image, boxes(1, 1)).sum().backward()
    assert image.grad.isfinite().all()


def test_a_batch_is_its_images_one_by_one():
    net, image, prompts = network(), images(3, 60, 90), boxes(3, 2)
    prompts[1, 1] = torch.nan
    with torch.no_grad():
        together = net(image, prompts)
        alone = torch.cat([net(image[k : k + 1], prompts[k : k + 1]) for k in range(3)])
    assert together.shape == (3, 2, 60, 90)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_each_mask_is_that_of_its_box():
    net, image, prompts = network(), images(2), boxes(2, 4)
    order = [2, 0, 3, 1]
    with torch.no_grad():
        masks = net(image, prompts)
        torch.testing.assert_close(net(image, prompts[:, order]), masks[:, order], rtol=1e-4, atol=1e-5)
        moved = net(image, prompts + torch.tensor([[[8.0] * 4], [[0.0] * 4]]))
    torch.testing.assert_close(moved[1], masks[1], rtol=1e-4, atol=1e-5)
    assert ((moved[0] - masks[0]).flatten(1).abs().amax(1) > 0.01).all()


def test_refuses_shapes_that_do_not_fit(unchecked):
    with pytest.raises(ValueError, match="expected B H W and B R 4"):
        network()(images(2), boxes(1, 3))


def test_a_box_becomes_the_box_of_the_resampled_mask():
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[3:9, 10:31] = True
    large = mask.repeat_interleave(4, 0).repeat_interleave(2, 1)

    def box(shown: Tensor) -> Tensor:
        rows, columns = shown.nonzero(as_tuple=True)
        return torch.stack([columns.amin(), rows.amin(), columns.amax(), rows.amax()]).float()

    torch.testing.assert_close(input_boxes(box(mask), mask.shape, 128), box(large))
    torch.testing.assert_close(input_boxes(box(large), (128, 128), 128), box(large))
    whole = torch.tensor([0.0, 0.0, 63.0, 31.0])
    torch.testing.assert_close(input_boxes(whole, mask.shape, 128), torch.tensor([0.0, 0.0, 127.0, 127.0]))


def test_jitter_translates_each_box_within_its_limit():
    prompts = boxes(200, 3)
    prompts[5, 1] = torch.nan
    moved = jittered(prompts, 10.0, np.random.default_rng(0))
    shift = moved - prompts
    there = ~prompts.isnan()
    assert torch.equal(moved.isnan(), prompts.isnan())
    assert moved.dtype == prompts.dtype
    assert shift[there].abs().max() <= 10.0 + 1e-4
    assert shift[there].abs().max() > 9.8
    assert abs(float(shift[there].mean())) < 0.5
    torch.testing.assert_close(shift[..., :2], shift[..., 2:], equal_nan=True, rtol=0, atol=1e-4)
    assert len(shift[there].round(decimals=2).unique()) > 300
    assert not torch.allclose(shift[0, 0, 0], shift[0, 0, 1])


def test_jitter_depends_on_the_generator_only():
    prompts, absent = boxes(2, 3), boxes(2, 3)
    absent[0, 0] = torch.nan
    moved = jittered(prompts, 3.0, np.random.default_rng(7))
    assert torch.equal(moved, jittered(prompts, 3.0, np.random.default_rng(7)))
    assert not torch.equal(moved, jittered(prompts, 3.0, np.random.default_rng(8)))
    assert torch.equal(moved[1], jittered(absent, 3.0, np.random.default_rng(7))[1])
    assert torch.equal(jittered(prompts, 0.0, np.random.default_rng(7)), prompts)


def settings(path: Path | None = None, sha256: str | None = None) -> MedSamSettings:
    return MedSamSettings("tiny", str(path) if path else None, sha256, KEY)


def test_a_checkpoint_comes_back(tmp_path: Path):
    path, net = tmp_path / "tiny.pth", network(5)
    torch.save(net.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for loaded in (build_medsam(settings(path, digest.upper())), build_medsam(settings(path))):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
        assert not any(parameter.requires_grad for parameter in loaded.prompt_encoder.parameters())


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
        lambda state: prefixed("module.", state),
        lambda state: {"state_dict": prefixed("model.", state) | {"loss.weight": torch.ones(2)}, "epoch": 3},
        lambda state: {"model": prefixed("module.", state)},
    ],
    ids=["MedSAM's training", "DDP", "Lightning", "DDP in a checkpoint"],
)
def test_weights_in_a_wrapper_are_found(tmp_path: Path, wrapped):
    path, net = tmp_path / "wrapped.pth", network(5)
    torch.save(wrapped(net.state_dict()), path)
    loaded = build_medsam(settings(path)).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in net.state_dict().items())


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="vit_b, tiny"):
        build_medsam(replace(settings(), variant="vit_x"))


def test_a_missing_checkpoint_is_explained(tmp_path: Path):
    with pytest.raises(InputError) as raised:
        build_medsam(settings(tmp_path / "none.pth"))
    assert raised.value.where == "config: segment.medsam.checkpoint.path"
    for word in ("sam_vit_b_01ec64.pth", "Model checkpoints", "medsam_vit_b.pth", "`segment.medsam.checkpoint.path`"):
        assert word in raised.value.remedy


def test_another_digest_is_explained(tmp_path: Path):
    path = tmp_path / "tiny.pth"
    torch.save(network().state_dict(), path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError) as raised:
        build_medsam(settings(path, "0" * 64))
    assert found[:12] in raised.value.what
    assert "000000000000" in raised.value.what
    assert "segment.medsam.checkpoint.sha256" in raised.value.remedy


class _Harmful:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_no_code_in_a_checkpoint_is_executed(tmp_path: Path):
    path, trace = tmp_path / "harmful.pth", tmp_path / "executed"
    torch.save({"image_encoder.pos_embed": _Harmful(trace)}, path)
    with pytest.raises(InputError, match="cannot be read as weights"):
        build_medsam(settings(path))
    assert not trace.exists()
    # It would have been.
    torch.load(path, weights_only=False)
    assert trace.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"<html>not found</html>", b"\x80\x02}q\x00"])
def test_a_damaged_checkpoint_is_explained(tmp_path: Path, content: bytes):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as weights"):
        build_medsam(settings(path))


def test_a_checkpoint_of_another_network_is_explained(tmp_path: Path):
    path, net = tmp_path / "other.pth", network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = dict(before)
    del state["mask_decoder.iou_token.weight"]
    state["image_encoder.head.bias"] = torch.zeros(3)
    state["image_encoder.pos_embed"] = torch.zeros(1, 64, 64, 96)
    torch.save(state, path)
    with pytest.raises(InputError) as raised:
        load_checkpoint(net, path, None, KEY)
    for fault in (
        "1 missing (mask_decoder.iou_token.weight)",
        "1 unexpected (image_encoder.head.bias)",
        "1 of another shape (image_encoder.pos_embed (1, 64, 64, 96), not (1, 8, 8, 96))",
    ):
        assert fault in raised.value.what
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_one_bit_of_a_checkpoint_is_told(tmp_path: Path):
    path = tmp_path / "flipped.pth"
    torch.save(network().state_dict(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"the checksum of .* does not fit"):
        build_medsam(settings(path))


@pytest.mark.parametrize("content", [{"model": 1, "epoch": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_a_checkpoint_that_is_no_state_dict_is_explained(tmp_path: Path, content: object):
    path = tmp_path / "wrapped.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match="not a table of tensors by name"):
        build_medsam(settings(path))


def test_learns_two_rectangles_from_their_boxes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_medsam(settings())
    prompts = torch.tensor([[[6.0, 10.0, 25.0, 49.0], [35.0, 4.0, 59.0, 23.0]]])
    masks = torch.zeros(1, 2, SIZE_PX, SIZE_PX)
    for roi, (left, top, right, bottom) in enumerate(prompts[0].int().tolist()):
        masks[0, roi, top : bottom + 1, left : right + 1] = 1
    image = masks.sum(1) + 0.3 * images(1)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(90):
        loss = binary_cross_entropy_with_logits(net(image, prompts), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = net.probabilities(image, prompts) > 0.5
    dice = 2 * (found * masks).sum((-2, -1)) / (found.sum((-2, -1)) + masks.sum((-2, -1)))
    assert (dice > 0.9).all()


FULL_SIZE = """
import json, resource, time
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from roireg.segment.medsam import MedSamSettings, build_medsam

torch.manual_seed(0)
network = build_medsam(MedSamSettings("vit_b", None, None, "segment.medsam.checkpoint"))
image = torch.rand(1, 1024, 1024)
corner = 600 * torch.rand(1, 6, 2)
boxes = torch.cat([corner, corner + 100 + 300 * torch.rand(1, 6, 2)], -1)
result = {}

def record(name, start, gradients):
    finite = all(bool(g.isfinite().all()) for g in gradients)
    norm = float(sum(g.double().square().sum() for g in gradients)) ** 0.5
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    result[name] = {"finite": finite, "norm": norm, "peak_gb": peak, "seconds": time.perf_counter() - start}

start = time.perf_counter()
weights = [p for p in network.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=1e-4)
before = network.image_encoder.patch_embed.proj.weight.detach().clone()
binary_cross_entropy_with_logits(network(image, boxes), (torch.rand(1, 6, 1024, 1024) > 0.5).float()).backward()
optimizer.step()
record("training", start, [p.grad for p in weights if p.grad is not None])
result["moved"] = not torch.equal(before, network.image_encoder.patch_embed.proj.weight)
result["frozen"] = all(p.grad is None for p in network.prompt_encoder.parameters())

optimizer.zero_grad()
del optimizer
network.requires_grad_(False)
start = time.perf_counter()
image.requires_grad_()
network.probabilities(image, boxes).mean().backward()
record("registration", start, [image.grad])
print(json.dumps(result))
"""


@pytest.mark.slow
def test_full_size_trains_and_differentiates_within_16_gb():
    run = subprocess.run([sys.executable, "-c", FULL_SIZE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    print(result)
    assert result["moved"]
    assert result["frozen"]
    for part in (result["training"], result["registration"]):
        assert part["finite"]
        assert part["norm"] > 0
        assert part["peak_gb"] < PEAK_LIMIT_GB
