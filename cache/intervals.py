"""Confidence intervals of proportions, vectorised and without a statistics package.

A page shows intervals for a thousand classes at once and its first answer must not wait for an import:
SciPy's statistics take seconds to load, these two formulas take none. The tests hold them against statsmodels.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with its confidence limits; arrays of the inputs' shape, NaN where nothing was counted."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def excludes_zero(self) -> bool:
        """Tell whether a single interval lies wholly on one side of zero."""
        return bool(self.low > 0 or self.high < 0)


def wilson(hits: ArrayLike, counts: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Return the score interval of a proportion.

    Wilson 1927: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), with p = hits / counts.

    Args:
        hits: Successes, any shape, 0 ≤ hits ≤ counts.
        counts: Trials, broadcastable to it; 0 gives NaN.
        confidence: Coverage, between 0 and 1.

    Returns:
        Estimate and limits, each in 0..1.
    """
    k, n = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(counts, np.float64))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(p, np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1))


def newcombe(
    hits: ArrayLike,
    counts: ArrayLike,
    other_hits: ArrayLike,
    other_counts: ArrayLike,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the interval of the difference of two independent proportions, first minus second.

    Newcombe 1998, method 10: d − √((p₁−l₁)² + (u₂−p₂)²) to d + √((u₁−p₁)² + (p₂−l₂)²), where l and u are
    the Wilson limits of each proportion. Counts of 0 give NaN.
    """
    first, second = wilson(hits, counts, confidence), wilson(other_hits, other_counts, confidence)
    difference = first.estimate - second.estimate
    below = np.hypot(first.estimate - first.low, second.high - second.estimate)
    above = np.hypot(first.high - first.estimate, second.estimate - second.low)
    return Interval(difference, difference - below, difference + above)
