"""DRRs for training: poses as asked for, images and ROI maps that belong to them, and a seed that decides."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from builders import BONE_HU, LABEL_NAMES, MU_WATER_PER_MM, phantom_ct, small_specimen
from scipy.spatial.transform import Rotation

import roireg.training.drrs
from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.volume import AttenuationSettings, Volume, diffdrr_attenuation
from roireg.data.xray import Xray, expected_pose
from roireg.drr import render
from roireg.drr.rois import project_rois, roi_volumes
from roireg.encode.samples import rendered
from roireg.errors import InputError
from roireg.geometry.se3 import invert, transform_points
from roireg.training.drrs import (
    Drr,
    SynthesisSettings,
    Synthesizer,
    read_pool,
    sample_pose,
    settings_from_config,
    synthesize,
    write_pool,
)

ROIS = ("talus", "tibia")
NOTHING = (0.0, 0.0, 0.0)
SETTINGS = SynthesisSettings(
    count=3,
    rotation_sd_deg=(8.0, 12.0, 5.0),
    translation_sd_mm=(15.0, 10.0, 20.0),
    bone_contrast=(1.0, 3.0),
    bone_above_per_mm=1.5 * MU_WATER_PER_MM,
    min_roi_fraction=0.01,
    continued_fraction=0.0,
    continued_mm=57.0,
)
CONFIG = {
    "drrs_per_specimen": 7,
    "rotation_sd_deg": [1.0, 2.0, 3.0],
    "translation_sd_mm": [4.0, 5.0, 6.0],
    "bone_contrast": [1.0, 4.0],
    "bone_above_hu": 350,
    "min_roi_fraction": 0.1,
    "continued_fraction": 0.25,
    "continued_mm": 80.0,
    "contrast_scales": "attenuation",
    "contrast_per": "drr",
    "rotation_center": "isocenter",
}


@pytest.fixture(scope="module")
def specimen(tmp_path_factory) -> tuple[Patient, tuple[Xray, ...]]:
    return small_specimen(tmp_path_factory.mktemp("synthesize"), image_size_px=40)


@pytest.fixture(scope="module")
def patient(specimen) -> Patient:
    return specimen[0]


@pytest.fixture(scope="module")
def xrays(specimen) -> tuple[Xray, ...]:
    return specimen[1]


@pytest.fixture(scope="module")
def truncated(patient) -> Patient:
    """The patient without the first slices of its CT, and the last: bones and soft tissue end with the grid."""
    frame = patient.volume.volume_from_voxel.clone()
    frame[:3, 3] += 14 * frame[:3, 2]
    volume = Volume(patient.volume.values[14:-8].contiguous(), frame)
    assert set(volume.truncated_faces) == {(2, 0), (2, 1)}
    return replace(patient, volume=volume, labels=patient.labels[14:-8].contiguous())


def drrs(
    patient: Patient, xrays: Sequence[Xray], settings: SynthesisSettings = SETTINGS, seed: int = 0, rois=ROIS
) -> list[Drr]:
    return list(synthesize(patient, xrays[0].camera, expected_pose(patient, xrays[0]), rois, settings, None, seed))


def same(a: Drr, b: Drr) -> bool:
    maps = torch.equal(a.image, b.image) and torch.equal(a.rois, b.rois)
    return maps and torch.equal(a.pose, b.pose) and a.bone_contrast == b.bone_contrast


def moves(
    patient: Patient, xrays: Sequence[Xray], rotation_sd_deg, translation_sd_mm, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of drawn poses against T_PA, on the camera's axes: rotation vectors in degrees, shifts of the isocentre in mm."""
    # About a view in general position: T_PA's own rotation is its inverse.
    pa = xrays[0].true_pose
    settings = replace(SETTINGS, rotation_sd_deg=rotation_sd_deg, translation_sd_mm=translation_sd_mm)
    rng = np.random.default_rng(0)
    drawn = torch.stack([sample_pose(patient, pa, settings, rng) for _ in range(count)])
    relative = (torch.linalg.inv(pa) @ drawn).numpy()
    center = (torch.linalg.inv(pa)[:3] @ torch.cat([patient.center_mm, torch.ones(1)])).numpy()
    shifts = relative[:, :3, :3] @ center + relative[:, :3, 3] - center
    return Rotation.from_matrix(relative[:, :3, :3]).as_rotvec(degrees=True), shifts


