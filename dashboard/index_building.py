"""Builds the index of a large run beside the pages that are looked at: in a process of its own, once a generation."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock, Thread

from cache.command_line import run_command
from cache.index import index_name
from cache.indexing import build_index
from cache.locations import Url
from cache.run import Run

BUILD_VARIABLE = "GAZELAKE_BUILD_INDEX"
"""Set by ``serve``: whoever hosts the dashboard otherwise builds indexes by the command."""
_ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = "python -m dashboard index"
_MISTAKE = "Error: "


class Building:
    """An index that is being built, or was.

    Attributes:
        share: How much of it is done, 0 to 1.
        refusal: The sentence that says why it could not be built.
    """

    def __init__(self, run: Run) -> None:
        """Start to build it."""
        self.share, self.refusal = 0.0, ""
        # A process of its own, and a polite one: neither its memory nor its work is taken from the pages.
        command = [sys.executable, "-m", "dashboard.index_building", str(run.path)]
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._thread = Thread(target=self._follow, name="index", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Tell whether it is still being built."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Wait for its end, but not longer."""
        self._thread.join(seconds)

    def _follow(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                self.share = float(line)
        said = self._process.stderr.read().strip().splitlines()
        if self._process.wait():
            mistakes = [line.removeprefix(_MISTAKE) for line in said if line.startswith(_MISTAKE)]
            self.refusal = (mistakes or ["The process that built the index ended early."])[-1]


_lock = Lock()


@lru_cache(maxsize=64)
def _building(place: str, name: str) -> Building:
    del name  # another generation is another index
    return Building(Run.open(place))


def building_of(run: Run) -> Building | None:
    """Return how far the index of a run is, started where nobody did; None where none is built here.

    A run that is being written has another index with each publication, and one at a URL would have to be fetched as a whole.
    """
    if os.environ.get(BUILD_VARIABLE) != "1" or isinstance(run.path, Url) or run.is_being_written():
        return None
    with _lock:
        return _building(str(run.path), index_name(run))


def main() -> None:
    """Build the index of the run that is named, and print what share of it is done."""
    os.nice(10)
    build_index(Run.open(sys.argv[1]), (), lambda share, _: print(f"{share:.3f}", flush=True))


if __name__ == "__main__":
    run_command(main, _PROGRAM)
