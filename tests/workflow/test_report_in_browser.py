"""The smoke run's report in a real browser: sorting, choosing, and the slider that blends X-ray and DRR."""

import pytest
from browser import chromium, needs_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

X_RAYS = 4
METHODS = 7

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser():
    with chromium(1600, 1200) as driver:
        yield driver


@pytest.fixture
def page(browser, smoke):
    browser.get((smoke.folder / "results/smoke/report.html").as_uri())
    return browser


def column(page, number: int) -> list[str]:
    return [cell.text for cell in page.find_elements(By.CSS_SELECTOR, f"#xrays tbody td:nth-child({number})")]


TABLES = ["Table 1", "Table 2", "Table 3", "Ablation"]


def head(page, key: str):
    return page.find_element(By.CSS_SELECTOR, f"#xrays th[data-key='{key}']")


def sort_by(page, key: str) -> None:
    page.execute_script("arguments[0].click()", head(page, key).find_element(By.TAG_NAME, "button"))


def test_the_page_loads_without_a_complaint(page):
    assert page.get_log("browser") == []
    titles = [title.text for title in page.find_elements(By.TAG_NAME, "h3")]
    assert [title.split(":")[0] for title in titles] == [*TABLES, "Bones with poses of their own"]


def test_every_picture_is_shown(page):
    page.execute_script("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    pictures = page.find_elements(By.TAG_NAME, "img")
    assert len(pictures) > X_RAYS * METHODS * 6
    page.execute_async_script(
        "const done = arguments[0];Promise.all([...document.images].map((image) => image.decode())).then(() => done());"
    )
    assert all(page.execute_script("return [...document.images].map((image) => image.naturalWidth > 1)"))


@pytest.mark.parametrize(("key", "number"), [("mpd_mm", 4), ("init_mpd_mm", 3), ("seconds", 7)])
def test_a_click_sorts_and_a_second_one_turns_the_order(page, key, number):
    sort_by(page, "name")
    sort_by(page, key)
    values = [float(text) for text in column(page, number)]
    assert len(values) == X_RAYS * METHODS
    assert values == sorted(values)
    assert head(page, key).get_attribute("aria-sort") == "ascending"
    sort_by(page, key)
    assert [float(text) for text in column(page, number)] == sorted(values, reverse=True)
    assert head(page, key).get_attribute("aria-sort") == "descending"


def test_names_sort_too(page):
    sort_by(page, "name")
    assert column(page, 2) == sorted(column(page, 2))


def test_a_method_can_be_chosen(page):
    Select(page.find_element(By.ID, "method")).select_by_visible_text("Ours")
    assert column(page, 1) == ["Ours"] * X_RAYS
    assert page.find_element(By.ID, "count").text == f"{X_RAYS} of {X_RAYS * METHODS}"


def test_the_slider_blends_x_ray_and_drr(page):
    slider = page.find_element(By.ID, "blend")
    for share in (0, 25, 100):
        page.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, share
        )
        shown = {image.value_of_css_property("opacity") for image in page.find_elements(By.CSS_SELECTOR, ".blend .drr")}
        assert {float(value) for value in shown} == {share / 100}
        assert page.find_element(By.ID, "share").text == f"{share}%"


def test_the_blended_drr_can_be_of_start_end_or_truth(page):
    sources = {}
    for pose in ("start", "end", "truth"):
        button = page.find_element(By.CSS_SELECTOR, f"input[name=pose][value={pose}]")
        page.execute_script("arguments[0].click()", button)
        row = page.find_element(By.CSS_SELECTOR, "#xrays tbody tr")
        sources[pose] = row.find_element(By.CSS_SELECTOR, ".blend .drr").get_attribute("src")
        assert sources[pose] == row.find_element(By.CSS_SELECTOR, f"img[alt='{pose}']").get_attribute("src")
    assert len(set(sources.values())) == 3


def test_a_failed_x_ray_is_marked(page):
    marked = page.find_elements(By.CSS_SELECTOR, "#xrays tr.failed td.error")
    assert marked
    assert all(float(cell.text) >= 1 for cell in marked)
