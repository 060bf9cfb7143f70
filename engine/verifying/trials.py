"""Trials: one image's share in a causal test, and how many of them a test takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cache.findings import REFUTED, RELIED_ON, Rate
from cache.intervals import CONFIDENCE
from engine.interventions import Pixels
from engine.verifying.intervals import Outcome, rate_of
from engine.verifying.verdicts import BEYOND_CLASS

LOOKS = (40, 80, 120, 160, 200)
"""Images after which a test is looked at; it ends at the last, or where it is decided or no image is left."""
EARLY = 1 - (1 - CONFIDENCE) / len(LOOKS)
"""Confidence of the interval that ends a test early: whoever looks five times is five times as often wrong (Bonferroni)."""

Predict = Callable[[Sequence[Pixels]], NDArray[np.int64]]


@dataclass(frozen=True)
class Trial:
    """One image's share in a test.

    Attributes:
        views: Views that the model is shown.
        decide: Makes the outcome of their predicted classes, (len(views),).
    """

    views: list[Pixels]
    decide: Callable[[NDArray[np.int64]], Outcome]


def conduct(trials: Iterator[Trial], predict: Predict, looks: Sequence[int] = LOOKS) -> list[Outcome]:
    """Carry out trials until what they show is decided, none is left or the last look is reached.

    The views of many trials fill batches together.
    """
    outcomes: list[Outcome] = []
    for look in looks:
        taken = list(islice(trials, look - len(outcomes)))
        predicted = predict([view for trial in taken for view in trial.views])
        first = 0
        for trial in taken:
            outcomes.append(trial.decide(predicted[first : first + len(trial.views)]))
            first += len(trial.views)
        if len(outcomes) < look or decided(rate_of(outcomes, EARLY)):
            break
    return outcomes


def decided(rate: Rate) -> bool:
    """Tell whether more images could change what a test says: an interval that is clear of the thresholds says no."""
    if rate.low is None or rate.high is None:
        return False
    if rate.high < REFUTED:
        return True
    if rate.low <= RELIED_ON:
        return False
    compared = rate.class_low is not None and rate.class_high is not None
    return not compared or rate.class_low > BEYOND_CLASS or rate.class_high < BEYOND_CLASS  # type: ignore[operator]
