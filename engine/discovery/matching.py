"""Matching: how well a part of one image (a template) is found again in others, by pattern, by edges and by plain colour.

Three measures, each blind where another sees: concordance (Lin 1989: pattern, contrast and colour agree), the correlation of
edges (which a translucent stamp keeps on any ground), and the distance of the colours of a small patch (which a plain frame
keeps that has no pattern). A template is looked for anywhere in a moving window, and at nearly the same place of a fixed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

TEMPLATE = 14
"""Side of a template: an eighth of the view."""
STRIDE = 6
"""Templates are taken every sixth pixel."""
DRIFT = 4
"""A fixed region's template is looked for this many pixels around its own place."""
COLOUR_TEMPLATE = 5
"""Side of the patch whose plain colours are compared: no wider than a narrow frame."""
COLOUR_STRIDE = 3
"""Such patches are taken every third pixel."""
COLOUR_DRIFT = 2
"""They are looked for this many pixels around their place: plain colour is found by chance in a wider search."""
PLAIN = 4e-4
"""Variance (of values from 0 to 1) below which a template has no pattern to find again."""
PLAIN_EDGES = 1e-4
"""Mean square of the edges below which it has none to correlate."""

Pixels = NDArray[np.float32]
Measure = Literal["pattern", "edges", "colour"]
LEAST_POWER: dict[Measure, float] = {"pattern": PLAIN, "edges": PLAIN_EDGES, "colour": -1.0}
"""Mean square that a template must exceed to have something to find."""


def matches_anywhere(windows: Pixels, searched: Searched) -> NDArray[np.float32]:
    """Return how well every template of some windows is found anywhere in some images: (n, templates, images).

    Args:
        windows: Where templates are taken, (n, height, width, 3), from 0 to 1.
        searched: The images.
    """
    taken = Patches.of(windows, searched.measure, STRIDE)
    return searched.best(taken).reshape(len(windows), -1, searched.images)


def matches_in_place(windows: Pixels, searched: Pixels, measure: Measure) -> NDArray[np.float32]:
    """Return how well every template of some windows is found near its own place in others: (n, templates, images).

    Args:
        windows: Where templates are taken, (n, height, width, 3), from 0 to 1.
        searched: Where they are looked for, windows of the same place, (images, height, width, 3).
        measure: What is compared.
    """
    ats = places(windows.shape[1], windows.shape[2], measure)
    return np.stack([matches_at(windows, searched, measure, at) for at in ats], axis=1)


def places(height: int, width: int, measure: Measure) -> list[tuple[int, int]]:
    """Return where templates are taken in a window of a fixed region: top and left of each."""
    side, stride, _ = _sizes(measure)
    return [(y, x) for y in range(0, height - side + 1, stride) for x in range(0, width - side + 1, stride)]


def matches_at(
    windows: Pixels, searched: Pixels, measure: Measure, at: tuple[int, int]
) -> NDArray[np.float32]:
    """Return how well the template at one place of each window is found near there in others: (n, images)."""
    side, _, drift = _sizes(measure)
    y, x = at
    near = searched[:, max(y - drift, 0) : y + drift + side, max(x - drift, 0) : x + drift + side]
    taken = Patches.of(windows[:, y : y + side, x : x + side], measure)
    return best_matches(taken, Patches.of(near, measure), measure)


def _sizes(measure: Measure) -> tuple[int, int, int]:
    """Return side, stride and drift of a fixed region's templates."""
    if measure == "colour":
        return COLOUR_TEMPLATE, COLOUR_STRIDE, COLOUR_DRIFT
    return TEMPLATE, STRIDE, DRIFT


@dataclass(frozen=True)
class Patches:
    """Square patches of some images, as rows: what products of a template with each of them need.

    Attributes:
        images: How many images they are of; each has equally many.
        rows: Values less their mean in each channel (edges as they are), (patches, values).
        power: Mean square of each row, (patches,).
        means: Mean of each channel, (patches, channels).
    """

    images: int
    rows: Pixels
    power: Pixels
    means: Pixels

    @classmethod
    def of(cls, windows: Pixels, measure: Measure, stride: int = 1) -> Patches:
        """Take the patches out of windows (images, height, width, 3), every so many pixels."""
        taken = every_patch(windows, measure)[:, ::stride, ::stride]
        flat = taken.reshape(-1, taken.shape[3], taken.shape[4] * taken.shape[5])
        means = flat.mean(axis=2)
        rows = (flat if measure == "edges" else flat - means[..., None]).reshape(len(flat), -1)
        return cls(len(windows), rows, np.einsum("ij,ij->i", rows, rows) / rows.shape[1], means)

    @classmethod
    def joined(cls, parts: Sequence[Patches]) -> Patches:
        """Return the patches of several as those of one image, as templates."""
        rows, power, means = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "power", "means")
        )
        return cls(1, rows, power, means)

    def some(self, chosen: NDArray[np.int64] | slice) -> Patches:
        """Return some of the patches as those of one image."""
        return Patches(1, self.rows[chosen], self.power[chosen], self.means[chosen])


