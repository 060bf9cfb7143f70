"""Comparison: errors of a finding against the rest of its class, or where it is nearly the whole class against other classes.

Where a plant makes everything the class, nearly all that is called so carries it, and errors with it have nothing to be
compared with inside the class. They are then held against the most error-prone other class: as large a part of it, made of
its groups of like content with the highest error rates. That part is chosen on the discovery half, as the finding was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.discovery.audited import Audited
from engine.discovery.candidates import LEAST_MEMBERS, Candidate, searched_classes
from engine.discovery.statistics import Effect, effect_of

NEARLY_THE_CLASS = 2 / 3
"""A finding with more than this share of its class's predictions is held against other classes."""

Groups = Callable[[int], Sequence[NDArray[np.bool_]]]


class Comparison:
    """Measures candidates of one run."""

    def __init__(self, audited: Audited, groups_of: Groups = lambda _: ()) -> None:
        """Prepare to measure.

        Args:
            audited: The run's samples.
            groups_of: Disjoint groups of a class's predictions.
        """
        self._audited = audited
        self._groups_of = groups_of
        self._parts: dict[int, list[tuple[float, NDArray[np.bool_]]]] = {}

    def measured(self, candidate: Candidate, held_back: bool) -> Effect:
        """Return a candidate's effect on one of the halves.

        Errors among the labelled samples predicted to be of its class, inside and outside; of nearly the whole class,
        inside and in the most error-prone part of another. Of a property of the whole image that goes with being called
        the class: false calls among the samples of other classes, with and without it.
        """
        audited = self._audited
        population = (audited.held_back == held_back) & audited.labelled
        if candidate.holds is not None:
            population &= audited.label != candidate.class_index
            return effect_of(candidate.holds[population], audited.pred[population] == candidate.class_index)
        against = audited.pred == candidate.class_index
        if self.nearly_the_class(candidate):
            other = self.most_error_prone(candidate.class_index, self._share(candidate))
            against = candidate.members if other is None else candidate.members | other
        population &= against
        return effect_of(candidate.members[population], audited.wrong[population])

    def nearly_the_class(self, candidate: Candidate) -> bool:
        """Tell whether a candidate leaves too little of its class to compare with."""
        return candidate.holds is None and self._share(candidate) > NEARLY_THE_CLASS

    def _share(self, candidate: Candidate) -> float:
        called = self._audited.labelled & (self._audited.pred == candidate.class_index)
        return float(candidate.members[called].mean()) if called.any() else 0.0

    def most_error_prone(self, class_index: int, share: float) -> NDArray[np.bool_] | None:
        """Return the part of another class with the highest error rate on the discovery half; None without another class.

        Args:
            class_index: The class that is compared.
            share: Least share of the other class's predictions that the part has.
        """
        best: tuple[float, NDArray[np.bool_]] | None = None
        for other in searched_classes(self._audited):
            if other == class_index:
                continue
            part = self._part(other, share)
            rate = self._error_rate(part)
            if rate is not None and (best is None or rate > best[0]):
                best = rate, part
        return None if best is None else best[1]

    def _part(self, class_index: int, share: float) -> NDArray[np.bool_]:
        """Return the groups of a class with the highest error rates, together at least a share of its predictions."""
        called = self._audited.pred == class_index
        if class_index not in self._parts:
            rated = [(self._error_rate(group), group) for group in self._groups_of(class_index)]
            known = [(rate, group) for rate, group in rated if rate is not None]
            self._parts[class_index] = sorted(known, key=lambda one: -one[0])
        part = np.zeros(len(called), dtype=bool)
        for _, group in self._parts[class_index]:
            part |= group
            if part.sum() >= share * called.sum():
                return part
        return np.asarray(called)

    def _error_rate(self, members: NDArray[np.bool_]) -> float | None:
        told = members & self._audited.labelled & ~self._audited.held_back
        return float(self._audited.wrong[told].mean()) if told.sum() >= LEAST_MEMBERS else None
