"""Sections of a selection, held against rows that are counted one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import Filter, OneOf, Range
from cache.queries import Sort
from cache.sections import CONFUSION, condition_of, groupings, section_title, sections

FILTERS = [Filter(), Filter((OneOf("pred", ("fox", "wolf")), Range("confidence", 0.4)))]
SORTS = [Sort("confidence", True), Sort("border_mass", False, "gradcam", "pred"), Sort("meta.camera")]


@pytest.mark.parametrize(
    "by", ["label", "pred", CONFUSION, "correct", "split", "meta.camera", "meta.indoors"]
)
@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("sort", SORTS)
def test_sections_are_what_counting_says(catalog: Catalog, by: str, filter_: Filter, sort: Sort) -> None:
    rows = queries.page(catalog, filter_, sort, 0, 10_000).to_pylist()
    names = ("label", "pred") if by == CONFUSION else (by,)
    expected: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        expected.setdefault(tuple(row[name] for name in names), []).append(row)
    found = sections(catalog, filter_, by, sort, tiles=5, limit=1_000)
    assert found.total == len(found.shown) == len(expected)
    for section in found.shown:
        own = expected[section.values]
        assert [r["sample_id"] for r in section.rows] == [r["sample_id"] for r in own[:5]]
        assert [r["sort_value"] for r in section.rows] == [r["sort_value"] for r in own[:5]]
        assert section.n == len(own)
        assert section.labelled == sum(r["label"] is not None for r in own)
        assert section.wrong == sum(r["correct"] is False for r in own)
        narrowed = filter_
        for condition in condition_of(catalog.manifest, by, section.values):
            narrowed = Filter((*narrowed.conditions, condition))
        assert queries.count(catalog, narrowed).n == section.n
        assert section_title(catalog.manifest, by, section.values)
    sizes = [section.n for section in found.shown]
    if by != CONFUSION:
        assert sizes == sorted(sizes, reverse=True)


def test_pages_of_sections_follow_each_other(catalog: Catalog) -> None:
    everything = sections(catalog, Filter(), CONFUSION, limit=100)
    parts = [
        sections(catalog, Filter(), CONFUSION, offset=at, limit=4) for at in range(0, everything.total, 4)
    ]
    assert [s.values for part in parts for s in part.shown] == [s.values for s in everything.shown]
    mistakes = [s.values[0] != s.values[1] for s in everything.shown]
    assert mistakes == sorted(mistakes, reverse=True), "mistakes come first"
    assert Counter(mistakes)[False] == 4


def test_what_cannot_be_grouped_by_is_refused(catalog: Catalog) -> None:
    for by in ("meta.altitude", "sample_id", "confidence", "x'; DROP TABLE samples"):
        with pytest.raises(FilterError, match="cannot be grouped"):
            sections(catalog, Filter(), by)
    assert "meta.camera" in groupings(catalog.manifest)