class Searched:
    """All patches of some images, in which templates are looked for: every second down and across, then those around the best.

    A quarter of the products, for windows so wide that all of them would take longest of what discovery does.

    Attributes:
        images: How many images they are.
    """

    def __init__(self, windows: Pixels, measure: Measure) -> None:
        """Take images (n, height, width, 3), from 0 to 1."""
        self.images = len(windows)
        self.measure: Measure = measure
        self._all = Patches.of(windows, measure)
        self._height, self._width = every_patch(windows, measure).shape[1:3]
        self._numbers = np.arange(len(self._all.rows)).reshape(len(windows), self._height, self._width)
        self._coarse = self._all.some(self._numbers[:, ::2, ::2].ravel())

    def best(self, templates: Patches) -> NDArray[np.float32]:
        """Return the best match of each template within each image, (templates, images): see `best_matches`."""
        best = np.full((len(templates.rows), self.images), -1, np.float32)
        kept = np.flatnonzero(templates.power > LEAST_POWER[self.measure])
        if not len(kept):
            return best
        templates = templates.some(kept)
        match = _matches(templates, self._coarse, self.measure).reshape(len(kept), self.images, -1)
        at = match.argmax(axis=2)
        beside = -(-self._width // 2)
        near = np.arange(-1, 2)
        down = np.clip((2 * (at // beside))[..., None] + near, 0, self._height - 1)
        across = np.clip((2 * (at % beside))[..., None] + near, 0, self._width - 1)
        around = self._numbers[np.arange(self.images)[:, None, None], down[..., None], across[..., None, :]]
        for t, places in enumerate(around):
            found = _matches(templates.some(slice(t, t + 1)), self._all.some(places.ravel()), self.measure)
            best[kept[t]] = found.reshape(self.images, -1).max(axis=1)
        return best


def every_patch(windows: Pixels, measure: Measure) -> NDArray[np.float32]:
    """Return the patches of windows without copying them, (images, down, across, channels, side, side)."""
    side = {"pattern": TEMPLATE, "edges": TEMPLATE - 1, "colour": COLOUR_TEMPLATE}[measure]
    values = edges_of(windows) if measure == "edges" else windows
    return sliding_window_view(values, (side, side), axis=(1, 2))


def best_matches(templates: Patches, searched: Patches, measure: Measure) -> NDArray[np.float32]:
    """Return the best match of each template within each image, (templates, images), at most 1.

    Concordance or correlation, −1 to 1, and −1 for templates without a pattern; of colours 1 − the mean squared distance.
    """
    match = _matches(templates, searched, measure).reshape(len(templates.rows), searched.images, -1)
    return np.where(templates.power[:, None] > LEAST_POWER[measure], match.max(axis=2), np.float32(-1))


def _matches(templates: Patches, searched: Patches, measure: Measure) -> NDArray[np.float32]:
    """Return the match of each template with each patch, (templates, patches)."""
    product = templates.rows @ searched.rows.T / np.float32(templates.rows.shape[1])
    own, theirs = templates.power[:, None], searched.power
    if measure == "edges":
        return np.asarray(product / np.sqrt(np.maximum(own * theirs, PLAIN_EDGES**2)), np.float32)
    mine, other = templates.means, searched.means
    apart = (mine**2).mean(axis=1)[:, None] + (other**2).mean(axis=1) - 2 * mine @ other.T / mine.shape[1]
    total = own + theirs + apart
    return np.asarray(
        1 - (total - 2 * product) if measure == "colour" else 2 * product / (total + 1e-6), np.float32
    )


def edges_of(windows: Pixels) -> Pixels:
    """Return the differences to the next pixel down and across, in each colour: (n, height − 1, width − 1, 6)."""
    down = np.diff(windows, axis=1)[:, :, :-1]
    across = np.diff(windows, axis=2)[:, :-1]
    return np.concatenate([down, across], axis=3)


def own_matches(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median match of each template in the other windows of its own group: (n, templates, n) to (n, templates)."""
    n = len(found)
    others = ~np.eye(n, dtype=bool)
    return np.stack([np.median(found[i][:, others[i]], axis=1) for i in range(n)]).astype(np.float32)
