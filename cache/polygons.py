"""How much of each grid cell a polygon covers, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cache.errors import RegionError

CHUNK = 256
MAX_LEVELS = 8_000
"""Slabs that a shape may need; a scribble that needs more would keep a page waiting for seconds."""


def polygon_coverage(points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the share of each cell of a grid over the unit square that lies inside a polygon.

    The plane is cut into horizontal slabs at every corner, every crossing of two edges and every crossing of an
    edge with a grid line. Within a slab no two edges cross and no edge leaves a column, so that covered widths are
    linear in y and the width at the slab's middle times its height is the exact area (the even-odd rule pairs the
    crossings from left to right).

    Args:
        points: Shape (N, 2), x right and y down in fractions, N ≥ 3, closed by itself, possibly self-crossing.
        size: Rows and columns of the grid.

    Returns:
        Shape (size, size), 0 to 1.

    Raises:
        RegionError: The shape crosses itself thousands of times.
    """
    start = points * size
    end = np.roll(start, -1, axis=0)
    levels = np.unique(np.concatenate([_levels(start, end, size), _crossings(start, end)]))
    levels = levels[(levels >= 0) & (levels <= size)]
    if len(levels) > MAX_LEVELS:
        raise RegionError("The drawn shape crosses itself too often: draw a simpler one.")
    covered = np.zeros((size, size))
    columns = np.arange(size, dtype=np.float64)
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    for upper, lower in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        middle = (upper + lower) / 2
        crosses = (low <= middle) & (middle < high)
        if not crosses.any():
            continue
        a, b = start[crosses], end[crosses]
        x = np.sort(a[:, 0] + (middle - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0]))
        enter, leave = x[0::2, None], x[1::2, None]
        widths = np.clip(np.minimum(leave, columns + 1) - np.maximum(enter, columns), 0.0, None).sum(axis=0)
        covered[min(int(middle), size - 1)] += widths * (lower - upper)
    # Rounding leaves whole cells a hair off 1; snapped, their second differences are exactly 0.
    covered[np.abs(covered - 1) < 1e-9] = 1.0
    covered[covered < 1e-9] = 0.0
    return np.clip(covered, 0.0, 1.0)


def _levels(start: NDArray[np.float64], end: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the heights of corners, of rows, and of where edges cross columns."""
    grid = np.arange(size + 1, dtype=np.float64)
    run = (end - start)[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (grid[None, :] - start[:, :1]) / run
        y = start[:, 1:] + t * (end - start)[:, 1:]
    return np.concatenate([grid, start[:, 1], y[(t > 0) & (t < 1)]])


def _crossings(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the heights at which two edges cross."""
    found = [np.empty(0)]
    direction = end - start
    for first in range(0, len(start), CHUNK):
        p, d = start[first : first + CHUNK, None, :], direction[first : first + CHUNK, None, :]
        between = start[None] - p
        determinant = d[..., 0] * direction[None, :, 1] - d[..., 1] * direction[None, :, 0]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = (
                between[..., 0] * direction[None, :, 1] - between[..., 1] * direction[None, :, 0]
            ) / determinant
            u = (between[..., 0] * d[..., 1] - between[..., 1] * d[..., 0]) / determinant
            y = p[..., 1] + t * d[..., 1]
        found.append(y[(t > 0) & (t < 1) & (u > 0) & (u < 1)])
    return np.concatenate(found)
