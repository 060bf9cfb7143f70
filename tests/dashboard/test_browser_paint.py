"""Painting, combining and drawing on one image, as a hand does it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Page

from cache import held, queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, RegionMass
from cache.regions import PRESETS, Region
from cache.run import Run
from dashboard.region_board import Board
from tests.dashboard.steps import drag, drawn, region_of
from tests.dashboard.test_browser_region import start, visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def painted(region: Region | None) -> Region:
    assert region is not None
    assert region.kind == "mask"
    return region


def until(page: Page, region: Region) -> None:
    """Wait until the link holds a region; two quick clicks may pass through others."""
    for _ in range(150):
        if region_of(page) == region:
            return
        page.wait_for_timeout(100)
    assert region_of(page) == region


def test_brush_eraser_undo_and_the_link(browser_page: Page, chromium: Browser, served: str) -> None:
    start(browser_page, served)
    browser_page.locator("[data-tool=brush]").click()
    drag(browser_page, (0.1, 0.9), (0.3, 0.85), (0.35, 0.7))
    first = painted(drawn(browser_page))
    assert first.coverage(56)[50, 6] == 1
    assert 0.03 < first.area() < 0.12
    drag(browser_page, (0.8, 0.1), (0.9, 0.1))
    second = painted(drawn(browser_page, first))
    assert second.area() > first.area()
    browser_page.locator("[data-tool=eraser]").click()
    drag(browser_page, (0.8, 0.1), (0.9, 0.1))
    assert painted(drawn(browser_page, second)).area() == pytest.approx(first.area(), abs=0.002)
    browser_page.locator(".undo").click()
    browser_page.locator(".undo").click()
    until(browser_page, first)
    browser_page.locator(".redo").click()
    until(browser_page, second)
    assert len(browser_page.url) < 1_000
    context = chromium.new_context(viewport={"width": 1280, "height": 950}, color_scheme="dark")
    other = context.new_page()
    visit(other, browser_page.url)
    assert other.locator(".edge").get_attribute("d")
    assert region_of(other) == second
    context.close()


def test_a_brush_goes_on_from_a_preset_and_by_keys(browser_page: Page, served: str) -> None:
    start(browser_page, served)
    browser_page.locator("[data-preset=bottom_left]").click()
    preset = drawn(browser_page)
    browser_page.locator(".stage").focus()
    browser_page.keyboard.press("p")
    for key in ("ArrowUp", "]", "Space"):
        browser_page.keyboard.press(key)
    region = painted(drawn(browser_page, preset))
    cells = region.coverage(56)
    assert cells[42:, :14].all()
    assert cells[26, 28] == 1
    assert cells[5, 5] == 0
    browser_page.keyboard.press("Control+z")
    assert drawn(browser_page, region) == preset


def test_the_answer_follows_the_hand(browser_page: Page, served: str, catalog: Catalog) -> None:
    start(browser_page, served)
    browser_page.locator(".stage").scroll_into_view_if_needed()
    box = browser_page.locator(".stage").bounding_box()
    assert box is not None
    browser_page.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 0.7 * box["height"])
    browser_page.mouse.down()
    browser_page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.98 * box["height"], steps=5)
    answer = browser_page.locator(".answer b").first
    answer.wait_for()
    assert region_of(browser_page) is None, "nothing is kept before the hand lets go"
    browser_page.mouse.up()
    region = drawn(browser_page)
    assert region is not None
    n = held.split(catalog, Filter(), RegionMass(region, 0.3, None, "gradcam")).inside.n
    browser_page.locator(".answer b").first.get_by_text(str(n), exact=True).wait_for()


def test_two_regions_are_combined_and_browse_follows(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    start(browser_page, served)
    browser_page.locator("[data-preset=bottom_left]").click()
    first = drawn(browser_page)
    browser_page.get_by_role("button", name="Another region").click()
    assert drawn(browser_page, first) is None
    browser_page.get_by_text("Draw the next region").wait_for()
    browser_page.locator("[data-preset=center]").click()
    drawn(browser_page)
    browser_page.get_by_role("radio", name="Any of these").or_(
        browser_page.get_by_role("button", name="Any of these")
    ).first.click()
    browser_page.get_by_text("either with at least 30%").first.wait_for()
    board = Board.from_param(parse_qs(urlparse(browser_page.url).query)["regions"][0])
    condition = board.condition(RegionMass(PRESETS["center"], 0.3, None, "gradcam"), 0)
    assert condition is not None
    n = held.split(catalog, Filter(), condition).inside.n
    browser_page.get_by_role("button", name="Open in Browse").click()
    browser_page.wait_for_url("**/browse?**")
    browser_page.get_by_text(f"{n} of 150 images").wait_for()


def test_the_object_of_one_image_is_drawn_on(browser_page: Page, served: str, catalog: Catalog) -> None:
    sample_id = queries.ids(catalog, Filter((Is("masked", True),)), limit=1)[0]
    start(browser_page, served, on=sample_id)
    assert browser_page.locator(".photo").get_attribute("alt") == f"The image {sample_id}"
    assert browser_page.locator(".object").get_attribute("d")
    browser_page.get_by_role("button", name="Its object").click()
    region = painted(drawn(browser_page))
    browser_page.get_by_text("in a painted area covering").first.wait_for()
    drag(browser_page, (0.1, 0.1), (0.4, 0.4))
    other = drawn(browser_page, region)
    assert other is not None
    assert other.kind == "box"
    assert parse_qs(urlparse(browser_page.url).query)["on"] == [sample_id]
