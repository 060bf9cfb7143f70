"""Cached access to runs: one open catalog a published generation, and answers remembered under that generation.

A new generation has a new key, so that it appears without anybody clearing a cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from cache.catalog import Catalog
from cache.filters import Filter
from cache.reviews import reviews_path
from cache.run import Run, Signature, find_runs, is_run, signature
from dashboard.configuration import configuration_path, read_configuration

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


def latest_run(runs: Mapping[str, Path]) -> str | None:
    """Return the name of the run that was changed last; None without runs."""
    return max(runs, key=lambda name: _changed(runs[name]), default=None)


def _changed(path: Path) -> float:
    try:
        return os.stat(path / "run.json").st_mtime
    except OSError:
        return 0.0


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _open(path: str, opened: Signature | None, folder: Path | None) -> Catalog:
    del opened  # only tells generations apart
    run = Run.open(path)
    return Catalog(run, reviews_path(run.path, run.manifest, folder))


def reviews_folder() -> Path | None:
    """Return the folder that the configuration names for the reviews of all runs; None where each run keeps its own.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    path = configuration_path(runs_folder())
    return None if path is None else read_configuration(path).reviews


def open_catalog(path: Path) -> Catalog:
    """Open the newest generation of a run, or return it where it is open already.

    Raises:
        RunNotFoundError: There is no run at that path.
        RunSchemaError: Another schema version wrote it.
        RunDamagedError: It cannot be read.
        ConfigError: The configuration cannot be used.
    """
    return _open(str(path), signature(path), reviews_folder())


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
