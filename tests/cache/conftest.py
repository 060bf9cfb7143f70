"""Runs that the tests of the reading side share; none of them alters one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.catalog import Catalog
from cache.run import Run
from tests.synthetic import make_run

CLASSES = ("wolf", "crane", "fox", "crane")


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled run in several parts, two classes of which share a name."""
    return make_run(tmp_path_factory.mktemp("runs") / "labelled", 260, CLASSES, seed=5, chunk=97)


@pytest.fixture(scope="session")
def catalog(run_path: Path) -> Catalog:
    return Catalog(Run.open(run_path))


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = make_run(tmp_path_factory.mktemp("runs") / "unlabelled", 60, seed=2, labelled=False, masks=False)
    return Catalog(Run.open(path))
