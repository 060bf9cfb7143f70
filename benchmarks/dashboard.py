"""The dashboard over 100,000 samples in a real Chromium: how long pages, filters and overlays take, alone and among ten people.

The run is synthetic and made once; then one browser opens every page warm, changes filters and switches overlays, and
ten browser sessions click at the same time. Bars stand beside what was measured.

    python -m benchmarks.dashboard --run FOLDER/large
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from playwright.async_api import Browser, Page, async_playwright

from benchmarks import empty_page
from benchmarks.clicker import click_about
from benchmarks.make_run import make_run
from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf
from cache.queries import Sort, ids
from cache.run import Run, is_run
from tests.dashboard.conftest import CHROMIUM_FLAGS, serve

SAMPLES = 100_000
METHODS = 7
CLASSES = tuple(f"class {index:02d}" for index in range(20))
"""Of the run's 100."""
OPENINGS = 5
FILTERS = 30
SWITCHES = 30
PEOPLE = 10
CLICKS = 6
LOOK = 3.0
"""Seconds that people look at the page before they click: the opening of ten pages is done with then."""
TIMEOUT = 120_000

SHOWN = """() => {
  // Searched for anew only where the gallery was replaced: ten browsers that ask often must not be what is measured.
  if (!window.hostOfTiles?.isConnected)
    window.hostOfTiles = [...document.querySelectorAll('*')].find(n => n.shadowRoot?.querySelector('.tile'));
  const tiles = [...(window.hostOfTiles?.shadowRoot.querySelectorAll('.tile') ?? [])];
  return tiles.every(t => t.querySelector('img').complete) ? tiles.map(t => t.dataset.id).join('|') : '';
}"""
"""The ids of the gallery's tiles once all their pictures are there."""
WAIT_CHANGED = (
    "([before, start, sentence]) => new Promise((done, failed) => { const shown = "
    + SHOWN
    + """;
  // What a wider filter adds may come after the first page: then the page has another sentence, and has been drawn.
  const drawn = () => {
    const said = sentence && document.querySelector('.st-key-sentence')?.innerText;
    return said && said !== sentence && document.querySelector('[data-test-script-state=notRunning]');
  };
  // Told of changes rather than asking fifty times a second: what waits must not be what is measured.
  let tiles = null;
  const page = new MutationObserver(() => { if (sentence || !tiles?.isConnected) look(); });
  const gallery = new MutationObserver(() => look());
  // A gallery that is put in anew fills within its own root, of which the page hears nothing.
  const again = setInterval(() => look(), 250);
  const late = setTimeout(() => end(() => failed(new Error('the gallery did not change'))), 60000);
  const end = (then) => {
    [page, gallery].forEach((one) => one.disconnect());
    tiles?.removeEventListener('load', look, true);
    clearTimeout(late);
    clearInterval(again);
    then();
  };
  const look = () => {
    const now = shown();
    if (now && (now !== before || drawn())) return end(() => requestAnimationFrame(() => done(performance.now() - start)));
    const root = window.hostOfTiles?.shadowRoot;
    if (!root || root === tiles) return;
    tiles?.removeEventListener('load', look, true);
    tiles = root;
    gallery.observe(root, {childList: true, subtree: true});
    root.addEventListener('load', look, true);
  };
  page.observe(document.body, {childList: true, subtree: true, characterData: true, attributes: true,
                               attributeFilter: ['data-test-script-state']});
  look();
})"""
)
MIDDLE = """([selector, words]) => new Promise(done => {
  const look = () => {
    const found = [...document.querySelectorAll(selector)].find(one => !words || one.textContent.trim() === words);
    if (!found) return setTimeout(look, 50);
    const box = found.getBoundingClientRect();
    done([box.x + box.width / 2, box.y + box.height / 2]);
  };
  look();
})"""
"""Where the first element of a kind, or the one with these words, lies in the window, once it is there."""
SETTLED = """() => new Promise(done => {
  const still = () => document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]');
  if (still()) return done();
  const seen = new MutationObserver(() => { if (still()) { seen.disconnect(); done(); } });
  seen.observe(document.body, {attributes: true, attributeFilter: ['data-test-script-state'], childList: true, subtree: true});
})"""
"""Waits for Streamlit's last run by being told: Playwright's own waiting asks for a frame sixty times a second."""
SENTENCE = "() => document.querySelector('.st-key-sentence')?.innerText || ''"
"""The filter in words, with how many images it holds."""
SWITCH = """(kind) => new Promise(done => {
  const host = [...document.querySelectorAll('*')].find(n => n.shadowRoot && n.shadowRoot.querySelector('.bar'));
  const root = host.shadowRoot;
  const start = performance.now();
  if (kind === 'overlay') root.querySelector('.switch').click();
  else {
    const opacity = root.querySelector('input[type=range]');
    opacity.value = Number(opacity.value) > 50 ? 30 : 80;
    opacity.dispatchEvent(new Event('input'));
  }
  // Two frames: the first is drawn with the change, at the second it stands on the screen.
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""


@dataclass(frozen=True)
class Bar:
    """A figure beside what it has to stay under, in its unit."""

    name: str
    value: float
    bar: float
    unit: str = "ms"

    def __str__(self) -> str:
        sign = "ok  " if self.value < self.bar else "OVER"
        return f"{sign}  {self.name:<52}{self.value:>9,.0f} {self.unit:<3} bar {self.bar:,.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def load() -> str:
    """Return the machine's load average, which says how far the figures may be believed."""
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg()) + f" on {os.cpu_count()} cores"


