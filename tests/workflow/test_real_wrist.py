"""Real X-rays of a wrist, where they are at hand: geometry, and bones from perturbed references."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import real_wrist
import torch
from real_wrist import read_reference, read_views, read_wrist, reference_file, rows, summary

from roireg.errors import InputError
from roireg.geometry.se3 import invert

DATA = Path(__file__).parents[3] / "shared" / "data" / "wrist"
ABSENT = [path for path in real_wrist.needed_files(DATA) if not path.is_file()]
NO_VOLUMES = [path for path in ABSENT if "volumes" not in path.parts]
at_hand = pytest.mark.skipif(bool(NO_VOLUMES), reason=f"not at hand: {', '.join(map(str, NO_VOLUMES))}")
whole = pytest.mark.skipif(bool(ABSENT), reason=f"not at hand: {', '.join(map(str, ABSENT))}")


@at_hand
@pytest.mark.parametrize("bone", real_wrist.BONES)
def test_camera_files_and_references_tell_of_the_same_cameras(bone):
    for number, xray in zip(real_wrist.CAMERAS, read_views(DATA), strict=True):
        stored = json.loads(reference_file(DATA, bone, number).read_text())
        expected = torch.tensor(stored["volume_from_camera"], dtype=torch.float64)
        found = read_reference(DATA, bone) @ xray.rig_from_camera
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
        k = torch.tensor(stored["camera"]["intrinsics_px"], dtype=torch.float64)
        # The reader's focal length is the mean of both directions, to which pixels are fitted.
        torch.testing.assert_close(xray.stored_camera.intrinsics_px, k, rtol=1e-4, atol=0.1)


@whole
def test_both_views_find_the_bones_of_the_reference():
    table = pd.DataFrame(list(rows(read_wrist(DATA), 2, None)))
    jointly = table[(table["views"] == "both") & (table["draw"] != "guess")]
    assert (jointly["error_3d_mm"] < real_wrist.RIGHT_MM).mean() >= 0.75
    assert (summary(table)["of these wrong"] == 0).all()


def test_what_is_not_at_hand_is_told(tmp_path):
    with pytest.raises(InputError, match=r"it lacks xrays/frame099_cam1\.tif") as raised:
        read_wrist(tmp_path)
    assert "docs/real-data.md" in str(raised.value)


def test_the_summary_counts_what_trusted_is_worth():
    right = {"bone": "rad", "views": "camera 1", "in_plane_mm": 0.3, "depth_mm": 4.0, "depth_sd_mm": 2.0}
    cases = [
        {**right, "verdict": "trusted"},
        {**right, "verdict": "trusted", "depth_mm": -7.0},
        {**right, "verdict": "trusted", "in_plane_mm": 2.5},
        {**right, "verdict": "check", "in_plane_mm": 9.0, "depth_mm": 90.0},
    ]
    table = pd.DataFrame([{**one, "draw": str(n), "error_3d_mm": np.hypot(4.0, 0.3)} for n, one in enumerate(cases)])
    guess = {**cases[0], "draw": "guess", "error_3d_mm": 50.0, "in_plane_mm": 40.0}
    (line,) = summary(pd.concat([table, pd.DataFrame([guess])])).to_dict("records")
    assert line["draws"] == 4
    assert line["trusted"] == 3
    assert line["of these wrong"] == 2
    assert line["in plane < 0.5 mm"] == 0.5


def test_the_middle_of_rays_is_between_the_cameras():
    if NO_VOLUMES:
        pytest.skip("no cameras at hand")
    views = read_views(DATA, 64)
    middle = real_wrist.middle_of_rays_mm(views)
    for bone in real_wrist.BONES:
        # The wrist is somewhere in the middle of both pictures.
        origin = invert(read_reference(DATA, bone))[:3, 3]
        assert float((middle - origin).norm()) < 200
