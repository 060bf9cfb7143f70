from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from playwright.sync_api import Browser, Page

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, RegionMass
from cache.regions import PRESETS, Region
from cache.run import Run
from dashboard import attention
from tests.dashboard.steps import drag, drawn, region_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def visit(page: Page, url: str) -> None:
    page.goto(url)
    page.locator(".stage").wait_for()
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_timeout(500)


def start(page: Page, served: str, **params: str) -> None:
    visit(page, f"{served}/region?{urlencode({'run': 'animals', **params})}")


def box_of(region: Region | None) -> list[float]:
    assert region is not None
    assert region.kind == "box"
    return [value for point in region.points for value in point]


def test_a_drawn_box_answers_and_its_link_opens_the_same_elsewhere(
    browser_page: Page, chromium: Browser, served: str, catalog: Catalog
) -> None:
    start(browser_page, served, share="40")
    drag(browser_page, (0.02, 0.7), (0.2, 0.85), (0.4, 0.98))
    region = drawn(browser_page)
    assert box_of(region) == pytest.approx([0.02, 0.7, 0.4, 0.98], abs=0.01)
    assert region is not None
    split = queries.region_split(catalog, Filter(), RegionMass(region, 0.4))
    told = f"{split.inside.n:,} of {split.inside.n + split.outside.n:,} samples"
    browser_page.get_by_text(told).first.wait_for()
    browser_page.locator(".edge").wait_for(state="attached")

    context = chromium.new_context(viewport={"width": 1500, "height": 950}, color_scheme="dark")
    other = context.new_page()
    visit(other, browser_page.url)
    other.get_by_text(told).first.wait_for()
    assert other.locator(".edge").get_attribute("d") == browser_page.locator(".edge").get_attribute("d")
    context.close()


def test_a_box_is_moved_resized_and_cleared_by_hand(browser_page: Page, served: str) -> None:
    start(browser_page, served)
    drag(browser_page, (0.3, 0.3), (0.6, 0.5))
    first = drawn(browser_page)
    drag(browser_page, (0.45, 0.4), (0.55, 0.5), (0.65, 0.6))
    moved = drawn(browser_page, first)
    assert box_of(moved) == pytest.approx([0.5, 0.5, 0.8, 0.7], abs=0.02)
    drag(browser_page, (0.8, 0.7), (0.85, 0.8), (0.9, 0.9))
    sized = drawn(browser_page, moved)
    assert box_of(sized) == pytest.approx([0.5, 0.5, 0.9, 0.9], abs=0.02)
    browser_page.locator(".stage").click(position={"x": 8, "y": 8})
    browser_page.wait_for_timeout(800)
    assert region_of(browser_page) == sized
    browser_page.locator(".picker .clear").click()
    assert drawn(browser_page, sized) is None
    browser_page.get_by_text("Draw a region on the image").wait_for()


def test_a_lasso_becomes_a_short_polygon(browser_page: Page, served: str) -> None:
    start(browser_page, served)
    browser_page.locator("[data-tool=lasso]").click()
    angles = [2 * math.pi * i / 60 for i in range(61)]
    drag(browser_page, *[(0.5 + 0.3 * math.cos(a), 0.5 + 0.2 * math.sin(a)) for a in angles])
    region = drawn(browser_page)
    assert region is not None
    assert region.kind == "polygon"
    assert len(region.points) < 45
    assert region.area() == pytest.approx(math.pi * 0.3 * 0.2, rel=0.05)
    browser_page.get_by_text("in a drawn shape covering").first.wait_for()


def test_keys_alone_pick_draw_move_and_clear(browser_page: Page, served: str) -> None:
    start(browser_page, served)
    browser_page.locator("[data-preset=bottom_left]").focus()
    browser_page.keyboard.press("Enter")
    preset = drawn(browser_page)
    assert preset == PRESETS["bottom_left"]
    browser_page.get_by_text("in the lower left corner").first.wait_for()
    assert browser_page.locator("[data-preset=bottom_left]").get_attribute("aria-pressed") == "true"
    browser_page.locator(".stage").focus()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        browser_page.keyboard.press(key)
    moved = drawn(browser_page, preset)
    assert box_of(moved) == pytest.approx([1 / 14, 0.75, 0.25 + 1 / 14, 1 - 1 / 28], abs=0.001)
    browser_page.keyboard.press("Escape")
    assert drawn(browser_page, moved) is None
    browser_page.keyboard.press("ArrowDown")
    assert box_of(drawn(browser_page)) == [0.25, 0.25, 0.75, 0.75]


def test_snapping_keeps_to_the_grid(browser_page: Page, served: str) -> None:
    start(browser_page, served)
    browser_page.locator(".picker .snap").check()
    drag(browser_page, (0.11, 0.2), (0.3, 0.3), (0.53, 0.61))
    assert [value * 14 for value in box_of(drawn(browser_page))] == pytest.approx([2, 3, 7, 9], abs=0.01)


def test_a_bar_of_the_histogram_sets_the_share(browser_page: Page, served: str) -> None:
    start(browser_page, served, region=attention.region_to_param(PRESETS["bottom_left"]), share="5")
    area = browser_page.locator(".st-key-region_mass .area").first
    box = area.bounding_box()
    assert box is not None
    bars = browser_page.locator(".st-key-region_mass .bars rect").all()
    tall = max(
        (bar.bounding_box() for bar in bars),
        key=lambda b: b["height"] if b and b["x"] > box["x"] + 0.3 * box["width"] else -1,
    )
    assert tall is not None
    browser_page.mouse.click(tall["x"] + tall["width"] / 2, tall["y"] + tall["height"] / 2)
    browser_page.wait_for_function(
        "!location.search.includes('share=5&') && !location.search.endsWith('share=5')"
    )
    share = float(parse_qs(urlparse(browser_page.url).query)["share"][0])
    assert share > 20
    browser_page.get_by_text(f"at least {share:g}%").first.wait_for()


def test_the_matching_samples_open_in_browse(browser_page: Page, served: str, catalog: Catalog) -> None:
    start(browser_page, served, region=attention.region_to_param(PRESETS["bottom_left"]), share="40")
    browser_page.get_by_role("button", name="Open in Browse").click()
    browser_page.wait_for_url("**/browse?**")
    chosen = Filter.from_param(parse_qs(urlparse(browser_page.url).query)["filter"][0])
    expected = Filter((RegionMass(PRESETS["bottom_left"], 0.4, None, "gradcam"),))
    assert chosen == expected
    browser_page.get_by_text(f"{queries.count(catalog, expected).n} of 150 images").wait_for()


def test_a_finger_draws_too(chromium: Browser, served: str) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 950}, has_touch=True)
    page = context.new_page()
    start(page, served)
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    session = context.new_cdp_session(page)
    for kind, x, y in (("Start", 0.2, 0.2), ("Move", 0.4, 0.4), ("Move", 0.7, 0.8), ("End", 0, 0)):
        points = (
            [] if kind == "End" else [{"x": box["x"] + box["width"] * x, "y": box["y"] + box["height"] * y}]
        )
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    assert box_of(drawn(page)) == pytest.approx([0.2, 0.2, 0.7, 0.8], abs=0.02)
    context.close()
