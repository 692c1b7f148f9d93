"""The workbench in a real browser: open files, drag, register, save, open again; a wrong file is one line."""

import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import chromium, needs_browser
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from workbench import running, write_files

from roireg.data.images import scaled
from roireg.drr import render
from roireg.geometry.camera import project
from roireg.register.judgement import projection_shift_mm
from roireg.view.serve import Opened, prepared

pytestmark = needs_browser
WAIT_S = 90
POSE = [f"pose_{r}{c}" for r in range(3) for c in range(4)]
# Grey values of the first tile's canvas, as they are shown.
PIXELS = """
const canvas = document.querySelector(".picture");
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return [canvas.width, canvas.height, canvas.dataset.full, Array.from(data.filter((_, i) => i % 4 === 0))];
"""


class Page:
    """The page, and the workbench behind it."""

    def __init__(self, driver, client, downloads: Path) -> None:
        self.driver, self.client, self.downloads = driver, client, downloads

    @property
    def state(self):
        return self.client.workbench.state

    def at(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition):
        return WebDriverWait(self.driver, WAIT_S, 0.05).until(lambda _: condition())

    def tab(self, name: str) -> None:
        self.at(f"#tab-{name}").click()

    def set(self, selector: str, value) -> None:
        """A control's value, told as a hand would."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        self.driver.execute_script(script, self.at(selector), value)

    def picture(self, full: bool = True) -> np.ndarray:
        """What is shown once the hand rests."""

        def shown():
            width, height, is_full, values = self.driver.execute_script(PIXELS)
            return np.array(values, np.uint8).reshape(height, width) if is_full == str(full).lower() else None

        found = self.wait(lambda: (image := shown()) is not None and (image,))
        return found[0]

    def expected(self) -> np.ndarray:
        """The DRR at the present pose, by the library."""
        state = self.state
        image = render(state.patient.volume, state.views[0].shown.camera, state.pose(0)[None])
        return (scaled(image)[0] * 255).round().numpy().astype(np.uint8)

    def drag(self, across: int, down: int, right: bool = False) -> None:
        """A drag of the first X-ray's middle by so many pixels of the screen."""
        chain = ActionChains(self.driver, duration=20).move_to_element(self.at(".stage"))
        if right:
            # Selenium's chains hold the left button only; with Ctrl it turns, as the right one does.
            chain = chain.key_down(Keys.CONTROL)
        chain.click_and_hold()
        for _ in range(4):
            chain.move_by_offset(across // 4, down // 4)
        chain.release()
        if right:
            chain = chain.key_up(Keys.CONTROL)
        chain.perform()

    def downloaded(self, name: str) -> Path:
        path = self.downloads / name
        self.wait(path.exists)
        return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(downloads):
    with chromium(1280, 800, str(downloads)) as browser:
        yield browser


@pytest.fixture
def opened(driver, files, downloads, tmp_path):
    with running(files.opened(xrays=2), tmp_path) as client:
        driver.get(client.address + "/")
        page = Page(driver, client, downloads)
        page.wait(lambda: len(driver.find_elements(By.CSS_SELECTOR, ".tile")) == 2)
        yield page


def test_from_files_to_a_pose_and_back(driver, files, downloads, tmp_path):
    with running(Opened(), tmp_path) as client:
        driver.get(client.address + "/")
        page = Page(driver, client, downloads)
        page.tab("files")
        page.at("[name=ct]").send_keys(str(files.ct))
        page.at("#open-ct button").click()
        page.wait(lambda: "chest.nrrd" in page.at("#opened").text)

        # A wrong file is one line in the page.
        wrong = tmp_path / "notes.dcm"
        wrong.write_text("no X-ray")
        page.at("[name=xray]").send_keys(str(wrong))
        page.at("#open-xray button").click()
        page.wait(lambda: page.at("#error").is_displayed())
        assert "notes.dcm" in page.at("#error span").text
        assert "\n" not in page.at("#error span").text

        page.at("[name=xray]").send_keys(str(files.xrays[0]))
        page.at("#open-xray button").click()
        page.wait(lambda: "view1.dcm" in page.at("#opened").text)
        assert not page.at("#error").is_displayed()

        # Drag: the picture is the DRR at the pose, and the patient's centre has moved with the hand.
        page.set("#blend", 100)
        before = page.picture()
        assert int(np.abs(before.astype(int) - page.expected()).max()) <= 1
        camera, center = page.state.views[0].shown.camera, page.state.patient.center_mm
        was = project(center[None], camera, page.state.pose(0))[0]
        scale = page.at(".picture").size["width"] / camera.width
        page.drag(80, -40)
        page.wait(lambda: len(page.state.undo) == 1)
        time.sleep(0.3)
        after = page.picture()
        moved = (project(center[None], camera, page.state.pose(0))[0] - was) * scale
        assert moved.tolist() == pytest.approx([80, -40], abs=1.5)
        assert int(np.abs(after.astype(int) - page.expected()).max()) <= 1
        assert float(np.abs(after.astype(int) - before).mean()) > 5

        # Back by the keyboard, then register.
        page.at(".stage").send_keys(Keys.CONTROL + "z")
        page.wait(lambda: not page.state.undo)
        page.tab("register")
        page.at("#refine").click()
        page.wait(lambda: driver.find_elements(By.CSS_SELECTOR, "#found > li"))
        # The list is written anew when the job has ended.
        page.wait(lambda: page.at("#job").text == "Done." and page.at("#refine").is_enabled())
        entry = page.at("#found > li")
        assert entry.get_attribute("class") == page.state.found[0].grade == "trusted"
        assert page.state.found[0].reasons[0] in entry.text
        # Nothing of it is cut off.
        assert driver.execute_script("return arguments[0].scrollHeight - arguments[0].clientHeight", entry) == 0
        camera, points = page.state.views[0].shown.camera, page.state.patient.bone_points_mm
        assert projection_shift_mm(files.poses[0], page.state.pose(0), camera, points) < 0.5

        # Save, and open again.
        entry.find_element(By.XPATH, ".//button[.='Download']").click()
        with zipfile.ZipFile(page.downloaded("roireg-1.zip")) as archive:
            stored = json.loads(archive.read("pose.json"))
        assert stored["verdict"] == "trusted"
        assert np.allclose(stored["volume_from_camera"], page.state.pose(0).numpy())
        page.tab("files")
        page.at("#save-session").click()
        session = page.downloaded("session.json")
        again = prepared(Opened(session=session), tmp_path).state
        assert np.allclose(again.pose(0).numpy(), page.state.pose(0).numpy())
        assert again.found[0].grade == "trusted"
        page.at("#undo").click()
        page.wait(lambda: not np.allclose(again.pose(0).numpy(), page.state.pose(0).numpy()))
        page.at("#open-session").send_keys(str(session))
        page.wait(lambda: np.allclose(again.pose(0).numpy(), page.state.pose(0).numpy()))
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        complaints = [message for message in severe if "400 (Bad Request)" not in message]
        assert complaints == []


def test_two_x_rays_move_together(opened):
    first, second = opened.state.pose(0), opened.state.pose(1)
    opened.drag(60, 0, right=True)
    opened.wait(lambda: len(opened.state.undo) == 1)
    time.sleep(0.3)
    assert not np.allclose(opened.state.pose(0), first)
    between = np.linalg.inv(first.numpy()) @ second.numpy()
    assert np.allclose(np.linalg.inv(opened.state.pose(0).numpy()) @ opened.state.pose(1).numpy(), between)
    # 60 pixels are 18 degrees.
    turn = first[:3, :3].T @ opened.state.pose(0)[:3, :3]
    assert np.degrees(np.arccos((float(turn.trace()) - 1) / 2)) == pytest.approx(18, abs=0.5)


def test_keys_and_typed_numbers_move_the_patient(opened):
    stage = opened.at(".stage")
    before = opened.state.rig_pose
    stage.send_keys("q")
    opened.wait(lambda: not np.allclose(opened.state.rig_pose, before))
    stage.send_keys(Keys.ARROW_LEFT)
    opened.tab("pose")
    field = opened.at("#numbers [name=primary_deg]")
    opened.wait(lambda: field.get_attribute("value"))
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys("12", Keys.ENTER)
    opened.wait(lambda: abs(float(opened.state.pose(0)[0, 2] / -opened.state.pose(0)[1, 2]) - np.tan(0.2094395)) < 1e-3)


def test_the_scene_shows_bones_and_moves_with_the_patient(opened):
    opened.tab("scene")

    def drawn() -> str:
        """The scene's pixels, once they stay the same."""
        read = "return document.getElementById('scene').toDataURL()"
        last = [""]

        def settled():
            before, last[0] = last[0], opened.driver.execute_script(read)
            time.sleep(0.3)
            return len(last[0]) > 5000 and before == last[0]

        opened.wait(settled)
        return last[0]

    assert opened.at("#scene-fault").text == ""
    # The surface comes after the first picture.
    opened.wait(lambda: opened.driver.execute_script("return document.body.getAttribute('aria-busy')") is None)
    first = drawn()
    opened.at("#looks [value=left]").click()
    left = drawn()
    assert left != first
    opened.drag(60, 0)
    opened.wait(lambda: len(opened.state.undo) == 1)
    assert drawn() != left


def test_mirrored_is_seen_at_once(opened):
    opened.tab("geometry")
    assert float(opened.state.views[0].shown.camera.intrinsics_px[0, 0]) < 0
    opened.at("#mirror").click()
    opened.wait(lambda: float(opened.state.views[0].shown.camera.intrinsics_px[0, 0]) > 0)
    opened.set("#blend", 100)
    time.sleep(0.3)
    assert int(np.abs(opened.picture().astype(int) - opened.expected()).max()) <= 1


def test_points_are_clicked_in_a_slice_and_in_an_x_ray(opened):
    opened.tab("points")
    opened.wait(lambda: opened.at("#ct-slice").size["height"] > 150)
    time.sleep(0.3)
    opened.at("#ct-slice").click()
    opened.wait(lambda: opened.state.points and opened.state.points[0].ct_mm)
    # The middle of the middle slice.
    center = opened.state.patient.volume.center_mm.tolist()
    assert list(opened.state.points[0].ct_mm) == pytest.approx(center, abs=4)
    opened.at(".stage").click()
    opened.wait(lambda: opened.state.points[0].pixels)
    assert list(opened.state.points[0].pixels[0]) == pytest.approx([159.5, 159.5], abs=2)
    opened.at("#solve").click()
    opened.wait(lambda: "at least 4" in opened.at("#error span").text)


def test_every_control_has_a_name(opened):
    """For those who hear the page: a label, a text, or a description."""
    nameless = opened.driver.execute_script("""
        const controls = document.querySelectorAll("button, input, select, canvas[tabindex], [role=application]");
        return [...controls].filter((one) =>
            !one.textContent.trim() && !one.getAttribute("aria-label") && !(one.labels && one.labels.length)
        ).map((one) => one.outerHTML)""")
    assert nameless == []
    reachable = "return [...document.querySelectorAll('.stage, #ct-slice')].every((one) => one.tabIndex === 0)"
    assert opened.driver.execute_script(reachable)


def test_the_workflows_results_are_stepped_through_from_the_worst(driver, smoke, downloads, tmp_path):
    results = smoke.folder / "results/smoke/registrations/diffdrr/demo-01.csv"
    rows = pd.read_csv(results, dtype={"projection": str}).sort_values("mpd_mm", ascending=False)
    with running(Opened(study=results), tmp_path) as client:
        driver.get(client.address + "/")
        page = Page(driver, client, downloads)
        page.wait(lambda: len(driver.find_elements(By.CSS_SELECTOR, "#rows li")) == len(rows))
        assert page.at("#tab-study").get_attribute("aria-selected") == "true"
        told = [entry.text for entry in driver.find_elements(By.CSS_SELECTOR, "#rows li")]
        for text, (_, row) in zip(told, rows.iterrows(), strict=True):
            assert f"{row['projection']}: {row['mpd_mm']:.2f} mm, {row['verdict']}" in text
        page.set("#blend", 100)
        for place in range(len(rows)):
            page.wait(lambda place=place: page.state.place == place)
            time.sleep(0.3)
            assert int(np.abs(page.picture().astype(int) - page.expected()).max()) <= 1
            assert np.allclose(page.state.pose(0)[:3].flatten(), rows.iloc[place][POSE].to_numpy(float))
            if place + 1 < len(rows):
                page.at("#row-after").click()
        assert not page.at("#row-after").is_enabled()
        page.tab("register")
        driver.find_element(By.XPATH, "//button[@aria-label='Go to, pose 3']").click()
        page.tab("pose")
        page.wait(lambda: page.at("#truth").text.startswith("0.00 mm"))