@pytest.mark.parametrize(("rotation", "translation"), [((4.0, 12.0, 1.0), NOTHING), (NOTHING, (30.0, 5.0, 60.0))])
def test_spreads_on_the_cameras_axes_are_those_asked_for(patient, xrays, rotation, translation):
    count = 1500
    for found, asked in zip(moves(patient, xrays, rotation, translation, count), (rotation, translation), strict=True):
        # Five standard errors of a standard deviation, and of a mean.
        np.testing.assert_allclose(found.std(0), asked, rtol=5 / np.sqrt(2 * count), atol=1e-9)
        assert (np.abs(found.mean(0)) <= 5 * np.array(asked) / np.sqrt(count) + 1e-9).all()
        if any(asked):
            assert (np.abs(np.corrcoef(found.T) - np.eye(3)) < 5 / np.sqrt(count)).all()


@pytest.mark.parametrize("axis", range(3))
def test_a_spread_on_one_axis_moves_along_or_turns_about_it_alone(patient, xrays, axis):
    spread = tuple(10.0 if other == axis else 0.0 for other in range(3))
    others = [other for other in range(3) if other != axis]
    turns, shifts = moves(patient, xrays, spread, NOTHING, 20)
    np.testing.assert_allclose(turns[:, others], 0, atol=1e-6)
    np.testing.assert_allclose(shifts, 0, atol=1e-6)
    assert np.abs(turns[:, axis]).min() > 0
    turns, shifts = moves(patient, xrays, NOTHING, spread, 20)
    np.testing.assert_allclose(shifts[:, others], 0, atol=1e-6)
    np.testing.assert_allclose(turns, 0, atol=1e-6)
    assert np.abs(shifts[:, axis]).min() > 0


def test_no_spread_is_the_pa_view(patient, xrays):
    settings = replace(SETTINGS, rotation_sd_deg=NOTHING, translation_sd_mm=NOTHING)
    pa = expected_pose(patient, xrays[0])
    pose = sample_pose(patient, pa, settings, np.random.default_rng(0))
    torch.testing.assert_close(pose, pa, rtol=0, atol=1e-9)


def test_images_are_finite_and_fill_0_to_1(patient, xrays):
    camera = xrays[0].camera
    for drr in drrs(patient, xrays):
        assert drr.image.shape == drr.rois.shape == (camera.height, camera.width)
        assert drr.image.dtype == torch.float32
        assert drr.image.isfinite().all()
        assert drr.image.min() == 0
        assert drr.image.max() == 1


def test_the_roi_map_is_the_projection_at_the_stored_pose(patient, xrays):
    volumes = roi_volumes(patient, ROIS)
    for drr in drrs(patient, xrays):
        assert torch.equal(drr.rois, project_rois(volumes, xrays[0].camera, drr.pose[None])[0])
        assert set(drr.rois.unique().tolist()) == {0, 1, 2}


def test_poses_differ_from_one_another(patient, xrays):
    poses = torch.stack([drr.pose for drr in drrs(patient, xrays)])
    assert len(poses.flatten(1).unique(dim=0)) == len(poses)


def test_without_contrast_an_image_is_the_plain_rendering(patient, xrays):
    for drr in drrs(patient, xrays, replace(SETTINGS, bone_contrast=(1.0, 1.0))):
        assert drr.bone_contrast == 1
        plain = scaled(render(patient.volume, xrays[0].camera, drr.pose[None]))[0]
        torch.testing.assert_close(drr.image, plain, rtol=0, atol=1e-6)


