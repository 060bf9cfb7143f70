"""What the pages ask about the samples of a filter; everything about one sample or one map is in `cache.profiles`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cache.attention import MeanMap, OutcomeColumn, RegionSplit, mean_map, region_by_class, region_split
from cache.catalog import Catalog
from cache.conditions import RegionMass
from cache.contrasts import RegionContrast
from cache.distributions import (
    Histogram,
    OutcomeHistograms,
    expected_calibration_error,
    field_range,
    histogram,
    reliability,
    statistic_by_outcome,
)
from cache.fields import class_titles
from cache.filter_sql import SAMPLES, Compiler, identifier
from cache.filters import Filter
from cache.schema import ERROR_COLUMNS, SAMPLE_COLUMNS
from cache.selections import LABELLED, WRONG, Counts, compiled, only_row
from cache.similarity import Likeness, aligned_likeness
from cache.tables import ON_DISK_ONLY

__all__ = [
    "Counts",
    "Histogram",
    "Likeness",
    "MeanMap",
    "OutcomeColumn",
    "OutcomeHistograms",
    "Position",
    "RegionSplit",
    "Sort",
    "confusion",
    "contents",
    "count",
    "distinct",
    "draw",
    "errors",
    "expected_calibration_error",
    "field_range",
    "histogram",
    "ids",
    "mean_map",
    "order_by",
    "page",
    "page_columns",
    "per_class",
    "position",
    "region_by_class",
    "region_split",
    "reliability",
    "sort_key",
    "sort_tables",
    "statistic_by_outcome",
]
LIKENESS = "likeness_of_samples"
"""Name of the table that a sort by likeness reads."""


@dataclass(frozen=True)
class Sort:
    """An order of samples; ties are broken by sample_id and unknown values come last.

    A method or a target makes the field a statistic of maps, as in `cache.filters.Range`. A region's condition sorts by
    what it bounds, the mass within its region or the difference of two, instead of by a field; a likeness by how much
    samples are like one of them.
    """

    field: str = "sample_id"
    descending: bool = False
    method: str | None = None
    target: str | None = None
    region: RegionMass | RegionContrast | None = None
    like: Likeness | None = None


@dataclass(frozen=True)
class Position:
    """Where a sample stands in a filter's order.

    Attributes:
        index: From 0; None where the filter does not hold the sample.
        total: Samples of the filter.
        previous: The sample before it.
        next: The sample after it.
    """

    index: int | None
    total: int
    previous: str | None
    next: str | None


def count(catalog: Catalog, filter_: Filter) -> Counts:
    """Count the samples of a filter."""
    compiler, where = compiled(catalog, filter_)
    degenerate = "0"
    if catalog.manifest.methods:
        degenerate = f"count(*) FILTER ({compiler.value('degenerate', None, 'pred')})"
    columns = f"count(*) AS n, {LABELLED} AS labelled, {WRONG} AS wrong, {degenerate} AS degenerate"
    return Counts(**only_row(catalog.select(columns, compiler, where)))


def sort_key(compiler: Compiler, sort: Sort) -> str:
    """Return the expression that a sort orders by.

    Raises:
        FilterError: The run has no such field, method or target.
    """
    if sort.like is not None:
        return f"{LIKENESS}.value"
    if sort.region is not None:
        return compiler.measured(sort.region)
    return compiler.value(sort.field, sort.method, sort.target)


def sort_tables(catalog: Catalog, sort: Sort) -> dict[str, pa.Table]:
    """Return the tables that a sort's expression reads beside the samples, besides those that its compiler asks for."""
    return {} if sort.like is None else {LIKENESS: aligned_likeness(catalog, sort.like)}


def order_by(compiler: Compiler, key: str, sort: Sort) -> str:
    """Return what stands after ORDER BY; ties are broken by the ids, as the ranks have them."""
    direction = "DESC" if sort.descending else "ASC"
    if key == f"{SAMPLES}.{identifier('sample_id')}":
        return f"{compiler.rank()} {direction}"
    return f"{key} {direction} NULLS LAST, {compiler.rank()} ASC"


