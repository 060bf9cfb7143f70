"""Cached access to runs: one open catalog a published generation, and answers remembered under that generation.

A new generation has a new key, so that it appears without anybody clearing a cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from cache.catalog import Catalog
from cache.filters import Filter
from cache.index import index_stamp
from cache.locations import Location, Url, located
from cache.reviews import reviews_path
from cache.run import Run, Signature, changed, find_runs, signature
from dashboard.configuration import configuration_path, read_configuration

RUNS_VARIABLE = "GAZELAKE_RUNS"
DEFAULT_RUNS = "runs"
URL_SECONDS = 5.0
"""How long it is believed what an object store said of its runs."""

P = ParamSpec("P")
T = TypeVar("T")


def runs_folder() -> Location:
    """Return the folder or URL that is served: of runs, or of one run."""
    return located(os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS)


def list_runs(folder: Location | None = None) -> dict[str, Location]:
    """Return the runs of the served folder by the name that links use: their path below the folder.

    Raises:
        RunStorageError: The object store denies them, or cannot be reached.
        ConfigError: Its package is not installed.
    """
    root = (folder or runs_folder()).absolute()
    if isinstance(root, Url):
        return _believed(("runs", root), lambda: _list(root))
    return _list(root)


def _list(root: Location) -> dict[str, Location]:
    found = find_runs(root)
    if found == [root]:
        return {root.name: root}
    return {str(place)[len(str(root)) :].strip("/"): place for place in found}


def _believed(key: Hashable, ask_store: Callable[[], T]) -> T:
    """Ask an object store, or return what it said a moment ago: every click would ask it several times."""
    return answers().get((key, int(monotonic() // URL_SECONDS)), ask_store)


def latest_run(runs: Mapping[str, Location]) -> str | None:
    """Return the name of the run that was changed last; None without runs."""
    return max(runs, key=lambda name: changed(runs[name]), default=None)


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _open(path: str, opened: Signature | None, folder: Path | None, indexes: tuple[str, ...]) -> Catalog:
    del opened, indexes  # only tell generations apart, and a run from one that has been indexed since
    run = Run.open(path)
    return Catalog(run, reviews_path(run.path, run.manifest, folder))


def reviews_folder() -> Path | None:
    """Return the folder that the configuration names for the reviews of all runs; None where each run keeps its own.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    path = configuration_path(runs_folder())
    return None if path is None else read_configuration(path).reviews


def open_catalog(path: Location) -> Catalog:
    """Open the newest generation of a run, or return it where it is open already.

    Raises:
        RunNotFoundError: There is no run at that path.
        RunSchemaError: Another schema version wrote it.
        RunDamagedError: It cannot be read.
        RunStorageError: The object store denies it, or cannot be reached.
        ConfigError: The configuration cannot be used.
    """
    opened = (
        _believed(("signature", path), lambda: signature(path)) if isinstance(path, Url) else signature(path)
    )
    return _open(str(path), opened, reviews_folder(), index_stamp(path))


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
def answers() -> Answers:
    """Return the answers that all sessions share."""
    return Answers(256)


def _about_reviews(values: Iterable[object]) -> bool:
    """Tell whether an answer changes with the reviews, because a filter among a query's arguments asks for them."""
    return any(
        value.about_reviews
        if isinstance(value, Filter)
        else isinstance(value, tuple) and _about_reviews(value)
        for value in values
    )


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
        catalog.reviewed.revision() if _about_reviews(args) or _about_reviews(kwargs.values()) else None,
    )
    return answers().get(key, lambda: query(catalog, *args, **kwargs))
