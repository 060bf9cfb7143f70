"""Patches: which area of an image the model attended to, where else one of that size lies, and where it may be pasted.

Everything is in fractions of the view. Densities are square grids that sum to 1: the shares of a map's mass, or of an
object's area.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.schema import GRID
from engine.interventions import Mask

Density = NDArray[np.float64]
Box = tuple[float, float, float, float]

LARGEST = 0.25
"""Largest share of the view that a patch may take."""
STEP = 1 / (2 * GRID)
"""Places are tried in steps of half a cell."""
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the peak above which cells belong to what a map localises; the first whose box is small enough counts."""
SMALLEST = 2 / GRID
"""Shortest side of an attended window: maps cannot place anything finer."""
FRAME = (1 - (1 - LARGEST) ** 0.5) / 2
"""Width of the frame along the view's edges whose area is as large as a patch may be."""
FRAMED = 1.2
"""Edges that hold so many times the mass of an even map are attended to as a frame: a model may look at one side of it more."""
LEAST = 0.25
"""Share of the places elsewhere in an image, those with the least mass, that a transplant's control is drawn from."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Patch:
    """A rectangle of the view, or the frame along its edges.

    Attributes:
        box: x0, y0, x1, y1 in fractions of the view.
        ring: Above 0 only a band of this width along the box's edges belongs to the patch.
    """

    box: Box
    ring: float = 0.0

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height of the box."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    @property
    def area(self) -> float:
        """Share of the view that the patch takes."""
        width, height = self.sides
        return width * height - max(width - 2 * self.ring, 0) * max(height - 2 * self.ring, 0) * (
            self.ring > 0
        )

    @property
    def hole(self) -> Box:
        """The inner box that a ring leaves out."""
        x0, y0, x1, y1 = self.box
        return x0 + self.ring, y0 + self.ring, x1 - self.ring, y1 - self.ring

    def moved(self, x0: float, y0: float) -> Patch:
        """Return the patch with its upper left corner elsewhere."""
        width, height = self.sides
        return replace(self, box=(x0, y0, x0 + width, y0 + height))

    def mask(self, height: int, width: int) -> Mask:
        """Return the patch as pixels of a view; two patches of one size cover equally many."""
        mask = np.zeros((height, width), bool)
        top, left, rows, columns = _pixels(self.box, height, width)
        mask[top : top + rows, left : left + columns] = True
        if self.ring:
            top, left, rows, columns = _pixels(self.hole, height, width)
            mask[top : top + rows, left : left + columns] = False
        return mask

    def shift_to(self, other: Patch, height: int, width: int) -> tuple[int, int]:
        """Return how many pixels down and right another place of the same patch lies."""
        here, there = _pixels(self.box, height, width), _pixels(other.box, height, width)
        return there[0] - here[0], there[1] - here[1]


FRAME_PATCH = Patch((0.0, 0.0, 1.0, 1.0), FRAME)
"""The frame along the view's edges."""
FRAME_SQUARE = Patch((0.0, 0.0, LARGEST**0.5, LARGEST**0.5))
"""A square as large as a patch may be, and as the frame is."""


def _pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Return top, left, rows and columns; the size depends on the sides alone, not on the place."""
    rows = min(height, max(1, round((box[3] - box[1]) * height)))
    columns = min(width, max(1, round((box[2] - box[0]) * width)))
    top = min(max(0, round(box[1] * height)), height - rows)
    left = min(max(0, round(box[0] * width)), width - columns)
    return top, left, rows, columns


def mass_in(density: Density, patch: Patch) -> float:
    """Return the share of a density within a patch, 0 to 1 (bilinear between cell edges)."""
    inside = _mass(density, patch.box)
    return inside - _mass(density, patch.hole) if patch.ring else inside


def is_frame(mean: Density) -> bool:
    """Tell whether a mean map attends to the frame along the view's edges."""
    return mass_in(mean, FRAME_PATCH) > FRAMED * FRAME_PATCH.area


def _mass(density: Density, box: Box) -> float:
    n = density.shape[0]
    rows = _covered([box[1]], box[3] - box[1], n)
    columns = _covered([box[0]], box[2] - box[0], n)
    return float((rows @ density @ columns.T)[0, 0])


def _covered(starts: NDArray[np.float64] | list[float], length: float, n: int) -> NDArray[np.float64]:
    """Return (starts, n): the share of each of n cells that an interval covers from each start on."""
    first = np.asarray(starts, np.float64)[:, None] * n
    cell = np.arange(n)
    overlap = np.minimum(first + length * n, cell + 1) - np.maximum(first, cell)
    return np.asarray(np.clip(overlap, 0.0, 1.0))


def starts(length: float) -> NDArray[np.float64]:
    """Return where an interval of a length may begin, in steps, the last possible place included."""
    last = max(1.0 - length, 0.0)
    steps = np.arange(0.0, last + ROUNDING, STEP)
    return steps if last - steps[-1] < ROUNDING else np.append(steps, last)


def mass_by_place(density: Density, patch: Patch) -> NDArray[np.float64]:
    """Return (rows, columns): the mass in a box of this size at every place of `starts`."""
    width, height = patch.sides
    n = density.shape[0]
    return np.asarray(
        _covered(starts(height), height, n) @ density @ _covered(starts(width), width, n).T, np.float64
    )


def of_size(height: float, width: float) -> Patch:
    """Return a box of a size in the upper left corner."""
    return Patch((0.0, 0.0, width, height))


