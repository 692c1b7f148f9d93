"""The stream: pictures are those of `render`, follow the hand, and the newest pose wins."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from workbench import Picture

from roireg.data.images import scaled
from roireg.drr import coverage, render
from roireg.drr.render import default_step_mm
from roireg.geometry.camera import project


def grey(image: torch.Tensor) -> np.ndarray:
    return (scaled(image[None])[0] * 255).round().to(torch.uint8).numpy()


def expected(client, full: bool, view: int = 0) -> np.ndarray:
    """The DRR at the present pose by the library's own function."""
    state = client.workbench.state
    camera, step = state.views[view].shown.camera, default_step_mm(state.patient.volume)
    if not full:
        camera, step = camera.resized(256, 256), 2 * step
    return grey(render(state.patient.volume, camera, state.pose(view)[None], step)[0])


def test_pictures_are_those_of_render_at_the_pose(client):
    with client.stream() as page:
        page.send(type="move", gesture=1, view=0, kind="shift", amount=[25, -12, 0], sequence=1)
        page.send(type="move", gesture=2, view=0, kind="turn", amount=[4, -7, 3], sequence=2)
        moving = page.drr(2)
        assert moving.pixels.shape == (256, 256)
        assert np.array_equal(moving.pixels, expected(client, full=False))
        resting = page.drr(2, full=True)
        assert resting.pixels.shape == (320, 320)
        # Bands are rendered with rays of their own, whose last bits differ.
        assert int(np.abs(resting.pixels.astype(int) - expected(client, full=True)).max()) <= 1
        span = resting.header["high"] - resting.header["low"]
        assert span == pytest.approx(float(np.ptp(render_values(client))), rel=1e-4)


def render_values(client) -> np.ndarray:
    state = client.workbench.state
    return render(state.patient.volume, state.views[0].shown.camera, state.pose(0)[None])[0].numpy()


def test_the_x_ray_comes_first_as_it_was_read(client):
    with client.stream() as page:
        xray = page.until(lambda one: isinstance(one, Picture) and one.header["kind"] == "xray")
        shown = client.workbench.state.views[0].shown.image
        assert np.array_equal(xray.pixels, (shown * 255).round().to(torch.uint8).numpy())


def test_a_drag_of_d_pixels_moves_the_projected_centre_by_d_pixels(client):
    state = client.workbench.state
    camera = state.views[0].shown.camera
    before = project(state.patient.center_mm[None], camera, state.pose(0))[0]
    with client.stream() as page:
        # The amount counts from the beginning of the gesture: only the last one matters.
        for across in range(0, 41, 4):
            page.send(type="move", gesture=5, view=0, kind="shift", amount=[across, 7, 0], sequence=across)
        page.drr(40)
        state = client.workbench.state
        after = project(state.patient.center_mm[None], camera, state.pose(0))[0]
        assert (after - before).tolist() == pytest.approx([40.0, 7.0])
        page.send(type="undo", sequence=50)
        page.drr(50)
        assert torch.allclose(client.workbench.state.rig_pose, state.undo[-1])
        page.send(type="redo", sequence=51)
        page.drr(51)
        assert torch.allclose(client.workbench.state.rig_pose, state.rig_pose)


def test_all_x_rays_move_together(client):
    rig = [view.shown.rig_from_camera for view in client.workbench.state.views]
    with client.stream() as page:
        page.drr(view=1)
        page.send(type="move", gesture=1, view=1, kind="turn", amount=[10, 5, 0], sequence=1)
        second = page.drr(1, view=1)
        assert np.array_equal(second.pixels, expected(client, full=False, view=1))
    state = client.workbench.state
    assert torch.allclose(torch.linalg.inv(state.pose(0)) @ state.pose(1), torch.linalg.inv(rig[0]) @ rig[1])


def test_poses_that_were_passed_meanwhile_are_not_drawn(client):
    with client.stream() as page:
        page.drr()
        for number in range(1, 61):
            page.send(type="move", gesture=1, view=0, kind="turn", amount=[number / 4, 0, 0], sequence=number)
        seen = []
        while not seen or seen[-1] < 60:
            seen.append(page.drr(1).header["sequence"])
        assert len(seen) < 30
        assert seen == sorted(seen)


