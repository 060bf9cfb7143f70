"""The points of a 2-D map: a selection's samples, evenly drawn where there are many, over the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.filter_sql import identifier
from cache.filters import Filter
from cache.selections import compiled

MOST_CHOSEN = 16_000
"""Points drawn of a selection."""
MOST_OTHERS = 4_000
"""Points drawn of the samples that the filter leaves out."""
VALUE = "value"


@dataclass(frozen=True)
class Points:
    """What a 2-D map shows.

    Attributes:
        rows: Of the selection's samples that are drawn: columns sample_id, label, pred, correct, confidence, value, x, y.
        others: Places of the samples that the filter leaves out, drawn evenly, (m, 2).
        chosen: Samples of the selection.
        placed: Those that have a place on the map.
    """

    rows: pa.Table
    others: NDArray[np.float32]
    chosen: int
    placed: int


def map_points(
    catalog: Catalog,
    version: str,
    filter_: Filter,
    field: tuple[str, str | None, str | None] | None = None,
    most: int = MOST_CHOSEN,
    most_others: int = MOST_OTHERS,
) -> Points:
    """Return the points of a map for a selection.

    Args:
        catalog: The run.
        version: Of the map.
        filter_: The selection.
        field: Name, method and target of the number that ``value`` holds; without one it is NULL.
        most: Points of the selection at most.
        most_others: Points of the other samples at most.

    Raises:
        FilterError: The run lacks what the filter or the field names.
    """
    places, order = catalog.places(version), _dice(catalog)
    compiler, where = compiled(catalog, filter_)
    chosen = np.zeros(len(order), dtype=bool)
    found = catalog.select("s.sample AS sample", compiler, where)["sample"].to_numpy()
    chosen[found] = True
    known = places.known
    drawn = _first(order, chosen & known, most)
    beside = _first(order, ~chosen & known, most_others)
    compiler = catalog.compiler()
    value = "NULL::DOUBLE" if field is None else compiler.number(*field)
    names = ("sample_id", "label", "pred", "correct", "confidence")
    rows = catalog.select(
        ", ".join(
            ["s.sample AS sample", *(f"s.{identifier(name)}" for name in names), f"{value} AS {VALUE}"]
        ),
        compiler,
        "s.sample IN (SELECT sample FROM drawn)",
        "ORDER BY s.sample",
        {"drawn": pa.table({"sample": pa.array(drawn, pa.int64())})},
    )
    at = rows["sample"].to_numpy()
    rows = rows.append_column("x", pa.array(places.x[at])).append_column("y", pa.array(places.y[at]))
    others = np.column_stack([places.x[beside], places.y[beside]])
    return Points(rows.drop_columns(["sample"]), others, len(found), int((chosen & known).sum()))


def _dice(catalog: Catalog) -> NDArray[np.int64]:
    """Return the samples in an order as good as dice, always the same: that of their content keys."""
    kept: Any = catalog.recall("samples by content")
    if kept is None:
        table = catalog.query("SELECT sample FROM samples ORDER BY content, sample_id")
        kept = catalog.remember("samples by content", table["sample"].to_numpy())
    order: NDArray[np.int64] = kept
    return order


def _first(order: NDArray[np.int64], among: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Return the first samples in an order that are among some."""
    taken: NDArray[np.int64] = order[among[order]][:most]
    return taken
