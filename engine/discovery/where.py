"""Where: regions whose mass goes with wrong predictions, or with being called a class, beyond chance.

Every box on the grid of at most a quarter of the view is scored at once. A box's mass is linear in the cells, so the sums
that its score needs follow from the cells' sums (196 a permutation), and its deviation from the cells' covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cache.conditions import RegionMass
from cache.regions import Region
from cache.schema import GRID
from engine.discovery.audited import BLOCK, Audited
from engine.discovery.candidates import LEAST_MEMBERS, Candidate, Question, questions
from engine.discovery.statistics import FAMILYWISE, PERMUTATIONS, familywise, score

LARGEST_AREA = 0.25
"""Boxes cover at most this share of the view: a patch that covers more would hide the object it is pasted onto."""
SMALLEST_SIDE = 2
"""Boxes are at least this many cells wide and high."""
DEVIATION_FLOOR = 0.02
"""The mass of a box varies at least this much: boxes that nobody looks at have nothing to say."""
CLOSE_TO_BEST = 0.85
"""Boxes about the same place are alternatives where their score is at least this share of the best one there."""
LEAST_SHARE = 0.2
"""Samples of a region have at least this share of their mass in it on average."""
LEAST_DENSITY = 3.0
"""They look at it at least this many times as hard as an even map would: else it is no region but the whole background."""
MOST_BOXES = 2
"""Boxes proposed for a class and outcome."""
RARE = 0.02
"""Permutations of outcomes rarer than this are drawn and summed; a matrix product is faster for the others."""
DRAWN_AT_ONCE = 100
OVERLAP = 0.25
"""Boxes that share more than this part of the smaller one are about the same thing."""
LEAST_MASS = 0.1
"""A sample belongs to a region from this mass on at the earliest."""
MASS_STEPS = 200
"""Thresholds on the mass are tried in steps of 1/200."""
NEARLY_BEST = 0.97
"""Thresholds that separate nearly as well as the best one are equally good; their middle is taken."""

Rows = NDArray[np.int64]


@lru_cache(maxsize=1)
def boxes() -> NDArray[np.int64]:
    """Return every box that is scanned, as rows top, bottom, left, right in cells: shape (boxes, 4)."""
    found = [
        (top, bottom, left, right)
        for top in range(GRID)
        for bottom in range(top + SMALLEST_SIDE, GRID + 1)
        for left in range(GRID)
        for right in range(left + SMALLEST_SIDE, GRID + 1)
        if (bottom - top) * (right - left) <= LARGEST_AREA * GRID * GRID
    ]
    listed = np.array(found, np.int64)
    listed.flags.writeable = False
    return listed


def masses_of_boxes(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of cells over every box: (196, K) to (boxes, K)."""
    table = np.zeros((GRID + 1, GRID + 1, cells.shape[1]))
    table[1:, 1:] = cells.reshape(GRID, GRID, -1).cumsum(axis=0).cumsum(axis=1)
    top, bottom, left, right = boxes().T
    return np.asarray(table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left])


def deviations_of_boxes(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of every box's mass from the covariance of the cells (196, 196)."""
    half = masses_of_boxes(covariance)
    top, bottom, left, right = boxes().T
    table = np.zeros((len(half), GRID + 1, GRID + 1))
    table[:, 1:, 1:] = half.reshape(-1, GRID, GRID).cumsum(axis=1).cumsum(axis=2)
    at = np.arange(len(half))
    variance = (
        table[at, bottom, right] - table[at, top, right] - table[at, bottom, left] + table[at, top, left]
    )
    return np.asarray(np.sqrt(np.maximum(variance, 0)))


@dataclass(frozen=True)
class Moments:
    """What no permutation changes: sums of the cells over a population, and the deviation of every box."""

    total: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, p: NDArray[np.float32], rows: Rows) -> Moments:
        """Measure the cells p, (n, 196), of a population."""
        total, products = np.zeros(p.shape[1]), np.zeros((p.shape[1], p.shape[1]))
        for first in range(0, len(rows), BLOCK):
            block = p[rows[first : first + BLOCK]].astype(np.float64)
            total += block.sum(axis=0)
            products += block.T @ block
        mean = total / len(rows)
        deviation = deviations_of_boxes(products / len(rows) - np.outer(mean, mean))
        return cls(total, np.maximum(deviation, DEVIATION_FLOOR))


