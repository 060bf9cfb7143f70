"""Fixtures of the dashboard's tests: a run, pages without a browser, and a real server with a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from streamlit.testing.v1 import AppTest

from dashboard.data import RUNS_VARIABLE
from tests.synthetic import METHODS, make_run
from tests.synthetic_findings import add_findings

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "dashboard" / "app.py"
REQUIRE_BROWSER = "GAZELAKE_REQUIRE_BROWSER"
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--no-first-run",
)
START_SECONDS = 90
PAGE_TIMEOUT = 45_000
expect.set_options(timeout=PAGE_TIMEOUT)  # five seconds are too few where two cores draw and test
MANY = (
    "gradcam", "hirescam", "eigencam", "saliency", "integrated_gradients", "occlusion", "rise", "lime", "kernel_shap",
    "score_cam",
)  # fmt: skip
"""Methods of the run ``many``: of every family, signed ones, some with superpixels, two of them the same evidence."""
OpenPage = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit puts the page in the place of ``__main__``, where processes that other tests spawn would find it."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``animals``, ``many`` (methods of every family), ``unlabelled`` and ``audited``, with findings."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "animals", samples=150, methods=tuple(METHODS), seed=4)
    make_run(folder / "many", samples=40, methods=MANY, seed=4)
    make_run(folder / "unlabelled", samples=40, labelled=False, masks=False, seed=5)
    add_findings(make_run(folder / "audited", samples=150, methods=tuple(METHODS), seed=4))
    return folder


@pytest.fixture
def own_runs(runs: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the run ``animals``, for a test that reviews it."""
    shutil.copytree(
        runs / "animals", tmp_path / "runs" / "animals", ignore=shutil.ignore_patterns("reviews.sqlite*")
    )
    return tmp_path / "runs"


@pytest.fixture
def open_page(runs: Path, monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Open a page without a browser: ``open_page("browse", run=…, folder=…, other parameters)``."""

    def open_(
        page: str, /, folder: Path | str | None = None, run: str | None = "animals", **params: str
    ) -> AppTest:
        monkeypatch.setenv(RUNS_VARIABLE, str(folder or runs))
        app = AppTest.from_file(str(APP), default_timeout=60)
        if page != "overview":
            app.switch_page(f"app_pages/{page}.py")
        if run is not None:
            app.query_params["run"] = run
        for name, value in params.items():
            app.query_params[name] = value
        return app.run()

    return open_


def texts(app: AppTest) -> str:
    """Return every text of a page in one string."""
    elements = [*app.markdown, *app.caption, *app.title, *app.subheader, *app.warning, *app.error, *app.code]
    return "\n".join(str(element.value) for element in elements)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(
    folder: Path, log: Path, port: int | None = None, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the dashboard over a folder and wait until it answers."""
    port = port or free_port()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboard", "serve", str(folder), "--port", str(port), "--no-browser"],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return process, url
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise AssertionError(f"The dashboard did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def served(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the runs on loopback; the address of the server."""
    process, url = serve(runs, tmp_path_factory.mktemp("server") / "log")
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture
def own_server(own_runs: Path, tmp_path: Path) -> Iterator[str]:
    """Serve that copy; the address of the server."""
    process, url = serve(own_runs, tmp_path / "log")
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system."""
    executable = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if executable is None:
        if os.environ.get(REQUIRE_BROWSER):
            pytest.fail("Chromium is not installed, and the browser tests may not be skipped here.")
        pytest.skip("Chromium is not installed: install the package `chromium` to run the browser tests.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def browser_context(chromium: Browser) -> Iterator[BrowserContext]:
    """A browser's profile of its own: 1500 × 950, no memory of other tests."""
    context = chromium.new_context(viewport={"width": 1500, "height": 950})
    context.set_default_timeout(PAGE_TIMEOUT)
    yield context
    context.close()


@pytest.fixture
def browser_page(browser_context: BrowserContext) -> Iterator[Page]:
    """A page in which no error of ours may occur, and which asks no other host for anything."""
    page = browser_context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1", "data:", "blob:", "ws://127.0.0.1"))
            else problems.append(f"asked {request.url}")
        ),
    )
    yield page
    assert problems == []
