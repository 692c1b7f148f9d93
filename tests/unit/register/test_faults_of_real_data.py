"""What real X-rays brought to light: empty DRRs, crops, valleys beside the right one, long CTs, starts far off."""

from dataclasses import replace

import pytest
import torch
from test_gauss_newton import SETTINGS, mpd_mm, problem
from volumes import phantom_specimen

from roireg.data.images import scaled
from roireg.data.patient import Patient
from roireg.data.reach import beyond_reach_mm, long_axis, reach_along_mm
from roireg.data.volume import Volume
from roireg.data.xray import Xray
from roireg.drr import render
from roireg.geometry.camera import project
from roireg.geometry.poses import pa_pose, perturb
from roireg.geometry.se3 import translation
from roireg.register import kicks
from roireg.register.fallback import Fallback
from roireg.register.judgement import judgement
from roireg.register.levels import level
from roireg.register.method import MethodSettings, search_method
from roireg.register.multi_start import multi_start
from roireg.register.quadratic import objective
from roireg.register.registration import register_xrays
from roireg.register.run import register_specimen
from roireg.register.settings import MultiStartSettings, PaSettings, WeightSettings
from roireg.register.trace import Trace
from roireg.register.uncertainty import fit_at
from roireg.register.verdict import Evidence, Grade, Thresholds, judge
from roireg.seeds import generator

DOUBLE = {"dtype": torch.float64}
OUT_OF_SIGHT = torch.tensor([0.0, 0.0, 0.0, 900.0, 0.0, 0.0], **DOUBLE)


@pytest.fixture(scope="module")
def phantom() -> tuple[Patient, tuple[Xray, ...]]:
    return phantom_specimen(2)


def at_rest(pose: torch.Tensor) -> Trace:
    return Trace(torch.stack([pose, pose]), torch.zeros(2), 1)


def test_an_empty_drr_is_no_match(phantom):
    patient, xrays = phantom
    one = level(problem(patient, xrays, step_mm=None), 32, 5.0)
    right = xrays[0].true_pose
    away = perturb(right, OUT_OF_SIGHT, patient.center_mm)
    assert float(render(patient.volume, xrays[0].camera, away[None]).max()) == 0
    costs = objective(one, torch.stack([right, away]))
    assert costs[0] < 0.1
    assert costs[1] == pytest.approx(1.0)
    assert fit_at(one, away, patient.center_mm).ncc == 0


def test_a_blank_x_ray_is_no_match_either(phantom):
    patient, xrays = phantom
    blank = replace(problem(patient, xrays, step_mm=None), xray=torch.full_like(xrays[0].image, 0.3))
    assert float(objective(level(blank, 32, 5.0), xrays[0].true_pose[None])) == pytest.approx(1.0, abs=0.15)


def test_a_ct_outside_the_picture_has_failed_and_nothing_is_known_of_its_pose(phantom):
    patient, xrays = phantom
    away = perturb(xrays[0].true_pose, OUT_OF_SIGHT, patient.center_mm)
    judged = judgement(patient, xrays[:1], [problem(patient, xrays, step_mm=None)], at_rest(away))
    assert judged.verdict.grade is Grade.FAILED
    assert "no bone" in judged.verdict.reasons[0]
    spread = judged.xrays[0].spread
    assert spread.projection_mm == spread.depth_mm == spread.rotation_deg[0] == float("inf")


def test_multi_start_prefers_a_poor_match_to_none(phantom):
    patient, xrays = phantom
    right = xrays[0].true_pose
    # An X-ray that resembles the CT no more than many real ones do.
    noise = torch.randn(xrays[0].image.shape, generator=torch.Generator().manual_seed(5))
    dim = replace(problem(patient, xrays, step_mm=None), xray=xrays[0].image + 0.5 * noise)
    one = level(dim, 40, 5.0)
    ncc = 1 - float(objective(one, right[None]))
    assert 0.05 < ncc < 0.5
    wide = MultiStartSettings(
        starts=60, keep=4, iterations=4, rotation_sd_deg=0.5, translation_sd_mm=150.0, size_px=40, local_sigma_px=5.0
    )
    found = multi_start([dim], right, patient.center_mm, wide, generator(0, "wide"))
    shown = render(patient.volume, xrays[0].camera, found[None])
    assert float(shown.max()) > 0


