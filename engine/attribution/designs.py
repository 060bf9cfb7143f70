"""Which superpixels LIME's pairs of passes show: a design in which interactions of three disturb the weights little."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.bool_]
Floats = NDArray[np.float64]

BLOCK = 512
"""Pairs that are laid out together; more come in blocks with flips of their own."""
_COLUMNS = 64
"""Designs are made for a multiple of this many columns, so that images of a run share one."""
_MOST_COLUMNS = 256
"""Columns beyond these are drawn at random: so many superpixels are never estimated one by one."""
_FALL = 12
"""Ranks in which the assumed variance of a weight falls by e²."""
_TOP = 16
"""Assumed variance of the first rank's weight; a whole number, as all others are."""
_ORTHOGONAL = 8
"""What an inner product of two columns costs, beside the interactions of three at the top."""


def importance(pixels: NDArray[np.uint8], labels: NDArray[np.uint16]) -> Floats:
    """Return how much each superpixel may be expected to matter, judged by the image alone, (superpixels,).

    Hiding a superpixel changes the image by its contrast, Σ (x − mean)², and photographs have their object in the
    middle: the contrast is divided by (1 + 2 r²)², r the distance from the centre in half sides. Sums of whole numbers
    and four operations: the same everywhere.

    Args:
        pixels: (H, W, channels).
        labels: 0..S − 1, (H, W).
    """
    numbers, count = labels.ravel(), int(labels.max()) + 1
    sizes = np.bincount(numbers, minlength=count)
    contrast = np.zeros(count)
    for channel in pixels.reshape(len(numbers), -1).T.astype(np.float64):
        total, squares = (np.bincount(numbers, values, count) for values in (channel, channel * channel))
        contrast += squares - total * total / sizes
    distance = np.zeros(count)
    for at, side in zip(np.indices(labels.shape), labels.shape, strict=True):
        centre = np.bincount(numbers, at.ravel(), count) / sizes
        offset = (2 * centre + 1) / side - 1
        distance += offset * offset
    fall = 1 + 2 * distance
    result: Floats = contrast / (fall * fall)
    return result


def balanced(ranks: int, rows: int) -> States:
    """Return a fixed (rows, ranks) matrix that estimates weights of superpixels sorted by importance.

    Read as ±1, its columns z are as good as orthogonal, Σ (z_l · z_i)² being small, and so are interactions of three
    to each column: Σ v_i v_j v_k (z_l · z_i z_j z_k)² with variances v that fall with the rank. (That those of *all*
    triples were small no design of so few rows can reach.) Row after row, whichever entries lower the sum most are
    turned over until none does, so that the first rows of a design are one as well. Every sum is of whole numbers
    below 2⁵³: the result is the same everywhere.
    """
    columns = min(-(-ranks // _COLUMNS) * _COLUMNS, _MOST_COLUMNS)
    found = _design(columns, rows)
    if ranks > columns:
        more = np.random.default_rng([ranks, rows]).integers(0, 2, (rows, ranks - columns)).astype(bool)
        found = np.concatenate([found, more], 1)
    return found[:, :ranks]


@lru_cache(maxsize=16)
def _design(columns: int, rows: int) -> States:
    generator = np.random.default_rng(columns)
    variances = np.round(_TOP * np.exp(-2 / _FALL * np.arange(columns)))
    signs = np.empty((rows, columns))
    for row in range(rows):
        signs[row] = generator.choice(np.array([-1.0, 1.0]), columns)
        _turn(signs[row], signs[:row], variances)
    found: States = signs > 0
    return found


def _turn(row: Floats, others: Floats, v: Floats) -> None:
    """Turn entries of a row over while that lowers Σ_s g w³ + a g w + b g² over the other rows s.

    g = Σ_l z_l z_l' and w = Σ_i v_i z_i z_i' of the row and another; the sum over all pairs of rows of g w³ is
    Σ_l Σ_ijk v_i v_j v_k (z_l · z_i z_j z_k)². What turning entry i over changes is a polynomial in the product p of
    the rows' entries there, whose even powers are 1: one matrix product gives it for every entry.
    """
    a, b = float(_TOP**2), float(_ORTHOGONAL * _TOP**2)
    g, w = others @ row, others @ (v * row)
    while True:
        sums = row * (np.stack([g * w * w, g, w * w * w, w]) @ others)
        by_gww, by_g, by_www, by_w = sums
        change = 12 * v * v * (g * w).sum() + 12 * v * (w * w).sum() + 16 * v**3 * len(others)
        change -= 6 * v * by_gww + 8 * v**3 * by_g + 2 * by_www + 24 * v * v * by_w
        change += a * (4 * v * len(others) - 2 * v * by_g - 2 * by_w) + 4 * b * (len(others) - by_g)
        worst = int(change.argmin())
        if change[worst] >= 0:
            return
        product = others[:, worst] * row[worst]
        g, w = g - 2 * product, w - 2 * v[worst] * product
        row[worst] = -row[worst]
