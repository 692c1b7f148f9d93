"""What regions of interest bring to a registration: a Dice term, and weights."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from volumes import general_pose, phantom_specimen

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.pose_results import read_traces
from roireg.data.volume import Volume, cropped
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_boxes_px, roi_channels, roi_volumes
from roireg.geometry.poses import perturb
from roireg.metrics.pose_errors import registration_errors
from roireg.metrics.similarity import dice, similarity
from roireg.register.levels import Problem
from roireg.register.method import MethodSettings, method_from_config, with_segmenters
from roireg.register.objective import image_objective
from roireg.register.roi import (
    ProjectedMaps,
    Regions,
    roi_term,
    roi_weights,
)
from roireg.register.run import Placement, register_specimen, write_traces
from roireg.register.settings import (
    AdamSettings,
    DiceSettings,
    MaskSettings,
    PerturbationSettings,
    WeightSettings,
)
from roireg.segment.model import Segmenter
from roireg.segment.network import SegmentationNetwork
from roireg.segment.unet import UNet, UNetSettings

DOUBLE = {"dtype": torch.float64}
ROIS = ("upper", "lower")
ALL_PIXELS = WeightSettings(coverage=False, exclude=(), exclude_margin_mm=0.0)


def two_bones(count: int = 1) -> tuple[Patient, tuple[Xray, ...]]:
    """The phantom with its dense part divided in two ROIs."""
    patient, xrays = phantom_specimen(count)
    labels = patient.labels.clone()
    labels[20:] *= 2
    return replace(patient, labels=labels, label_names={1: "upper", 2: "lower"}), xrays


class TrueMaps(SegmentationNetwork):
    """Stands for a trained network: it knows the ROIs of the images that it was given."""

    prompted = True

    def __init__(self, known: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.known = known
        self.boxes: list[Tensor] = []

    def probabilities(self, image: Tensor, boxes_px: Tensor | None = None) -> Tensor:
        if boxes_px is not None:
            self.boxes.append(boxes_px)
        distances = torch.stack([(image - scaled(known[None])).abs().mean() for known, _ in self.known])
        return 0.8 * self.known[int(distances.argmin())][1]


def true_maps(patient: Patient, xrays: Sequence[Xray]) -> Segmenter:
    volumes = roi_volumes(patient, ROIS)
    known = [
        (xray.image, roi_channels(project_rois(volumes, xray.camera, xray.true_pose[None]), len(ROIS)))
        for xray in xrays
    ]
    return Segmenter(ROIS, TrueMaps(known))


def unet() -> Segmenter:
    torch.manual_seed(0)
    network = UNet(UNetSettings(32, (4, 4, 4)), len(ROIS)).eval().requires_grad_(False)
    return Segmenter(ROIS, network)


def projected(patient: Patient, xrays: Sequence[Xray], **changes) -> Regions:
    settings = DiceSettings("true", "projected", weight=0.5, size_px=40)
    return Regions(replace(settings, **changes), ROIS, {"true": true_maps(patient, xrays)})


def method(regions, measure: str = "mncc") -> MethodSettings:
    return MethodSettings(
        name="test",
        init="perturbed",
        similarity=measure,
        roi="test",
        optimizer="adam",
        weights="none",
        start=PerturbationSettings(3.0, 8.0),
        pixels=ALL_PIXELS,
        search=AdamSettings(60, 7.5e-3, 3.0, 25, 0.8),
        regions=regions,
        step_mm=None,
    )


def test_projected_maps_are_the_silhouettes_with_later_rois_over_earlier_ones():
    patient, xrays = two_bones()
    xray = xrays[0]
    maps = ProjectedMaps(patient, ROIS, xray.camera, torch.device("cpu"))(xray.image[None], xray.true_pose[None])
    silhouettes = roi_channels(project_rois(roi_volumes(patient, ROIS), xray.camera, xray.true_pose[None]), 2)
    assert bool(((maps >= 0) & (maps.sum(1, keepdim=True) <= 1 + 1e-6)).all())
    assert silhouettes.sum((-2, -1)).min() > 50
    assert float(dice(silhouettes, maps)) > 0.85
    # Between voxels a label falls off linearly, half a voxel beyond the silhouette of its nearest voxels.
    assert float(maps[silhouettes.sum(1, keepdim=True).expand_as(maps) == 0].sum()) < 0.1 * float(maps.sum())


def test_the_gradient_of_a_projected_dice_is_that_of_finite_differences():
    patient, xrays = two_bones()
    xray = xrays[0]
    term = roi_term(patient, [xray], xray.true_pose[None], projected(patient, xrays))
    start = perturb(xray.true_pose, torch.tensor([0.03, -0.02, 0.04, 4.0, -3.0, 6.0], **DOUBLE), patient.center_mm)

    def score(twist: Tensor) -> Tensor:
        pose = perturb(start, twist, patient.center_mm)
        return term.dice(xray.image[None], pose[None], None).sum()

    twist = torch.zeros(6, **DOUBLE, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(twist), twist)
    for axis, size in enumerate([2e-3] * 3 + [0.5] * 3):
        step = size * torch.eye(6, **DOUBLE)[axis]
        slope = float(score(step) - score(-step)) / (2 * size)
        assert float(gradient[axis]) == pytest.approx(slope, rel=0.15, abs=0.02 * float(gradient.abs().max()))


def test_a_cropped_volume_casts_the_same_shadow():
    patient, xrays = two_bones()
    xray, volume = xrays[0], roi_volumes(patient, ROIS)[0]
    small = cropped(volume)
    assert small.values.numel() < 0.7 * volume.values.numel()
    step_mm = 0.5
    whole, part = (render(one, xray.camera, xray.true_pose[None], step_mm) for one in (volume, small))
    assert float((whole - part).abs().max()) < 0.02 * float(whole.max())
    assert cropped(Volume(torch.zeros(3, 4, 5), torch.eye(4, **DOUBLE))).values.shape == (1, 1, 1)


@pytest.mark.parametrize("moving", ["projected", "unet"])
def test_terms_add_up_to_the_objective_and_are_stored(tmp_path, moving):
    patient, xrays = two_bones()
    term = projected(patient, xrays, moving=moving)
    settings = replace(term, segmenters={**term.segmenters, "unet": unet()})
    (result,) = register_specimen(patient, xrays, method(settings), seed=0)
    terms = result.trace.terms
    assert set(terms) == {"similarity", "roi"}
    torch.testing.assert_close(terms["similarity"] + terms["roi"], result.trace.objective)
    assert 0 < float(terms["roi"].min()) < float(terms["roi"].max()) <= 0.5
    write_traces(tmp_path / "traces.h5", [result])
    stored = read_traces(tmp_path / "traces.h5")["000"]
    assert set(stored.terms) == set(terms)
    for name, values in terms.items():
        assert torch.equal(torch.from_numpy(stored.terms[name]), values)


def test_the_roi_term_alone_leads_to_the_pose():
    patient, xrays = two_bones()
    settings = projected(patient, xrays, weight=1e3)
    (result,) = register_specimen(patient, xrays, method(settings), seed=0)
    assert result.row["mpd_mm"] < 0.3 * result.row["init_mpd_mm"]
    assert float(result.trace.terms["roi"][0]) > 100 * float(result.trace.terms["similarity"][0])


def test_weight_zero_is_a_registration_without_rois():
    patient, xrays = two_bones()
    (without,) = register_specimen(patient, xrays, method(None), seed=0)
    (weightless,) = register_specimen(patient, xrays, method(projected(patient, xrays, weight=0.0)), seed=0)
    assert torch.equal(without.trace.poses, weightless.trace.poses)
    assert "roi" not in without.trace.terms


def test_a_dice_is_of_the_rois_that_count_only():
    patient, xrays = two_bones()
    xray = xrays[0]
    lower = projected(patient, xrays, rois=("lower",))
    assert lower.channels == [1]
    term = roi_term(patient, [xray], xray.true_pose[None], lower)
    assert term.fixed.shape[1] == 1
    silhouettes = roi_channels(project_rois(roi_volumes(patient, ROIS), xray.camera, xray.true_pose[None]), 2)
    assert torch.equal(term.fixed[0, 0], silhouettes[0, 1])


def test_pixels_that_do_not_count_are_left_out_of_the_dice():
    patient, xrays = two_bones()
    xray = xrays[0]
    term = roi_term(patient, [xray], xray.true_pose[None], projected(patient, xrays))
    away = perturb(xray.true_pose, torch.tensor([0.0, 0, 0, 15, 0, 0], **DOUBLE), patient.center_mm)[None]
    pixels = torch.ones(1, 40, 40)
    everywhere = float(term.dice(xray.image[None], away, None))
    assert float(term.dice(xray.image[None], away, pixels)) == pytest.approx(everywhere)
    pixels[:, :, :20] = 0
    half = float(dice(term.fixed[..., 20:], term.moving(xray.image[None], away)[..., 20:]))
    assert float(term.dice(xray.image[None], away, pixels)) == pytest.approx(half, rel=1e-5)
    assert half != pytest.approx(everywhere, abs=1e-3)


@pytest.mark.parametrize("boxes", ["projected", "true"])
def test_prompted_segmenters_get_one_box_for_x_ray_and_drrs(boxes):
    patient, xrays = two_bones()
    xray = xrays[0]
    prompted = true_maps(patient, xrays)
    segmenters = {"true": true_maps(patient, xrays), "prompted": prompted}
    settings = Regions(DiceSettings("prompted", "prompted", boxes), ROIS, segmenters)
    initial = perturb(xray.true_pose, torch.tensor([0.0, 0, 0, 20, 10, 0], **DOUBLE), patient.center_mm)
    term = roi_term(patient, [xray], initial[None], settings)
    term.dice(xray.image[None], initial[None], None)
    at = xray.true_pose if boxes == "true" else initial
    expected = roi_boxes_px(project_rois(roi_volumes(patient, ROIS), xray.camera, at[None]), 2)
    assert len(prompted.network.boxes) == 2
    for used in prompted.network.boxes:
        assert torch.equal(used, expected)


def test_masks_weigh_what_lies_outside_the_rois():
    patient, xrays = two_bones()
    xray = xrays[0]
    settings = Regions(MaskSettings("true", outside=0.25), ROIS, {"true": true_maps(patient, xrays)})
    weights = roi_weights(patient, [xray], xray.true_pose[None], settings)
    shown = project_rois(roi_volumes(patient, ROIS), xray.camera, xray.true_pose[None])[0] > 0
    at_size = weights(xray.camera, general_pose(patient.volume).expand(3, 4, 4))
    assert at_size.shape == (3, 40, 40)
    assert torch.equal(at_size[1], torch.where(shown, 1.0, 0.25))
    small = weights(xray.camera.resized(20, 20), xray.true_pose[None])
    assert small.shape == (1, 20, 20)
    assert float(small.mean()) == pytest.approx(float(at_size[0].mean()), abs=0.02)


def test_what_lies_outside_a_mask_does_not_matter():
    patient, xrays = two_bones()
    xray = xrays[0]
    settings = Regions(MaskSettings("true"), ROIS, {"true": true_maps(patient, xrays)})
    outside = project_rois(roi_volumes(patient, ROIS), xray.camera, xray.true_pose[None])[0] == 0
    spoiled = xray.image.where(
        ~outside, xray.image.max() * torch.rand(40, 40, generator=torch.Generator().manual_seed(0))
    )
    (clean,) = register_specimen(patient, xrays, method(settings, "global_ncc"), seed=0)
    other = [replace(xray, image=spoiled)]
    (noisy,) = register_specimen(patient, other, method(settings, "global_ncc"), seed=0)
    torch.testing.assert_close(noisy.trace.poses, clean.trace.poses)
    assert clean.row["mpd_mm"] < 0.3 * clean.row["init_mpd_mm"]


@pytest.mark.parametrize("measure", ["mncc", "mse"])
def test_with_its_roi_term_the_objective_is_least_near_the_truth(measure):
    patient, xrays = two_bones()
    xray = xrays[0]
    problem = Problem(xray.image, xray.camera, patient.volume, None, None)
    term = roi_term(patient, [xray], xray.true_pose[None], projected(patient, xrays))
    objective = image_objective([problem], similarity(measure), term)
    best = sum(objective(xray.true_pose[None]).values())
    for twist in torch.eye(6, **DOUBLE) * torch.tensor([0.08] * 3 + [15.0, 15.0, 30.0], **DOUBLE):
        for sign in (-1, 1):
            pose = perturb(xray.true_pose, sign * twist, patient.center_mm)
            assert registration_errors(pose, xray.true_pose, xray.camera, patient.landmarks_mm, patient.center_mm)
            assert float(sum(objective(pose[None]).values())) > float(best)


def from_entry(roi_term: dict) -> Regions:
    entry = {"init": "pa", "similarity": "mncc", "roi": "test", "optimizer": "adam", "weights": "none"}
    return method_from_config("test", entry, {"type": "pa"}, {"type": "adam"}, roi_term, {}, list(ROIS), None).regions


def test_a_term_knows_the_segmenters_that_it_needs():
    entry = {"type": "dice", "fixed": "m", "moving": "u", "boxes": "u", "rois": [], "weight": 0.1, "size_px": 64}
    term = from_entry(entry)
    assert term == Regions(DiceSettings("m", "u", "u"), ROIS)
    assert term.used == ROIS
    assert term.segmenter_names == ["m", "u"]
    mask = from_entry({"type": "mask", "fixed": "u", "boxes": "projected", "rois": ["lower"], "outside": 0.0})
    assert mask == Regions(MaskSettings("u", rois=("lower",)), ROIS)
    assert mask.used == ("lower",)
    assert mask.segmenter_names == ["u"]
    assert with_segmenters(method(mask), {"u": unet()}).regions.segmenters.keys() == {"u"}
    with pytest.raises(ValueError, match="needs the segmenters u"):
        with_segmenters(method(mask), {"m": unet()})
    with pytest.raises(ValueError, match="has no ROI term"):
        with_segmenters(method(None), {"u": unet()})


def rois_by(kind: str):
    """A ROI term of each kind, by an untrained network."""
    dice_of = DiceSettings("net", "projected" if kind == "projected" else "net", weight=0.3, size_px=24)
    settings = MaskSettings("net", outside=0.2) if kind == "mask" else dice_of
    return Regions(settings, ROIS, {"net": unet()})


@pytest.mark.parametrize("kind", ["unet", "projected", "mask"])
def test_roi_terms_of_xrays_registered_together_are_those_of_each_alone(kind):
    patient, xrays = two_bones(2)
    settings = replace(method(rois_by(kind)), search=AdamSettings(15, 7.5e-3, 3.0, 25, 0.8))
    alone = list(register_specimen(patient, xrays, settings, seed=0))
    together = list(register_specimen(patient, xrays, settings, 0, Placement(torch.device("cpu"), 2)))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.trace.poses, one.trace.poses, rtol=0, atol=1e-2)
        torch.testing.assert_close(other.trace.objective, one.trace.objective, rtol=0, atol=1e-4)