def test_a_page_that_draws_nothing_is_sent_no_further_pictures(client):
    """What is on its way is at most two pictures old, however slow the line is."""
    with client.stream() as page:
        page.drr(full=True)
        page.drr(full=True, view=1)
        send, page.send = page.send, lambda **message: None
        for number in range(1, 4):
            send(type="move", gesture=1, view=0, kind="turn", amount=[number, 0, 0], sequence=number)
        # One of each view; pictures at rest are not counted, as they come once.
        moving = 0
        with suppress(TimeoutError):
            while True:
                message = page.receive(1.0)
                moving += isinstance(message, Picture) and not message.header.get("full", True)
        assert moving == 2


def test_what_the_ct_does_not_cover_is_shown_if_the_page_asks(client):
    with client.stream() as page:
        page.send(type="planes", covered=True, outlines=True)
        covered = page.until(lambda one: isinstance(one, Picture) and one.header["kind"] == "covered")
        state = client.workbench.state
        camera = state.views[0].shown.camera.resized(256, 256)
        own = (coverage(state.patient.volume, camera, state.pose(0)[None])[0] > 0).numpy()
        shown = covered.pixels > 0
        assert not (shown & ~own).any()
        # Nor does air that saturates the detector count.
        mask = state.views[0].shown.mask.numpy()
        rows, columns = (
            np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shown.shape, mask.shape, strict=True)
        )
        assert not mask.all()
        assert np.array_equal(shown, own & mask[np.ix_(rows, columns)])
        outlines = page.until(lambda one: isinstance(one, Picture) and one.header["kind"] == "outlines")
        assert set(np.unique(outlines.pixels)) > {0}
        assert int(outlines.pixels.max()) <= len(state.patient.label_names)


def test_numbers_presets_and_pivot(client):
    with client.stream() as page:
        page.send(type="preset", view=0, name="left", sequence=1)
        page.drr(1)
        numbers = page.last["pose"]["views"][0]["numbers"]
        assert numbers["primary_deg"] == pytest.approx(90.0)
        typed = {**numbers, "primary_deg": 12.0, "depth_mm": 650.0}
        page.send(type="numbers", view=0, sequence=2, **typed)
        page.drr(2)
        assert page.last["pose"]["views"][0]["numbers"] == pytest.approx(typed, abs=1e-6)
        page.send(type="pivot", view=0, pixel=[100.0, 80.0], sequence=3)
        page.drr(3)
        assert page.last["pose"]["views"][0]["pivot_px"] == pytest.approx([100.0, 80.0])
        page.send(type="move", gesture=9, view=0, kind="turn", amount=[20, 10, 5], sequence=4)
        page.drr(4)
        assert page.last["pose"]["views"][0]["pivot_px"] == pytest.approx([100.0, 80.0])
        page.send(type="preset", view=0, name="stated", sequence=5)
        page.drr(5)
        numbers = page.last["pose"]["views"][0]["numbers"]
        assert [numbers["primary_deg"], numbers["across_mm"], numbers["depth_mm"]] == pytest.approx(
            [0, 0, 720], abs=1e-3
        )
        assert page.last["pose"]["views"][0]["sides"] == ["R", "L", "H", "F"]


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"type": "move"}',
        '{"type": "move", "gesture": 1, "view": 0, "kind": "shift", "amount": [1e999, 0, 0]}',
        '{"type": "preset", "view": 7, "name": "pa"}',
        '{"type": "show", "found": 3}',
    ],
)
def test_what_is_no_message_is_told_in_one_line(client, message):
    with client.stream() as page:
        page.connection.send(message)
        error = page.until(lambda one: isinstance(one, dict) and one["type"] == "error")
        assert error["text"]
        assert "\n" not in error["text"]
        # The stream goes on.
        page.send(type="move", gesture=1, view=0, kind="shift", amount=[1, 0, 0], sequence=9)
        page.drr(9)
