"""Where the model looked on the samples of a filter: inside a region or outside, and on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.conditions import Condition
from cache.fields import class_titles
from cache.filters import Filter
from cache.maps import grid_from_corners
from cache.schema import CORNERS
from cache.selections import Counts, compiled, only_row

FEW_MAPS = 2_000
"""Maps that are averaged here and not by the database."""
OutcomeColumn = Literal["pred", "label"]
"""What classes are told apart by: what the model says, or what is true."""


@dataclass(frozen=True)
class RegionSplit:
    """A filter's samples, parted by a condition on a region.

    Attributes:
        inside: Samples that meet the condition.
        outside: Samples of which it is known that they do not.
        degenerate: Samples on neither side because a map that it reads is degenerate.
        missing: Samples on neither side because such a map is missing (no label, for the true class's), or what
            else it reads is unknown.
    """

    inside: Counts
    outside: Counts
    degenerate: int
    missing: int


@dataclass(frozen=True)
class MeanMap:
    """The average of a selection's grids.

    Attributes:
        p: Shape (14, 14), sum 1; None where no map is defined.
        n: Maps averaged.
        degenerate: Maps left out because they are degenerate.
    """

    p: NDArray[np.float64] | None
    n: int
    degenerate: int


def region_split(catalog: Catalog, filter_: Filter, condition: Condition) -> RegionSplit:
    """Part a filter's samples by a condition on regions of their maps, and count the errors on both sides."""
    compiler, where = compiled(catalog, filter_)
    inside = compiler.condition(condition)
    # Whose maps the condition itself reads; a degenerate one of several may still leave it decided.
    alone = catalog.compiler()
    alone.condition(condition)
    read = dict.fromkeys([*(region.source for region in alone.regions), *alone.sources])
    flags = [compiler.value("degenerate", source.method, source.target) for source in read]
    empty = f"coalesce({' OR '.join(flags) or 'FALSE'}, FALSE)"
    columns = [
        f"count(*) FILTER ({inside} IS NULL AND {empty}) AS degenerate",
        f"count(*) FILTER ({inside} IS NULL AND NOT {empty}) AS missing",
    ]
    for side, test in (("inside", inside), ("outside", f"NOT {inside}")):
        columns += [
            f"count(*) FILTER ({test}) AS {side}_n",
            f"count(*) FILTER ({test} AND s.label IS NOT NULL) AS {side}_labelled",
            f"count(*) FILTER ({test} AND s.correct = FALSE) AS {side}_wrong",
        ]
    row = only_row(catalog.select(", ".join(columns), compiler, where))
    return RegionSplit(
        Counts(row["inside_n"], row["inside_labelled"], row["inside_wrong"]),
        Counts(row["outside_n"], row["outside_labelled"], row["outside_wrong"]),
        row["degenerate"],
        row["missing"],
    )


def region_by_class(
    catalog: Catalog, filter_: Filter, condition: Condition, by: OutcomeColumn = "pred"
) -> pa.Table:
    """Part the samples of each class by a condition on regions; degenerate maps are on neither side.

    Returns:
        class (index), name, and n, labelled and wrong, each _inside and _outside; classes by index.
    """
    compiler, where = compiled(catalog, filter_)
    value, inside = compiler.value(by), compiler.condition(condition)
    columns = [f"{value} AS class"]
    for side, test in (("inside", inside), ("outside", f"NOT {inside}")):
        columns += [
            f"count(*) FILTER ({test}) AS n_{side}",
            f"count(*) FILTER ({test} AND s.label IS NOT NULL) AS labelled_{side}",
            f"count(*) FILTER ({test} AND s.correct = FALSE) AS wrong_{side}",
        ]
    table = catalog.select(
        ", ".join(columns),
        compiler,
        f"({where}) AND {value} IS NOT NULL",
        f"GROUP BY {value} ORDER BY {value}",
    )
    titles = class_titles(catalog.classes)
    names = pa.array([titles[i] for i in table["class"].to_pylist()], pa.string())
    return table.add_column(1, "name", names)


def mean_map(
    catalog: Catalog, filter_: Filter, method: str | None = None, target: str | None = None
) -> MeanMap:
    """Average the grids of a filter's samples: every map counts alike, whatever its scale."""
    source = catalog.source(method, target)
    compiler, where = compiled(catalog, filter_)
    alias = compiler.join(source)
    held = catalog.select(
        f"{alias}.attribution AS attribution, {alias}.degenerate AS degenerate",
        compiler,
        f"({where}) AND {alias}.degenerate IS NOT NULL",
    )
    # Degenerate maps are dropped before the join: DuckDB plans a filtered join of 196 columns for half a minute.
    chosen = held.filter(pc.invert(held["degenerate"])).select(["attribution"])
    n, degenerate = chosen.num_rows, held.num_rows - chosen.num_rows
    if not n:
        return MeanMap(None, 0, degenerate)
    if n <= FEW_MAPS:
        # Planning a statement of 196 columns takes longer than reading this many rows.
        rows = catalog.rows_of_maps(source.method, chosen["attribution"].to_pylist(), CORNERS)
        return _mean(np.array([pc.mean(rows[name]).as_py() for name in CORNERS]), n, degenerate)
    means = ", ".join(f"avg(g.{name}) AS {name}" for name in CORNERS)
    table = catalog.query(
        f"SELECT {means} FROM chosen AS c JOIN ({catalog.grid_sql(source.method, CORNERS)}) AS g USING (attribution)",
        tables={"chosen": chosen},
    )
    return _mean(np.array([table[name][0].as_py() for name in CORNERS]), n, degenerate)


def _mean(corners: NDArray[np.float64], n: int, degenerate: int) -> MeanMap:
    p = np.clip(grid_from_corners(corners), 0.0, None)
    return MeanMap(p / p.sum(), n, degenerate)
