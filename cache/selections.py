"""What every query starts from: a filter made ready to run, and how many samples it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cache.catalog import Catalog
from cache.filter_sql import Compiler
from cache.filters import Filter

WRONG = "count(*) FILTER (s.correct = FALSE)"
LABELLED = "count(*) FILTER (s.label IS NOT NULL)"


@dataclass(frozen=True)
class Counts:
    """How many samples there are.

    Attributes:
        n: All of them.
        labelled: Those whose true class is known; error rates are shares of these.
        wrong: Labelled samples whose prediction is not the label.
        degenerate: Samples whose map by the run's default method, for the predicted class, is degenerate.
    """

    n: int
    labelled: int
    wrong: int
    degenerate: int = 0

    @property
    def right(self) -> int:
        """Labelled samples whose prediction is the label."""
        return self.labelled - self.wrong

    @property
    def error_rate(self) -> float | None:
        """Share of the labelled samples that are wrong; None without labels."""
        return self.wrong / self.labelled if self.labelled else None


def compiled(catalog: Catalog, filter_: Filter) -> tuple[Compiler, str]:
    """Return the gatherer of a query over a filter's samples, and its condition."""
    compiler = catalog.compiler()
    return compiler, compiler.all_of(filter_.conditions)


def only_row(table: pa.Table) -> dict[str, Any]:
    """Return the single row of an aggregate."""
    row: dict[str, Any] = table.to_pylist()[0]
    return row
