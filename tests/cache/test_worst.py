"""The worst mistakes of each class, against the slow reading of the same run."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf, Range
from cache.worst import By, worst_of_each
from tests.cache.slow_reference import SlowRun

FILTERS = [Filter(), Filter((Range("confidence", None, 0.8),)), Filter((OneOf("pred", ("fox",)),))]


@pytest.mark.parametrize("by", ["label", "pred"])
@pytest.mark.parametrize("filter_", FILTERS)
@pytest.mark.parametrize("most", [1, 3, 10])
def test_they_are_the_surest_mistakes_of_each_class(
    catalog: Catalog, run_path: Path, filter_: Filter, by: By, most: int
) -> None:
    slow = SlowRun(run_path)
    chosen = set(slow.select(filter_.conditions))
    mistakes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in slow.samples:
        if row["sample_id"] in chosen and row["correct"] is False:
            mistakes[row[by]].append(row)
    for rows in mistakes.values():
        rows.sort(key=lambda row: (-row["confidence"], row["sample_id"]))
    expected = sorted(mistakes, key=lambda index: (-len(mistakes[index]), index))
    found = worst_of_each(catalog, filter_, by, most)
    assert [one.index for one in found] == expected
    for one in found:
        rows = mistakes[one.index]
        assert one.wrong == len(rows)
        assert [row["sample_id"] for row in one.rows] == [row["sample_id"] for row in rows[:most]]
        assert all(
            (row["label"], row["pred"], row["confidence"]) == (w["label"], w["pred"], w["confidence"])
            for row, w in zip(one.rows, rows, strict=False)
        )
    assert expected


def test_nothing_is_worst_where_nothing_is_wrong(catalog: Catalog) -> None:
    assert worst_of_each(catalog, Filter((Is("correct", True),))) == []


def test_one_statement_answers(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    query = catalog.query

    def counted(sql: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(sql)
        return query(sql, *args, **kwargs)

    monkeypatch.setattr(catalog, "query", counted)
    assert worst_of_each(catalog, Filter())
    assert len(asked) == 1