@contextmanager
def peak_memory(process: int) -> Iterator[Callable[[], float]]:
    """Give the resident memory of a process, in MB at its highest since it began, as the system keeps it."""

    def read() -> float:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    yield read


async def settled(page: Page) -> None:
    """Wait until Streamlit has drawn the page."""
    await page.evaluate(SETTLED)


async def opening(page: Page, url: str, ready: str) -> float:
    """Open an address and return how many milliseconds it took until the page was whole."""
    start = time.perf_counter()
    await page.goto(url, wait_until="commit")
    await page.locator(ready).first.wait_for(state="visible", timeout=TIMEOUT)
    await settled(page)
    return 1e3 * (time.perf_counter() - start)


def pages(run: Path) -> dict[str, tuple[str, str]]:
    """Return each page's address and what it shows once it is there."""
    name = run.name
    with_run = urlencode({"run": name})
    wrong = Filter((Is("correct", False),))
    sample = ids(Catalog(Run.open(run)), wrong, Sort("confidence", True), 1)[0]
    return {
        "Overview": (f"/?{with_run}", ".st-key-overview_reliability .area"),
        "Findings": (f"/findings?{with_run}", "h1"),
        "Browse": (f"/browse?{with_run}", ".tile img"),
        "Region": (f"/region?{with_run}", ".picker"),
        "Methods": (f"/methods?{with_run}", ".tile img"),
        "Contact sheet": (f"/contact?{with_run}", ".tile img"),
        "Sample": (f"/sample?{urlencode({'run': name, 'id': sample})}", ".tile img"),
    }


async def page_openings(browser: Browser, base: str, run: Path) -> list[Bar]:
    """Open every page warm: once to fill caches, then as often as it is measured, each time in a new tab."""
    bars = []
    context = await browser.new_context(viewport={"width": 1500, "height": 950})
    for title, (path, ready) in pages(run).items():
        took = []
        for _ in range(OPENINGS + 1):
            page = await context.new_page()
            took.append(await opening(page, base + path, ready))
            await page.close()
        bars.append(Bar(f"{title} opens, warm, median of {OPENINGS}", statistics.median(took[1:]), 2_000))
        print(bars[-1], flush=True)
    await context.close()
    return bars


