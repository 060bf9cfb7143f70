"""Positions of samples and rows of their maps, which are kept once they have been found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache import lookups, queries
from cache.catalog import Catalog
from cache.fields import Source
from cache.filters import Filter
from cache.queries import Sort
from cache.run import Run
from tests.cache.slow_reference import SlowRun

COLUMNS = ("sample_id", "pred", "confidence")


@pytest.fixture(params=["run_path", "indexed_path"])
def opened(request: pytest.FixtureRequest) -> Catalog:
    return Catalog(Run.open(request.getfixturevalue(request.param)))


def no_query(*_: object, **__: object) -> object:
    raise AssertionError("It was known already.")


def test_positions_are_those_of_the_ids(opened: Catalog, run_path: Path) -> None:
    order = [row["sample_id"] for row in SlowRun(run_path).samples]
    table = opened.query("SELECT sample_id, sample FROM samples").to_pylist()
    expected = {row["sample_id"]: row["sample"] for row in table}
    asked = [order[7], "nowhere", order[3], order[7]]
    found = opened.positions(asked)
    assert list(found.items()) == [(name, expected[name]) for name in (order[7], order[3])]
    assert opened.positions([]) == {}
    assert opened.positions(order) == expected


def test_what_was_found_is_not_looked_up_again(opened: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    page = queries.page(opened, Filter(), Sort("confidence", descending=True), 10, 20)
    names = page["sample_id"].to_pylist()
    rows = opened.attributions(Source("gradcam", "pred"))
    expected = opened.query("SELECT sample_id, sample FROM samples").to_pylist()
    monkeypatch.setattr(opened, "query", no_query)
    found = opened.positions(names)
    assert list(found) == names
    assert all(found[row["sample_id"]] == row["sample"] for row in expected if row["sample_id"] in found)
    assert opened.attributions(Source("gradcam", "pred")) is rows
    with pytest.raises(AssertionError, match="known already"):
        opened.positions([*names, "nowhere"])


def test_only_the_last_are_kept(opened: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "KEPT_IDS", 5)
    monkeypatch.setattr(lookups, "KEPT_SOURCES", 1)
    names = queries.ids(opened, Filter())
    whole = opened.positions(names)
    assert list(whole) == names
    sources = [Source(method, "pred") for method in ("gradcam", "layercam")]
    first, second = (opened.attributions(source) for source in sources)
    assert np.array_equal(opened.attributions(sources[0]), first)
    monkeypatch.setattr(opened, "query", no_query)
    assert opened.positions(names[-5:]) == {name: whole[name] for name in names[-5:]}
    with pytest.raises(AssertionError, match="known already"):
        opened.positions(names[:1])
    with pytest.raises(AssertionError, match="known already"):
        opened.attributions(sources[1])
    assert first.dtype == second.dtype == np.int32


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
@pytest.mark.parametrize("target", ["pred", "true"])
def test_each_sample_has_its_own_row_of_maps(
    opened: Catalog, run_path: Path, method: str, target: str
) -> None:
    slow = SlowRun(run_path)
    rows = opened.attributions(Source(method, target))
    places = opened.positions([row["sample_id"] for row in slow.samples])
    for row in slow.samples[::7]:
        stored = slow.map_of(row, method, target)
        at = int(rows[places[row["sample_id"]]])
        assert (at < 0) == (stored is None)
        if stored is not None:
            held = opened.rows_of_maps(method, [at], ["content", "target"]).to_pylist()[0]
            assert (held["content"], held["target"]) == (row["content"], stored["target"])


def test_a_page_has_the_columns_that_are_asked_for(opened: Catalog) -> None:
    sort = Sort("confidence", descending=True)
    whole = queries.page(opened, Filter(), sort, 5, 30)
    narrow = queries.page(opened, Filter(), sort, 5, 30, COLUMNS)
    assert narrow.column_names == [*COLUMNS, "sort_value"]
    assert narrow.equals(whole.select(narrow.column_names))
    assert queries.page(opened, Filter(), sort, 5, 30, ["pred"])["pred"].equals(whole["pred"])
