"""Rank correlation of maps: how far two methods put their mass in the same places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL_DECIMALS = 6
"""Cells are compared as single precision carries them: taken from summed areas, equal ones differ beyond that."""


def average_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ranks of each row, from 0, those that tie sharing their mean rank; (N, K)."""
    order = np.argsort(values, axis=1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=1)
    places = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    starts = np.ones(values.shape, bool)
    starts[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    ends = np.ones(values.shape, bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, values.shape[1])[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=1)
    return ranks


def standard_ranks(grids: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ranks of each row, centred and of unit length: the product of two rows is their rank correlation.

    Args:
        grids: Shares of mass, (N, K); rows with a NaN are degenerate maps.

    Returns:
        (N, K); NaN for rows of degenerate maps, and for rows whose cells are all alike.
    """
    finite = np.isfinite(grids).all(axis=1)
    ranks = average_ranks(np.where(finite[:, None], np.round(grids, CELL_DECIMALS), 0.0))
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1)
    usable = finite & (length > 0)
    return np.where(usable[:, None], ranks / np.where(usable, length, 1)[:, None], np.nan)


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of each row of ``first`` with that of ``second``: (N,), −1 to 1 or NaN."""
    product: NDArray[np.float64] = np.einsum("nk,nk->n", standard_ranks(first), standard_ranks(second))
    return np.clip(product, -1, 1)
