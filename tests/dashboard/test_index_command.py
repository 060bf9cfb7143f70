"""The command that indexes a run, the notice that names it, and pages over an index."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cache import index as cache_index
from cache.index import INDEX_VARIABLE, find_index
from cache.indexing import build_index
from cache.run import Run
from cache.writer import RunWriter
from dashboard import __main__ as command_line
from dashboard import data, index_building, notices
from dashboard.index_building import BUILD_VARIABLE, building_of
from tests.dashboard.conftest import OpenPage, free_port
from tests.dashboard.test_sharing import dashboard, refused
from tests.synthetic import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "audit", 60)


def _call_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "LARGE_RUN", 50)
    monkeypatch.setattr(notices, "WORTH_INDEXING", 50)


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
    _call_large(monkeypatch)

    def told(page: str) -> list[str]:
        at = open_page(page, folder=run.parent, run="audit")
        assert not at.exception
        return [info.value for info in at.info if "python -m dashboard index" in info.value]

    assert cache_index.LARGE_RUN > 50
    assert len(told("overview")) == 1
    build_index(Run.open(run))
    for page in ("overview", "browse", "region", "methods", "contact"):
        assert told(page) == []


def test_a_large_run_is_indexed_beside_the_page_that_looks_at_it(
    open_page: OpenPage, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _call_large(monkeypatch)
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    app = open_page("overview", folder=run.parent, run="audit")
    assert not app.exception
    building = building_of(Run.open(run))
    assert building is not None
    assert building is building_of(Run.open(run)), "one builder, however often it is asked"
    building.wait(120)
    assert not building.running
    assert (building.refusal, building.share) == ("", 1.0)
    app.run()
    assert not app.exception
    assert [one.value for one in app.info if "has no index" in one.value] == []
    opened = data.open_catalog(run)
    assert opened.index is not None


def test_how_far_an_index_is_stands_on_the_page(
    open_page: OpenPage, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _call_large(monkeypatch)
    monkeypatch.setattr(notices, "building_of", lambda run: SimpleNamespace(running=True, share=0.4))
    app = open_page("browse", folder=run.parent, run="audit")
    assert not app.exception
    bars = [one.proto for one in app.get("progress")]
    assert [(bar.value, "60 images is being built" in bar.text) for bar in bars] == [(40, True)]


def test_a_builder_that_is_refused_says_why_on_the_page(
    open_page: OpenPage, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _call_large(monkeypatch)
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "blocked"))
    (tmp_path / "blocked").write_text("in the way")
    (run / "index").write_text("in the way")
    building = building_of(Run.open(run))
    assert building is not None
    building.wait(120)
    assert "No folder takes the index" in building.refusal
    app = open_page("browse", folder=run.parent, run="audit")
    assert not app.exception
    told = [one.value for one in app.info if "has no index" in one.value]
    assert len(told) == 1
    assert "No folder takes the index" in told[0]
    assert "python -m dashboard index" in told[0]


@pytest.mark.parametrize(("words", "built"), [([], "1"), (["--no-index"], None)])
def test_serve_says_whether_indexes_are_built(
    run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], built: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(command_line, "serve_folder", lambda *_: None)
    done = CliRunner().invoke(
        command_line.cli, ["serve", str(run.parent), "--no-browser", "--port", str(free_port()), *words]
    )
    assert done.exit_code == 0, done.output
    assert os.environ.get(BUILD_VARIABLE) == built


def test_nothing_is_built_where_serve_was_not_asked_to_or_the_run_grows(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_building, "Building", lambda run: pytest.fail("nobody asked"))
    monkeypatch.delenv(BUILD_VARIABLE, raising=False)
    assert building_of(Run.open(run)) is None
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    with RunWriter(run):
        assert building_of(Run.open(run)) is None
