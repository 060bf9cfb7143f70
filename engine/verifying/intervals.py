"""Intervals of a causal test: the difference between what an intervention and its control did to the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache.findings import Rate
from cache.intervals import CONFIDENCE, wilson


@dataclass(frozen=True)
class Outcome:
    """What happened to one image.

    Attributes:
        hit: The intervention changed its prediction as the finding says.
        control: So did the control.
        other: So did what the rest of the class attends to; None where that was not tried.
        parts: Which of the fills changed it, in their order; empty for other tests.
    """

    hit: bool
    control: bool
    other: bool | None = None
    parts: tuple[bool, ...] = ()


def paired_newcombe(
    both: int, first: int, second: int, neither: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the interval of the difference of two proportions of the same images, first minus second.

    Newcombe 1998b, method 10: the limits of the unpaired interval with the correlation φ of the pairs taken in,
    d ∓ √(δ² − 2 φ δ ε + ε²), where δ and ε are the distances from each proportion to its Wilson limit, and φ is
    corrected for continuity. An image and its control share everything but the patch, so that the unpaired interval
    would be too wide. Better than Wald's at the edges, where nearly all or none change.

    Args:
        both: Images that both change.
        first: Images that only the first changes.
        second: Images that only the second changes.
        neither: Images that neither changes.
        confidence: Coverage, between 0 and 1.

    Returns:
        Limits, each in −1..1.

    Raises:
        ValueError: There are no images.
    """
    n = both + first + second + neither
    if n < 1:
        raise ValueError("An interval needs at least one pair.")
    p1, l1, u1 = (float(value) for value in wilson(both + first, n, confidence))
    p2, l2, u2 = (float(value) for value in wilson(both + second, n, confidence))
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    product = float(both * neither - first * second)
    if product > 0:
        product = max(product - n / 2, 0.0)
    phi = product / margins**0.5 if margins else 0.0
    d = p1 - p2
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return max(d - max(below, 0.0) ** 0.5, -1.0), min(d + max(above, 0.0) ** 0.5, 1.0)


def difference(
    hits: Sequence[bool], others: Sequence[bool], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the interval of the difference between two ways of changing the same images."""
    a, b = np.asarray(hits, bool), np.asarray(others, bool)
    counts = (int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))
    return paired_newcombe(*counts, confidence)


def rate_of(outcomes: Sequence[Outcome], confidence: float = CONFIDENCE) -> Rate:
    """Return what a test measured; without outcomes everything but n is unknown."""
    n = len(outcomes)
    if not n:
        return Rate(None, None, 0, None, None)
    low, high = difference([o.hit for o in outcomes], [o.control for o in outcomes], confidence)
    rate = sum(o.hit for o in outcomes) / n
    control = sum(o.control for o in outcomes) / n
    compared = [o for o in outcomes if o.other is not None]
    if not compared:
        return Rate(rate, control, n, low, high)
    class_low, class_high = difference(
        [o.hit for o in compared], [bool(o.other) for o in compared], confidence
    )
    class_rate = sum(bool(o.other) for o in compared) / len(compared)
    return Rate(rate, control, n, low, high, class_rate, class_low, class_high)
