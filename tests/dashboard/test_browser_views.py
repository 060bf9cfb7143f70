"""Gallery, table and map in a real Chromium: switched, drawn on, grouped, and opened from a link elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, InProjection
from cache.queries import Likeness, Sort
from cache.run import Run
from tests.dashboard.conftest import PAGE_TIMEOUT, serve
from tests.dashboard.steps import param, settle
from tests.synthetic import make_run
from tests.synthetic_projection import add_projections

pytestmark = pytest.mark.browser
PLOT = ".js-plotly-plot .nsewdrag"
TILES = ".st-key-gallery .tile"


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Catalog]]:
    """A served run with 2-D maps: its address, and its catalog."""
    folder = tmp_path_factory.mktemp("mapped")
    path: Path = add_projections(make_run(folder / "mapped", samples=150, seed=9))
    process, url = serve(folder, tmp_path_factory.mktemp("server") / "log")
    yield url, Catalog(Run.open(path))
    process.terminate()
    process.wait(20)


def test_a_lasso_on_the_map_is_a_filter_that_a_link_carries(
    browser_page: Page, chromium: Browser, mapped: tuple[str, Catalog]
) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped")
    expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    page.get_by_role("radio", name="Table").click()
    expect(page.locator("[data-testid=stDataFrame]")).to_be_visible(timeout=PAGE_TIMEOUT)
    page.get_by_role("radio", name="Map", exact=True).click()
    expect(page.locator(PLOT)).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    assert param(page, "view") == "map"
    box = page.locator(PLOT).bounding_box()
    assert box
    corners = [(0.3, 0.15), (0.75, 0.15), (0.75, 0.7), (0.5, 0.9), (0.3, 0.7), (0.3, 0.15)]
    points = [(box["x"] + fx * box["width"], box["y"] + fy * box["height"]) for fx, fy in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    page.wait_for_function("() => new URLSearchParams(location.search).has('filter')")
    settle(page)
    chosen = Filter.from_param(param(page, "filter") or "")
    area = chosen.conditions[0]
    assert isinstance(area, InProjection)
    assert 4 <= len(area.polygon) <= 20
    n = queries.count(catalog, chosen).n
    assert 0 < n < 150
    sentence = page.locator(".st-key-sentence")
    expect(sentence).to_contain_text(f"{n} of 150 images", timeout=PAGE_TIMEOUT)
    page.get_by_role("radio", name="Gallery").click()
    expect(page.locator(TILES)).to_have_count(min(n, 48), timeout=PAGE_TIMEOUT)
    link = page.url
    other = chromium.new_context(viewport={"width": 1500, "height": 950})
    there = other.new_page()
    there.goto(f"{link}&view=map")
    expect(there.locator(".st-key-sentence")).to_contain_text(f"{n} of 150 images", timeout=PAGE_TIMEOUT)
    expect(there.locator(".js-plotly-plot .shapelayer path")).to_have_count(1, timeout=PAGE_TIMEOUT)
    other.close()


def test_a_click_on_a_point_shows_its_picture(browser_page: Page, mapped: tuple[str, Catalog]) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped&view=map")
    expect(page.locator(PLOT)).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    page.locator(".js-plotly-plot").hover()
    page.locator(".modebar-btn[data-val=pan]").click()  # while a drag draws, Streamlit reports no clicks
    place = page.evaluate(
        """() => {
          const plot = document.querySelector('.js-plotly-plot'), box = plot.querySelector('.nsewdrag').getBoundingClientRect();
          const { xaxis, yaxis } = plot._fullLayout, trace = plot._fullData.find((one) => one.customdata);
          return [box.x + xaxis.d2p(trace.x[0]), box.y + yaxis.d2p(trace.y[0])];
        }"""
    )
    page.mouse.move(*place)
    expect(page.locator(".js-plotly-plot .hoverlayer text").first).to_contain_text(".jpg")
    page.mouse.click(*place)
    page.wait_for_function("() => new URLSearchParams(location.search).has('point')")
    clicked = param(page, "point")
    assert clicked in queries.ids(catalog, Filter())
    expect(page.locator(".st-key-map_point .tile")).to_have_attribute("data-id", clicked or "")


def test_sections_open_as_a_gallery(browser_page: Page, mapped: tuple[str, Catalog]) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped&group=confusion")
    expect(page.locator(".group h4").first).to_be_visible(timeout=PAGE_TIMEOUT)
    title = page.locator(".group h4").first.inner_text()
    names = re.match(r"(\w+) → (\w+) (\d+) image", title)
    assert names, title
    page.locator(".group .more").first.click()
    page.wait_for_function("() => new URLSearchParams(location.search).has('filter')")
    expect(page.locator(TILES)).to_have_count(min(int(names[3]), 48), timeout=PAGE_TIMEOUT)
    settle(page)
    assert param(page, "group") is None
    chosen = Filter.from_param(param(page, "filter") or "")
    assert chosen.sentence(catalog.manifest) == f"predictions of {names[2]} whose label is {names[1]}"
    page.go_back()
    expect(page.locator(".group h4").first).to_have_text(title, use_inner_text=True, timeout=PAGE_TIMEOUT)
    assert (param(page, "group"), param(page, "filter")) == ("confusion", None)


def test_s_orders_the_selection_by_likeness(browser_page: Page, mapped: tuple[str, Catalog]) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped")
    first = page.locator(".tile").first
    expect(first.locator("img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    sample_id = first.get_attribute("data-id") or ""
    first.focus()
    page.keyboard.press("s")
    page.wait_for_function("() => new URLSearchParams(location.search).has('similar')")
    assert param(page, "similar") == f"{sample_id}:attended"
    expect(page.locator(".st-key-similar .tile").first).to_have_attribute("data-id", sample_id)
    order = queries.ids(catalog, Filter(), Sort(descending=True, like=Likeness(sample_id, "attended")), 48)
    expect(page.locator(TILES).first).to_have_attribute("data-id", order[0])
    assert page.locator(TILES).evaluate_all("nodes => nodes.map(n => n.dataset.id)") == order
    # By pointer it is the button that hovering shows, and the link leads to the sample in this order.
    page.locator(".st-key-gallery .tiles li").nth(1).hover()
    page.locator(".st-key-gallery .like").nth(1).click()
    page.wait_for_function(
        f"() => new URLSearchParams(location.search).get('similar') !== {sample_id + ':attended'!r}"
    )
    assert param(page, "similar") == f"{order[1]}:attended"


def test_a_click_in_the_table_opens_the_sample(browser_page: Page, mapped: tuple[str, Catalog]) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped&view=table&sort={quote('-confidence')}")
    table = page.locator("[data-testid=stDataFrame]")
    expect(table).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    page.wait_for_timeout(800)  # the canvas takes clicks a moment after it is there
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 160, box["y"] + 38 + 52 + 26)
    page.wait_for_url(re.compile(r"/sample\?"))
    expected = queries.ids(catalog, Filter(), Sort("confidence", True), 2)[1]
    assert param(page, "id") == expected
    page.get_by_role("button", name="Gallery").click()
    page.wait_for_url(re.compile(r"/browse\?"))
    assert param(page, "view") == "table"


def test_ticked_rows_are_shown_side_by_side(browser_page: Page, mapped: tuple[str, Catalog]) -> None:
    (url, catalog), page = mapped, browser_page
    page.goto(f"{url}/browse?run=mapped&view=table")
    table = page.locator("[data-testid=stDataFrame]")
    expect(table).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    page.wait_for_timeout(800)
    order = queries.ids(catalog, Filter(), limit=3)
    for row in (0, 2):
        box = table.bounding_box()
        assert box
        page.mouse.click(box["x"] + 16, box["y"] + 38 + 52 * row + 26)
        page.wait_for_timeout(600)
    tiles = page.locator(".st-key-table_marked .tile")
    expect(tiles).to_have_count(2)
    assert [tile.get_attribute("data-id") for tile in tiles.all()] == [order[0], order[2]]
