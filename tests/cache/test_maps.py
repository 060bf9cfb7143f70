"""Maps: stored within half precision, resampled by area without losing mass, summed over areas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache.maps import (
    area_matrix,
    decode_map,
    encode_map,
    encode_maps,
    grid_from_corners,
    grid_of,
    summed_area,
)
from cache.schema import CORNERS, GRID


def share_of_cell(n_in: int, n_out: int, i: int, j: int) -> float:
    """How much of input cell j falls into output cell i, worked out on the unit interval."""
    low, high = max(i / n_out, j / n_in), min((i + 1) / n_out, (j + 1) / n_in)
    return max(high - low, 0.0) * n_in


@pytest.mark.parametrize(
    ("n_in", "n_out"), [(7, 14), (14, 14), (28, 14), (5, 14), (13, 14), (224, 14), (1, 3), (56, 9)]
)
def test_area_matrix_against_overlap_of_intervals(n_in: int, n_out: int) -> None:
    expected = [[share_of_cell(n_in, n_out, i, j) for j in range(n_in)] for i in range(n_out)]
    np.testing.assert_allclose(area_matrix(n_in, n_out), expected, atol=1e-12)
    np.testing.assert_allclose(area_matrix(n_in, n_out).sum(axis=0), 1.0, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (-1, 2)])
def test_an_axis_without_cells_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        area_matrix(*shape)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_stored_maps_come_back_within_half_precision(values: np.ndarray) -> None:
    data, scale = encode_map(values)
    back = decode_map(data, scale, *values.shape)
    assert back.dtype == np.float32
    largest = np.abs(values).max()
    assert scale == (largest if largest > 0 else 1.0)
    # Half precision has 11 bits, and below 2⁻¹⁴ of the largest value steps of 2⁻²⁴ of it.
    bound = np.maximum(np.abs(values) * 2.0**-10, largest * 2.0**-24) + np.finfo(np.float32).tiny
    assert (np.abs(back.astype(np.float64) - values) <= bound).all()


def test_tiny_gradients_survive_and_the_largest_value_is_one() -> None:
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(5, 7, 9)) * 10.0 ** np.array([-30, -8, 0, 4, 30])[:, None, None]
    data, scales = encode_maps(maps)
    for raw, scale, values in zip(data, scales, maps, strict=True):
        assert np.abs(np.frombuffer(raw, "<f2")).max() == 1.0
        np.testing.assert_allclose(
            decode_map(raw, scale, 7, 9), values, rtol=2e-3, atol=1e-6 * np.abs(values).max()
        )


def test_what_is_not_finite_is_kept() -> None:
    values = np.array([[np.nan, 2.0, np.inf], [-np.inf, -4.0, 0.0]])
    back = decode_map(*encode_map(values), 2, 3)
    np.testing.assert_array_equal(back, values.astype(np.float32))
    nothing = np.full((2, 2), np.nan)
    np.testing.assert_array_equal(decode_map(*encode_map(nothing), 2, 2), nothing)
    np.testing.assert_array_equal(decode_map(*encode_map(np.zeros((3, 2))), 3, 2), np.zeros((3, 2)))


def test_bytes_of_another_shape_are_refused() -> None:
    data, scale = encode_map(np.ones((3, 3)))
    with pytest.raises(ValueError, match="no map of 2×4"):
        decode_map(data, scale, 2, 4)
    with pytest.raises(ValueError, match="shape"):
        encode_maps(np.ones((3, 3)))


@pytest.mark.parametrize("shape", [(7, 7), (14, 14), (56, 28), (5, 11), (1, 1), (224, 224)])
def test_grid_against_summing_fine_cells(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(sum(shape)).normal(size=shape)
    values.flat[0] = 1.0
    fine = np.kron(np.maximum(values, 0), np.ones((GRID, GRID)))
    cells = fine.reshape(GRID, shape[0], GRID, shape[1]).sum(axis=(1, 3))
    grid = grid_of(values)
    assert grid is not None
    np.testing.assert_allclose(grid, cells / cells.sum(), atol=1e-12)


def test_grid_does_not_depend_on_the_scale() -> None:
    values = np.random.default_rng(1).random((7, 7))
    expected = grid_of(values)
    for factor in (1e-300, 1e-30, 1e300):
        np.testing.assert_allclose(grid_of(values * factor), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((7, 7)),
        -np.ones((3, 4)),
        np.full((2, 2), np.nan),
        np.array([[1.0, np.inf]]),
        np.array([[1.0, np.nan]]),
    ],
)
def test_degenerate_maps_have_no_grid(values: np.ndarray) -> None:
    assert grid_of(values) is None


def test_summed_area_tables_against_slow_sums_and_back() -> None:
    p = np.random.default_rng(2).random((3, GRID, GRID))
    corners = summed_area(p)
    assert corners.shape == (3, len(CORNERS))
    for name, column in zip(CORNERS, corners.T, strict=True):
        _, row, col = name.split("_")
        np.testing.assert_allclose(column, p[:, : int(row), : int(col)].sum(axis=(1, 2)))
    np.testing.assert_allclose(grid_from_corners(corners), p, atol=1e-12)
    np.testing.assert_allclose(grid_from_corners(corners[0]), p[0], atol=1e-12)
