"""Runs that the tests of the reading side share; none of them alters one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cache.catalog import Catalog
from cache.indexing import build_index
from cache.run import Run
from tests.synthetic import make_run

CLASSES = ("wolf", "crane", "fox", "crane")


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled run in several parts, two classes of which share a name."""
    return make_run(tmp_path_factory.mktemp("runs") / "labelled", 260, CLASSES, seed=5, chunk=97)


@pytest.fixture(scope="session")
def indexed_path(run_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that run with an index beside it."""
    path = shutil.copytree(run_path, tmp_path_factory.mktemp("runs") / "labelled")
    build_index(Run.open(path))
    return path


@pytest.fixture(scope="session", params=["memory", "index"])
def catalog(request: pytest.FixtureRequest, run_path: Path, indexed_path: Path) -> Catalog:
    """The run, once with its tables in memory and once over its index: both must answer alike."""
    found = Catalog(Run.open(run_path if request.param == "memory" else indexed_path))
    assert (found.index is not None) == (request.param == "index")
    return found


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = make_run(tmp_path_factory.mktemp("runs") / "unlabelled", 60, seed=2, labelled=False, masks=False)
    return Catalog(Run.open(path))