def test_contrast_multiplies_the_attenuation_of_bone_and_of_nothing_else(patient, xrays):
    values = patient.volume.values
    bone = patient.label_mask(LABEL_NAMES.values())
    for drr in drrs(patient, xrays, replace(SETTINGS, bone_contrast=(2.5, 2.5))):
        denser = patient.volume.with_values(torch.where(bone, 2.5 * values, values))
        expected = scaled(render(denser, xrays[0].camera, drr.pose[None]))[0]
        torch.testing.assert_close(drr.image, expected, rtol=0, atol=1e-3)


def test_a_larger_contrast_brightens_bone_against_soft_tissue(patient, xrays):
    rois = tuple(LABEL_NAMES.values())
    plain, strong = (
        drrs(patient, xrays, replace(SETTINGS, bone_contrast=(factor, factor)), rois=rois) for factor in (1.0, 4.0)
    )
    for one, other in zip(plain, strong, strict=True):
        assert torch.equal(one.pose, other.pose)
        bone = one.rois > 0
        soft = ~bone & (one.image > 0.1)
        assert soft.sum() > 100
        ratios = [float(drr.image[bone].mean() / drr.image[soft].mean()) for drr in (one, other)]
        assert ratios[1] > 1.5 * ratios[0]


def test_contrasts_are_drawn_from_their_range(patient, xrays):
    factors = [drr.bone_contrast for drr in drrs(patient, xrays, replace(SETTINGS, count=12, bone_contrast=(2.0, 5.0)))]
    assert min(factors) >= 2
    assert max(factors) <= 5
    assert max(factors) - min(factors) > 1


def test_in_the_share_that_is_asked_for_tissue_goes_on_beyond_the_ends_of_the_ct(truncated, xrays):
    view = xrays[0].camera
    # The grid and, before and after it, ten more slices of 6 mm; the same places in space.
    values, frame = truncated.volume.values, truncated.volume.volume_from_voxel.clone()
    frame[:3, 3] -= 10 * frame[:3, 2]
    longer = Volume(torch.cat([values[:1].expand(10, -1, -1), values, values[-1:].expand(10, -1, -1)]), frame)
    kinds = []
    settings = replace(SETTINGS, count=24, bone_contrast=(1.0, 1.0), continued_fraction=0.5)
    for drr in drrs(truncated, xrays, settings):
        scanned, continued = (scaled(render(body, view, drr.pose[None]))[0] for body in (truncated.volume, longer))
        assert (scanned - continued).abs().mean() > 0.01
        errors = [float((drr.image - image).abs().max()) for image in (scanned, continued)]
        assert min(errors) < 1e-4
        kinds.append(errors[1] < errors[0])
    assert 5 < sum(kinds) < 19


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_no_drrs_are_continued(truncated, xrays, share):
    view = xrays[0].camera
    body = truncated.volume.continued(57.0) if share else truncated.volume
    for drr in drrs(truncated, xrays, replace(SETTINGS, bone_contrast=(1.0, 1.0), continued_fraction=share)):
        torch.testing.assert_close(drr.image, scaled(render(body, view, drr.pose[None]))[0], rtol=0, atol=1e-5)


def test_bone_beyond_the_ends_of_the_ct_has_the_same_contrast(truncated, xrays):
    longer = truncated.volume.continued(57.0)
    settings = replace(SETTINGS, bone_contrast=(3.0, 3.0), continued_fraction=1.0)
    bone = longer.values > settings.bone_above_per_mm
    assert bone[0].any()
    assert bone[-1].any()
    denser = longer.with_values(torch.where(bone, 3 * longer.values, longer.values))
    for drr in drrs(truncated, xrays, settings):
        expected = scaled(render(denser, xrays[0].camera, drr.pose[None]))[0]
        torch.testing.assert_close(drr.image, expected, rtol=0, atol=1e-3)


def test_poses_and_roi_maps_do_not_depend_on_what_lies_beyond_the_ct(truncated, xrays):
    for a, b in zip(
        *(drrs(truncated, xrays, replace(SETTINGS, continued_fraction=share)) for share in (0.0, 1.0)), strict=True
    ):
        assert torch.equal(a.pose, b.pose)
        assert torch.equal(a.rois, b.rois)
        assert not torch.equal(a.image, b.image)


