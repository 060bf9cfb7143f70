"""One audit from end to end: what goes wrong is found, marked, told apart, handed on, and comes back with another's words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cache import queries
from cache.catalog import Catalog
from cache.conditions import RegionMass
from cache.filters import Filter, Is
from cache.review_views import tags, views
from cache.reviews import Reviews
from cache.run import Run
from tests.dashboard.conftest import PAGE_TIMEOUT
from tests.dashboard.steps import (
    drag,
    drawn,
    opened,
    param,
    prepare,
    review_as,
    save_view,
    settle,
    tag_in_gallery,
    tiles,
)
from tests.dashboard.test_sharing import dashboard

pytestmark = pytest.mark.browser
CORNER = ((0.0, 0.68), (0.15, 0.85), (0.34, 1.0))


def shown(page: Page) -> list[str]:
    """What each picture of the gallery says, in order."""
    texts: list[str] = page.locator("a.tile").evaluate_all("nodes => nodes.map(node => node.textContent)")
    return texts


def test_from_a_mistake_to_a_bundle_and_back(
    own_server: str, own_runs: Path, browser_page: Page, chromium: Browser, tmp_path: Path
) -> None:
    page, run = browser_page, own_runs / "animals"
    catalog, reviews = Catalog(Run.open(run)), Reviews.of_run(run)

    # The wrongly classified.
    page.goto(f"{own_server}/browse?run=animals")
    tiles(page)
    review_as(page, "Ann Lee")
    page.get_by_text("Wrong", exact=True).click()
    expect(page.get_by_text("Wrong predictions —")).to_be_visible()

    # Of them, those that look at the corner: a box.
    page.get_by_test_id("stSidebar").get_by_role("link", name="Region").click()
    page.wait_for_url("**/region?**")
    page.locator(".stage").wait_for()
    settle(page)
    drag(page, *CORNER)
    region = drawn(page)
    assert region is not None
    assert region.kind == "box"
    settle(page)
    page.get_by_role("button", name="Open in Browse").click()
    page.wait_for_url("**/browse?**")
    chosen = Filter.from_param(param(page, "filter") or "")
    assert chosen.conditions[0] == Is("correct", False)
    assert isinstance(chosen.conditions[1], RegionMass)
    assert chosen.conditions[1].region == region
    ids = queries.ids(catalog, chosen)
    assert 1 < len(ids) < queries.count(catalog, Filter((Is("correct", False),))).n
    expect(page.locator(".st-key-sentence")).to_contain_text(f"{len(ids)} of 150 images")
    expect(page.locator("a.tile")).to_have_count(min(len(ids), 48))

    # All of them tagged, and kept as a view.
    settle(page)
    page.locator("a.tile").first.focus()
    page.keyboard.press("a")
    expect(page.get_by_text(f"{len(ids)} images selected")).to_be_visible()
    tag_in_gallery(page, "corner")
    expect(page.locator(".badge", has_text="corner")).to_have_count(len(ids))
    page.locator("a.tile").first.focus()
    page.keyboard.press("Escape")
    save_view(page, "Looks at the corner")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Name", exact=True)).to_be_hidden()
    assert [view.name for view in views(reviews)] == ["Looks at the corner"]

    # The link shows the same to somebody else.
    other = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    other.set_default_timeout(PAGE_TIMEOUT)
    visitor = other.new_page()
    visitor.goto(page.url)
    tiles(visitor)
    expect(visitor.locator(".badge", has_text="corner")).to_have_count(len(ids))
    assert shown(visitor) == shown(page)
    other.close()

    # A table and a bundle of them.
    page.get_by_role("button", name="Share").click()
    with open(prepare(page, "Table", tmp_path), newline="", encoding="utf-8-sig") as table:
        assert {row["sample_id"] for row in csv.DictReader(table)} == set(ids)
    bundle = prepare(page, "Bundle", tmp_path)

    # Elsewhere it opens with what was said, and somebody says more.
    there = tmp_path / "there"
    with opened(bundle, there, tmp_path / "open.log") as elsewhere:
        page.goto(f"{elsewhere}/browse?run=there")
        tiles(page)
        expect(page.locator(".badge", has_text="corner")).to_have_count(len(ids))
        review_as(page, "Bo")
        page.locator("a.tile").first.focus()
        tag_in_gallery(page, "seen elsewhere")
        expect(page.locator(".badge", has_text="+1")).to_have_count(1)

    # It comes back, and stands beside the first words.
    done = dashboard("merge", run, there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {tag.tag: tag.count for tag in tags(reviews)} == {"corner": len(ids), "seen elsewhere": 1}
    page.goto(f"{own_server}/reviews?run=animals")
    expect(page.get_by_role("link", name="seen elsewhere · 1")).to_be_visible(timeout=PAGE_TIMEOUT)
    page.get_by_role("link", name="Looks at the corner").first.click()
    tiles(page)
    expect(page.locator("a.tile")).to_have_count(len(ids))
