"""What a person does with many methods, and a run that is being written, in a real Chromium."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is
from cache.queries import Sort
from cache.run import Run
from cache.writer import RunWriter
from tests.dashboard.conftest import MANY, PAGE_TIMEOUT, serve
from tests.dashboard.steps import colours, param, wait_for_param
from tests.synthetic import make_run

pytestmark = pytest.mark.browser
WRONG = Filter((Is("correct", False),))


@pytest.fixture(scope="module")
def catalog(runs: Path) -> Catalog:
    return Catalog(Run.open(runs / "many"))


def masked(catalog: Catalog, chosen: Filter) -> str:
    """A sample with a mask: the synthetic story has one for seven of ten."""
    rows = queries.page(catalog, chosen, Sort(), 0, 40).to_pylist()
    return next(
        str(row["sample_id"]) for row in rows if int(re.findall(r"\d+", row["sample_id"])[-1]) % 10 < 7
    )


def open_sample(page: Page, served: str, sample_id: str, **params: str) -> None:
    more = "".join(f"&{name}={quote(value)}" for name, value in params.items())
    page.goto(f"{served}/sample?run=many&id={quote(sample_id)}{more}")
    expect(page.locator(".st-key-sample_large .tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    expect(page.locator(".st-key-sample_methods .tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)


def test_an_objects_outline_is_switched_and_stands_in_the_url(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    page = browser_page
    open_sample(page, served, masked(catalog, WRONG))
    shapes = page.locator(".st-key-sample_large .shape")
    expect(shapes).to_have_count(3)
    expect(shapes.first).to_be_visible()
    page.locator(".st-key-sample_large").get_by_role("switch", name="Object").uncheck()
    expect(shapes.first).to_be_hidden()
    wait_for_param(page, "object", "0")
    expect(page.locator(".st-key-sample_methods .shape").first).to_be_hidden()
    page.reload()
    expect(page.locator(".st-key-sample_large .tile")).to_have_count(3, timeout=PAGE_TIMEOUT)
    expect(shapes.first).to_be_hidden()
    page.locator(".st-key-sample_large").get_by_role("switch", name="Object").check()
    wait_for_param(page, "object", None)


def test_many_methods_are_a_list_and_cards_by_family(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    page = browser_page
    open_sample(page, served, masked(catalog, WRONG))
    cards = page.locator(".st-key-sample_methods")
    expect(cards.locator("h3")).to_have_text(["Activation", "Gradient", "Perturbation"])
    # A map for each of the two classes, but for Eigen-CAM, which does not depend on the class.
    expect(cards.locator(".tile")).to_have_count(2 * len(MANY) - 1)
    expect(cards.locator(".scale").nth(1)).to_contain_text("for the class")
    expect(cards.locator(".scale").nth(1)).to_be_visible()
    large = page.locator(".st-key-sample_large")
    expect(large.locator(".scale").nth(1)).to_be_hidden()
    large.get_by_label("Attribution method").locator("visible=true").select_option("lime")
    wait_for_param(page, "method", "lime")
    expect(large.locator(".scale").nth(1)).to_be_visible()
    expect(large.locator(".scale").first).to_be_hidden()
    drawn = np.array(colours(large.locator(".tile .map").first)).reshape(-1, 4)
    red, blue = drawn[:, 0], drawn[:, 2]
    assert min((red > blue + 40).sum(), (blue > red + 40).sum()) > 100
    page.get_by_role("button", name=f"All {len(MANY)} methods").click()
    page.get_by_role("button", name="None").click()
    wait_for_param(page, "show", "none")
    page.get_by_text("No method is chosen").wait_for()


def test_maps_that_a_gallery_does_not_carry_come_when_asked_for(browser_page: Page, served: str) -> None:
    page = browser_page
    page.goto(f"{served}/browse?run=many")
    expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    page.locator(".st-key-gallery select").select_option("score_cam")
    wait_for_param(page, "method", "score_cam")
    expect(page.locator(".tile .map").first).to_be_visible()
    expect(page.locator(".missing", has_text="loading").locator("visible=true")).to_have_count(0)


def test_a_mean_map_leads_to_its_regions_and_the_matrix_is_there(browser_page: Page, served: str) -> None:
    page = browser_page
    page.goto(f"{served}/methods?run=many&filter={quote(WRONG.to_param())}")
    tiles = page.locator(".st-key-methods_means .tile")
    expect(tiles).to_have_count(len(MANY), timeout=PAGE_TIMEOUT)
    figure = page.locator(".st-key-methods_agreement .chart")
    expect(figure.locator(".cells rect")).to_have_count(len(MANY) * (len(MANY) - 1))
    figure.locator(".area").hover(position={"x": 3, "y": 70})
    expect(figure.locator(".tip")).to_contain_text("samples")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator(".st-key-methods_means .tile[data-id=occlusion]").click()
    page.wait_for_url(re.compile(r"/region\?"))
    expect(page.get_by_role("heading", name="Region")).to_be_visible()
    assert param(page, "method") == "occlusion"
    assert param(page, "filter") == WRONG.to_param()


@pytest.mark.parametrize("width", [1280, 2560])
def test_no_page_of_many_methods_is_wider_than_the_window(
    browser_page: Page, served: str, catalog: Catalog, width: int
) -> None:
    browser_page.set_viewport_size({"width": width, "height": 950})
    open_sample(browser_page, served, masked(catalog, WRONG))
    assert browser_page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tiles = browser_page.locator(".st-key-sample_methods .tile .frame")
    sides = tiles.evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)")
    assert min(sides) > 95
    assert browser_page.locator("[data-testid=stException]").count() == 0


def test_a_run_that_is_being_written_refreshes_by_itself(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    run = make_run(tmp_path / "runs" / "a", samples=60, chunk=30, failures=0)
    whole = json.loads((run / "run.json").read_text())
    process, url = serve(tmp_path / "runs", tmp_path / "log")
    try:
        with RunWriter(run, Run.open(run).manifest):  # holds the lock, by which a run is seen to be written
            publish(run, whole, parts=1, state="running", done=30)
            page.goto(f"{url}/browse?run=a")
            expect(page.locator(".st-key-sentence")).to_contain_text("30 images", timeout=PAGE_TIMEOUT)
            page.get_by_text("being written: 30 of 60").wait_for()
            page.evaluate("window.stayed = true")
            publish(run, whole, parts=2, state="running", done=60)
            expect(page.locator(".st-key-sentence")).to_contain_text("60 images", timeout=20_000)
            page.get_by_text("being written: 60 of 60").wait_for()
            publish(run, whole, parts=2, state="complete", done=60)
        expect(page.get_by_text("being written")).to_have_count(0, timeout=20_000)
        expect(page.get_by_text("was interrupted")).to_have_count(0)
        expect(page.locator(".tile")).to_have_count(48)
        assert page.evaluate("window.stayed")
    finally:
        process.terminate()
        process.wait(20)


def publish(run: Path, whole: dict[str, object], parts: int, state: str, done: int) -> None:
    """Make the first parts of a run the ones that count, as the engine does: in one rename, a generation later."""
    now = json.loads((run / "run.json").read_text())
    tables: dict[str, list[object]] = whole["parts"]  # type: ignore[assignment]
    now["parts"] = {table: listed[:parts] for table, listed in tables.items()}
    now |= {"generation": now["generation"] + 1, "state": state}
    now["progress"] = {"planned": 60, "done": done, "failed": 0}
    (run / "run.json.new").write_text(json.dumps(now))
    os.replace(run / "run.json.new", run / "run.json")
