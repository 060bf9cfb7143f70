"""Orders by likeness, held against features and maps that are compared one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import Filter, OneOf
from cache.maps import grid_from_corners
from cache.queries import Likeness, Sort
from cache.run import Run
from cache.schema import CORNERS
from cache.similarity import RERANKED, Kind, likeness
from tests.cache.slow_reference import SlowRun


def slow_likeness(path: Path, slow: SlowRun, sample_id: str, kind: Kind) -> dict[str, float]:
    rows = {row["sample_id"]: row for row in slow.samples}
    found: dict[str, np.ndarray] = {}
    if kind == "where":
        for name, row in rows.items():
            made = slow.map_of(row, None, "pred")
            if made is not None and not made["degenerate"]:
                found[name] = grid_from_corners([made[corner] for corner in CORNERS])
    else:
        run = Run.open(path)
        column = "attended" if kind == "attended" else "penultimate"
        tables = [pq.read_table(part, columns=["content", column]) for part in run.part_paths("embeddings")]
        vectors = {
            r["content"]: r[column] for table in tables for r in table.to_pylist() if r[column] is not None
        }
        for name, row in rows.items():
            if row["content"] in vectors:
                vector = np.array(vectors[row["content"]], np.float64)
                found[name] = vector / np.linalg.norm(vector)
    if sample_id not in found:
        return {}
    own = found.pop(sample_id)
    compare = (lambda v: np.minimum(v, own).sum()) if kind == "where" else (lambda v: v @ own)
    return {name: float(compare(value)) for name, value in found.items()}


@pytest.fixture(scope="module")
def slow(run_path: Path) -> SlowRun:
    return SlowRun(run_path)


@pytest.mark.parametrize("kind", ["attended", "where", "whole"])
@pytest.mark.parametrize("place", [0, 7, 120])
def test_the_order_is_what_comparing_says(
    catalog: Catalog, run_path: Path, slow: SlowRun, kind: Kind, place: int
) -> None:
    sample_id = slow.samples[place]["sample_id"]
    expected = slow_likeness(run_path, slow, sample_id, kind)
    rows = queries.page(
        catalog, Filter(), Sort(descending=True, like=Likeness(sample_id, kind)), 0, 1_000
    ).to_pylist()
    known = {row["sample_id"]: row["sort_value"] for row in rows if row["sort_value"] is not None}
    assert set(known) == set(expected)
    assert len(rows) == len(slow.samples)
    assert rows[-1]["sort_value"] is None, "itself, and what is unknown, comes last"
    values = [row["sort_value"] for row in rows if row["sort_value"] is not None]
    assert values == sorted(values, reverse=True)
    # What lies beyond those compared by their whole features is never said to be more alike than they are.
    least = -np.inf if kind == "where" or len(values) <= RERANKED else values[RERANKED - 1]
    for name, value in known.items():
        if value > least:
            assert value == pytest.approx(expected[name], abs=2e-3)


def test_a_copy_of_the_image_is_the_nearest(catalog: Catalog, slow: SlowRun) -> None:
    copy = next(row for row in slow.samples if row["sample_id"].startswith("copies/"))
    twin = next(row for row in slow.samples if row["content"] == copy["content"] and row is not copy)
    for kind in ("attended", "where", "whole"):
        order = Sort(descending=True, like=Likeness(copy["sample_id"], kind))  # type: ignore[arg-type]
        assert queries.ids(catalog, Filter(), order, 1) == [twin["sample_id"]]
        assert queries.position(catalog, Filter(), order, twin["sample_id"]).index == 0


def test_a_filter_keeps_the_order(catalog: Catalog, slow: SlowRun) -> None:
    order = Sort(descending=True, like=Likeness(slow.samples[3]["sample_id"], "attended"))
    everything = queries.ids(catalog, Filter(), order)
    foxes = Filter((OneOf("pred", ("fox",)),))
    held = set(queries.ids(catalog, foxes))
    assert queries.ids(catalog, foxes, order) == [one for one in everything if one in held]


def test_an_unknown_sample_or_kind_is_refused(catalog: Catalog) -> None:
    with pytest.raises(FilterError, match="has no image"):
        likeness(catalog, Likeness("nobody.jpg", "whole"))
    with pytest.raises(FilterError, match="alike by"):
        Likeness("x", "smell")  # type: ignore[arg-type]
