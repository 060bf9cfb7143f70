"""Attribution maps as numbers: how they are stored, brought to the common grid and summed over areas.

Maps are kept unscaled. For measuring, the positive part of a map of any resolution is resampled by area onto a
14×14 grid and divided by its sum; the grid's summed-area table makes the mass of a box four reads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.schema import GRID

FLOAT32_MAX = float(np.finfo(np.float32).max)


@lru_cache(maxsize=256)
def _area_matrix(n_in: int, n_out: int) -> NDArray[np.float64]:
    # In units of 1 / (n_in · n_out) every edge is a whole number, so that shares are exact fractions of n_out.
    lower = np.maximum(np.arange(n_out)[:, None] * n_in, np.arange(n_in)[None, :] * n_out)
    upper = np.minimum(np.arange(1, n_out + 1)[:, None] * n_in, np.arange(1, n_in + 1)[None, :] * n_out)
    matrix: NDArray[np.float64] = np.clip(upper - lower, 0, None) / n_out
    matrix.flags.writeable = False
    return matrix


def area_matrix(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Return the matrix that resamples one axis by area and keeps its sum.

    Args:
        n_in: Cells along the axis, at least 1.
        n_out: Cells wanted, at least 1.

    Returns:
        Shape (n_out, n_in), read-only: the fraction (0 to 1) of each input cell that falls into each output cell,
        ``|in_j ∩ out_i| / |in_j|``; columns sum to 1.

    Raises:
        ValueError: A count is below 1.
    """
    if n_in < 1 or n_out < 1:
        raise ValueError(f"An axis has at least one cell, not {n_in} or {n_out}.")
    return _area_matrix(n_in, n_out)


def encode_maps(maps: ArrayLike) -> tuple[list[bytes], NDArray[np.float32]]:
    """Return maps as the cache stores them: float16 values and one float32 scale each.

    Args:
        maps: Shape (N, H, W), any unit, any sign; NaN and infinities are kept.

    Returns:
        Little-endian, row-major float16 bytes of ``map / scale`` whose largest finite magnitude is 1, and the
        scales, shape (N,), which are 1 for a map without a finite value other than 0.
    """
    values = np.asarray(maps, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"Maps have the shape (N, H, W), not {values.shape}.")
    magnitude = np.where(np.isfinite(values), np.abs(values), 0.0)
    largest = magnitude.max(axis=(1, 2), initial=0.0)
    scales = np.minimum(largest, FLOAT32_MAX).astype(np.float32)
    scales[scales == 0] = 1.0
    halves = (values / scales.astype(np.float64)[:, None, None]).astype("<f2")
    return [half.tobytes() for half in halves], scales


def encode_map(values: ArrayLike) -> tuple[bytes, float]:
    """Return one map, shape (H, W), as `encode_maps` does."""
    data, scales = encode_maps(np.asarray(values, dtype=np.float64)[None])
    return data[0], float(scales[0])


def decode_map(data: bytes, scale: float, height: int, width: int) -> NDArray[np.float32]:
    """Return a stored map, shape (height, width), unscaled, within 2⁻¹¹ of each value.

    Raises:
        ValueError: The bytes do not hold height × width values.
    """
    halves = np.frombuffer(data, dtype="<f2")
    if halves.size != height * width:
        raise ValueError(f"{halves.size} values are no map of {height}×{width}.")
    return (halves.astype(np.float32) * np.float32(scale)).reshape(height, width)


def grid_of(values: ArrayLike, size: int = GRID) -> NDArray[np.float64] | None:
    """Return where the positive mass of a map lies.

    ``P = A_h · max(M, 0) · A_wᵀ``, ``p = P / ΣP`` with the area matrices of `area_matrix`.

    Args:
        values: Shape (H, W), any resolution.
        size: Rows and columns of the grid.

    Returns:
        Shape (size, size), at least 0, sum 1; None for a degenerate map (no positive value, or not finite).
    """
    positive = np.asarray(values, dtype=np.float64)
    if not np.isfinite(positive).all():
        return None
    positive = np.maximum(positive, 0.0)
    peak = positive.max(initial=0.0)
    if peak == 0.0:
        return None
    height, width = positive.shape
    mass = area_matrix(height, size) @ (positive / peak) @ area_matrix(width, size).T
    return np.asarray(mass / mass.sum())


def summed_area(p: ArrayLike) -> NDArray[np.float64]:
    """Return the summed-area tables of grids.

    Args:
        p: Shape (..., 14, 14).

    Returns:
        Shape (..., 196), in the order of `cache.schema.CORNERS`: ``S_rc = Σ_{i≤r, j≤c} p_ij``.
    """
    grid = np.asarray(p, dtype=np.float64)
    table = grid.cumsum(axis=-2).cumsum(axis=-1)
    return table.reshape(*grid.shape[:-2], grid.shape[-2] * grid.shape[-1])


def grid_from_corners(corners: ArrayLike) -> NDArray[np.float64]:
    """Return the grids whose summed-area tables are given: the inverse of `summed_area`.

    Args:
        corners: Shape (..., 196).

    Returns:
        Shape (..., 14, 14), the second difference ``p_rc = S_rc − S_r−1,c − S_r,c−1 + S_r−1,c−1``.
    """
    flat = np.asarray(corners, dtype=np.float64)
    table = flat.reshape(*flat.shape[:-1], GRID, GRID)
    return np.diff(np.diff(table, axis=-2, prepend=0.0), axis=-1, prepend=0.0)