async def filter_changes(page: Page, base: str, run: Path) -> list[float]:
    """Add one class after the other by the filter bar; each is a filter nobody asked before."""
    took: list[float] = []
    for field in ("Class", "Predicted class"):
        await opening(
            page, f"{base}/browse?{urlencode({'run': run.name, 'sort': '-confidence'})}", ".tile img"
        )
        for index in range(FILTERS // 2):
            before, sentence = await page.evaluate(SHOWN), await page.evaluate(SENTENCE)
            box = page.get_by_role("combobox", name=field, exact=True)
            await box.click()
            await box.fill(CLASSES[index])
            # Not by "enter": the first entry takes everything that matches.
            option = page.get_by_role("option", name=re.compile(rf"^{CLASSES[index]}\b")).first
            await option.wait_for()
            start = await page.evaluate("performance.now()")
            await option.click()
            took.append(await page.evaluate(WAIT_CHANGED, [before, start, sentence]))
            await settled(page)
    return took


async def switches(page: Page, base: str, run: Path) -> tuple[list[float], int]:
    """Switch the overlay and its opacity, and count what the browser sends to the server meanwhile."""
    sent: list[object] = []

    def note(frame: object) -> None:  # a function of its own: a list's method is none to Playwright
        sent.append(frame)

    page.on("websocket", lambda socket: socket.on("framesent", note))
    await opening(page, f"{base}/browse?{urlencode({'run': run.name})}", ".tile img")
    await page.wait_for_timeout(1_500)
    sent.clear()
    took = [await page.evaluate(SWITCH, "overlay" if i % 2 else "opacity") for i in range(SWITCHES)]
    await page.wait_for_timeout(1_500)
    return took, len(sent)


async def person(
    browser: Browser, base: str, run: Path, number: int, open_too: asyncio.Barrier | None = None
) -> list[float]:
    """Click about as one of many, once the others have the page before them too: outcomes and pages of the gallery."""
    context = await browser.new_context(viewport={"width": 1500, "height": 950})
    page = await context.new_page()
    page.set_default_timeout(TIMEOUT)
    took = []
    chosen = Filter((OneOf("label", (CLASSES[number % len(CLASSES)],)),))
    params = {"run": run.name, "sort": "-confidence", "filter": chosen.to_param()}
    await opening(page, f"{base}/browse?{urlencode(params)}", ".tile img")
    if open_too is not None:
        await open_too.wait()
        await asyncio.sleep(LOOK)
    for click in range(CLICKS):
        before = await page.evaluate(SHOWN)
        outcome = (".st-key-filter_correct [role=radio]", ("Wrong", "Right")[click // 2 % 2])
        place = outcome if click % 2 == 0 else (".st-key-pages [data-testid=stPaginationNext]", "")
        x, y = await page.evaluate(MIDDLE, place)
        start = await page.evaluate("performance.now()")
        # As a person presses it. Playwright's own click looks at the element frame by frame first: 150 ms of a core among ten.
        await page.mouse.click(x, y)
        took.append(await page.evaluate(WAIT_CHANGED, [before, start, ""]))
        await settled(page)
    await context.close()
    return took


async def among_others(browser: Browser, base: str, run: Path) -> tuple[list[float], list[float]]:
    """Click about in one browser while nine others, whose browsers are elsewhere, do the same; return both's times."""
    stop = asyncio.Event()

    def addresses(number: int) -> list[str]:
        chosen = OneOf("label", (CLASSES[number % len(CLASSES)],))
        filters = [Filter((chosen, Is("correct", right))).to_param() for right in (False, True)]
        params = {"run": run.name, "sort": "-confidence"}
        return [urlencode({**params, "filter": one, "page": str(page)}) for page in (1, 2) for one in filters]

    others = [asyncio.create_task(click_about(base, addresses(n), stop)) for n in range(1, PEOPLE)]
    took = [one for number in (0, 10, 11) for one in await person(browser, base, run, number)]
    stop.set()
    return took, [one for each in await asyncio.gather(*others) for one in each]


async def measure(base: str, run: Path, memory: Callable[[], float], only: set[str]) -> list[Bar]:
    """Drive the browser through everything that is measured."""
    bars: list[Bar] = []

    def say(*found: Bar) -> None:
        bars.extend(found)
        for bar in found:
            print(bar, flush=True)

    def wanted(part: str) -> bool:
        return not only or part in only

    executable = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_FLAGS))
        context = await browser.new_context(viewport={"width": 1500, "height": 950})
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT)
        if wanted("pages"):
            bars += await page_openings(browser, base, run)
        if wanted("filters"):
            took = await filter_changes(page, base, run)
            say(
                Bar(f"filter to new gallery, median of {len(took)}", statistics.median(took), 700),
                Bar("filter to new gallery, 95th percentile", percentile(took, 0.95), 1_500),
            )
        if wanted("switches"):
            took, messages = await switches(page, base, run)
            say(
                Bar(f"overlay and opacity, median of {len(took)}", statistics.median(took), 50),
                Bar("overlay and opacity, messages to the server", messages, 1, ""),
            )
        await context.close()
        if wanted("people"):
            open_too = asyncio.Barrier(PEOPLE)
            people: list[Awaitable[list[float]]] = [
                person(browser, base, run, number, open_too) for number in range(PEOPLE)
            ]
            together = [one for each in await asyncio.gather(*people) for one in each]
            say(
                Bar(f"{PEOPLE} people clicking, median", statistics.median(together), 3_000),
                Bar(f"{PEOPLE} people clicking, 95th percentile", percentile(together, 0.95), 3_000),
            )
            least = await empty_page.clicks(browser, PEOPLE, settled)
            say(
                Bar(f"{PEOPLE} people on an empty page, median", statistics.median(least), 3_000),
                Bar(f"{PEOPLE} people on an empty page, 95th percentile", percentile(least, 0.95), 3_000),
            )
        if wanted("others"):
            took, others = await among_others(browser, base, run)
            say(
                Bar(
                    f"a browser while {PEOPLE - 1} others click, median of {len(took)}",
                    statistics.median(took),
                    3_000,
                ),
                Bar("a browser while others click, 95th percentile", percentile(took, 0.95), 3_000),
                Bar(
                    f"the others' answers, 95th percentile of {len(others)}", percentile(others, 0.95), 3_000
                ),
            )
        say(Bar("the server's memory at its highest", memory(), 1_500, "MB"))
        await browser.close()
    return bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--run", type=Path, help="where the run lies or is made; a temporary folder without it"
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        choices=("pages", "filters", "switches", "people", "others"),
        help="parts to measure",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = (asked.run or Path(folder) / "large").absolute()
        if not is_run(run):
            start = time.perf_counter()
            make_run(run, asked.samples, METHODS)
            print(f"made {asked.samples:,} samples in {time.perf_counter() - start:.0f} s", flush=True)
        print(load(), flush=True)
        process, base = serve(run, Path(folder) / "server.log")
        try:
            with peak_memory(process.pid) as memory:
                asyncio.run(measure(base, run, memory, set(asked.only)))
        finally:
            process.terminate()
            process.wait(30)
        print(load(), flush=True)


if __name__ == "__main__":
    main()