def test_upside_down_turns_about_the_middle_of_a_crop(phantom):
    patient, (xray, _) = phantom
    # The upper left corner of a larger detector: the central ray meets it far outside.
    k = xray.camera.intrinsics_px.clone()
    k[:2, 2] += k.new_tensor([150.0, 90.0])
    corner = replace(xray.camera, intrinsics_px=k)
    middle = torch.tensor([(corner.width - 1) / 2, (corner.height - 1) / 2, 1.0], **DOUBLE)
    toward = corner.rays_mm() @ middle * 0.7
    crop = replace(xray, camera=corner, rig_from_camera=translation(-toward))
    turned = crop.upside_down()
    poses = [translation(patient.center_mm) @ one.rig_from_camera for one in (crop, turned)]
    before, after = (project(patient.center_mm[None], corner, pose)[0] for pose in poses)
    torch.testing.assert_close(before, middle[:2], rtol=0, atol=1e-6)
    torch.testing.assert_close(after, middle[:2], rtol=0, atol=1e-6)
    # What was right of the middle is left of it, what was below is above.
    points = patient.center_mm + torch.tensor([[15.0, 0, 0], [0, 15, 0]], **DOUBLE) @ poses[0][:3, :3].T
    one, other = (project(points, corner, pose) - middle[:2] for pose in poses)
    assert bool((one[[0, 1], [0, 1]].abs() > 1).all())
    assert bool((other[[0, 1], [0, 1]] * one[[0, 1], [0, 1]] < -1).all())
    twice = turned.upside_down().rig_from_camera
    torch.testing.assert_close(twice, crop.rig_from_camera, rtol=0, atol=1e-9)


def test_a_good_pose_holds_against_kicks(phantom, monkeypatch):
    patient, xrays = phantom
    pose = xrays[0].true_pose
    args = (patient, [xrays[0].camera], [problem(patient, xrays, step_mm=None)])
    found = kicks.kick(*args, pose, patient.landmarks_mm)
    assert found.held == 1
    assert found.rival is None


def test_beside_the_right_valley_kicks_find_the_way_out(phantom, monkeypatch):
    patient, xrays = phantom
    # As far beside it that a registration would call it rest only if its steps were wrong.
    twist = torch.tensor([0.02, 0.01, -0.02, 7.0, 4.0, 6.0], **DOUBLE)
    beside = perturb(xrays[0].true_pose, twist, patient.center_mm)
    descended = kicks._descended

    def stuck(levels, poses, center_mm):
        """The first one is held where it is: a valley of its own."""
        return torch.cat([poses[:1], descended(levels, poses[1:], center_mm)])

    monkeypatch.setattr(kicks, "_descended", stuck)
    args = (patient, [xrays[0].camera], [problem(patient, xrays, step_mm=None)])
    found = kicks.kick(*args, beside, patient.landmarks_mm)
    assert found.held < 0.5
    assert found.rival_gain > 0.05
    assert mpd_mm(patient, xrays, found.rival) < 0.5 < mpd_mm(patient, xrays, beside)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rival_mm": 3.4, "rival_gain": 0.01, "held": 0.5}, "3.4 mm away"),
        ({"rival_mm": 3.4, "rival_gain": -0.02, "held": 0.9}, "fits as well"),
        ({"held": 0.0}, "0% of small kicks"),
    ],
)
def test_a_second_minimum_is_told(change, said):
    good = Evidence(0.9, 0.9, 0.1, True, 5.0, 1.0)
    verdict = judge(replace(good, **change), Thresholds())
    assert verdict.grade is Grade.CHECK
    assert said in verdict.reasons[0]
    far_worse = replace(good, rival_mm=20.0, rival_gain=-0.5, held=0.8)
    assert judge(far_worse, Thresholds()).grade is Grade.TRUSTED


def method(start, fallback=None, name: str = "test") -> MethodSettings:
    return MethodSettings(
        name=name,
        init="start",
        similarity="builtin",
        roi="none",
        optimizer="gauss_newton",
        weights="none",
        start=start,
        search=SETTINGS,
        regions=None,
        pixels=WeightSettings(),
        step_mm=None,
        fallback=fallback,
    )


MANY = MultiStartSettings(
    starts=1500, keep=10, iterations=8, rotation_sd_deg=30.0, translation_sd_mm=50.0, size_px=20, local_sigma_px=5.0
)


@pytest.fixture(scope="module")
def far_off(phantom) -> tuple[Patient, list[Xray]]:
    """Two X-rays, whose expected pose is right for the second and far off for the first."""
    patient, (first, second) = phantom
    far = perturb(first.true_pose, torch.tensor([0.9, -0.8, 0.7, 75.0, -60.0, 60.0], **DOUBLE), patient.center_mm)
    expected = [translation(-patient.center_mm) @ pose for pose in (far, second.true_pose)]
    return patient, [replace(one, rig_from_camera=rig) for one, rig in zip((first, second), expected, strict=True)]


