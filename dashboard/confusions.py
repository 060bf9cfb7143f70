"""Which part of a confusion matrix to show when there are too many classes to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.fields import class_titles


@dataclass(frozen=True)
class ConfusionView:
    """A readable square of a confusion matrix.

    Attributes:
        classes: Class indices in the order shown.
        names: Their names; a name that two outputs share carries its index.
        counts: Samples by true (rows) and predicted class (columns).
        row_totals: Samples of each shown true class, whatever they were called.
        errors_shown: Errors among the cells shown.
        errors: Errors in the whole matrix.
        classes_met: Classes that occur at all, as truth or as prediction.
    """

    classes: list[int]
    names: list[str]
    counts: NDArray[np.int64]
    row_totals: list[int]
    errors_shown: int
    errors: int
    classes_met: int


def most_confused(label: ArrayLike, pred: ArrayLike, n: ArrayLike, limit: int) -> list[int]:
    """Choose the classes worth showing: those of the most frequent confusions, the worst pair first.

    Confusions are counted in both directions. Where they name fewer classes than fit, the most frequent of
    the other classes fill up, so that a matrix without errors still shows its diagonal.
    """
    truth, called, count = (np.asarray(values, np.int64) for values in (label, pred, n))
    pairs: dict[tuple[int, int], int] = {}
    size: dict[int, int] = {}
    for t, p, k in zip(truth.tolist(), called.tolist(), count.tolist(), strict=True):
        size[t] = size.get(t, 0) + k
        size[p] = size.get(p, 0) + k
        if t != p:
            pair = (min(t, p), max(t, p))
            pairs[pair] = pairs.get(pair, 0) + k
    chosen: list[int] = []
    for pair in sorted(pairs, key=lambda key: (-pairs[key], key)):
        new = [index for index in pair if index not in chosen]
        if len(chosen) + len(new) <= limit:
            chosen += new
    rest = sorted((index for index in size if index not in chosen), key=lambda key: (-size[key], key))
    return chosen + rest[: max(limit - len(chosen), 0)]


def confusion_view(
    label: ArrayLike, pred: ArrayLike, n: ArrayLike, names: Sequence[str], limit: int
) -> ConfusionView:
    """Return the part of a confusion matrix that fits: everything in class order, or the most confused classes.

    Args:
        label: True class of each counted pair.
        pred: Predicted class.
        n: Samples of that pair.
        names: Names of the model's outputs, in order.
        limit: Most classes to show.
    """
    truth, called, count = (np.asarray(values, np.int64) for values in (label, pred, n))
    met = sorted(set(truth.tolist()) | set(called.tolist()))
    classes = met if len(met) <= limit else most_confused(truth, called, count, limit)
    place = np.full(max(len(names), max(met, default=-1) + 1), -1)
    place[classes] = np.arange(len(classes))
    counts = np.zeros((len(classes), len(classes)), np.int64)
    totals = np.zeros(len(classes), np.int64)
    rows, columns = place[truth], place[called]
    np.add.at(totals, rows[rows >= 0], count[rows >= 0])
    shown = (rows >= 0) & (columns >= 0)
    np.add.at(counts, (rows[shown], columns[shown]), count[shown])
    titles = class_titles(names)
    return ConfusionView(
        classes=list(classes),
        names=[titles[index] for index in classes],
        counts=counts,
        row_totals=totals.tolist(),
        errors_shown=int(counts.sum() - np.trace(counts)),
        errors=int(count[truth != called].sum()),
        classes_met=len(met),
    )
