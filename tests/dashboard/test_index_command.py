"""The command that indexes a run, the notice that names it, and pages over an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache import index as cache_index
from cache.index import INDEX_VARIABLE, find_index
from cache.indexing import build_index
from cache.run import Run
from dashboard import data, notices
from tests.dashboard.conftest import OpenPage
from tests.dashboard.test_sharing import dashboard, refused
from tests.synthetic import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "audit", 60)


def test_an_index_is_built_found_and_taken_away(run: Path, tmp_path: Path) -> None:
    done = dashboard("index", run, "--grids", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60 samples indexed in" in done.stdout
    found = find_index(Run.open(run))
    assert found is not None
    assert str(found.folder) in done.stdout
    assert {p.name for p in found.folder.glob("grid-*")} == {
        "grid-gradcam-pred.f32",
        "grid-layercam-pred.f32",
    }
    assert "indexed already" in dashboard("index", run, cwd=tmp_path).stdout
    assert "Deleted" in dashboard("index", run, "--drop", cwd=tmp_path).stdout
    assert find_index(Run.open(run)) is None
    assert "has no index" in dashboard("index", run, "--drop", cwd=tmp_path).stdout


def test_mistakes_are_one_sentence(run: Path, tmp_path: Path) -> None:
    refused(dashboard("index", run, "--grids", "lime", cwd=tmp_path), "has no method lime")
    refused(dashboard("index", tmp_path / "nowhere", cwd=tmp_path), "does not exist")


def test_a_catalog_that_is_open_gives_way_to_an_index(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data.RUNS_VARIABLE, str(run.parent))
    before = data.open_catalog(run)
    assert before.index is None
    assert data.open_catalog(run) is before
    build_index(Run.open(run))
    after = data.open_catalog(run)
    assert after.index is not None
    assert data.open_catalog(run) is after


def test_a_large_run_without_an_index_says_how_to_build_one(
    open_page: OpenPage, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "elsewhere"))
    monkeypatch.setattr(notices, "LARGE_RUN", 50)

    def told(page: str) -> list[str]:
        at = open_page(page, folder=run.parent, run="audit")
        assert not at.exception
        return [info.value for info in at.info if "python -m dashboard index" in info.value]

    assert cache_index.LARGE_RUN > 50
    assert len(told("overview")) == 1
    build_index(Run.open(run))
    for page in ("overview", "browse", "region", "methods", "contact"):
        assert told(page) == []
