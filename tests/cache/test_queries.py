"""Queries against the slow reading of the same run, and against definitions written out."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import AnyOf, Filter, Is, OneOf, Range, RegionMass
from cache.maps import grid_from_corners
from cache.queries import Sort
from cache.regions import PRESETS, Region
from cache.schema import CORNERS
from tests.cache.slow_reference import SlowRun

EVERYTHING = Filter()
FILTERS = [
    EVERYTHING,
    Filter((OneOf("pred", ("fox",)),)),
    Filter((AnyOf((Is("correct", False), Range("confidence", None, 0.7))), Range("border_mass", 0.1))),
    Filter((OneOf("sample_id", ("nowhere",)),)),
]
INSIDE = RegionMass(PRESETS["bottom_left"], 0.25)


@pytest.fixture(scope="module")
def slow(run_path: Path) -> SlowRun:
    return SlowRun(run_path)


def rows_of(slow: SlowRun, filter_: Filter) -> list[dict[str, Any]]:
    chosen = set(slow.select(filter_.conditions))
    return [row for row in slow.samples if row["sample_id"] in chosen]


@pytest.mark.parametrize("filter_", FILTERS)
def test_counts(catalog: Catalog, slow: SlowRun, filter_: Filter) -> None:
    rows = rows_of(slow, filter_)
    counts = queries.count(catalog, filter_)
    wrong = sum(row["correct"] is False for row in rows)
    empty = sum(bool(slow.value(row, "degenerate", None, "pred")) for row in rows)
    assert counts == queries.Counts(len(rows), len(rows), wrong, empty)
    assert counts.right == len(rows) - wrong
    assert counts.error_rate == (wrong / len(rows) if rows else None)


@pytest.mark.parametrize(
    "sort",
    [
        Sort(),
        Sort("confidence", descending=True),
        Sort("meta.camera"),
        Sort("meta.altitude", descending=True),
        Sort("pred"),
        Sort("border_mass", descending=True, method="layercam"),
        Sort("entropy", target="true"),
        Sort(region=RegionMass(PRESETS["border"], 0), descending=True),
    ],
)
@pytest.mark.parametrize("filter_", FILTERS[:3])
def test_pages_are_sorted_with_unknown_last_and_ties_by_id(
    catalog: Catalog, slow: SlowRun, filter_: Filter, sort: Sort
) -> None:
    rows = sorted(rows_of(slow, filter_), key=lambda row: row["sample_id"])

    def key(row: dict[str, Any]) -> Any:
        if sort.region is not None:
            return slow.mass(row, sort.region)
        return slow.value(row, sort.field, sort.method, sort.target)

    known = [row for row in rows if key(row) is not None]
    known.sort(key=key, reverse=sort.descending)
    ordered = [row["sample_id"] for row in known] + [row["sample_id"] for row in rows if key(row) is None]
    assert queries.ids(catalog, filter_, sort) == ordered
    assert queries.ids(catalog, filter_, sort, limit=5) == ordered[:5]
    page = queries.page(catalog, filter_, sort, offset=3, limit=10)
    assert page["sample_id"].to_pylist() == ordered[3:13]
    by_id = {row["sample_id"]: row for row in rows}
    assert page["sort_value"].to_pylist() == [key(by_id[i]) for i in ordered[3:13]]
    assert page["top_classes"].to_pylist() == [by_id[i]["top_classes"] for i in ordered[3:13]]
    for place in (0, 4, len(ordered) - 1):
        found = queries.position(catalog, filter_, sort, ordered[place])
        around = [None, *ordered, None]
        assert found == queries.Position(place, len(ordered), around[place], around[place + 2])


def test_a_sample_outside_the_filter_has_no_position(catalog: Catalog, slow: SlowRun) -> None:
    outside = next(row["sample_id"] for row in slow.samples if row["pred"] != 2)
    total = queries.count(catalog, FILTERS[1]).n
    assert queries.position(catalog, FILTERS[1], None, outside) == queries.Position(None, total, None, None)


def test_pages_beyond_the_end_are_empty(catalog: Catalog) -> None:
    assert queries.page(catalog, EVERYTHING, offset=10_000).num_rows == 0
    assert queries.page(catalog, EVERYTHING, offset=-5, limit=-1).num_rows == 0


def test_unknown_sort_is_one_sentence(catalog: Catalog) -> None:
    for sort in (
        Sort("nothing"),
        Sort("border_mass", method="lime"),
        Sort("confidence); DROP TABLE samples"),
    ):
        with pytest.raises(FilterError):
            queries.page(catalog, EVERYTHING, sort)


def test_draws_are_fixed_and_even(catalog: Catalog) -> None:
    drawn = queries.draw(catalog, EVERYTHING, 40)
    assert drawn == queries.draw(catalog, EVERYTHING, 40)
    assert len(set(drawn)) == 40
    assert set(queries.draw(catalog, FILTERS[1], 1_000)) == set(queries.ids(catalog, FILTERS[1]))


@pytest.mark.parametrize("filter_", FILTERS)
def test_confusion_and_classes(catalog: Catalog, slow: SlowRun, filter_: Filter) -> None:
    rows = rows_of(slow, filter_)
    cells = Counter((row["label"], row["pred"]) for row in rows)
    table = queries.confusion(catalog, filter_)
    assert {(r["label"], r["pred"]): r["n"] for r in table.to_pylist()} == cells
    found = queries.per_class(catalog, filter_).to_pylist()
    assert [r["class"] for r in found] == sorted({c for cell in cells for c in cell})
    names = ["wolf", "crane (1)", "fox", "crane (3)"]
    for row in found:
        c = row["class"]
        mine = [r for r in rows if r["label"] == c]
        called = [r for r in rows if r["pred"] == c]
        right = sum(r["pred"] == c for r in mine)
        assert (row["name"], row["n"], row["predicted"]) == (names[c], len(mine), len(called))
        assert row["recall"] == (pytest.approx(right / len(mine)) if mine else None)
        assert row["precision"] == (pytest.approx(right / len(called)) if called else None)
        if called:
            assert row["mean_confidence"] == pytest.approx(np.mean([r["confidence"] for r in called]))
        mistaken = Counter(r["pred"] for r in mine if r["pred"] != c)
        assert row["confused"] == max(mistaken.values(), default=0)
        assert row["most_confused_with"] in {k for k, n in mistaken.items() if n == row["confused"]} | (
            set() if mistaken else {None}
        )


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_reliability(catalog: Catalog, slow: SlowRun, bins: int) -> None:
    table = queries.reliability(catalog, EVERYTHING, bins)
    error = 0.0
    for i, row in enumerate(table.to_pylist()):
        inside = [r for r in slow.samples if min(int(r["confidence"] * bins), bins - 1) == i]
        assert row["n"] == len(inside)
        if inside:
            accuracy = np.mean([r["correct"] for r in inside])
            confidence = np.mean([r["confidence"] for r in inside])
            assert (row["accuracy"], row["mean_confidence"]) == (
                pytest.approx(accuracy),
                pytest.approx(confidence),
            )
            error += len(inside) / len(slow.samples) * abs(accuracy - confidence)
        else:
            assert (row["accuracy"], row["mean_confidence"]) == (None, None)
    assert queries.expected_calibration_error(table) == pytest.approx(error)


@pytest.mark.parametrize(
    ("field", "method", "target"),
    [
        ("confidence", None, None),
        ("entropy", None, "pred"),
        ("corner_mass", "layercam", "true"),
        ("width", None, None),
    ],
)
def test_histograms(
    catalog: Catalog, slow: SlowRun, field: str, method: str | None, target: str | None
) -> None:
    everything = [slow.value(row, field, method, target) for row in slow.samples]
    known = [value for value in everything if value is not None]
    assert queries.field_range(catalog, field, method, target) == (min(known), max(known))
    filter_ = FILTERS[2]
    rows = rows_of(slow, filter_)
    values = {
        outcome: [
            value
            for row in rows
            if row["correct"] is outcome and (value := slow.value(row, field, method, target)) is not None
        ]
        for outcome in (True, False)
    }
    histogram = queries.histogram(catalog, filter_, field, method, target, bins=12)
    edges = np.linspace(min(known), max(known), 13)
    np.testing.assert_allclose(histogram.edges, edges)
    np.testing.assert_array_equal(
        histogram.counts, np.histogram(values[True] + values[False], histogram.edges)[0]
    )
    parted = queries.statistic_by_outcome(catalog, filter_, field, method, target, bins=12)
    np.testing.assert_array_equal(parted.right + parted.wrong, histogram.counts)
    np.testing.assert_array_equal(parted.wrong, np.histogram(values[False], histogram.edges)[0])
    assert parted.right_median == pytest.approx(statistics.median(values[True]))
    assert parted.wrong_median == pytest.approx(statistics.median(values[False]))


def test_a_constant_field_still_has_a_histogram(catalog: Catalog) -> None:
    histogram = queries.histogram(catalog, EVERYTHING, "height", bins=4)
    assert histogram.counts.sum() == 260
    with pytest.raises(FilterError, match="not a number"):
        queries.histogram(catalog, EVERYTHING, "meta.camera")


@pytest.mark.parametrize("field", ["pred", "meta.camera", "split", "meta.indoors"])
def test_distinct(catalog: Catalog, slow: SlowRun, field: str) -> None:
    table = queries.distinct(catalog, field).to_pylist()
    assert {row["value"]: row["n"] for row in table} == Counter(row[field] for row in slow.samples)
    assert [row["n"] for row in table] == sorted((row["n"] for row in table), reverse=True)


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize(
    "condition",
    [
        INSIDE,
        RegionMass(PRESETS["border"], None, 0.4, "layercam", "true"),
        RegionMass(Region.box(0.2, 0.3, 0.71, 0.8), 0.2, 0.6),
    ],
)
def test_region_split(catalog: Catalog, slow: SlowRun, filter_: Filter, condition: RegionMass) -> None:
    rows = rows_of(slow, filter_)
    sides: dict[bool | None, list[dict[str, Any]]] = {True: [], False: [], None: []}
    for row in rows:
        sides[slow.holds(condition, row)].append(row)
    split = queries.region_split(catalog, filter_, condition)
    for counts, held in ((split.inside, sides[True]), (split.outside, sides[False])):
        assert (counts.n, counts.labelled) == (len(held), len(held))
        assert counts.wrong == sum(row["correct"] is False for row in held)
    assert split.degenerate + split.missing == len(sides[None])
    assert split.missing == 0
    for by in ("pred", "label"):
        table = queries.region_by_class(catalog, filter_, condition, by)  # type: ignore[arg-type]
        for row in table.to_pylist():
            for side, flag in (("inside", True), ("outside", False)):
                mine = [r for r in sides[flag] if r[by] == row["class"]]
                assert row[f"n_{side}"] == row[f"labelled_{side}"] == len(mine)
                assert row[f"wrong_{side}"] == sum(r["correct"] is False for r in mine)
        assert set(table["class"].to_pylist()) == {r[by] for r in rows}


@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize(("method", "target"), [(None, None), ("layercam", "true")])
def test_mean_map(
    catalog: Catalog, slow: SlowRun, filter_: Filter, method: str | None, target: str | None
) -> None:
    grids, empty = [], 0
    for row in rows_of(slow, filter_):
        found = slow.map_of(row, method, target)
        assert found is not None
        if found["degenerate"]:
            empty += 1
        else:
            grids.append(grid_from_corners([found[name] for name in CORNERS]))
    mean = queries.mean_map(catalog, filter_, method, target)
    assert (mean.n, mean.degenerate) == (len(grids), empty)
    if grids:
        np.testing.assert_allclose(mean.p, np.mean(grids, axis=0), atol=1e-6)
        assert mean.p is not None
        assert mean.p.sum() == pytest.approx(1.0)
    else:
        assert mean.p is None


def test_errors_are_listed(catalog: Catalog) -> None:
    rows = queries.errors(catalog).to_pylist()
    assert len(rows) == 3
    assert [row["kind"] for row in rows] == sorted(row["kind"] for row in rows)


def test_an_unlabelled_run(unlabelled: Catalog) -> None:
    counts = queries.count(unlabelled, EVERYTHING)
    assert (counts.n, counts.labelled, counts.wrong, counts.error_rate) == (60, 0, 0, None)
    assert queries.confusion(unlabelled, EVERYTHING).num_rows == 0
    table = queries.per_class(unlabelled, EVERYTHING)
    assert sum(table["predicted"].to_pylist()) == 60
    assert set(table["recall"].to_pylist()) == {None}
    assert queries.expected_calibration_error(queries.reliability(unlabelled, EVERYTHING)) is None
    split = queries.region_split(unlabelled, EVERYTHING, INSIDE)
    assert split.inside.n + split.outside.n + split.degenerate == 60
    assert split.inside.labelled == split.outside.labelled == 0
    of_label = queries.region_split(unlabelled, EVERYTHING, RegionMass(PRESETS["border"], 0.1, target="true"))
    assert (of_label.inside.n, of_label.outside.n, of_label.missing) == (0, 0, 60)
    assert queries.region_by_class(unlabelled, EVERYTHING, INSIDE, "label").num_rows == 0
    assert queries.ids(unlabelled, Filter((Is("correct", True),))) == []
    assert len(queries.ids(unlabelled, Filter((Is("correct", None),)))) == 60
    assert queries.statistic_by_outcome(unlabelled, EVERYTHING, "border_mass").right.sum() == 0
    assert queries.field_range(unlabelled, "loss") is None


def test_pictures_of_a_synthetic_run_can_be_looked_at(catalog: Catalog) -> None:
    from cache import profiles

    data = next(iter(profiles.thumbnails(catalog, queries.draw(catalog, EVERYTHING, 1)).values()))
    assert Image.open(io.BytesIO(data)).size == (96, 96)
