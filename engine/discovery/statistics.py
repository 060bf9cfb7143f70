"""The statistics of discovery: scores under permuted outcomes, exact tests, and q-values over what is carried over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, fisher_exact

from cache.intervals import newcombe

PERMUTATIONS = 400
"""Permuted outcomes against whose largest scores a score is held: p-values are multiples of 1/401."""
FAMILYWISE = 0.05
"""A score is carried over where its familywise p-value is at most this."""


@dataclass(frozen=True)
class Effect:
    """How much more often a group is wrong than the rest of the samples predicted to be of its class.

    Attributes:
        rate: Error rate inside; None without labelled samples.
        other_rate: Error rate outside.
        n: Labelled samples inside.
        difference: rate − other_rate.
        low: Lower limit of its 95 % interval (Newcombe).
        high: Its upper limit.
        p_value: Fisher's exact test, one-sided: errors are not more frequent inside.
    """

    rate: float | None
    other_rate: float | None
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None


def effect_of(inside: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> Effect:
    """Measure a group's error rate against the rest.

    Args:
        inside: Whether each labelled sample of the population is in the group.
        wrong: Whether it is wrong.
    """
    n, others = int(inside.sum()), int((~inside).sum())
    hits, other_hits = int((inside & wrong).sum()), int((~inside & wrong).sum())
    rate = hits / n if n else None
    other_rate = other_hits / others if others else None
    if not n or not others:
        return Effect(rate, other_rate, n, None, None, None, None)
    interval = newcombe(hits, n, other_hits, others)
    table = [[hits, n - hits], [other_hits, others - other_hits]]
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    return Effect(
        rate, other_rate, n, float(interval.estimate), float(interval.low), float(interval.high), p_value
    )


def q_values(p_values: list[float | None]) -> list[float | None]:
    """Return Benjamini–Hochberg q-values; what has no p-value has no q-value and does not count."""
    known = [p for p in p_values if p is not None]
    adjusted = iter(false_discovery_control(known).tolist() if known else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def permuted_outcomes(
    outcome: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return an outcome and permutations of it, one a column: shape (n, 1 + count), the first as it is."""
    columns = np.empty((len(outcome), 1 + count), np.float32)
    columns[:, 0] = outcome
    for k in range(1, 1 + count):
        columns[:, k] = rng.permutation(outcome)
    return columns


def score(
    sums: NDArray[np.float64], total: NDArray[np.float64], deviation: NDArray[np.float64], hits: int, n: int
) -> NDArray[np.float64]:
    """Return the studentised difference of means between samples with and without an outcome.

    ``z = (mean₁ − mean₀) / (s √(1/n₁ + 1/n₀))`` with s the standard deviation over all n samples, which no permutation
    changes; for a yes-or-no feature it is the score test of two proportions.

    Args:
        sums: Sum of each feature over the samples with the outcome: (features, permutations).
        total: Its sum over all samples: (features,).
        deviation: Its standard deviation over all samples: (features,).
        hits: Samples with the outcome, n₁.
        n: All samples.
    """
    others = n - hits
    difference = sums / hits - (total[:, None] - sums) / others
    return np.asarray(difference / (deviation[:, None] * np.sqrt(1 / hits + 1 / others)))


def familywise(observed: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values of scores against the largest scores of the permutations: (1 + #{largest ≥ score}) / (1 + K)."""
    ordered = np.sort(largest)
    above = len(ordered) - np.searchsorted(ordered, observed, side="left")
    return np.asarray((1 + above) / (1 + len(ordered)))