def test_a_method_searches_again_where_it_is_not_trusted(far_off):
    rows = {one.row["projection"]: one.row for one in register_specimen(*far_off, method(PaSettings()), 0)}
    assert rows["000"]["verdict"] != "trusted"
    assert rows["000"]["fallback"] == Fallback.UNUSED
    again = {one.row["projection"]: one for one in register_specimen(*far_off, method(PaSettings(), MANY), 0)}
    assert again["000"].row["fallback"] == Fallback.KEPT
    assert again["000"].row["mpd_mm"] < 0.2 < rows["000"]["mpd_mm"]
    assert again["000"].row["init_mpd_mm"] == again["000"].mpd_mm[0]
    # Where the first attempt is trusted nothing changes.
    assert again["001"].row["fallback"] == Fallback.UNUSED
    assert again["001"].row["mpd_mm"] == rows["001"]["mpd_mm"]


def test_the_library_too_searches_again(far_off):
    patient, xrays = far_off
    once = register_xrays(patient, xrays[:1], method(PaSettings()))
    twice = register_xrays(patient, xrays[:1], method(PaSettings(), MANY))
    assert once.verdict.grade is not Grade.TRUSTED
    assert mpd_mm(patient, xrays, twice.pose) < 0.2
    assert twice.seconds > once.seconds


def test_a_fallback_that_is_no_better_is_not_kept(far_off):
    same = method(PaSettings(), PaSettings())
    rows = {one.row["projection"]: one.row for one in register_specimen(*far_off, same, 0)}
    plain = {one.row["projection"]: one.row for one in register_specimen(*far_off, method(PaSettings()), 0)}
    assert rows["000"]["fallback"] == Fallback.TRIED
    assert rows["000"]["mpd_mm"] == plain["000"]["mpd_mm"]


def long_patient() -> tuple[Patient, Xray, torch.Tensor]:
    """A CT of several unlike pieces along the axis, and a picture of its lowest part, with the true pose."""
    patient, (xray, _) = phantom_specimen(2)
    upright = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0], **DOUBLE))
    piece = patient.volume.values
    pieces = [piece, piece.flip(0), piece.flip(2), piece.transpose(1, 2)[:, :44, :44].contiguous()]
    width = min(one.shape[2] for one in pieces)
    values = torch.cat([one[:, :44, :width] for one in pieces])
    volume = Volume(values.contiguous(), upright)
    center = volume.center_mm
    aimed = center - torch.tensor([0.0, 0.0, 230.0], **DOUBLE)
    truth = perturb(pa_pose(aimed, 735.0), torch.tensor([0.04, -0.03, 0.05, 8.0, 5.0, -6.0], **DOUBLE), aimed)
    image = scaled(render(volume, xray.camera, truth[None]))[0]
    long = replace(patient, volume=volume, labels=None, center_mm=center, bone_points_mm=aimed + patient.landmarks_mm)
    rig = translation(-center) @ pa_pose(center, 735.0)
    shown = replace(xray, image=image, rig_from_camera=rig, true_pose=truth)
    points = aimed + torch.tensor([[30.0, 0, 0], [0, 30, 0], [0, 0, 30], [-20, -20, 0]], **DOUBLE)
    return replace(long, bone_points_mm=points, landmarks_mm=points), shown, truth


def test_along_a_long_ct_the_search_finds_the_picture_and_trusts_it():
    patient, xray, _ = long_patient()
    assert reach_along_mm(patient, xray) > 230
    plain = replace(search_method(), pixels=WeightSettings())
    result = register_xrays(patient, [xray], plain)
    assert mpd_mm(patient, [xray], result.pose) < 1
    assert result.verdict.grade is Grade.TRUSTED
    assert result.rounds == 1


def test_distance_is_judged_by_what_could_be_expected():
    patient, xray, _ = long_patient()
    axis = long_axis(patient.volume)
    reach = reach_along_mm(patient, xray)
    assert beyond_reach_mm(patient, xray, reach * axis) == pytest.approx(0, abs=1e-6)
    assert beyond_reach_mm(patient, xray, (reach + 30) * axis) == pytest.approx(30)
    across = torch.tensor([40.0, 0.0, 0.0], **DOUBLE)
    assert beyond_reach_mm(patient, xray, across - 0.5 * reach * axis) == pytest.approx(40)
    # A C-arm that was aimed at a label does not look anywhere else.
    named = replace(patient, center_mm=patient.center_mm + torch.tensor([0.0, 0.0, 50.0], **DOUBLE))
    assert reach_along_mm(named, xray) == 0
    short, (one, _) = phantom_specimen(2)
    assert reach_along_mm(short, one) == 0
