"""How the pages look: nothing is cut off, nothing touches, and figures fit the cells that they stand in."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from cache.filters import Filter, Is, OneOf
from dashboard.components import chart
from dashboard.components.chart import sent
from dashboard.confusions import confusion_view
from dashboard.figures import LIGHT, confusion_figure
from tests.dashboard.conftest import PAGE_TIMEOUT, serve
from tests.dashboard.steps import settle, tiles
from tests.synthetic import make_run

pytestmark = pytest.mark.browser
COMPONENTS = Path(chart.__file__).parent
CUT = """() => {
  const cut = [];
  const seen = (node) => node.getClientRects().length > 0;
  const inside = document.querySelector('[data-testid=stMain]').getBoundingClientRect().right;
  for (const group of document.querySelectorAll('[data-testid=stMain] [data-testid=stButtonGroup] > div'))
    if (seen(group) && group.scrollWidth > group.clientWidth + 1) cut.push('choices: ' + group.textContent);
  for (const node of document.querySelectorAll('[data-testid=stMain] button p, [data-testid=stMain] h1, [data-testid=stMetricDelta] *'))
    if (seen(node) && node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX !== 'visible')
      cut.push('text: ' + node.textContent);
  for (const node of document.querySelectorAll('[data-testid=stMain] button'))
    if (seen(node) && node.getBoundingClientRect().right > inside) cut.push('outside: ' + node.textContent);
  return cut;
}"""
TOUCHING = """() => {
  const title = document.querySelector('h1').getBoundingClientRect();
  const below = [...document.querySelectorAll('[data-testid=stMain] [data-testid=stElementContainer]')]
    .map((node) => node.getBoundingClientRect()).filter((box) => box.height > 4 && box.top > title.top + title.height / 2);
  return Math.min(...below.map((box) => box.top)) - title.bottom;
}"""
PAGES = ["", "findings", "browse", "browse?view=table", "browse?view=map", "browse?group=label", "region", "methods", "contact", "reviews"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_off_or_touches_the_heading(browser_page: Page, served: str, path: str) -> None:
    page = browser_page
    page.set_viewport_size({"width": 1280, "height": 950})
    page.goto(f"{served}/{path}{'&' if '?' in path else '?'}run=audited")
    expect(page.locator("h1").first).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    page.wait_for_timeout(500)
    assert page.evaluate(CUT) == []
    assert page.evaluate(TOUCHING) >= 4


@pytest.mark.parametrize(("width", "lines"), [(1280, 1), (1500, 1), (2560, 1)])
def test_the_gallerys_toolbar_stands_in_one_line_and_stays_there(
    browser_page: Page, served: str, width: int, lines: int
) -> None:
    page = browser_page
    page.set_viewport_size({"width": width, "height": 950})
    page.goto(f"{served}/browse?run=animals")
    tiles(page)
    settle(page)
    bar = page.locator(".st-key-gallery .bar")
    height = bar.evaluate("bar => bar.clientHeight")
    assert height < 60 * lines
    page.locator("a.tile").first.focus()
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="1 selected: select nothing")).to_be_visible()
    assert bar.evaluate("bar => bar.clientHeight") == height


@pytest.mark.parametrize("width", [1280, 1500])
def test_cards_of_methods_show_how_many_maps_are_degenerate(
    browser_page: Page, served: str, width: int
) -> None:
    page = browser_page
    page.set_viewport_size({"width": width, "height": 950})
    page.goto(f"{served}/methods?run=animals")
    words = page.locator(".st-key-methods_means .text", has_text="degenerate")
    expect(words.first).to_be_visible(timeout=PAGE_TIMEOUT)
    shown = words.evaluate_all("nodes => nodes.map(node => node.scrollHeight - node.clientHeight)")
    assert max(shown) <= 1
    # The count and its word are not torn apart.
    assert all("\N{NO-BREAK SPACE}degenerate" in text for text in words.all_inner_texts())


@pytest.fixture
def drawing(browser_page: Page) -> Page:
    """An empty page with the code of charts in it."""
    code = "".join((COMPONENTS / name).read_text("utf-8") for name in ("chart_scales.js", "chart.js"))
    browser_page.set_content("<style>.plot { height: 500px }</style><div class='chart'></div>")
    browser_page.add_script_tag(content=code.replace("export default", "window.drawChart ="))
    return browser_page


def draw(page: Page, figure: Any, width: int) -> None:
    page.evaluate(
        """([data, width]) => {
          const root = document.querySelector('.chart');
          root.style.width = `${width}px`;
          drawChart({ parentElement: document.body, data, setTriggerValue: () => {} });
        }""",
        [{**json.loads(json.dumps(sent(figure))), "alt": "a matrix", "picks": False}, width],
    )
    expect(page.locator(".cells").first).to_be_attached()


@pytest.mark.parametrize(
    ("classes", "most", "width"), [(20, 9_876, 350), (20, 123_456, 350), (24, 9_876, 300), (4, 98_765, 1_200)]
)
def test_the_figures_of_a_matrix_fit_their_cells(drawing: Page, classes: int, most: int, width: int) -> None:
    counts = np.full((classes, classes), 3) + np.eye(classes, dtype=np.int64) * (most - 3)
    label, pred = np.divmod(np.arange(classes * classes), classes)
    names = [f"class {at:02}" for at in range(classes)]
    figure = confusion_figure(confusion_view(label, pred, counts.ravel(), names, 30), LIGHT)
    draw(drawing, figure, width)
    measured: dict[str, list[float]] = drawing.evaluate(
        """() => ({
          cells: [...document.querySelectorAll('.cells rect')].map((node) => node.getBBox()).map((box) => [box.width, box.height]).flat(),
          texts: [...document.querySelectorAll('.points text')].map((node) => node.getComputedTextLength()),
          sizes: [...document.querySelectorAll('.points text')].map((node) => Number(node.getAttribute('font-size'))),
        })"""
    )
    widths, heights = measured["cells"][::2], measured["cells"][1::2]
    assert max(measured["texts"]) <= min(widths)
    assert len(set(measured["sizes"])) == 1
    assert measured["sizes"][0] >= 8
    assert min(heights) > 10
    assert max(widths) <= 1.9 * max(heights)  # no bars, however wide the page


@pytest.mark.parametrize(
    "names",
    [
        [f"class {at:02}" for at in range(20)],
        [f"{animal} of the eastern woods" for animal in ("wolf", "cat", "fox", "dog", "hare")],
    ],
)
def test_labels_of_narrow_columns_do_not_overlap(drawing: Page, names: list[str]) -> None:
    n = len(names)
    label, pred = np.divmod(np.arange(n * n), n)
    view = confusion_view(label, pred, np.arange(1, n * n + 1), names, 20)
    draw(drawing, confusion_figure(view, LIGHT), 340)
    # Where turned labels begin, and how high their letters stand: side by side they need that much room.
    ends: list[list[float]] = drawing.evaluate(
        """() => [...document.querySelectorAll('text.tick[transform]')].map((node) => {
          const angle = Number(node.getAttribute('transform').match(/-[\\d.]+/)[0]);
          return [Number(node.getAttribute('x')), Number(node.getAttribute('font-size')), Math.sin(-angle * Math.PI / 180)];
        })"""
    )
    assert len(ends) == n
    assert all((b[0] - a[0]) * a[2] >= a[1] for a, b in pairwise(sorted(ends)))


def test_what_an_image_was_taken_for_is_seen_however_long_the_names(
    browser_page: Page, tmp_path: Path
) -> None:
    names = tuple(f"{animal} of the eastern woods" for animal in ("wolf", "cat", "fox", "dog"))
    make_run(tmp_path / "runs" / "long", samples=40, classes=names, failures=0)
    process, url = serve(tmp_path / "runs", tmp_path / "log")
    page = browser_page
    page.set_viewport_size({"width": 1280, "height": 950})
    try:
        page.goto(f"{url}/browse?run=long&filter={quote(Filter((Is('correct', False),)).to_param())}")
        tiles(page)
        told = page.locator("a.tile .text")
        assert all(" → " in text for text in told.all_text_contents())
        seen = told.evaluate_all(
            """nodes => nodes.map((node) => {
              const [text, then] = [node, node.querySelector('span:last-child')].map((one) => one.getBoundingClientRect());
              return then.top >= text.top - 1 && then.bottom <= text.bottom + 1 && then.left === text.left && then.width > 60;
            })"""
        )
        assert seen
        assert all(seen)
    finally:
        process.terminate()
        process.wait(20)


CONTRAST = """(selectors) => {
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [...(text.startsWith('color') ? n.slice(0, 3).map((v) => 255 * v) : n.slice(0, 3)), n[3] ?? 1]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const over = (top, below) => top.slice(0, 3).map((v, at) => v * top[3] + below[at] * (1 - top[3]));
  const parent = (node) => node.parentElement || node.getRootNode().host;
  const found = {};
  const look = (root, selector) => {
    for (const node of root.querySelectorAll(selector)) {
      if (!node.getClientRects().length || !node.textContent.trim() || node.closest('[disabled]')) continue;
      const behind = [];
      let opacity = 1;
      for (let at = node; at; at = parent(at)) { behind.push(rgba(getComputedStyle(at).backgroundColor)); opacity *= Number(getComputedStyle(at).opacity); }
      const ground = behind.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
      const ink = rgba(getComputedStyle(node).color);
      const seen = over([...ink.slice(0, 3), ink[3] * opacity], ground);
      const [a, b] = [light(seen), light(ground)];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      found[selector] = Math.min(found[selector] ?? 99, ratio);
    }
    for (const node of root.querySelectorAll('*')) if (node.shadowRoot) look(node.shadowRoot, selector);
  };
  for (const selector of selectors) look(document, selector);
  return found;
}"""
WRITTEN = (
    "[data-testid=stBaseButton-primary] p", "[data-testid=stBaseButton-secondary] p", "[data-tag] span", "[data-testid=stCaptionContainer] p",
    ".note", ".value", ".hint", ".text", ".methods [aria-checked=true]", ".st-key-facts td",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(chromium: Browser, served: str, scheme: Any) -> None:
    context = chromium.new_context(viewport={"width": 1500, "height": 950}, color_scheme=scheme)
    context.set_default_timeout(PAGE_TIMEOUT)
    page = context.new_page()
    chosen = quote(Filter((OneOf("pred", ("wolf",)),)).to_param())
    page.goto(f"{served}/browse?run=animals&filter={chosen}&per_page=24")
    tiles(page)
    settle(page)
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("button", name="Prepare the file")).to_be_visible()
    ratios = page.evaluate(CONTRAST, list(WRITTEN))
    assert set(ratios) == set(WRITTEN)
    assert {selector: ratio for selector, ratio in ratios.items() if ratio < 4.5} == {}
    context.close()
