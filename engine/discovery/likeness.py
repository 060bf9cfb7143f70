"""Likeness: how near-identical what the model attended to is from image to image, as stamps are and living things are not.

Parts of the attended windows (templates) are looked for in the windows of the group's other images, and in windows of images
of other classes. What counts is how much better they are found again among their own: an edge between a hand and a wall is
found in every photograph. The zero of the scale is what the most alike of the other classes, or for moving content of their
groups, reach in the same way: ears are alike too. Content along all four edges is compared along them: a window around a
peak shows a little of a thin frame, and a lot of what it frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.findings import Box
from cache.schema import GRID
from engine.discovery.audited import Audited
from engine.discovery.matching import (
    STRIDE,
    TEMPLATE,
    Measure,
    Patches,
    Pixels,
    Searched,
    matches_anywhere,
    matches_at,
    matches_in_place,
    own_matches,
    places,
)
from engine.discovery.views import VIEW, Views
from engine.verifying.patches import is_frame

WINDOW = 34
"""Side of the window around the peak of a map in which templates are taken, in these pixels."""
SAMPLED = 12
"""Images of a group whose windows are compared with one another."""
COPIES = 4
"""So many times as many samples are looked at for different images: copies of one are not compared."""
LEAST_COMPARED = 4
"""Fewer images say nothing about likeness."""
OTHER_CLASSES = 6
"""Classes that give the zero, the most frequent predictions first."""
OUTSIDE = 18
"""Images of other classes in whose windows a group's templates are looked for."""
FOUND_OUTSIDE = 0.75
"""A template counts as found outside as well as in this quantile of those: some may carry the plant and not heed it."""
WIDER = 50
"""Side of the window around a peak in which templates are looked for: peaks lie beside what is looked at at times."""
BEST_TEMPLATES = 6
"""Templates that it is looked for by, each of another image."""
MATCHED_OUTSIDE = 48
"""Images of other classes that say how well they are found by chance."""
SEEN_OUTSIDE = 0.95
"""Quantile of those: what is found better is halfway to being the same."""
MOST_MATCHED = 3_000
"""In classes with more predictions than this it is not looked for: that would take a minute."""
AT_ONCE = 16
"""Windows whose patches are held at once: 5 MB each."""
SAME_COLOUR = 4e-3
"""Mean squared distance (of values from 0 to 1) up to which two colours may be one and the same: 16 of 255."""

MOVING: tuple[Measure, ...] = ("pattern", "edges")
"""What moving windows are compared by: plain colour is found anywhere."""
FIXED: tuple[Measure, ...] = ("pattern", "edges", "colour")
"""What regions are compared by."""

Place = tuple[Box, ...]
"""Where windows lie: in these boxes of the view; around each map's peak where there are none."""
AROUND_PEAKS: Place = ()
EDGE = (TEMPLATE + 2) / VIEW
"""Width of the strips along the edges in which frames are compared: as narrow as templates allow."""
EDGES: Place = (
    (0.0, 0.0, 1.0, EDGE),
    (0.0, 1 - EDGE, 1.0, 1.0),
    (0.0, 0.0, EDGE, 1.0),
    (1 - EDGE, 0.0, 1.0, 1.0),
)
"""Where content along all edges is compared, beside the windows around the peaks."""

Measures = dict[Measure, float]
"""How much better templates are found among their own than outside, at most 1."""
Finder = Callable[[Sequence[int]], NDArray[np.float32]]
"""Finds templates in samples: their best matches, (templates, samples)."""


