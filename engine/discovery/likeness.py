"""Likeness: how near-identical what the model attended to is from image to image, as stamps are and living things are not.

A part of one window (a template) is looked for in the windows of the other images, at any place of a moving window and at
nearly the same place of a fixed region. Three measures say how well it is found again, each blind where another sees:
concordance (Lin 1989: pattern, contrast and colour agree), the correlation of edges (which a translucent stamp keeps on any
ground), and for a fixed region the distance of the colours (which a plain frame keeps that has no pattern). The zero of each is
what the most alike of the other classes, or for moving content of their groups, reaches within itself: ears are alike too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from cache import profiles
from cache.catalog import Catalog
from cache.findings import Box
from engine.discovery.audited import Audited

VIEW = 112
"""Side to which a thumbnail is brought."""
WINDOW = 34
"""Side of the window around the peak of a map, in these pixels."""
TEMPLATE = 14
"""Side of a template: an eighth of the view."""
STRIDE = 6
"""Templates are taken every sixth pixel."""
DRIFT = 4
"""A fixed region's template is looked for this many pixels around its own place."""
SAMPLED = 12
"""Images of a group whose windows are compared with one another."""
COPIES = 4
"""So many times as many samples are looked at for different images: copies of one are not compared."""
LEAST_COMPARED = 4
"""Fewer images say nothing about likeness."""
OTHER_CLASSES = 6
"""Classes that give the zero, the most frequent predictions first."""
PLAIN = 4e-4
"""Variance (of values from 0 to 1) below which a template has no pattern to find again."""
PLAIN_EDGES = 1e-4
"""Mean square of the edges below which it has none to correlate."""

Pixels = NDArray[np.float32]
Measures = tuple[float, float, float]
"""Concordance and correlation of edges, −1 to 1, and mean squared distance of colours."""


class Likeness:
    """Measures groups of one run; views and zeros are kept, since groups share them."""

    def __init__(
        self,
        catalog: Catalog,
        audited: Audited,
        groups_of: Callable[[int], Sequence[NDArray[np.bool_]]] = lambda _: (),
    ) -> None:
        """Prepare to measure.

        Args:
            catalog: Where the thumbnails are.
            audited: The run's samples.
            groups_of: The groups of a class among which the most alike would be chosen: a group that was chosen for its
                likeness must be held against the likeness of groups that were chosen likewise.
        """
        self._catalog = catalog
        self._audited = audited
        self._groups_of = groups_of
        self._order = np.empty(audited.n, np.int64)
        self._order[np.argsort(np.array(audited.contents, dtype=np.str_), kind="stable")] = np.arange(
            audited.n
        )
        self._views: dict[int, Pixels] = {}
        self._moving: dict[int, Measures | None] = {}
        self._measured: dict[tuple[Box | None, tuple[int, ...]], Measures] = {}
        counts = np.bincount(audited.pred[audited.known], minlength=len(audited.classes))
        self._frequent = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] >= LEAST_COMPARED]

    def of(self, members: NDArray[np.bool_], box: Box | None) -> float | None:
        """Return how near-identical the attended content of a group is: 0 (as living things are) to 1 (the same pixels).

        ``max((c − c₀) / (1 − c₀), (e − e₀) / (1 − e₀), 1 − d / d₀)`` with the group's concordance c, correlation of edges e
        and colour distance d, and as zeros those of the most alike of the other predicted classes.

        Args:
            members: Whether each sample belongs to the group; all are predicted to be of one class.
            box: Where all of them look; None for windows around each map's peak.
        """
        rows = np.flatnonzero(members & self._audited.known)
        if len(rows) < LEAST_COMPARED:
            return None
        own = self._measure(rows, box)
        class_index = int(self._audited.pred[rows[0]])
        others = [
            found
            for other in [c for c in self._frequent if c != class_index][:OTHER_CLASSES]
            if (found := self._of_class(other, box)) is not None
        ]
        if own is None or not others:
            return None
        zero = [max(found[0] for found in others), max(found[1] for found in others)]
        far = min(found[2] for found in others)
        said = [(own[k] - zero[k]) / max(1 - zero[k], 1e-6) for k in range(2)]
        if box is not None and far > 0:
            said.append(1 - own[2] / far)
        return float(np.clip(max(said), 0, 1))

    def _of_class(self, class_index: int, box: Box | None) -> Measures | None:
        if box is None and class_index in self._moving:
            return self._moving[class_index]
        own = self._audited.known & (self._audited.pred == class_index)
        groups = [own, *(self._groups_of(class_index) if box is None else ())]
        measured = [self._measure(np.flatnonzero(own & group), box) for group in groups]
        known = [one for one in measured if one is not None]
        found = None
        if known:
            found = max(m[0] for m in known), max(m[1] for m in known), min(m[2] for m in known)
        if box is None:
            self._moving[class_index] = found
        return found

    def _measure(self, rows: NDArray[np.int64], box: Box | None) -> Measures | None:
        """Measure how alike the windows of some of these samples are among themselves."""
        # The first by content key are as good as a draw, and the same ones for every overlapping group.
        chosen = rows[np.argsort(self._order[rows], kind="stable")][: COPIES * SAMPLED]
        distinct = {self._audited.contents[i]: i for i in reversed(chosen.tolist())}
        kept = list(reversed(distinct.values()))[:SAMPLED]
        self._load(kept)
        kept = [i for i in kept if i in self._views]
        if len(kept) < LEAST_COMPARED:
            return None
        key = box, tuple(kept)
        if key not in self._measured:
            windows = cut(np.stack([self._views[i] for i in kept]), self._audited.peak[kept], box)
            drift = None if box is None else DRIFT
            self._measured[key] = (
                found_again(windows, drift, edges=False),
                found_again(windows, drift, edges=True),
                colour_distance(windows),
            )
        return self._measured[key]

    def _load(self, rows: Sequence[int]) -> None:
        missing = [i for i in rows if i not in self._views]
        ids = [str(self._audited.sample_ids[i]) for i in missing]
        found = profiles.thumbnails(self._catalog, ids) if ids else {}
        for i, sample_id in zip(missing, ids, strict=True):
            if sample_id in found:
                image = Image.open(io.BytesIO(found[sample_id])).convert("RGB")
                small = image.resize((VIEW, VIEW), Image.Resampling.BOX)
                self._views[i] = np.asarray(small, np.float32) / np.float32(255)


