"""What: groups of samples of a predicted class whose attended content is alike, wherever it lies in the image.

The attended features of a class are clustered at several levels of detail; which level says something is decided by the data:
every cluster of every level is scored at once, against the largest score of any of them under permuted errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from engine.discovery.audited import Audited
from engine.discovery.candidates import (
    CONTAINED,
    LEAST_MEMBERS,
    LEAST_OUTCOMES,
    Candidate,
    jaccard,
    same_samples,
)
from engine.discovery.likeness import Likeness
from engine.discovery.statistics import FAMILYWISE, PERMUTATIONS, familywise, permuted_outcomes

LEVELS = (2, 3, 4, 6, 8, 12)
"""Numbers of groups tried for a class; every group of every level is a candidate."""
FITTED = 2_000
"""Samples of a class that its clusters are fitted to; the others join the nearest."""
MOST_GROUPS = 3
"""Groups proposed for a class because of errors."""
ALIKE = 0.5
"""Groups without more errors than others are proposed from this likeness on: shortcuts that cause no error yet."""
ALIKE_TOO = 0.25
"""Groups of at least this likeness join the most alike one where all of them together still reach `ALIKE`."""
WORTH_JOINING = 1.1
"""Groups are taken together where that scores this many times as well as the best of them alone."""
AS_GOOD = 0.95
"""Of the best unions of each level that score at least this share of the best of all, the largest is taken: a habit that now and then hits the right
class has its samples among the right ones too."""
MOST_COMPARED = 40
"""Classes, the most frequent predictions first, whose groups are compared image by image: a second each."""
SAME = 0.5
"""Groups that share this part of their samples (Jaccard) are one group seen at two levels."""

ErrorProne = Callable[[int, float], "NDArray[np.bool_] | None"]


def clusters(
    features: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return every group of every level, (n, groups), and the level of each.

    Args:
        features: Unit vectors, (n, d).
        rng: Dice for the samples that are fitted to, and for the starts.
    """
    n = len(features)
    fitted = features if n <= FITTED else features[rng.choice(n, FITTED, replace=False)]
    distinct = len(np.unique(fitted, axis=0))
    groups, levels = [], []
    for level in LEVELS:
        if level > min(distinct, n // LEAST_MEMBERS):
            break
        model = KMeans(level, n_init=2, max_iter=100, random_state=int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(fitted)
        # By hand, in the very precision of the fit: `predict` starts threads that cost more than it saves.
        centres = model.cluster_centers_
        nearest = (features @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
        groups += [nearest == k for k in range(level)]
        levels += [level] * level
    listed = np.array(groups, dtype=bool).T if groups else np.zeros((n, 0), dtype=bool)
    return listed, np.array(levels, dtype=np.int64)


class WhatSearch:
    """Finds the groups of one run; the groups of a class are formed once."""

    def __init__(self, audited: Audited) -> None:
        self._audited = audited
        counts = np.bincount(audited.pred, minlength=len(audited.classes))
        self._compared = set(np.argsort(-counts, kind="stable")[:MOST_COMPARED].tolist())
        self._formed: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]] = {}

    def find(
        self, class_index: int, likeness: Likeness, most_error_prone: ErrorProne = lambda _class, _share: None
    ) -> list[Candidate]:
        """Return the groups worth testing for a class.

        Args:
            class_index: The predicted class.
            likeness: Measures how alike groups are.
            most_error_prone: Returns the part of another class with the highest error rate that holds a share of it: where no group has
                more errors than the rest of the class, nearly all of it may share one habit, and is held against that.
        """
        rows, groups, levels = self._groups(class_index)
        if not groups.shape[1]:
            return []
        found = _with_errors(self._audited, class_index, rows, groups, levels)
        if not found and (other := most_error_prone(class_index, 1.0)) is not None:
            beside = np.flatnonzero(other)
            nobody = np.zeros((len(beside), groups.shape[1]), dtype=bool)
            everybody = np.concatenate([rows, beside]), np.concatenate([groups, nobody])
            found = _with_errors(self._audited, class_index, *everybody, levels)[:1]
        if class_index not in self._compared:
            return found
        return found + _alike(class_index, self.finest(class_index), likeness)

    def finest(self, class_index: int) -> list[NDArray[np.bool_]]:
        """Return the members of each group of a class's finest level: what is near-identical falls into one of them."""
        rows, groups, levels = self._groups(class_index)
        return [
            _members(self._audited, rows[groups[:, k]])
            for k in np.flatnonzero(levels == levels.max(initial=0))
        ]

    def _groups(self, class_index: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Return the samples of a class, its groups (samples, groups) and their levels."""
        if class_index not in self._formed:
            audited = self._audited
            attended = audited.attended
            rows = np.flatnonzero(audited.pred == class_index)
            rows = rows[:0] if attended is None else rows[np.any(attended[rows] != 0, axis=1)]
            groups, levels = np.zeros((len(rows), 0), dtype=bool), np.zeros(0, np.int64)
            if attended is not None and len(rows) >= 2 * LEAST_MEMBERS:
                groups, levels = clusters(attended[rows], audited.rng("groups", class_index))
                large = groups[~audited.held_back[rows]].sum(axis=0) >= LEAST_MEMBERS
                groups, levels = groups[:, large], levels[large]
            self._formed[class_index] = rows, groups, levels
        return self._formed[class_index]


def _members(audited: Audited, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    members = np.zeros(audited.n, dtype=bool)
    members[rows] = True
    return members


def _with_errors(
    audited: Audited,
    class_index: int,
    rows: NDArray[np.int64],
    groups: NDArray[np.bool_],
    levels: NDArray[np.int64],
) -> list[Candidate]:
    here = ~audited.held_back[rows] & audited.labelled[rows]
    happened = audited.wrong[rows[here]]
    hits, n = int(happened.sum()), len(happened)
    if min(hits, n - hits) < LEAST_OUTCOMES:
        return []
    dice = audited.rng("what", class_index)
    inside = groups[here].astype(np.float32)
    counts = inside.sum(axis=0, dtype=np.float64)
    caught = (inside.T @ permuted_outcomes(happened, PERMUTATIONS, dice)).astype(np.float64)
    singles = _scores(counts[:, None], caught, hits, n)
    joined = {level: _joined(counts[levels == level], caught[levels == level], hits, n) for level in LEVELS}
    largest = np.max([singles.max(axis=0), *(values.max(axis=0) for values, _ in joined.values())], axis=0)
    chosen = [(float(singles[k, 0]), groups[:, k]) for k in np.argsort(-singles[:, 0], kind="stable")]
    together = max(float(values[:, 0].max()) for values, _ in joined.values())
    if together > 0 and together >= WORTH_JOINING * chosen[0][0]:
        unions = []
        for level, (values, order) in joined.items():
            last = int(values[:, 0].argmax())
            if values[last, 0] >= AS_GOOD * together:
                of_level = np.flatnonzero(levels == level)[order[: last + 1, 0]]
                taken = np.asarray(groups[:, of_level].any(axis=1))
                unions.append((int(taken.sum()), float(values[last, 0]), taken))
        _, value, taken = max(unions, key=lambda union: union[:2])
        chosen.insert(0, (value, taken))
    found: list[Candidate] = []
    for value, inside_group in chosen:
        p_value = float(familywise(np.array([value]), largest[1:])[0])
        if p_value > FAMILYWISE or len(found) == MOST_GROUPS:
            break
        members = _members(audited, rows[inside_group])
        if all(jaccard(members, other.members) < SAME for other in found):
            says = "looking at content that is alike"
            found.append(Candidate("what", class_index, "wrong", members, value, p_value, says=says))
    return found


def _scores(
    counts: NDArray[np.float64], caught: NDArray[np.float64], hits: int, n: int
) -> NDArray[np.float64]:
    """Return the score test of groups of the given sizes that caught so many errors; −∞ where a group is everybody."""
    share = counts / n
    deviation = np.sqrt(np.maximum(share * (1 - share), 1e-12))
    difference = caught / hits - (counts - caught) / (n - hits)
    values = difference / (deviation * np.sqrt(1 / hits + 1 / (n - hits)))
    return np.asarray(np.where(np.broadcast_to(counts < n, values.shape), values, -np.inf))


def _joined(
    counts: NDArray[np.float64], caught: NDArray[np.float64], hits: int, n: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Score the groups of one level taken together: the one with the highest error rate, then the two highest.

    Of all unions of disjoint groups one of these scores best (Neill 2012: linear-time subset scanning).

    Args:
        counts: Size of each group, (groups,).
        caught: Errors in each, by permutation, (groups, permutations).
        hits: All errors.
        n: All samples.

    Returns:
        The score of the first k + 1 groups by permutation, and the order of the groups, both (groups, permutations).
    """
    if not len(counts):
        return np.full((1, caught.shape[1]), -np.inf), np.zeros((1, caught.shape[1]), np.int64)
    # A group may have no labelled sample in this half.
    order = np.argsort(-caught / np.maximum(counts, 1)[:, None], axis=0, kind="stable")
    sizes = np.cumsum(counts[order], axis=0)
    return _scores(sizes, np.cumsum(np.take_along_axis(caught, order, axis=0), axis=0), hits, n), order


def _alike(class_index: int, groups: list[NDArray[np.bool_]], likeness: Likeness) -> list[Candidate]:
    """Return the group of the greatest likeness, with the groups that show the same."""
    measured = [(likeness.of(members, None) or 0.0, members) for members in groups]
    measured = sorted((one for one in measured if one[0] >= ALIKE_TOO), key=lambda one: -one[0])
    if not measured or measured[0][0] < ALIKE:
        return []
    value, members = measured[0]
    for _, more in measured[1:]:
        together = likeness.of(members | more, None)
        if together is not None and together >= ALIKE:
            value, members = together, members | more
    says = "looking at near-identical content"
    return [Candidate("what", class_index, "alike", members, 0.0, 1.0, says=says, likeness=value)]


def joined(candidates: Sequence[Candidate], likeness: Likeness) -> list[Candidate]:
    """Return candidates with groups found by their likeness joined to the groups with errors that mean the same samples.

    Errors choose the groups in which they are densest: of a habit that now and then hits the right class those without its
    hits. Likeness chooses by what is shown. Where both mean the same samples they mean one content, and the samples of
    either show it.

    Args:
        candidates: Of one class, with all of their samples.
        likeness: Measures how alike groups are.
    """
    alike = [c for c in candidates if c.kind == "what" and c.outcome == "alike"]
    left = [c for c in candidates if c not in alike]
    for one in alike:
        same = [c for c in left if c.kind == "what" and same_samples(c.members, one.members)]
        if not same:
            left.append(one)
            continue
        best = max(same, key=lambda c: c.score)
        best.members = best.members | one.members
        best.evidence.pop("along_edges", None)
        if one.members.sum() >= CONTAINED * best.members.sum():
            # They are its samples and a few more: a draw of a dozen would only tell how many of those it holds.
            best.likeness = max(best.likeness or 0.0, one.likeness or 0.0)
            best.evidence |= {name: value for name, value in one.evidence.items() if name == "along_edges"}
        else:
            best.likeness = likeness.of(best.members, None)
            if likeness.along_edges(best.members):
                best.evidence["along_edges"] = 1.0
    return left
