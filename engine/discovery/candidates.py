"""A candidate: what one of the three searches proposes, before the held-back half has its say."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.conditions import Condition
from cache.findings import Box, Kind
from engine.discovery.audited import Audited

LEAST_MEMBERS = 6
"""A group of fewer samples of the discovery half is an anecdote, and is not proposed."""
LEAST_OUTCOMES = 3
"""Samples with and without an outcome that a search needs before it looks for what goes with it."""
SAME_SAMPLES = 0.5
"""Candidates of one class that share this part of their samples (Jaccard) mean the same."""
CONTAINED = 0.8
"""So do candidates of which the smaller has this part of its samples in the larger."""
FEW_PREDICTIONS = 2 * LEAST_MEMBERS
"""Classes with fewer predictions are not searched: neither half could hold a group."""


def searched_classes(audited: Audited) -> list[int]:
    """Return the classes with enough predictions to look for shortcuts to them."""
    counts = np.bincount(audited.pred, minlength=len(audited.classes)) if audited.n else np.zeros(0, int)
    return [int(c) for c in np.flatnonzero(counts >= FEW_PREDICTIONS)]


@dataclass
class Candidate:
    """A group of samples predicted to be of one class that may share a shortcut.

    Attributes:
        kind: Which search proposes it.
        class_index: The predicted class.
        outcome: What it goes with on the discovery half: ``wrong``, ``called`` the class, or ``alike`` for neither.
        members: Whether each sample of the run belongs to it; all of them are predicted to be of the class.
        score: Studentised difference on the discovery half.
        p_familywise: Against the largest score under permuted outcomes.
        conditions: What a filter adds to the predicted class; empty for a group, whose version is not written yet.
        box: The region; None for moving content and whole images.
        says: How the title goes on after "predicted CLASS".
        property: The image statistic of a finding about the whole image.
        holds: Of a property that goes with being called the class: whether each sample of the run has it, whatever is predicted.
        in_part: Of a property: it does not show all over the images, so that it is how the content of a part looks, or how parts
            differ.
        likeness: How near-identical the attended content is, 0 to 1; None where nobody could tell.
        evidence: Numbers for the title and the page.
    """

    kind: Kind
    class_index: int
    outcome: str
    members: NDArray[np.bool_]
    score: float
    p_familywise: float
    conditions: tuple[Condition, ...] = ()
    box: Box | None = None
    says: str = ""
    property: str | None = None
    holds: NDArray[np.bool_] | None = None
    in_part: bool = False
    likeness: float | None = None
    evidence: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """One outcome over one population of the discovery half.

    Attributes:
        class_index: The class that is asked about.
        outcome: ``wrong`` among the samples predicted to be of the class, or ``called`` the class among all.
        rows: Positions of the population's samples.
        happened: Whether each of them has the outcome.
    """

    class_index: int
    outcome: str
    rows: NDArray[np.int64]
    happened: NDArray[np.bool_]


def questions(audited: Audited, class_index: int, usable: NDArray[np.bool_]) -> list[Question]:
    """Return what can be asked about a class on the discovery half.

    Args:
        audited: The run.
        class_index: The predicted class.
        usable: Samples that the search can use at all.
    """
    here = usable & ~audited.held_back
    called = audited.pred == class_index
    asked = []
    for outcome, population, happened in (
        ("wrong", here & called & audited.labelled, audited.wrong),
        ("called", here, called),
    ):
        rows = np.flatnonzero(population)
        yes = happened[rows]
        if min(int(yes.sum()), int((~yes).sum())) >= LEAST_OUTCOMES:
            asked.append(Question(class_index, outcome, rows, yes))
    return asked


def same_samples(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> bool:
    """Tell whether two groups mean the same samples: they share most of them, or one holds most of the other."""
    smaller = min(int(first.sum()), int(second.sum()))
    if not smaller:
        return False
    shared = int((first & second).sum())
    return jaccard(first, second) >= SAME_SAMPLES or shared >= CONTAINED * smaller


def jaccard(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return which part of the samples of either group is in both."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 0.0
