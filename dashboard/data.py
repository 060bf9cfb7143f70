"""Cached access to runs: one open catalog a published generation, and answers remembered under that generation.

A new generation has a new key, so that it appears without anybody clearing a cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from cache.catalog import Catalog
from cache.run import Run, Signature, find_runs, is_run, signature

RUNS_VARIABLE = "GAZELAKE_RUNS"
DEFAULT_RUNS = "runs"

P = ParamSpec("P")
T = TypeVar("T")


def runs_folder() -> Path:
    """Return the folder that is served: a folder of runs, or one run."""
    return Path(os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS)


def list_runs(folder: Path | None = None) -> dict[str, Path]:
    """Return the runs of the served folder by the name that links use: their path below the folder."""
    root = (folder or runs_folder()).absolute()
    if is_run(root):
        return {root.name: root}
    return {path.relative_to(root).as_posix(): path for path in find_runs(root)}


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _open(path: str, opened: Signature | None) -> Catalog:
    del opened  # only tells generations apart
    return Catalog(Run.open(path))


def open_catalog(path: Path) -> Catalog:
    """Open the newest generation of a run, or return it where it is open already.

    Raises:
        RunNotFoundError: There is no run at that path.
        RunSchemaError: Another schema version wrote it.
        RunDamagedError: It cannot be read.
    """
    return _open(str(path), signature(path))


class Answers:
    """The last answers of the cache, least recently used forgotten first; safe between threads."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the answer kept under a key, or compute and keep it."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                kept: T = self._answers[key]
                return kept
        answer = compute()
        with self._lock:
            self._answers[key] = answer
            while len(self._answers) > self._entries:
                self._answers.popitem(last=False)
        return answer


@st.cache_resource
def _answers() -> Answers:
    return Answers(256)


def ask(
    catalog: Catalog, query: Callable[Concatenate[Catalog, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Ask a query of the cache, once a generation; its arguments must be hashable and its answer left unchanged."""
    run = catalog.run
    key = (
        str(run.path),
        run.manifest.run_id,
        run.manifest.generation,
        query.__module__,
        query.__qualname__,
        args,
        tuple(sorted(kwargs.items())),
    )
    return _answers().get(key, lambda: query(catalog, *args, **kwargs))