def scan(
    p: NDArray[np.float32],
    rows: Rows,
    happened: NDArray[np.bool_],
    rng: np.random.Generator,
    moments: Moments | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score every box against permuted outcomes.

    Args:
        p: Cells of all samples, (n, 196).
        rows: The population.
        happened: The outcome of each of its samples.
        rng: Dice for the permutations.
        moments: Of the population, where they are known already.

    Returns:
        The score of each box, the largest score of each permutation, and the excess mass of each box: how much more of
        it the samples with the outcome have.
    """
    n, hits = len(rows), int(happened.sum())
    moments = moments or Moments.of(p, rows)
    sums = _permuted_sums(p, rows, happened, moments.total, rng)
    in_boxes, in_all = masses_of_boxes(sums), masses_of_boxes(moments.total[:, None])[:, 0]
    scores = score(in_boxes, in_all, moments.deviation, hits, n)
    excess = in_boxes[:, 0] / hits - (in_all - in_boxes[:, 0]) / (n - hits)
    return scores[:, 0], scores[:, 1:].max(axis=0), excess


def _permuted_sums(
    p: NDArray[np.float32],
    rows: Rows,
    happened: NDArray[np.bool_],
    total: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the sums of the cells over the samples with an outcome and with permutations of it, one a column."""
    n, hits = len(rows), int(happened.sum())
    # A permuted outcome is a draw of as many samples; the rarer side is summed, the other follows from the total.
    fewer = min(hits, n - hits)
    sums = np.zeros((p.shape[1], 1 + PERMUTATIONS))
    sums[:, 0] = _sum_rows(p, rows[happened])
    if fewer < RARE * n:
        for k in range(1, 1 + PERMUTATIONS):
            sums[:, k] = _sum_rows(p, rows[rng.choice(n, fewer, replace=False)])
    else:
        drawn = np.zeros(n, bool)
        drawn[:fewer] = True
        for k in range(1, 1 + PERMUTATIONS, DRAWN_AT_ONCE):
            last = min(k + DRAWN_AT_ONCE, 1 + PERMUTATIONS)
            outcomes = np.stack([rng.permutation(drawn) for _ in range(k, last)])
            for first in range(0, n, BLOCK):
                block = outcomes[:, first : first + BLOCK].astype(np.float32)
                sums[:, k:last] += (block @ p[rows[first : first + BLOCK]]).T
    if fewer != hits:
        sums[:, 1:] = total[:, None] - sums[:, 1:]
    return sums


def _sum_rows(p: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
    return np.asarray(
        sum(
            (p[rows[i : i + BLOCK]].sum(axis=0, dtype=np.float64) for i in range(0, len(rows), BLOCK)),
            np.zeros(p.shape[1]),
        )
    )


def region_of(box: NDArray[np.int64]) -> Region:
    """Return a box of cells as a region."""
    top, bottom, left, right = (int(edge) / GRID for edge in box)
    return Region.box(left, top, right, bottom)


def choose_boxes(
    scores: NDArray[np.float64], p_values: NDArray[np.float64], excess: NDArray[np.float64]
) -> list[int]:
    """Return the boxes worth proposing.

    Of each place, among the boxes whose score is close to the best one there, the one with the most excess mass beyond its
    area: a smaller one would cut a tag in two, and a larger one takes in what has nothing to do with it.
    """
    all_boxes = boxes()
    area = (all_boxes[:, 1] - all_boxes[:, 0]) * (all_boxes[:, 3] - all_boxes[:, 2]) / (GRID * GRID)
    free = p_values <= FAMILYWISE
    chosen: list[int] = []
    while free.any() and len(chosen) < MOST_BOXES:
        best = int(np.argmax(np.where(free, scores, -np.inf)))
        close = free & (scores >= CLOSE_TO_BEST * scores[best]) & (_shared(all_boxes, best) > OVERLAP)
        pick = int(np.argmax(np.where(close, excess - area, -np.inf)))
        chosen.append(pick)
        free &= (_shared(all_boxes, pick) <= OVERLAP) & (_shared(all_boxes, best) <= OVERLAP)
    return chosen


def _shared(all_boxes: NDArray[np.int64], one: int) -> NDArray[np.float64]:
    """Return which part of the smaller of two boxes they share, for every box with one of them."""
    top, bottom, left, right = all_boxes.T
    t, b, l, r = all_boxes[one]  # noqa: E741 - the four edges
    high = np.clip(np.minimum(bottom, b) - np.maximum(top, t), 0, None)
    wide = np.clip(np.minimum(right, r) - np.maximum(left, l), 0, None)
    area = (bottom - top) * (right - left)
    return np.asarray(high * wide / np.minimum(area, area[one]))


def threshold(mass: NDArray[np.float64], happened: NDArray[np.bool_]) -> float | None:
    """Return from which mass on a sample belongs to a region: where the outcome is separated best.

    The score test of the outcome inside and outside, over thresholds in steps of 1/200; among neighbouring ones that do
    nearly as well as the best, the middle. None where no threshold leaves enough samples on both sides.
    """
    tried = np.arange(round(LEAST_MASS * MASS_STEPS), MASS_STEPS) / MASS_STEPS
    inside = mass[:, None] >= tried[None]
    n, hits = len(mass), happened.sum()
    counts, caught = inside.sum(axis=0), (inside & happened[:, None]).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = caught / counts - (hits - caught) / (n - counts)
        value = difference / np.sqrt(hits / n * (1 - hits / n) * (1 / counts + 1 / (n - counts)))
    value = np.where((counts >= LEAST_MEMBERS) & (counts < n), value, -np.inf)
    best = int(np.argmax(value))
    if not np.isfinite(value[best]) or value[best] <= 0:
        return None
    first = last = best
    while first > 0 and value[first - 1] >= NEARLY_BEST * value[best]:
        first -= 1
    while last + 1 < len(tried) and value[last + 1] >= NEARLY_BEST * value[best]:
        last += 1
    return float(tried[(first + last) // 2])


class WhereSearch:
    """Finds the regions of one run; what all classes share is measured once."""

    def __init__(self, audited: Audited) -> None:
        self._audited = audited
        self._everybody: Moments | None = None

    def find(self, class_index: int) -> list[Candidate]:
        """Return the regions worth testing for a class."""
        audited, found = self._audited, []
        for question in questions(audited, class_index, audited.known):
            if question.outcome == "called" and self._everybody is None:
                self._everybody = Moments.of(audited.p, question.rows)
            scores, largest, excess = scan(
                audited.p,
                question.rows,
                question.happened,
                audited.rng("where", question.outcome, class_index),
                self._everybody if question.outcome == "called" else None,
            )
            p_values = familywise(scores, largest)
            for box in choose_boxes(scores, p_values, excess):
                value, p_value = float(scores[box]), float(p_values[box])
                candidate = _candidate(audited, question, boxes()[box], value, p_value)
                if candidate is not None:
                    found.append(candidate)
        return found


def _candidate(
    audited: Audited, question: Question, box: NDArray[np.int64], value: float, p_value: float
) -> Candidate | None:
    region = region_of(box)
    covered = region.coverage().ravel().astype(np.float32)
    mass: NDArray[np.float64] = (audited.p @ covered).astype(np.float64)
    low = threshold(mass[question.rows], question.happened)
    if low is None:
        return None
    called = audited.pred == question.class_index
    members = called & audited.known & (mass >= low)
    rest = called & audited.known & ~members
    share = float(mass[members].mean()) if members.any() else 0.0
    if share < LEAST_SHARE or share < LEAST_DENSITY * region.area():
        return None
    (x0, y0), (x1, y1) = region.points
    return Candidate(
        "where",
        question.class_index,
        question.outcome,
        members,
        value,
        p_value,
        (RegionMass(region, low),),
        (x0, y0, x1, y1),
        f"looking at {name_of(region)}",
        evidence={
            "mass_threshold": low,
            "mean_mass": share,
            "mean_mass_rest": float(mass[rest].mean()) if rest.any() else 0.0,
        },
    )


def name_of(region: Region) -> str:
    """Name where a box lies, by the corner, edge or middle that its centre is nearest to."""
    if region.preset:
        return region.sentence()
    (x0, y0), (x1, y1) = region.points
    across, down = (x0 + x1) / 2, (y0 + y1) / 2
    row = "upper" if down < 0.36 else "lower" if down > 0.64 else ""
    side = "left" if across < 0.36 else "right" if across > 0.64 else ""
    if row and side:
        return f"the {row} {side} corner"
    if row or side:
        return f"the {row or side} edge" if min(x0, y0, 1 - x1, 1 - y1) < 0.1 else f"the {row or side} part"
    return "the middle"