def place_at(patch: Patch, index: int) -> Patch:
    """Return the patch at one place, counted row by row as `mass_by_place` does."""
    width, height = patch.sides
    rows, columns = starts(height), starts(width)
    row, column = divmod(index, len(columns))
    return patch.moved(float(columns[column]), float(rows[row]))


def heaviest(density: Density, patch: Patch, within: Box = (0.0, 0.0, 1.0, 1.0)) -> Patch:
    """Return the place of a patch with the most mass; the first of equals, and only inside a box where one is given."""
    width, height = patch.sides
    rows, columns = starts(height), starts(width)
    down = (rows >= within[1] - ROUNDING) & (rows + height <= within[3] + ROUNDING)
    across = (columns >= within[0] - ROUNDING) & (columns + width <= within[2] + ROUNDING)
    if not (down.any() and across.any()):
        return patch.moved(min(within[0], 1 - width), min(within[1], 1 - height))
    # Rounded, so that the last bits of a sum do not choose among equals.
    masses = np.where(np.outer(down, across), np.round(mass_by_place(density, patch), 9), -1.0)
    return place_at(patch, int(np.argmax(masses)))


def attended_window(density: Density) -> Patch:
    """Return the box around the component that holds the peak, at most `LARGEST` and at least `SMALLEST` a side."""
    from scipy import ndimage

    peak = density.max()
    row, column = divmod(int(np.argmax(np.round(density / peak, 6))), density.shape[1])
    n = density.shape[0]
    for share in SHARES:
        labels, _ = ndimage.label(density > share * peak, structure=np.ones((3, 3)))
        rows, columns = ndimage.find_objects(labels)[labels[row, column] - 1]
        y0, y1 = _at_least(rows.start / n, rows.stop / n)
        x0, x1 = _at_least(columns.start / n, columns.stop / n)
        if (x1 - x0) * (y1 - y0) <= LARGEST + ROUNDING:
            return Patch((x0, y0, x1, y1))
    return heaviest(density, FRAME_SQUARE)


def _at_least(low: float, high: float) -> tuple[float, float]:
    if high - low >= SMALLEST:
        return low, high
    low = min(max((low + high - SMALLEST) / 2, 0.0), 1.0 - SMALLEST)
    return low, low + SMALLEST


def fitted(box: Box, density: Density | None) -> Patch:
    """Return a box as a patch; where it is too large, the part of its shape that holds the most mass."""
    patch = Patch(box)
    if patch.area <= LARGEST + ROUNDING:
        return patch
    width, height = patch.sides
    shrink = (LARGEST / patch.area) ** 0.5
    width, height = width * shrink, height * shrink
    smaller = of_size(height, width)
    if density is None:
        x, y = (box[0] + box[2] - width) / 2, (box[1] + box[3] - height) / 2
        return smaller.moved(x, y)
    return heaviest(density, smaller, box)


def overlap(patch: Patch, other: Patch) -> NDArray[np.float64]:
    """Return (rows, columns): the share of a patch that another box covers, at every place of the patch."""
    width, height = patch.sides

    def along(first: NDArray[np.float64], length: float, low: float, high: float) -> NDArray[np.float64]:
        shared = np.minimum(first + length, high) - np.maximum(first, low)
        return np.asarray(np.clip(shared, 0.0, None) / length)

    x0, y0, x1, y1 = other.box
    down, across = along(starts(height), height, y0, y1), along(starts(width), width, x0, x1)
    return np.round(np.outer(down, across), 6)


def elsewhere(patch: Patch, rng: np.random.Generator) -> Patch:
    """Return a random place of equal area that does not overlap the patch; as little as possible where it must.

    Where the patch's own shape has no room, others of the same area are tried. Of a frame the control is a square
    inside it.
    """
    if patch.ring:
        side = patch.area**0.5
        low, high = patch.ring, 1 - patch.ring - side
        return of_size(side, side).moved(*rng.uniform(low, max(high, low), 2).tolist())
    width, height = patch.sides
    best, least = of_size(height, width), np.inf
    for rows, columns in ((height, width), (width, height), (patch.area, 1.0), (1.0, patch.area)):
        size = of_size(rows, columns)
        shared = float(overlap(size, patch).min())
        if shared < least:
            best, least = size, shared
    return place_at(best, int(rng.choice(_apart(best, patch))))


def unattended(patch: Patch, density: Density | None, rng: np.random.Generator) -> Patch:
    """Return a place of the same size where the model looked least: a random one of the `LEAST` share of such places.

    Anywhere else would not do for a background, which lies all over an image: it would be compared with itself.
    """
    candidates = _apart(patch, patch)
    if density is not None:
        masses = np.round(mass_by_place(density, patch).ravel()[candidates], 6)
        candidates = candidates[masses <= np.quantile(masses, LEAST)]
    return place_at(patch, int(rng.choice(candidates)))


def second_window(patch: Patch, density: Density) -> Patch:
    """Return the place of the same size that the model attended to most apart from the patch; of a frame inside it."""
    if patch.ring:
        return heaviest(density, FRAME_SQUARE, patch.hole)
    candidates = _apart(patch, patch)
    masses = np.round(mass_by_place(density, patch).ravel()[candidates], 9)
    return place_at(patch, int(candidates[np.argmax(masses)]))


def _apart(size: Patch, patch: Patch) -> NDArray[np.int64]:
    """Return which places of a size share least with a patch: nothing, where there is room."""
    shared = overlap(size, patch).ravel()
    return np.flatnonzero(shared == shared.min())