def test_a_ct_that_holds_the_whole_body_is_not_continued(patient, xrays):
    for a, b in zip(
        *(drrs(patient, xrays, replace(SETTINGS, continued_fraction=share)) for share in (0.0, 1.0)), strict=True
    ):
        assert torch.equal(a.image, b.image)


def test_poses_that_show_too_little_of_the_rois_are_drawn_again(patient, xrays):
    far = replace(SETTINGS, count=6, translation_sd_mm=(150.0, 150.0, 20.0), min_roi_fraction=0.0)
    share = 0.15
    without = [float((drr.rois > 0).float().mean()) for drr in drrs(patient, xrays, far)]
    assert min(without) < share
    honoured = [
        float((drr.rois > 0).float().mean()) for drr in drrs(patient, xrays, replace(far, min_roi_fraction=share))
    ]
    assert min(honoured) >= share


def test_a_fraction_that_no_pose_reaches_is_explained(patient, xrays, monkeypatch):
    monkeypatch.setattr(roireg.training.drrs, "TRIES", 25)
    with pytest.raises(InputError) as raised:
        drrs(patient, xrays, replace(SETTINGS, min_roi_fraction=0.95))
    assert raised.value.where == "config: synthesize"
    assert "P01: in none of 25 random poses do ROIs cover 95% of the image" in raised.value.what
    assert "min_roi_fraction" in raised.value.remedy


def test_a_roi_that_the_specimen_lacks_is_explained(patient, xrays):
    with pytest.raises(InputError, match="kneecap"):
        drrs(patient, xrays, rois=("tibia", "kneecap"))


def test_the_seed_decides(patient, xrays):
    first, again, other = (drrs(patient, xrays, seed=seed) for seed in (3, 3, 4))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a.pose, b.pose) or a.bone_contrast == b.bone_contrast for a in first for b in other)


def test_specimens_are_seen_from_other_poses(patient, xrays):
    twin = replace(patient, name="twin")
    assert not any(torch.equal(a.pose, b.pose) for a, b in zip(drrs(patient, xrays), drrs(twin, xrays), strict=True))


def test_a_drr_does_not_depend_on_how_many_there_are(patient, xrays):
    few, many = drrs(patient, xrays, replace(SETTINGS, count=2)), drrs(patient, xrays, replace(SETTINGS, count=4))
    assert (len(few), len(many)) == (2, 4)
    assert all(same(a, b) for a, b in zip(few, many[:2], strict=True))


def test_a_pool_comes_back(patient, xrays, tmp_path: Path):
    camera, drawn = xrays[0].camera, drrs(patient, xrays)
    path = tmp_path / "pools" / "P01.h5"
    write_pool(path, drawn, camera, ROIS)
    pool = read_pool(path)
    assert torch.equal(pool.images, torch.stack([drr.image for drr in drawn]))
    assert torch.equal(pool.rois, torch.stack([drr.rois for drr in drawn]))
    assert torch.equal(pool.poses, torch.stack([drr.pose for drr in drawn]))
    assert (pool.images.dtype, pool.rois.dtype, pool.poses.dtype) == (torch.float32, torch.uint8, torch.float64)
    with h5py.File(path) as file:
        assert tuple(file.attrs["rois"]) == ROIS
        np.testing.assert_array_equal(file["bone_contrast"], [drr.bone_contrast for drr in drawn])
        np.testing.assert_array_equal(file["intrinsics_px"], camera.intrinsics_px)
        np.testing.assert_array_equal(file["pixel_spacing_mm"], camera.pixel_spacing_mm)
    assert [file.name for file in path.parent.iterdir()] == ["P01.h5"]


