"""How numbers are distributed over the samples of a filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.filters import Filter
from cache.selections import compiled, only_row


@dataclass(frozen=True)
class Histogram:
    """Counts between edges; values outside (there are none by default) are left out."""

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class OutcomeHistograms:
    """How a field is distributed over right and over wrong predictions.

    Attributes:
        edges: Shape (bins + 1,).
        right: Counts of rightly predicted samples, shape (bins,).
        wrong: Counts of wrongly predicted samples.
        right_median: Median over the right ones; None without any.
        wrong_median: Median over the wrong ones.
    """

    edges: NDArray[np.float64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    right_median: float | None
    wrong_median: float | None


def reliability(catalog: Catalog, filter_: Filter, bins: int = 10) -> pa.Table:
    """Compare confidence with accuracy over the labelled samples of a filter.

    Returns:
        One row a bin of equal width: low, high, n, mean_confidence, accuracy (both NULL in an empty bin).
    """
    compiler, where = compiled(catalog, filter_)
    size = compiler.bind(int(bins))
    rows = catalog.select(
        f"least(floor(s.confidence * {size})::INTEGER, {size}::INTEGER - 1) AS bin, count(*) AS n, "
        "avg(s.confidence) AS mean_confidence, avg(s.correct::INTEGER) AS accuracy",
        compiler,
        f"({where}) AND s.correct IS NOT NULL AND s.confidence IS NOT NULL",
        "GROUP BY bin",
    ).to_pylist()
    found = {row["bin"]: row for row in rows}
    edges = np.linspace(0.0, 1.0, bins + 1)
    return pa.table(
        {
            "low": pa.array(edges[:-1]),
            "high": pa.array(edges[1:]),
            "n": pa.array([found[i]["n"] if i in found else 0 for i in range(bins)], pa.int64()),
            "mean_confidence": pa.array(
                [found[i]["mean_confidence"] if i in found else None for i in range(bins)], pa.float64()
            ),
            "accuracy": pa.array(
                [found[i]["accuracy"] if i in found else None for i in range(bins)], pa.float64()
            ),
        }
    )


def expected_calibration_error(bins: pa.Table) -> float | None:
    """Return Σ n_b / N · |accuracy_b − confidence_b| over the rows of `reliability` (Naeini et al. 2015), 0 to 1.

    None where no sample is labelled.
    """
    rows = [row for row in bins.to_pylist() if row["n"]]
    total = sum(row["n"] for row in rows)
    if not total:
        return None
    return float(sum(row["n"] * abs(row["accuracy"] - row["mean_confidence"]) for row in rows) / total)


def field_range(
    catalog: Catalog,
    field: str,
    method: str | None = None,
    target: str | None = None,
    filter_: Filter | None = None,
) -> tuple[float, float] | None:
    """Return the smallest and largest finite value of a field over the samples; None where no sample has one.

    Times are in seconds since 1970, here and in histograms.
    """
    compiler, where = compiled(catalog, filter_ or Filter())
    value = compiler.number(field, method, target)
    row = only_row(
        catalog.select(
            f"min({value}) AS low, max({value}) AS high", compiler, f"({where}) AND isfinite({value})"
        )
    )
    return None if row["low"] is None else (row["low"], row["high"])


def _edges(
    catalog: Catalog, field: str, method: str | None, target: str | None, bins: int
) -> NDArray[np.float64]:
    """Return bins over the range of all samples, so that axes stay put while a filter changes."""
    low, high = field_range(catalog, field, method, target) or (0.0, 1.0)
    return np.histogram_bin_edges(np.empty(0), bins, (float(low), float(high)))


def _values(
    catalog: Catalog, filter_: Filter, field: str, method: str | None, target: str | None, labelled: bool
) -> pa.Table:
    """Return a field's known values over the samples of a filter, as v, with whether each is right, as correct."""
    compiler, where = compiled(catalog, filter_)
    value = compiler.number(field, method, target)
    known = f"({where}) AND {value} IS NOT NULL" + (" AND s.correct IS NOT NULL" if labelled else "")
    return catalog.select(f"{value} AS v, s.correct AS correct", compiler, known)


def histogram(
    catalog: Catalog,
    filter_: Filter,
    field: str,
    method: str | None = None,
    target: str | None = None,
    bins: int = 40,
) -> Histogram:
    """Count a filter's samples by a number; the bins span the range of all samples of the run."""
    edges = _edges(catalog, field, method, target, bins)
    table = _values(catalog, filter_, field, method, target, labelled=False)
    counts, _ = np.histogram(table["v"].to_numpy(), edges)
    return Histogram(edges, counts)


def statistic_by_outcome(
    catalog: Catalog,
    filter_: Filter,
    field: str,
    method: str | None = None,
    target: str | None = None,
    bins: int = 40,
) -> OutcomeHistograms:
    """Compare how a field is distributed over the right and over the wrong predictions of a filter."""
    edges = _edges(catalog, field, method, target, bins)
    table = _values(catalog, filter_, field, method, target, labelled=True)
    values, correct = table["v"].to_numpy(), table["correct"].to_numpy()
    right, wrong = values[correct], values[~correct]
    return OutcomeHistograms(
        edges,
        np.histogram(right, edges)[0],
        np.histogram(wrong, edges)[0],
        float(np.median(right)) if right.size else None,
        float(np.median(wrong)) if wrong.size else None,
    )
