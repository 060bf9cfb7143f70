"""Imports what pages need once the server listens, so that the first page has less to wait for."""

from __future__ import annotations

import gc
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

_HERE = Path(__file__).resolve().parent
LIBRARIES = (
    "pandas", "plotly.graph_objects", "plotly.io", "duckdb", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset",
    "pyarrow.pandas_compat", "PIL.WebPImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "numpy.random",
)  # fmt: skip
"""What pages import late or through Streamlit, the slowest first."""


_START_SECONDS = 30


def modules() -> Iterator[str]:
    """Name what is worth importing early: libraries, and the dashboard's own modules but for its pages."""
    yield from LIBRARIES
    for package, prefix in ((_HERE, "dashboard."), (_HERE / "components", "dashboard.components.")):
        for module in pkgutil.iter_modules([str(package)], prefix):
            if module.name not in ("dashboard.app", "dashboard.__main__", "dashboard.app_pages"):
                yield module.name


def preload() -> None:
    """Import everything that pages need; what cannot be imported is told by the page that needs it."""
    for name in modules():
        with suppress(ImportError):
            import_module(name)
    _first_figure()
    settle()


def settle() -> None:
    """Take what is there now for good out of the collector's sight.

    Streamlit has it look through everything after each run of a page, which took two thirds of a click's time on the server
    and held up every other person meanwhile: libraries are most of what there is, and never garbage.
    """
    gc.collect()
    gc.freeze()


def _first_figure() -> None:
    """Draw a figure that nobody sees: Plotly builds its validators when the first one is drawn."""
    from dashboard.figures import LIGHT, mass_figure

    mass_figure([0.0, 0.5, 1.0], [1, 2], 0.5, True, LIGHT).to_json()


def _preload_once_listening() -> None:
    from streamlit.runtime import Runtime

    end = monotonic() + _START_SECONDS
    while not Runtime.exists() and monotonic() < end:
        sleep(0.02)
    preload()


def start() -> Thread:
    """Import in the background, as soon as the server listens: while the browser still loads the page's frame."""
    thread = Thread(target=_preload_once_listening, name="preload", daemon=True)
    thread.start()
    return thread
