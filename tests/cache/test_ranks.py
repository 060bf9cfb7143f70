"""Rank correlations against SciPy, ties and degenerate maps included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from cache.ranks import average_ranks, rank_correlation, standard_ranks


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
def test_ranks_are_scipys_with_many_ties_and_few(levels: int) -> None:
    values = np.random.default_rng(levels).integers(0, levels, (40, 196)) / levels
    np.testing.assert_array_equal(average_ranks(values), rankdata(values, axis=1) - 1)


def test_correlations_are_scipys() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, 20, (2, 12, 196)) / 1e4
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, atol=1e-12)
    np.testing.assert_allclose(rank_correlation(first, first), 1)
    np.testing.assert_allclose(rank_correlation(first, -first), -1)


def test_degenerate_and_even_maps_agree_with_nothing() -> None:
    grids = np.random.default_rng(2).random((3, 196))
    grids[0, 5] = np.nan
    grids[1] = 1 / 196
    assert np.isnan(standard_ranks(grids)[:2]).all()
    assert np.isnan(rank_correlation(grids, grids)[:2]).all()


def test_what_rounding_leaves_of_equal_cells_does_not_count() -> None:
    generator = np.random.default_rng(3)
    grid = np.round(generator.random((1, 196)), 2) / 100
    noisy = grid + generator.uniform(-1e-7, 1e-7, grid.shape)
    np.testing.assert_allclose(rank_correlation(grid, noisy), 1, atol=1e-12)