def page(
    catalog: Catalog,
    filter_: Filter,
    sort: Sort | None = None,
    offset: int = 0,
    limit: int = 48,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Return one page of a filter's samples: columns of `samples` and ``sort_value``.

    Args:
        catalog: The run.
        filter_: The filter.
        sort: The order; by id where it is None.
        offset: Samples before the page.
        limit: Samples at most.
        columns: Those of `page_columns` that are wanted, all of them where it is None: the fewer, the faster.
    """
    order = sort or Sort()
    compiler, where = compiled(catalog, filter_)
    key = sort_key(compiler, order)
    # The rows are chosen by their position first: only a page of them is fetched in full width.
    chosen = catalog.select(
        f"{SAMPLES}.sample AS sample, {key} AS sort_value",
        compiler,
        where,
        f"ORDER BY {order_by(compiler, key, order)} LIMIT {max(int(limit), 0)} OFFSET {max(int(offset), 0)}",
        beside=sort_tables(catalog, order),
    )
    wanted = page_columns(catalog) if columns is None else columns
    places = chosen["sample"].to_pylist()
    rows = catalog.rows_by_position(places, ", ".join(f"s.{identifier(name)}" for name in wanted))
    rows = rows.drop_columns(["sample"])
    return rows.append_column("sort_value", chosen["sort_value"])


def page_columns(catalog: Catalog) -> list[str]:
    """Return the columns of samples that `page` can return: without mask and boxes."""
    fixed = [column.name for column in SAMPLE_COLUMNS if column.name not in ON_DISK_ONLY]
    more = [name for name in catalog.kinds() if name not in fixed]
    return fixed + more


def ids(catalog: Catalog, filter_: Filter, sort: Sort | None = None, limit: int | None = None) -> list[str]:
    """Return the sample ids of a filter, in order."""
    order = sort or Sort()
    compiler, where = compiled(catalog, filter_)
    key = sort_key(compiler, order)
    tail = f"ORDER BY {order_by(compiler, key, order)}" + (
        "" if limit is None else f" LIMIT {max(int(limit), 0)}"
    )
    beside = sort_tables(catalog, order)
    table = catalog.select(f"{SAMPLES}.sample_id AS sample_id", compiler, where, tail, beside=beside)
    return [str(value) for value in table["sample_id"].to_pylist()]


def contents(catalog: Catalog, filter_: Filter) -> list[str]:
    """Return the content keys of a filter's images, each once, sorted: what reviews of them are about."""
    compiler, where = compiled(catalog, filter_)
    table = catalog.select("DISTINCT s.content AS content", compiler, where, "ORDER BY content")
    return [str(value) for value in table["content"].to_pylist()]


def draw(catalog: Catalog, filter_: Filter, limit: int = 200) -> list[str]:
    """Return sample ids drawn evenly from a filter: always the same ones, since content keys are as good as dice."""
    compiler, where = compiled(catalog, filter_)
    tail = f"ORDER BY s.content, s.sample_id LIMIT {max(int(limit), 0)}"
    return [
        str(value)
        for value in catalog.select("s.sample_id AS sample_id", compiler, where, tail)[
            "sample_id"
        ].to_pylist()
    ]


def position(catalog: Catalog, filter_: Filter, sort: Sort | None, sample_id: str) -> Position:
    """Tell where a sample stands in a filter's order, and which samples stand before and after it."""
    order = sort or Sort()
    compiler, where = compiled(catalog, filter_)
    tail = f"ORDER BY {order_by(compiler, sort_key(compiler, order), order)}"
    rows = catalog.select(
        f"{SAMPLES}.sample AS sample", compiler, where, tail, beside=sort_tables(catalog, order)
    )
    samples = rows["sample"].to_numpy()
    own = catalog.positions([sample_id]).get(sample_id)
    places = [] if own is None else np.flatnonzero(samples == own).tolist()
    if not places:
        return Position(None, len(samples), None, None)
    place = int(places[0])
    around = [i for i in (place - 1, place + 1) if 0 <= i < len(samples)]
    names = catalog.rows_by_position([int(samples[i]) for i in around], "s.sample_id")[
        "sample_id"
    ].to_pylist()
    told = dict(zip(around, names, strict=True))
    return Position(place, len(samples), told.get(place - 1), told.get(place + 1))


def confusion(catalog: Catalog, filter_: Filter) -> pa.Table:
    """Count the labelled samples of a filter by label and prediction: columns label, pred, n; cells of 0 left out."""
    compiler, where = compiled(catalog, filter_)
    return catalog.select(
        "s.label AS label, s.pred AS pred, count(*) AS n",
        compiler,
        f"({where}) AND s.label IS NOT NULL",
        "GROUP BY s.label, s.pred ORDER BY s.label, s.pred",
    )


def per_class(catalog: Catalog, filter_: Filter) -> pa.Table:
    """Describe each class that occurs among a filter's labels or predictions.

    Returns:
        class (index), name (unique), n (labelled so), predicted, recall, precision (among labelled samples),
        mean_confidence (of predictions of it), most_confused_with (the class that its samples are most often
        mistaken for, an index), confused (how often). Shares without a denominator are NULL.
    """
    compiler, where = compiled(catalog, filter_)
    cells = catalog.select(
        "s.label AS label, s.pred AS pred, count(*) AS n, sum(s.confidence) AS confidence",
        compiler,
        where,
        "GROUP BY s.label, s.pred",
    ).to_pylist()
    size = len(catalog.classes)
    n, predicted, right, judged = (np.zeros(size, dtype=np.int64) for _ in range(4))
    confidence = np.zeros(size)
    worst: dict[int, tuple[int, int]] = {}
    for cell in sorted(cells, key=lambda c: (c["n"], -c["pred"])):
        label, pred = cell["label"], cell["pred"]
        predicted[pred] += cell["n"]
        confidence[pred] += cell["confidence"] or 0.0
        if label is None:
            continue
        n[label] += cell["n"]
        judged[pred] += cell["n"]
        if label == pred:
            right[label] += cell["n"]
        else:
            worst[label] = (pred, cell["n"])
    shown = np.flatnonzero((n > 0) | (predicted > 0)).tolist()
    titles = class_titles(catalog.classes)

    def share(part: Any, whole: Any) -> list[float | None]:
        return [float(part[i] / whole[i]) if whole[i] else None for i in shown]

    return pa.table(
        {
            "class": pa.array(shown, pa.int32()),
            "name": pa.array([titles[i] for i in shown], pa.string()),
            "n": pa.array(n[shown], pa.int64()),
            "predicted": pa.array(predicted[shown], pa.int64()),
            "recall": pa.array(share(right, n), pa.float64()),
            "precision": pa.array(share(right, judged), pa.float64()),
            "mean_confidence": pa.array(share(confidence, predicted), pa.float64()),
            "most_confused_with": pa.array([worst.get(i, (None, 0))[0] for i in shown], pa.int32()),
            "confused": pa.array([worst.get(i, (None, 0))[1] for i in shown], pa.int64()),
        }
    )


def distinct(catalog: Catalog, field: str, filter_: Filter | None = None) -> pa.Table:
    """Return the values of a field with how many samples have them, most frequent first: columns value and n."""
    compiler, where = compiled(catalog, filter_ or Filter())
    value = compiler.value(field)
    return catalog.select(
        f"{value} AS value, count(*) AS n",
        compiler,
        where,
        f"GROUP BY {value} ORDER BY n DESC, value NULLS LAST",
    )


def errors(catalog: Catalog) -> pa.Table:
    """Return every sample that could not be explained, with the reason, by kind and identity."""
    return catalog.query(
        f"SELECT * FROM ({catalog.table_sql('errors', ERROR_COLUMNS)}) ORDER BY kind, sample_id"
    )