def cut(views: Pixels, peak: NDArray[np.float64], box: Box | None) -> Pixels:
    """Cut a window out of each view: a finding's box, or a square around each map's peak.

    Args:
        views: (n, VIEW, VIEW, 3).
        peak: Centre of each map's peak, x and y in fractions, (n, 2).
        box: In fractions; None for the peaks.
    """
    if box is not None:
        (left, right), (top, bottom) = (_span(*span) for span in ((box[0], box[2]), (box[1], box[3])))
        return views[:, top:bottom, left:right]
    middle = np.nan_to_num(peak, nan=0.5)[:, ::-1] * VIEW
    corners = np.clip(np.rint(middle).astype(np.int64) - WINDOW // 2, 0, VIEW - WINDOW)
    return np.stack(
        [view[y : y + WINDOW, x : x + WINDOW] for view, (y, x) in zip(views, corners.tolist(), strict=True)]
    )


def _span(low: float, high: float) -> tuple[int, int]:
    """Return pixels from low to high with room for a template and its drift."""
    first, last = round(low * VIEW), round(high * VIEW)
    least = TEMPLATE + 2
    first = min(first, VIEW - least)
    return first, max(last, first + least)


def found_again(windows: Pixels, drift: int | None, edges: bool) -> float:
    """Return how well a window's best template is found again in the other windows, −1 to 1: the median over windows.

    For each window, over its templates the largest of the medians over the other windows of the best match there.

    Args:
        windows: (n, height, width, 3), from 0 to 1.
        drift: How far from its own place a template is looked for; None for anywhere.
        edges: Correlate edges instead of the concordance of the colours.
    """
    values = _edges(windows) if edges else windows
    n = len(values)
    patches = sliding_window_view(values, (TEMPLATE, TEMPLATE), axis=(1, 2))
    tall, wide, channels = patches.shape[1:4]
    flat = patches.reshape(n, tall * wide, channels, -1)
    means = flat.mean(axis=3)
    centred = (flat if edges else flat - means[..., None]).reshape(n, tall * wide, -1)
    power = (centred**2).mean(axis=2)
    y, x = np.divmod(np.arange(tall * wide), wide)
    taken = np.flatnonzero((y % STRIDE == 0) & (x % STRIDE == 0))
    near = np.ones((len(taken), tall * wide), dtype=bool)
    if drift is not None:
        near = np.maximum(abs(y[taken, None] - y), abs(x[taken, None] - x)) <= drift
    least = PLAIN_EDGES if edges else PLAIN
    everywhere = centred.reshape(n * tall * wide, -1).T
    middles = means.reshape(n * tall * wide, channels)
    medians = []
    for i in range(n):
        own = power[i, taken, None]
        product = centred[i, taken] @ everywhere / centred.shape[2]
        if edges:
            match = product / np.sqrt(np.maximum(own * power.ravel(), least**2))
        else:
            mine = means[i, taken]
            apart = (
                (mine**2).mean(axis=1)[:, None] + (middles**2).mean(axis=1) - 2 * mine @ middles.T / channels
            )
            match = 2 * product / (own + power.ravel() + apart + 1e-6)
        match = match.reshape(len(taken), n, tall * wide)
        match = np.where(((own > least) & near)[:, None], match, -1).max(axis=2)
        medians.append(np.median(np.delete(match, i, axis=1), axis=1).max())
    return float(np.median(medians))


def _edges(windows: Pixels) -> Pixels:
    """Return the differences of neighbouring pixels down and across, in each colour: (n, height, width, 6)."""
    down = np.diff(windows, axis=1, append=windows[:, -1:])
    across = np.diff(windows, axis=2, append=windows[:, :, -1:])
    return np.concatenate([down, across], axis=3)


def colour_distance(windows: Pixels) -> float:
    """Return the median, over two windows, of the mean squared distance of their pixels."""
    flat = windows.reshape(len(windows), -1)
    square = (flat**2).sum(axis=1)
    distance = (square[:, None] + square[None] - 2 * flat @ flat.T) / flat.shape[1]
    return float(np.median(np.maximum(distance, 0)[np.triu_indices(len(flat), 1)]))
