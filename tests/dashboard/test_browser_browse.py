"""What a person does with the gallery and a sample's page, in a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf, Text
from cache.queries import Sort
from cache.run import Run
from tests.dashboard.conftest import PAGE_TIMEOUT, serve
from tests.dashboard.steps import colours, param, settle, wait_for_param
from tests.synthetic import METHODS, make_run

pytestmark = pytest.mark.browser
WRONG = Filter((Is("correct", False),))
TILES = ".st-key-gallery .tile"


@pytest.fixture(scope="module")
def catalog(runs: Path) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def browse(page: Page, served: str, **params: str) -> None:
    query = "&".join(f"{name}={quote(value)}" for name, value in {"run": "animals", **params}.items())
    page.goto(f"{served}/browse?{query}")
    expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)


def pixels(page: Page, index: int = 0) -> list[int]:
    """The coloured map of a tile; empty where it has not been drawn."""
    return colours(page.locator(".tile .map").nth(index))


def test_the_gallery_shows_the_first_page_in_order(browser_page: Page, served: str, catalog: Catalog) -> None:
    browse(browser_page, served, sort="-confidence", filter=WRONG.to_param())
    rows = queries.page(catalog, WRONG, Sort("confidence", True), 0, 48).to_pylist()
    tiles = browser_page.locator(".tile")
    expect(tiles).to_have_count(len(rows))
    shown = tiles.evaluate_all("nodes => nodes.map(node => node.dataset.id)")
    assert shown == [row["sample_id"] for row in rows]
    first = catalog.classes[rows[0]["label"]], catalog.classes[rows[0]["pred"]]
    expect(tiles.first).to_contain_text(f"{first[0]} → {first[1]}")
    assert tiles.first.locator("img").first.get_attribute("alt") == (
        f"{rows[0]['sample_id']}: {first[0]}, wrongly predicted {first[1]}, {100 * rows[0]['confidence']:.0f}% sure"
    )
    widths = browser_page.locator(".tile img:not(.map)").evaluate_all(
        "nodes => nodes.map(n => n.naturalWidth)"
    )
    assert min(widths) > 0


def test_the_browser_draws_the_map_as_the_server_would(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    import numpy as np

    from cache import profiles
    from dashboard.rendering import overlay_pixels

    browse(browser_page, served, sort="-confidence")
    sample_id = browser_page.locator(".tile").first.get_attribute("data-id")
    assert sample_id
    attribution = profiles.maps(catalog, [sample_id], "gradcam", "pred")[sample_id]
    drawn = np.array(pixels(browser_page)).reshape(64, 64, 4).astype(float)
    expected = overlay_pixels(attribution, (64, 64)).astype(float)
    assert np.abs(drawn - expected).mean() < 2
    assert np.abs(drawn[..., 3] - expected[..., 3]).max() <= 6


def test_overlay_opacity_and_size_send_nothing_and_stand_in_the_address(
    browser_page: Page, served: str, chromium: Browser
) -> None:
    page = browser_page
    sent: list[object] = []

    def listen(socket: WebSocket) -> None:
        def note(frame: object) -> None:  # a function of its own: a list's method is none to Playwright
            sent.append(frame)

        socket.on("framesent", note)

    page.on("websocket", listen)
    browse(page, served)
    page.wait_for_timeout(1_000)
    sent.clear()
    page.locator(".tile").first.focus()
    for _ in range(3):
        page.keyboard.press("Space")
    page.get_by_label("Opacity").fill("35")
    page.locator(".bar").get_by_label("Size").fill("220")
    expect(page.locator(".tile .map").first).to_be_hidden()
    for name, value in (("overlay", "0"), ("opacity", "35"), ("tile", "220")):
        wait_for_param(page, name, value)
    page.wait_for_timeout(500)
    assert sent == []
    link = page.url
    # What is done next elsewhere on the page takes the view along, to the server and into the address.
    page.get_by_text("Wrong", exact=True).click()
    expect(page.get_by_text("Wrong predictions —")).to_be_visible()
    assert sent
    for name, value in (("overlay", "0"), ("opacity", "35"), ("tile", "220")):
        wait_for_param(page, name, value)
    expect(page.locator(".tile .map").first).to_be_hidden()
    page.keyboard.press("Escape")
    other = chromium.new_context(viewport={"width": 1500, "height": 950}).new_page()
    other.goto(link)
    expect(other.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    expect(other.locator(".tile .map").first).to_be_hidden()
    assert other.get_by_label("Opacity").input_value() == "35"
    other.context.close()


def test_pages_turn_from_the_keyboard(browser_page: Page, served: str, catalog: Catalog) -> None:
    page = browser_page
    browse(page, served, per_page="24")
    order = queries.ids(catalog, Filter())
    page.locator(".tile").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    wait_for_param(page, "page", "2")
    expect(page.locator(".tile:focus")).to_have_attribute("data-id", order[24])
    page.keyboard.press("ArrowLeft")
    wait_for_param(page, "page", None)
    expect(page.locator(".tile:focus")).to_have_attribute("data-id", order[23])
    page.keyboard.press("PageUp")  # there is none before
    page.keyboard.press("PageDown")
    wait_for_param(page, "page", "2")
    expect(page.locator(".tile:focus")).to_have_attribute("data-id", order[24])


def test_turning_a_page_draws_the_gallery_alone(browser_page: Page, served: str) -> None:
    page = browser_page
    received: list[str | bytes] = []

    def note(frame: str | bytes) -> None:
        received.append(frame)

    page.on("websocket", lambda socket: socket.on("framereceived", note))
    browse(page, served, per_page="24")
    settle(page)
    whole = len(received)

    def turn(act: Callable[[], None], number: str | None) -> int:
        received.clear()
        act()
        wait_for_param(page, "page", number)
        settle(page)
        return len(received)

    page.locator(".tile").first.focus()
    by_key = turn(lambda: page.keyboard.press("PageDown"), "2")
    next_page = page.locator(".st-key-pages").get_by_role("button", name="Next page")
    by_button = turn(next_page.click, "3")
    assert 0 < by_key < whole / 3
    assert 0 < by_button < whole / 3


def test_the_way_to_other_pages_stays_in_sight_and_they_begin_at_their_top(
    browser_page: Page, served: str
) -> None:
    page = browser_page
    browse(page, served, per_page="24", tile="300")
    next_page = page.locator(".st-key-pages").get_by_role("button", name="Next page")
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("main => main.scrollHeight") > 2_000
    for number, down in (("2", 0), ("3", 1_400)):
        main.evaluate("(main, down) => { main.scrollTop = down; }", down)
        box = next_page.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 950
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        wait_for_param(page, "page", number)
        settle(page)
    top = page.locator(".tile").first.evaluate("tile => tile.getBoundingClientRect().top")
    assert 0 < top < 200


def test_tiles_are_selected_one_by_one_and_all_at_once(browser_page: Page, served: str) -> None:
    page = browser_page
    browse(page, served, per_page="24")
    page.locator(".tiles li").nth(2).hover()
    page.locator(".check").nth(2).click()
    expect(page.get_by_text("1 image selected")).to_be_visible()
    page.locator(".check").nth(5).click(modifiers=["Shift"])
    expect(page.get_by_text("4 images selected")).to_be_visible()
    page.locator(".tile").first.focus()
    page.keyboard.press("a")
    expect(page.get_by_text("24 images selected")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_text("images selected")).to_be_hidden()


def test_maps_far_below_are_drawn_when_somebody_comes_near_or_prints(browser_page: Page, served: str) -> None:
    page = browser_page
    page.set_viewport_size({"width": 900, "height": 500})
    browse(page, served)
    unpainted = "nodes => nodes.filter(map => map.style.display !== 'none' && !map.src).length"
    maps = page.locator(".tile .map")
    assert maps.count() == 48
    assert 8 < maps.evaluate_all(unpainted) < 40
    shown = maps.evaluate_all("nodes => nodes.flatMap((c, i) => c.style.display === 'none' ? [] : [i])")
    assert any(pixels(page, shown[0]))
    assert not any(pixels(page, shown[-1]))
    page.locator(".tile").nth(shown[-1]).scroll_into_view_if_needed()
    expect(maps.nth(shown[-1])).to_have_attribute("src", re.compile("^data:image/png"))
    assert any(pixels(page, shown[-1]))
    page.locator(".methods button").nth(1).click()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert maps.evaluate_all(unpainted) == 0


def test_another_method_is_drawn_before_the_server_hears_of_it(browser_page: Page, served: str) -> None:
    page = browser_page
    browse(page, served)
    before = page.locator(".tile .map").first.get_attribute("src")
    page.locator(".tile").first.focus()
    took = page.evaluate(
        """() => {
          const host = [...document.querySelectorAll('*')].find(n => n.shadowRoot?.querySelector('.tile'));
          const button = host.shadowRoot.querySelectorAll('.methods button')[1];
          button.click();
          return [button.getAttribute('aria-checked'), host.shadowRoot.querySelector('.tile .map').src];
        }"""
    )
    assert took[0] == "true"
    assert took[1] != before  # already drawn when the click returns
    wait_for_param(page, "method", "layercam")
    page.keyboard.press("Escape")
    page.locator(".tile").first.focus()
    page.keyboard.press("Space")
    expect(page.locator(".tile .map").first).to_be_hidden()
    wait_for_param(page, "overlay", "0")
    page.keyboard.press("3")
    expect(page.locator(".tile .map").first).to_be_visible()
    expect(page.locator(".methods button[aria-checked=true]")).to_have_text(METHODS[list(METHODS)[2]][0])
    wait_for_param(page, "method", list(METHODS)[2])
    wait_for_param(page, "overlay", None)


def test_opacity_and_size_stand_in_the_url_and_survive_turning_the_page(
    browser_page: Page, served: str
) -> None:
    page = browser_page
    browse(page, served, per_page="24")
    page.get_by_label("Opacity").fill("35")
    page.locator(".bar").get_by_label("Size").fill("220")
    wait_for_param(page, "opacity", "35")
    wait_for_param(page, "tile", "220")
    first = page.locator(".tile").first.get_attribute("data-id")
    page.locator(".st-key-pages").get_by_role("button", name="Page 2", exact=True).click()
    wait_for_param(page, "page", "2")
    expect(page.locator(".tile").first).not_to_have_attribute("data-id", str(first))
    assert page.get_by_label("Opacity").input_value() == "35"
    page.go_back()
    expect(page.locator(".tile").first).to_have_attribute("data-id", str(first))


def test_arrows_move_and_enter_opens(browser_page: Page, served: str) -> None:
    page = browser_page
    browse(page, served)
    ids: list[Any] = page.locator(".tile").evaluate_all("nodes => nodes.map(node => node.dataset.id)")
    tops: list[float] = page.locator(".tile").evaluate_all(
        "nodes => nodes.map(n => n.getBoundingClientRect().top)"
    )
    columns = sum(top == tops[0] for top in tops)
    page.locator(".tile").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator(f".tile[data-id='{ids[columns + 1]}']")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/sample\?"))
    assert param(page, "id") == ids[columns + 1]
    expect(page.get_by_role("heading", name=ids[columns + 1])).to_be_visible()


def test_click_opens_here_and_control_click_in_a_new_tab(browser_page: Page, served: str) -> None:
    page = browser_page
    browse(page, served, filter=WRONG.to_param())
    tile = page.locator(".tile").nth(1)
    wanted = tile.get_attribute("data-id")
    with page.context.expect_page() as opened:
        tile.click(modifiers=["Control"])
    other = opened.value
    expect(other.get_by_role("heading", name=str(wanted))).to_be_visible(timeout=PAGE_TIMEOUT)
    assert param(other, "filter") == WRONG.to_param()
    tile.click()
    page.wait_for_url(re.compile(r"/sample\?"))
    expect(page.get_by_role("heading", name=str(wanted))).to_be_visible()
    assert param(page, "id") == wanted
    page.get_by_role("button", name="Next").click()
    page.wait_for_function("id => new URLSearchParams(location.search).get('id') !== id", arg=wanted)
    page.get_by_role("button", name="Gallery").click()
    page.wait_for_url(re.compile(r"/browse\?"))
    assert param(page, "filter") == WRONG.to_param()


def test_a_filter_changes_the_gallery_and_a_chip_takes_it_back(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    page = browser_page
    browse(page, served)
    page.get_by_role("radio", name="Wrong").or_(page.get_by_role("button", name="Wrong")).first.click()
    n = queries.count(catalog, WRONG).n
    expect(page.locator(".tile")).to_have_count(min(n, 48))
    expect(page.locator(".mark", has_text="✓")).to_have_count(0)
    page.locator(".st-key-chips button").first.click()
    expect(page.locator(".st-key-sentence")).to_contain_text("150 images")
    wait_for_param(page, "filter", None)


def test_the_link_shows_the_same_in_another_browser(
    browser_page: Page, served: str, chromium: Browser
) -> None:
    page = browser_page
    chosen = WRONG.with_(OneOf("pred", ("wolf",)))
    browse(
        page,
        served,
        filter=chosen.to_param(),
        sort="-map.border_mass@layercam:pred",
        method="layercam",
        opacity="40",
    )
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
    script = "nodes => nodes.map(node => node.textContent)"
    assert other.locator(".tile").evaluate_all(script) == page.locator(".tile").evaluate_all(script)
    assert other.get_by_label("Opacity").input_value() == "40"
    expect(other.locator(".methods button[aria-checked=true]")).to_have_text("Layer-CAM")
    assert other.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_a_samples_page_shows_the_maps_of_both_classes(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    page = browser_page
    row = queries.page(catalog, WRONG, Sort(), 0, 1).to_pylist()[0]
    page.goto(f"{served}/sample?run=animals&id={quote(row['sample_id'])}")
    large = page.locator(".st-key-sample_large .tile")
    expect(large).to_have_count(3, timeout=PAGE_TIMEOUT)
    expect(large.nth(1)).to_contain_text(f"For the predicted class: {catalog.classes[row['pred']]}")
    expect(large.nth(2)).to_contain_text(f"For the true class: {catalog.classes[row['label']]}")
    # Eigen-CAM does not depend on the class, so that it has one map.
    expect(page.locator(".st-key-sample_methods .tile")).to_have_count(7)
    near = page.locator(".st-key-sample_nearest a.tile")
    expect(near).to_have_count(12)
    wanted = near.first.get_attribute("data-id")
    near.first.click()
    expect(page.get_by_role("heading", name=str(wanted))).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name=row["sample_id"])).to_be_visible()


def test_hostile_names_are_shown_as_text(browser_page: Page, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\">"
    run = make_run(
        tmp_path / "runs" / "a", samples=30, classes=(hostile, "مرحبا", "🦊 *b*", "x" * 300), failures=0
    )
    described = json.loads((run / "run.json").read_text())
    described["name"] = hostile
    (run / "run.json").write_text(json.dumps(described))
    process, url = serve(tmp_path / "runs", tmp_path / "log")
    page = browser_page
    try:
        page.goto(f"{url}/browse?run=a&filter={quote(Filter((OneOf('label', (hostile,)),)).to_param())}")
        expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
        expect(page.locator(".tile").first).to_contain_text("onerror")
        page.locator(".tile").first.click()
        expect(page.locator(".gl-verdict")).to_contain_text("onerror", timeout=PAGE_TIMEOUT)
        assert page.title() != "owned"
        assert page.locator("img[src='x']").count() == 0
    finally:
        process.terminate()
        process.wait(20)


def test_a_choice_shows_its_gallery_at_once_and_the_rest_of_the_page_after_a_pause(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    label = catalog.classes[0]
    of_class = Filter((OneOf("label", (label,)),))
    wrong = of_class.with_(Is("correct", False))
    n = {filter_: queries.count(catalog, filter_).n for filter_ in (of_class, wrong)}
    browse(browser_page, served, filter=of_class.to_param())
    chosen = browser_page.locator(".st-key-filter_label [data-tag]")
    expect(chosen).to_contain_text(f"({n[of_class]:,})")
    # Somebody who goes on pressing has the gallery first, and the links that keep the filter with it.
    browser_page.evaluate("""() => { window.seen = []; new MutationObserver(() => window.seen.push([
        document.querySelector('.st-key-sentence')?.innerText.split(' ')[0],
        document.querySelector('.st-key-filter_label [data-tag]')?.innerText,
        document.querySelector('.st-key-menu a[href*=methods]')?.href.includes('correct')])
      ).observe(document.body, {subtree: true, childList: true, characterData: true}); }""")
    browser_page.locator(".st-key-filter_correct").get_by_role("radio", name="Wrong").click()
    expect(browser_page.locator(".st-key-sentence")).to_contain_text(
        f"Wrong predictions whose label is {label}"
    )
    expect(browser_page.locator(TILES)).to_have_count(n[wrong])
    expect(chosen).to_contain_text(f"({n[wrong]:,})", timeout=PAGE_TIMEOUT)
    seen = browser_page.evaluate("() => window.seen")
    assert any(words == "Wrong" and f"({n[of_class]:,})" in tag and kept for words, tag, kept in seen)
    settle(browser_page)
    expect(browser_page.locator(TILES)).to_have_count(n[wrong])
    # The next choice adds to this one, and taking it back goes through the whole page.
    browser_page.locator(".st-key-chips").get_by_role("button", name="that are predicted wrong").click()
    expect(chosen).to_contain_text(f"({n[of_class]:,})", timeout=PAGE_TIMEOUT)
    expect(browser_page.locator(".st-key-filter_correct [aria-checked=true]")).to_have_count(0)


def test_a_choice_that_nothing_meets_says_so_and_is_taken_back(
    browser_page: Page, served: str, catalog: Catalog
) -> None:
    row = queries.page(catalog, WRONG, Sort("confidence", True), 0, 1).to_pylist()[0]
    browse(browser_page, served, filter=Filter((Text("sample_id", row["sample_id"]),)).to_param())
    outcome = browser_page.locator(".st-key-filter_correct")
    outcome.get_by_role("radio", name="Right").click()
    expect(browser_page.locator(".st-key-sentence")).to_contain_text("0 of", timeout=PAGE_TIMEOUT)
    expect(browser_page.get_by_text("No image meets all of this")).to_be_visible(timeout=PAGE_TIMEOUT)
    expect(browser_page.locator(TILES)).to_have_count(0)
    settle(browser_page)
    outcome.get_by_role("radio", name="Wrong").click()
    expect(browser_page.locator(TILES)).to_have_count(1, timeout=PAGE_TIMEOUT)
