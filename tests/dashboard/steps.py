"""What people do on the pages in a browser, and what those who watch them read there: shared by the browser tests."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, expect

from cache.regions import Region
from dashboard import attention
from tests.dashboard.conftest import PAGE_TIMEOUT, ROOT, START_SECONDS, free_port

ENDINGS = {"Table": "csv", "Report": "html", "Bundle": "zip"}


def settle(page: Page) -> None:
    """Wait until the server has nothing left to do."""
    expect(page.locator("[data-test-script-state='running']")).to_have_count(0)


def param(page: Page, name: str) -> str | None:
    """Return a parameter of the address."""
    return parse_qs(urlsplit(page.url).query).get(name, [None])[0]


def wait_for_param(page: Page, name: str, value: str | None) -> None:
    """Wait until a parameter of the address has a value, or is gone."""
    page.wait_for_function(
        "([name, value]) => new URLSearchParams(location.search).get(name) === value", arg=[name, value]
    )


def tiles(page: Page) -> None:
    """Wait for the pictures of a gallery that can be opened."""
    expect(page.locator("a.tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)


def review_as(page: Page, name: str) -> None:
    """Type who one is into the sidebar."""
    page.get_by_label("Reviewing as").fill(name)
    page.keyboard.press("Enter")
    page.wait_for_timeout(1_500)
    settle(page)


def tag_in_gallery(page: Page, words: str) -> None:
    """Tag what is selected in the gallery, or the picture in focus, from the keyboard."""
    page.keyboard.press("t")
    page.keyboard.type(words)
    page.keyboard.press("Enter")


def save_view(page: Page, name: str) -> None:
    """Save what the page shows as a view."""
    page.get_by_role("button", name="Save this view").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(f"Saved the view “{name}”.")).to_be_visible()


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Drag over the picture of the Region page through points in its fractions."""
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".stage").bounding_box()
    assert box is not None
    for index, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=3)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def region_of(page: Page) -> Region | None:
    """Return the region on the canvas, which stands in the address."""
    return attention.region_from_param(param(page, "region") or "")


def drawn(page: Page, before: Region | None = None) -> Region | None:
    """Wait until the link holds another region than before."""
    for _ in range(150):
        if region_of(page) != before:
            break
        page.wait_for_timeout(100)
    return region_of(page)


def prepare(page: Page, kind: str, target: Path) -> Path:
    """Make a file of a kind with the panel that is open, and fetch it."""
    page.get_by_role("radio", name=kind).or_(page.get_by_role("button", name=kind, exact=True)).last.click()
    page.get_by_role("button", name="Prepare the file").click()
    button = page.get_by_role("button", name=re.compile(rf"Download .*{ENDINGS[kind]}"))
    expect(button).to_be_visible(timeout=PAGE_TIMEOUT)
    with page.expect_download() as fetched:
        button.click()
    path = target / fetched.value.suggested_filename
    fetched.value.save_as(path)
    return path


@contextmanager
def opened(bundle: Path, into: Path, log: Path) -> Iterator[str]:
    """Open a bundle as ``python -m dashboard open`` does, and yield the address of its dashboard."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard", "open", str(bundle), "--into", str(into), "--port", str(port), "--no-browser"],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        _wait_for(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    end = monotonic() + START_SECONDS
    while monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            sleep(0.2)
    raise AssertionError(log.read_text())


COLOURS = """async map => {
  if (!map.src) return [];
  await map.decode();
  const canvas = Object.assign(document.createElement('canvas'), {width: map.naturalWidth, height: map.naturalHeight});
  const context = canvas.getContext('2d');
  context.drawImage(map, 0, 0);
  return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);
}"""


def colours(picture: Locator) -> list[int]:
    """Return red, green, blue and opacity of a picture's pixels, row by row; nothing where it has not been drawn."""
    return picture.evaluate(COLOURS)  # type: ignore[no-any-return]