def test_settings_say_what_the_config_says():
    settings = settings_from_config(CONFIG, AttenuationSettings())
    assert settings.count == 7
    assert settings.rotation_sd_deg == (1, 2, 3)
    assert settings.translation_sd_mm == (4, 5, 6)
    assert settings.bone_contrast == (1, 4)
    assert settings.min_roi_fraction == 0.1
    assert settings.continued_fraction == 0.25
    assert settings.continued_mm == 80


@pytest.mark.parametrize(("water", "bone"), [(0.0192, 0.0384), (0.025, 0.07)])
def test_the_threshold_of_bone_is_the_attenuation_of_its_hu(water, bone):
    threshold = settings_from_config(CONFIG, AttenuationSettings(water, bone)).bone_above_per_mm
    assert threshold == pytest.approx(water + 0.35 * (bone - water))
    below_water = settings_from_config(
        {**CONFIG, "bone_above_hu": -200}, AttenuationSettings(water, bone)
    ).bone_above_per_mm
    assert below_water == pytest.approx(0.8 * water)


def test_bone_is_what_lies_above_its_hu(patient):
    bone = patient.label_mask(LABEL_NAMES.values())
    for hu, expected in ((BONE_HU - 1, bone), (BONE_HU + 1, torch.zeros_like(bone))):
        settings = settings_from_config({**CONFIG, "bone_above_hu": hu}, AttenuationSettings())
        assert torch.equal(patient.volume.values > settings.bone_above_per_mm, expected)


def test_the_global_generators_decide_nothing(patient, xrays):
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first = drrs(patient, xrays, replace(SETTINGS, count=1))
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    assert same(first[0], drrs(patient, xrays, replace(SETTINGS, count=1))[0])


# DiffPose's way


@pytest.mark.parametrize("factor", [1.0, 2.5, 10.0])
def test_a_factor_on_hu_gives_the_image_of_diffdrrs_density_with_that_multiplier(patient, xrays, factor):
    hu = torch.from_numpy(phantom_ct("P01").hu)
    made_with = AttenuationSettings(attenuation="diffdrr", bone_multiplier=2.5)
    config = {**CONFIG, "contrast_scales": "hu", "min_roi_fraction": 0.0, "continued_fraction": 0.0}
    settings = settings_from_config(config, made_with)
    bright = replace(patient, volume=patient.volume.with_values(made_with.of(hu)))
    camera, pa = xrays[0].camera, expected_pose(patient, xrays[0])
    drr = Synthesizer(bright, camera, pa, ROIS, settings, None).draw(np.random.default_rng(1), factor)
    expected = patient.volume.with_values(diffdrr_attenuation(hu, factor))
    assert drr.bone_contrast == factor
    torch.testing.assert_close(drr.image, scaled(render(expected, camera, drr.pose[None]))[0], rtol=0, atol=2e-5)


def test_poses_turn_about_the_corner_of_the_ct_where_they_are_told_to(patient, xrays):
    pa = expected_pose(patient, xrays[0])
    for center in ("isocenter", "ct_corner"):
        settings = replace(SETTINGS, translation_sd_mm=NOTHING, rotation_center=center)
        pose = sample_pose(patient, pa, settings, np.random.default_rng(3))
        for name, point in (("isocenter", patient.center_mm), ("ct_corner", patient.volume.corner_mm)):
            seen = [transform_points(invert(view), point[None]) for view in (pose, pa)]
            assert (float((seen[0] - seen[1]).norm()) < 1e-9) == (name == center)


@pytest.mark.parametrize(("per", "count"), [("drr", 8), ("batch", 2)])
def test_a_batch_has_one_contrast_or_one_for_each_drr(patient, xrays, per, count):
    camera, pa = xrays[0].camera, expected_pose(patient, xrays[0])
    synthesizer = Synthesizer(patient, camera, pa, ROIS, replace(SETTINGS, contrast_per=per), None)
    found = torch.cat([rendered(synthesizer, np.random.default_rng(seed), 4).bone_contrasts for seed in (0, 1)])
    assert len(found.unique()) == count
    assert ((found >= 1) & (found <= 3)).all()
