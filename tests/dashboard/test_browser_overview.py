from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from playwright.sync_api import Locator, Page, expect

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf, Range
from cache.run import Run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def visit(page: Page, served: str, run: str = "animals", **params: str) -> None:
    page.goto(f"{served}/?{urlencode({'run': run, **params})}")
    expect(page.locator(".chart .area")).to_have_count(3)
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_timeout(600)


def plot(page: Page, key: str) -> Locator:
    area = page.locator(f"[class*='st-key-{key}'] .area").first
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    return area


def click_at(page: Page, area: Locator, across: float, down: float) -> None:
    box = area.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
    page.wait_for_timeout(200)
    page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)


def browsed(page: Page) -> Filter:
    page.wait_for_url("**/browse?**")
    page.get_by_role("heading", name="Browse").wait_for()
    return Filter.from_param(parse_qs(urlparse(page.url).query)["filter"][0])


def test_a_cell_of_the_matrix_opens_its_samples(browser_page: Page, served: str, catalog: Catalog) -> None:
    visit(browser_page, served)
    area = plot(browser_page, "overview_confusion")
    # Far from the middle of the cell of huskies called wolf: any place within a cell counts.
    click_at(browser_page, area, 0.04, 0.46)
    expected = Filter((OneOf("label", ("husky",)), OneOf("pred", ("wolf",))))
    assert browsed(browser_page) == expected
    browser_page.get_by_text(f"{queries.count(catalog, expected).n} of 150 images").wait_for()


def test_a_bar_of_the_reliability_diagram_opens_its_range(browser_page: Page, served: str) -> None:
    visit(browser_page, served)
    click_at(browser_page, plot(browser_page, "overview_reliability"), 0.95, 0.6)
    assert browsed(browser_page) == Filter((Range("confidence", 0.9, 1.0),))


def test_a_dragged_range_of_a_statistic_opens_it(browser_page: Page, served: str) -> None:
    visit(browser_page, served, statistic="border_mass")
    box = plot(browser_page, "overview_outcome").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    browser_page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    browser_page.mouse.down()
    browser_page.mouse.move(box["x"] + box["width"] * 0.7, middle + 10, steps=5)
    browser_page.mouse.move(box["x"] + box["width"] * 0.9, middle + 20, steps=5)
    browser_page.mouse.up()
    (condition,) = browsed(browser_page).conditions
    assert isinstance(condition, Range)
    assert (condition.field, condition.method, condition.target) == ("border_mass", "gradcam", "pred")
    assert 0 < float(condition.low or 0) < float(condition.high or 0) < 1


def test_a_cell_of_the_class_table_opens_what_it_counts(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    visit(browser_page, served)
    worst = min(queries.per_class(catalog, Filter()).to_pylist(), key=lambda row: row["recall"])
    table = browser_page.locator(".st-key-overview_classes canvas").first
    box = table.bounding_box()
    assert box is not None
    browser_page.mouse.click(box["x"] + 20, box["y"] + 55)
    assert browsed(browser_page) == Filter((OneOf("label", (worst["name"],)),))


def test_a_statistic_of_the_ranking_is_shown_and_linked(browser_page: Page, served: str) -> None:
    visit(browser_page, served)
    table = browser_page.locator(".st-key-overview_ranking canvas").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    browser_page.mouse.click(box["x"] + 60, box["y"] + 35 + 30 * 2.5)
    browser_page.wait_for_url("**statistic=**")
    chosen = parse_qs(urlparse(browser_page.url).query)["statistic"][0]
    browser_page.locator(f"[class*='st-key-overview_outcome_gradcam_pred_{chosen}']").wait_for()


def test_the_wrong_ones_are_a_button_away(browser_page: Page, served: str) -> None:
    visit(browser_page, served)
    browser_page.get_by_role("button", name="See the wrong ones").click()
    assert browsed(browser_page) == Filter((Is("correct", False),))
