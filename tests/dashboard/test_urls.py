"""Pages over runs at a URL: what they show, where reviews go, and what is said when the store does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from streamlit.testing.v1 import AppTest

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, RegionMass
from cache.index import INDEX_VARIABLE
from cache.indexing import build_index
from cache.locations import located
from cache.regions import PRESETS
from cache.reviews import Reviews
from cache.run import Run
from dashboard import data
from dashboard.configuration import CONFIG_VARIABLE
from dashboard.data import RUNS_VARIABLE, list_runs
from tests.buckets import Server, bucket
from tests.dashboard.conftest import OpenPage, texts

LOOKED_AT = "can only be looked at"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def bucket_runs(server: Server, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of runs in a bucket."""
    monkeypatch.setattr(data, "URL_SECONDS", 1e-6)
    with bucket(
        server, f"runs-{tmp_path.name.replace('_', '-')[:40].strip('-')}", tmp_path / "copies"
    ) as url:
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        for file in (runs / "animals").rglob("*"):
            if file.is_file() and not file.name.startswith((".lock", "reviews.sqlite")):
                fs.pipe_file(
                    f"{url}/animals/{file.relative_to(runs / 'animals').as_posix()}", file.read_bytes()
                )
        yield url


@pytest.mark.slow
def test_pages_of_a_run_in_a_bucket(bucket_runs: str, open_page: OpenPage, runs: Path) -> None:
    sample = queries.ids(Catalog(Run.open(runs / "animals")), Filter())[0]
    for page, params in (
        ("overview", {}),
        ("browse", {}),
        ("region", {}),
        ("findings", {}),
        ("sample", {"id": sample}),
    ):
        app = open_page(page, folder=bucket_runs, **params)
        assert not app.exception, page
        assert LOOKED_AT in texts(app)
        assert "sidebar_reviewer" not in {one.key for one in app.text_input}


@pytest.mark.slow
def test_an_index_of_a_run_in_a_bucket_lies_here_and_answers_as_its_parts_do(
    bucket_runs: str, open_page: OpenPage, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "indexes"))
    place = f"{bucket_runs}/animals"
    built = build_index(Run.open(place))
    assert built.folder.is_relative_to(tmp_path / "indexes")
    assert not fsspec.filesystem("s3", use_listings_cache=False).exists(f"{place}/index")
    there, here = Catalog(Run.open(place)), Catalog(Run.open(runs / "animals"), indexed=False)
    assert there.index is not None
    chosen = Filter((Is("correct", False), RegionMass(PRESETS["border"], 0.2)))
    assert 0 < queries.count(here, chosen).n < here.samples
    assert queries.ids(there, chosen) == queries.ids(here, chosen)
    for page in ("overview", "browse", "region"):
        app = open_page(page, folder=bucket_runs, filter=chosen.to_param())
        assert not app.exception, page
    opened = data.open_catalog(list_runs(located(bucket_runs))["animals"])
    assert opened.index is not None
    assert opened.index.folder == built.folder


def test_runs_of_a_bucket_are_named_by_their_path(bucket_runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, bucket_runs)
    assert {name: str(place) for name, place in list_runs().items()} == {"animals": f"{bucket_runs}/animals"}
    monkeypatch.setenv(RUNS_VARIABLE, f"{bucket_runs}/animals")
    assert {name: str(place) for name, place in list_runs().items()} == {"animals": f"{bucket_runs}/animals"}


def test_reviews_go_where_the_configuration_says(
    bucket_runs: str, open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "here.toml").write_text('[reviews]\nfolder = "kept"\n')
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "here.toml"))
    run = Run.open(f"{bucket_runs}/animals")
    sample = queries.ids(Catalog(run), Filter())[0]
    app = open_page("sample", folder=bucket_runs, id=sample)
    assert LOOKED_AT not in texts(app)
    app.text_input(key="sidebar_reviewer").set_value("Ann").run()
    app.multiselect(key="sample_tags").set_value(["snow"]).run()
    assert not app.exception
    lines = list(Reviews(tmp_path / "kept" / f"{run.manifest.run_id}.sqlite").lines())
    assert len(lines) == 1


def test_a_store_that_does_not_answer_is_said_on_the_page(
    bucket_runs: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.retrying.WAITS", ())

    def gone(*args: object, **kwargs: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr("cache.objects.patiently", gone)
    app: AppTest = open_page("overview", folder=bucket_runs)
    assert not app.exception
    assert "no answer" in texts(app)
    assert "cannot be reached" in texts(app)
