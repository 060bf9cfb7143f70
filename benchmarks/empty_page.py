"""The least that a click in Streamlit takes here: people who click one radio button on a page that holds nothing else.

What ten browsers take for it on the cores that also serve them bounds what any page can take among ten.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.dashboard.conftest import free_port

CLICKS = 6
START_SECONDS = 90
PAGE = """import streamlit as st
st.set_page_config(layout="wide")
st.write("chosen: " + st.radio("Outcome", ["Wrong", "Right"], horizontal=True))
"""


@contextmanager
def served() -> Iterator[str]:
    """Serve the page on this machine alone; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(PAGE)
        base = f"http://127.0.0.1:{free_port()}"
        options = (
            "port=" + base.rsplit(":", 1)[1],
            "address=127.0.0.1",
            "headless=true",
            "fileWatcherType=none",
        )
        command = [sys.executable, "-m", "streamlit", "run", "app.py", *(f"--server.{o}" for o in options)]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + START_SECONDS
            while not _answers(base):
                if time.monotonic() > end:
                    raise TimeoutError("streamlit did not start")
                time.sleep(0.2)
            yield base
        finally:
            process.terminate()
            process.wait(20)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/_stcore/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


async def clicks(browser: Browser, people: int, settled: Callable[[Page], Awaitable[None]]) -> list[float]:
    """Have so many people click at the same time, each in a session of their own; return the milliseconds of each click."""
    together = asyncio.Barrier(people)

    async def person(base: str) -> list[float]:
        context = await browser.new_context(viewport={"width": 1500, "height": 950})
        page = await context.new_page()
        await page.goto(base)
        await page.get_by_text("chosen: Wrong").wait_for()
        await together.wait()
        took = []
        for click in range(CLICKS):
            chosen = ("Right", "Wrong")[click % 2]
            start = time.perf_counter()
            await page.get_by_text(chosen, exact=True).first.click()
            await page.get_by_text(f"chosen: {chosen}").wait_for()
            await settled(page)
            took.append(1e3 * (time.perf_counter() - start))
        await together.wait()
        await context.close()
        return took

    with served() as base:
        return [one for each in await asyncio.gather(*[person(base) for _ in range(people)]) for one in each]
