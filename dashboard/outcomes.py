"""Which statistics of the maps set wrong predictions apart from right ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.filters import Filter
from cache.schema import Field

RANKED = 100_000
"""Samples that the ranking looks at, at most: ranks are sorts, and more do not change the order."""
SIGNIFICANCE = 0.05

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """How a statistic differs between wrong and right predictions.

    Attributes:
        field: The statistic.
        right: Defined values among right predictions.
        wrong: The same among wrong ones.
        median_right: Their median, NaN without values.
        median_wrong: The same for wrong ones.
        auc: Probability that a wrong prediction has the larger value, ties counting half; NaN without both.
        certain: Whether chance alone would hardly do it, given how many statistics were looked at.
    """

    field: Field
    right: int
    wrong: int
    median_right: float
    median_wrong: float
    auc: float
    certain: bool

    @property
    def rank_biserial(self) -> float:
        """Effect size, −1 to 1: positive where wrong predictions have larger values."""
        return 2 * self.auc - 1

    @property
    def words(self) -> str:
        """Say how wrong predictions differ: the size and the direction, in words."""
        if np.isnan(self.auc):
            return "cannot be compared"
        if not self.certain:
            return "unclear"
        size = abs(self.rank_biserial)
        degree = "slightly " if size < 0.2 else "" if size < 0.4 else "clearly " if size < 0.6 else "far "
        return f"{degree}{'higher' if self.auc > 0.5 else 'lower'}"


def separation(field: Field, right: Values, wrong: Values, looked_at: int = 1) -> Separation:
    """Compare the values of a statistic; NaN values are left out.

    The effect is the area under the ROC curve, U / (n₁ n₂) of Mann and Whitney 1947, whose standard deviation without
    a difference is √((n₁ + n₂ + 1) / (12 n₁ n₂)); a Bonferroni correction allows for the number of statistics.

    Args:
        field: The statistic.
        right: Its values for right predictions, any number.
        wrong: Its values for wrong predictions.
        looked_at: How many statistics are compared with it.
    """
    low, high = np.sort(right[~np.isnan(right)]), np.sort(wrong[~np.isnan(wrong)])
    n, m = low.size, high.size
    medians = [float(np.median(side)) if side.size else float("nan") for side in (low, high)]
    if not n or not m:
        return Separation(field, n, m, medians[0], medians[1], float("nan"), False)
    below = np.searchsorted(low, high, side="left").sum()
    ties = np.searchsorted(low, high, side="right").sum() - below
    auc = float((below + ties / 2) / (n * m))
    needed = NormalDist().inv_cdf(1 - SIGNIFICANCE / (2 * looked_at)) * sqrt((n + m + 1) / (12 * n * m))
    return Separation(field, n, m, medians[0], medians[1], auc, abs(auc - 0.5) > needed)


def separations(catalog: Catalog, filter_: Filter, method: str, target: str) -> list[Separation]:
    """Compare every statistic of a method's maps over a selection, the most telling first.

    Very large selections are thinned evenly, by a hash of each sample's content.
    """
    compiler = catalog.compiler()
    fields = catalog.method_fields()
    columns = [f"{compiler.value(field.name, method, target)} AS f{i}" for i, field in enumerate(fields)]
    where = f"{compiler.all_of(filter_.conditions)} AND s.correct IS NOT NULL"
    total = catalog.select("count(*) AS n", compiler, where)["n"][0].as_py()
    if total > RANKED:
        where += f" AND hash(s.content) % {-(-total // RANKED)} = 0"
    table = catalog.select(", ".join(["s.correct", *columns]), compiler, where)
    correct = table["correct"].to_numpy(zero_copy_only=False).astype(bool)
    found = []
    for i, field in enumerate(fields):
        values = table[f"f{i}"].to_numpy(zero_copy_only=False).astype(np.float64)
        found.append(separation(field, values[correct], values[~correct], len(fields)))
    return sorted(found, key=lambda s: -1.0 if np.isnan(s.auc) else abs(s.rank_biserial), reverse=True)
