"""The values of several fields counted in one pass, against counting row by row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cache.catalog import Catalog
from cache.errors import FilterError
from cache.facets import value_counts
from cache.filters import Filter
from tests.cache.slow_reference import SlowRun
from tests.cache.test_queries import FILTERS, rows_of

FIELDS = ("label", "pred", "split", "masked", "meta.camera", "meta.indoors")


@pytest.mark.parametrize("filter_", FILTERS)
def test_every_field_is_counted_by_value(catalog: Catalog, run_path: Path, filter_: Filter) -> None:
    rows = rows_of(SlowRun(run_path), filter_)
    found = value_counts(catalog, FIELDS, filter_)
    assert set(found) == set(FIELDS)
    for field in FIELDS:
        if field == "masked":
            assert sum(found[field].values()) == len(rows)
            continue
        assert found[field] == Counter(row[field] for row in rows)


def test_a_single_field_and_none(catalog: Catalog) -> None:
    one = value_counts(catalog, ("pred",), Filter())
    assert one == {"pred": value_counts(catalog, FIELDS, Filter())["pred"]}
    assert value_counts(catalog, (), Filter()) == {}


def test_an_unknown_field_is_refused(catalog: Catalog) -> None:
    with pytest.raises(FilterError):
        value_counts(catalog, ("meta.nobody",), Filter())