class Likeness:
    """Measures groups of one run; views and zeros are kept, since groups share them."""

    def __init__(
        self,
        views: Views,
        audited: Audited,
        groups_of: Callable[[int], Sequence[NDArray[np.bool_]]] = lambda _: (),
    ) -> None:
        """Prepare to measure.

        Args:
            views: Its images.
            audited: The run's samples.
            groups_of: The groups of a class among which the most alike would be chosen: a group that was chosen for its
                likeness must be held against the likeness of groups that were chosen likewise.
        """
        self._views = views
        self._audited = audited
        self._groups_of = groups_of
        self._order = np.empty(audited.n, np.int64)
        self._order[np.argsort(np.array(audited.contents, dtype=np.str_), kind="stable")] = np.arange(
            audited.n
        )
        self._zeros: dict[tuple[int, Place], Measures | None] = {}
        self._measured: dict[tuple[Place, tuple[int, ...]], Measures] = {}
        self._outside: tuple[int, dict[Measure, Searched]] | None = None
        counts = np.bincount(audited.pred[audited.known], minlength=len(audited.classes))
        self._frequent = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] >= LEAST_COMPARED]

    def of(self, members: NDArray[np.bool_], box: Box | None) -> float | None:
        """Return how near-identical the attended content of a group is: 0 (as living things are) to 1 (the same pixels).

        The largest of ``(s − s₀) / (1 − s₀)`` over the measures, with s the group's `_measure` and s₀ that of the most alike
        of the other predicted classes.

        Args:
            members: Whether each sample belongs to the group; all are predicted to be of one class.
            box: Where all of them look; None for windows around each map's peak, or along the edges where the maps attend to
                a frame.
        """
        return self._best(members)[0] if box is None else self._alike(members, (box,))

    def along_edges(self, members: NDArray[np.bool_]) -> bool:
        """Tell whether a group without a box is more alike along the edges of the view than around the peaks of its maps."""
        return self._best(members)[1] == EDGES

    def _best(self, members: NDArray[np.bool_]) -> tuple[float | None, Place]:
        """Return the likeness of a group without a box, and where it is the most alike."""
        said = [(self._alike(members, place), place) for place in self._places(members)]
        known = [(value, place) for value, place in said if value is not None]
        return max(known, key=lambda one: one[0], default=(None, AROUND_PEAKS))

    def _places(self, members: NDArray[np.bool_]) -> list[Place]:
        maps = self._audited.p[members & self._audited.known]
        framed = len(maps) and is_frame(maps.mean(axis=0, dtype=np.float64).reshape(GRID, GRID))
        return [AROUND_PEAKS, EDGES] if framed else [AROUND_PEAKS]

    def _alike(self, members: NDArray[np.bool_], place: Place) -> float | None:
        rows = np.flatnonzero(members & self._audited.known)
        if len(rows) < LEAST_COMPARED:
            return None
        class_index = int(self._audited.pred[rows[0]])
        own = self._measure(rows, class_index, place)
        others = [
            found
            for other in [c for c in self._frequent if c != class_index][:OTHER_CLASSES]
            if (found := self._of_class(other, place)) is not None
        ]
        if own is None or not others:
            return None
        said = []
        for measure, value in own.items():
            zero = max(0.0, *(found[measure] for found in others))
            said.append((value - zero) / max(1 - zero, 1e-6))
        return float(np.clip(max(said), 0, 1))

    def _of_class(self, class_index: int, place: Place) -> Measures | None:
        if (class_index, place) not in self._zeros:
            own = self._audited.known & (self._audited.pred == class_index)
            # Where a group's content lies is not chosen among groups where it is a box.
            rivals = self._groups_of(class_index) if place in (AROUND_PEAKS, EDGES) else ()
            groups = [own, *(group for group in rivals if place in self._places(group))]
            measured = [self._measure(np.flatnonzero(own & group), class_index, place) for group in groups]
            known = [one for one in measured if one is not None]
            self._zeros[class_index, place] = (
                {m: max(one[m] for one in known) for m in known[0]} if known else None
            )
        return self._zeros[class_index, place]

    def _measure(self, rows: NDArray[np.int64], class_index: int, place: Place) -> Measures | None:
        """Measure how much better the templates of some of these samples are found among themselves than outside."""
        kept = self._some(rows, SAMPLED)
        if len(kept) < LEAST_COMPARED:
            return None
        key = place, tuple(kept)
        if key not in self._measured:
            scores = self.scores(kept, class_index, place)
            if not scores:
                return None
            # Of each image the template that is told best; half of the images must have one.
            self._measured[key] = {m: float(np.median(s.max(axis=1))) for m, s in scores.items()}
        return self._measured[key]

    def scores(
        self, kept: Sequence[int], class_index: int, place: Place
    ) -> dict[Measure, NDArray[np.float32]]:
        """Return how much better each template of some samples' windows is found among them than outside, (samples, templates).

        Empty where there is no other class.
        """
        outside = self.outside(class_index, OUTSIDE)
        if not outside:
            return {}
        if place == AROUND_PEAKS:
            windows, around = self.windows(kept, None), self.windows(kept, None, WIDER)
            if self._outside is None or self._outside[0] != class_index:
                elsewhere = self.windows(outside, None, WIDER)
                self._outside = class_index, {m: Searched(elsewhere, m) for m in MOVING}
            found = {}
            for measure, searched in self._outside[1].items():
                own = own_matches(matches_anywhere(windows, Searched(around, measure)))
                found[measure] = told_apart(own, matches_anywhere(windows, searched), measure)
            return found
        return {
            m: np.concatenate([self._told(kept, outside, box, m) for box in place], axis=1) for m in FIXED
        }

    def _told(
        self, kept: Sequence[int], outside: Sequence[int], box: Box, measure: Measure
    ) -> NDArray[np.float32]:
        windows = self.windows(kept, box)
        both = matches_in_place(windows, np.concatenate([windows, self.windows(outside, box)]), measure)
        return told_apart(own_matches(both[:, :, : len(kept)]), both[:, :, len(kept) :], measure)

    def showing_the_same(self, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the samples of a group's class that show the content which its images have in common.

        The group's best templates are looked for around the peaks of all maps of the class, or at their own places along the
        edges. A sample shows it where the match is nearer to the group's own (median) than to what images of other
        classes reach (`SEEN_OUTSIDE`).

        Args:
            members: Whether each sample belongs to the group; all are predicted to be of one class.
        """
        audited, shown = self._audited, np.zeros(self._audited.n, dtype=bool)
        rows = np.flatnonzero(members & audited.known)
        kept = self._some(rows, SAMPLED)
        if len(kept) < LEAST_COMPARED:
            return shown
        class_index, place = int(audited.pred[rows[0]]), self._best(members)[1]
        scores = self.scores(kept, class_index, place)
        among = np.flatnonzero(audited.known & (audited.pred == class_index))
        if not scores or len(among) > MOST_MATCHED:
            return shown
        measure = max(scores, key=lambda m: float(np.median(scores[m].max(axis=1))))
        best = scores[measure].argmax(axis=1)
        first = np.argsort(-scores[measure].max(axis=1), kind="stable")[:BEST_TEMPLATES]
        chosen = [(kept[i], int(best[i])) for i in first.tolist()]
        matches = (
            self._around_peaks(chosen, measure) if place == AROUND_PEAKS else self._in_place(chosen, measure)
        )
        far, own = matches(self.outside(class_index, MATCHED_OUTSIDE)), matches(kept)
        own[np.arange(len(first)), first] = np.nan  # a template is no proof of itself
        level = np.quantile(far, FOUND_OUTSIDE, axis=1, keepdims=True)
        # Content that moves is there where any of its parts is; a frame where most of it is.
        joined = np.nanmax if place == AROUND_PEAKS else np.nanmedian

        def rated(found: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.asarray(joined((found - level) / np.maximum(1 - level, 1e-3), axis=0), np.float64)

        least = (np.quantile(rated(far), SEEN_OUTSIDE) + np.median(rated(own))) / 2
        there = self._views.load(among.tolist())
        shown[there] = rated(matches(there)) >= least
        return shown

    def _around_peaks(self, chosen: Sequence[tuple[int, int]], measure: Measure) -> Finder:
        """Return what finds the templates of some samples anywhere in the wider windows of others, (templates, samples)."""
        taken = [Patches.of(self.windows([i], None), measure, STRIDE).some(np.array([k])) for i, k in chosen]
        templates = Patches.joined(taken)

        def matches(rows: Sequence[int]) -> NDArray[np.float32]:
            parts = [
                Searched(self.windows(rows[i : i + AT_ONCE], None, WIDER), measure).best(templates)
                for i in range(0, len(rows), AT_ONCE)
            ]
            return np.concatenate(parts, axis=1)

        return matches

    def _in_place(self, chosen: Sequence[tuple[int, int]], measure: Measure) -> Finder:
        """Return what finds the templates of some samples at their own places along the edges of others."""
        ats = []
        for box in EDGES:
            _, height, width, _ = self.windows([chosen[0][0]], box).shape
            ats += [(box, at) for at in places(height, width, measure)]

        def matches(rows: Sequence[int]) -> NDArray[np.float32]:
            found = []
            for i, k in chosen:
                box, at = ats[k]
                found.append(matches_at(self.windows([i], box), self.windows(rows, box), measure, at)[0])
            return np.stack(found)

        return matches

    def windows(self, rows: Sequence[int], box: Box | None, side: int = WINDOW) -> Pixels:
        """Return the windows of samples whose views are loaded."""
        cuts = cut(self._views.of(rows), self._audited.peak[list(rows)], box, side)
        return cuts.astype(np.float32) / np.float32(255)

    def _some(self, rows: NDArray[np.int64], count: int) -> list[int]:
        """Return some of these samples, different images whose views are there."""
        # The first by content key are as good as a draw, and the same ones for every overlapping group.
        chosen = rows[np.argsort(self._order[rows], kind="stable")][: COPIES * count]
        distinct = {self._audited.contents[i]: i for i in reversed(chosen.tolist())}
        kept = list(reversed(distinct.values()))[:count]
        return self._views.load(kept)

    def outside(self, class_index: int, count: int) -> list[int]:
        """Return samples of other predicted classes, equally many of each."""
        others = [c for c in self._frequent if c != class_index][:OTHER_CLASSES]
        each = -(-count // max(len(others), 1))
        known, pred = self._audited.known, self._audited.pred
        return [i for c in others for i in self._some(np.flatnonzero(known & (pred == c)), each)]


def told_apart(own: NDArray[np.float32], far: NDArray[np.float32], measure: Measure) -> NDArray[np.float32]:
    """Return how much better templates are found among their own than outside, at most 1; 0 where nothing is to be found.

    Args:
        own: Median match of each template among its own, (images, templates).
        far: Its matches outside, (images, templates, images outside).
        measure: What was compared.
    """
    elsewhere = np.quantile(far, FOUND_OUTSIDE, axis=2)
    least = SAME_COLOUR if measure == "colour" else 1e-3
    told = (own - elsewhere) / np.maximum(1 - elsewhere, least)
    alike = own >= 1 - SAME_COLOUR if measure == "colour" else own > -1
    return np.where(alike, told, 0).astype(np.float32)


def cut(views: NDArray[Any], peak: NDArray[np.float64], box: Box | None, side: int = WINDOW) -> NDArray[Any]:
    """Cut a window out of each view: a finding's box, or a square around each map's peak.

    Args:
        views: (n, VIEW, VIEW, 3).
        peak: Centre of each map's peak, x and y in fractions, (n, 2).
        box: In fractions; None for the peaks.
        side: Side of the squares around the peaks.
    """
    if box is not None:
        (left, right), (top, bottom) = (_span(*span) for span in ((box[0], box[2]), (box[1], box[3])))
        return views[:, top:bottom, left:right]
    middle = np.nan_to_num(peak, nan=0.5)[:, ::-1] * VIEW
    corners = np.clip(np.rint(middle).astype(np.int64) - side // 2, 0, VIEW - side)
    return np.stack(
        [view[y : y + side, x : x + side] for view, (y, x) in zip(views, corners.tolist(), strict=True)]
    )


def _span(low: float, high: float) -> tuple[int, int]:
    """Return pixels from low to high with room for a template and its drift."""
    first, last = round(low * VIEW), round(high * VIEW)
    least = TEMPLATE + 2
    first = min(first, VIEW - least)
    return first, max(last, first + least)
