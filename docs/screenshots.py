"""Photographs every page of the demo for the README: ``make screenshots``, after ``make demo``."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from cache.filters import Filter, Is, OneOf
from cache.regions import PRESETS

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
RUN = ROOT / "runs" / "demo"
SIZE = {"width": 1500, "height": 950}
SETTLE_SECONDS = 3.0


def pages(run: str) -> dict[str, str]:
    """Return the address of each page, with the state that shows it best."""
    wrong_wolves = Filter((OneOf("pred", ("wolf",)), Is("correct", False)))
    foxes = Filter((OneOf("pred", ("fox",)),))
    corner = json.dumps(PRESETS["bottom_left"].to_json()) if "bottom_left" in PRESETS else ""
    sample = _sample(wrong_wolves)
    return {
        "overview": "/?" + urlencode({"run": run}),
        "findings": "/findings?" + urlencode({"run": run}),
        "browse": "/browse?" + urlencode({"run": run, "filter": wrong_wolves.to_param()}),
        "region": "/region?" + urlencode({"run": run, "filter": foxes.to_param(), "region": corner}),
        "methods": "/methods?" + urlencode({"run": run, "filter": foxes.to_param()}),
        "sample": "/sample?" + urlencode({"run": run, "filter": wrong_wolves.to_param(), "id": sample}),
    }


def _sample(chosen: Filter) -> str:
    from cache.catalog import Catalog
    from cache.queries import Sort, page
    from cache.run import Run

    rows = page(Catalog(Run.open(RUN)), chosen, Sort("confidence", descending=True), 0, 1)
    return str(rows["sample_id"][0].as_py())


def wait(address: str) -> None:
    """Wait until the server answers."""
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
        else:
            return
    raise SystemExit("The dashboard did not start.")


def settle(page: Page) -> None:
    """Wait until Streamlit has nothing left to do, and a moment more for figures to be drawn."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
    page.wait_for_timeout(1_000 * SETTLE_SECONDS)


def _keep(picture: bytes, path: Path) -> None:
    """Write a photograph as WebP: a fifth of the PNG, and the letters stay sharp."""
    with Image.open(io.BytesIO(picture)) as shot:
        shot.convert("RGB").save(path, quality=82, method=6)


def main() -> None:
    """Photograph every page in light, and in dark for looking at."""
    if not (RUN / "run.json").exists():
        raise SystemExit("There is no demo: run `make demo` first.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "serve", str(RUN), "--port", str(port), "--no-browser"]
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        base = f"http://127.0.0.1:{port}"
        wait(base)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            for theme in sys.argv[1:] or ["light"]:
                context = browser.new_context(viewport=SIZE, color_scheme=theme)  # type: ignore[arg-type]
                for name, path in pages(RUN.name).items():
                    page = context.new_page()
                    page.goto(base + path)
                    settle(page)
                    suffix = "" if theme == "light" else f"-{theme}"
                    _keep(page.screenshot(), IMAGES / f"{name}{suffix}.webp")
                    page.close()
                context.close()
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


if __name__ == "__main__":
    main()
