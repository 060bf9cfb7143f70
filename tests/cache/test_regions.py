"""Regions: exact coverage, masses from corner columns, sentences and links."""

from __future__ import annotations

import base64
import json
import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import RegionError
from cache.maps import summed_area
from cache.regions import MAX_POINTS, PRESET_TITLES, PRESETS, Region
from cache.schema import CORNERS, GRID

unit = st.floats(0, 1)
BOMB = base64.urlsafe_b64encode(zlib.compress(bytes(2_000_000))[2:-4]).decode()
"""Bits of a mask that unfold to far more than it has cells."""


def supersampled(points: np.ndarray, size: int, fine: int) -> np.ndarray:
    """Even-odd coverage from fine × fine points a cell, by counting edges to the right of each."""
    at = (np.arange(size * fine) + 0.5) / (size * fine)
    x, y = np.meshgrid(at, at)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        spans = (ay <= y) != (by <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = ax + (y - ay) / (by - ay) * (bx - ax)
        inside ^= spans & (x < crossing)
    return inside.reshape(size, fine, size, fine).mean(axis=(1, 3))


def mass(region: Region, p: np.ndarray) -> float:
    corners = dict(zip(CORNERS, summed_area(p), strict=True))
    return sum(weight * corners[name] for name, weight in region.corner_weights().items())


def random_grid(seed: int) -> np.ndarray:
    p = np.random.default_rng(seed).random((GRID, GRID)) ** 3
    return p / p.sum()


@given(unit, unit, unit, unit, st.sampled_from([1, 5, 14, 56]))
def test_box_coverage_is_the_area_within_each_cell(
    x0: float, y0: float, x1: float, y1: float, size: int
) -> None:
    if min(abs(x1 - x0), abs(y1 - y0)) < 1e-6:
        return
    box = Region.box(x0, y0, x1, y1)
    for row in range(size):
        for column in range(0, size, 3):
            wide = max(0.0, min(max(x0, x1), (column + 1) / size) - max(min(x0, x1), column / size))
            tall = max(0.0, min(max(y0, y1), (row + 1) / size) - max(min(y0, y1), row / size))
            assert box.coverage(size)[row, column] == pytest.approx(wide * tall * size * size, abs=1e-9)
    assert box.area() == pytest.approx(abs(x1 - x0) * abs(y1 - y0))
    assert box.coverage(size).mean() == pytest.approx(box.area(), abs=1e-9)


@given(unit, unit, unit, unit, st.integers(0, 9))
def test_box_mass_from_at_most_sixteen_corners(x0: float, y0: float, x1: float, y1: float, seed: int) -> None:
    if min(abs(x1 - x0), abs(y1 - y0)) < 1e-6:
        return
    box, p = Region.box(x0, y0, x1, y1), random_grid(seed)
    assert len(box.corner_weights()) <= 16
    assert mass(box, p) == pytest.approx((box.coverage() * p).sum(), abs=1e-7)


def test_box_on_cell_edges_needs_four_corners() -> None:
    box, p = Region.box(3 / 14, 5 / 14, 9 / 14, 12 / 14), random_grid(1)
    assert box.corner_weights() == {"sat_12_09": 1.0, "sat_12_03": -1.0, "sat_05_09": -1.0, "sat_05_03": 1.0}
    assert mass(box, p) == pytest.approx(p[5:12, 3:9].sum())


def test_the_whole_view_is_one_corner() -> None:
    assert Region.box(0, 0, 1, 1).corner_weights() == {"sat_14_14": 1.0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [14, 5])
def test_polygon_coverage_against_supersampling(seed: int, size: int) -> None:
    points = np.random.default_rng(seed).random((3 + 2 * seed, 2)).round(5)
    coverage = Region.polygon(points).coverage(size)
    # The reference itself errs by what an edge cuts off: 64 points a side leave it well below 1/256 of a cell on average.
    difference = np.abs(coverage - supersampled(points, size, 64))
    assert difference.mean() < 1 / 256
    assert difference.max() < 0.05


@pytest.mark.parametrize("seed", range(8))
def test_convex_polygons_are_exact(seed: int) -> None:
    """Clipping a convex polygon to each cell (Sutherland and Hodgman 1974) gives the area exactly."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random(4 + seed)) * 2 * math.pi
    points = (np.column_stack([np.cos(angles), np.sin(angles)]) * 0.41 + 0.5).round(5)
    coverage = Region.polygon(points).coverage()
    for row in range(GRID):
        for column in range(GRID):
            cell = clipped_area(points, column / GRID, row / GRID, (column + 1) / GRID, (row + 1) / GRID)
            assert coverage[row, column] == pytest.approx(cell * GRID * GRID, abs=1e-8)


def clipped_area(points: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> float:
    shape = [tuple(point) for point in points]
    for axis, bound, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
        clipped = []
        for a, b in zip(shape, shape[1:] + shape[:1], strict=True):
            inside_a, inside_b = sign * (a[axis] - bound) >= 0, sign * (b[axis] - bound) >= 0
            if inside_a:
                clipped.append(a)
            if inside_a != inside_b:
                t = (bound - a[axis]) / (b[axis] - a[axis])
                clipped.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
        shape = clipped
    return abs(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(shape, shape[1:] + shape[:1], strict=True))) / 2


def test_a_shape_that_crosses_itself_is_even_odd() -> None:
    star = [
        (math.sin(4 * math.pi * k / 5) * 0.45 + 0.5, 0.5 - math.cos(4 * math.pi * k / 5) * 0.45)
        for k in range(5)
    ]
    region = Region.polygon(star)
    assert region.coverage(15)[7, 7] == 0.0, "the pentagon in the middle of a pentagram is outside"
    difference = np.abs(region.coverage() - supersampled(np.array(region.points), GRID, 64))
    assert difference.mean() < 1 / 256
    bow = Region.polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    assert bow.area() == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_any_region_s_mass_from_corners(seed: int) -> None:
    rng, p = np.random.default_rng(seed), random_grid(seed)
    regions = [
        Region.polygon(rng.random((5 + seed, 2))),
        Region.mask(rng.random((GRID, GRID)) < 0.3),
        Region.mask(rng.random((9, 31)) < 0.5),
        *PRESETS.values(),
    ]
    for region in regions:
        assert mass(region, p) == pytest.approx((region.coverage() * p).sum(), abs=1e-7)
        assert region.area() == pytest.approx(region.coverage().mean())


def test_a_box_drawn_as_a_polygon_is_the_box() -> None:
    box = Region.box(0.11, 0.23, 0.64, 0.81)
    shape = Region.polygon([(0.11, 0.23), (0.64, 0.23), (0.64, 0.81), (0.11, 0.81), (0.11, 0.23)])
    np.testing.assert_allclose(shape.coverage(), box.coverage(), atol=1e-9)
    assert len(shape.corner_weights()) == 16


@pytest.mark.parametrize("shape", [(56, 56), (14, 14), (28, 7), (3, 5)])
def test_mask_coverage_against_counting_fine_cells(shape: tuple[int, int]) -> None:
    bits = np.random.default_rng(sum(shape)).random(shape) < 0.4
    fine = np.kron(bits, np.ones((GRID, GRID)))
    expected = fine.reshape(GRID, shape[0], GRID, shape[1]).mean(axis=(1, 3))
    np.testing.assert_allclose(Region.mask(bits).coverage(), expected, atol=1e-12)


def test_presets_are_where_their_names_say() -> None:
    assert PRESETS.keys() == PRESET_TITLES.keys()
    border = PRESETS["border"]
    inner = Region.box(1 / 8, 1 / 8, 7 / 8, 7 / 8).coverage()
    np.testing.assert_allclose(border.coverage(), 1 - inner, atol=1e-12)
    assert PRESETS["center"].points == ((0.25, 0.25), (0.75, 0.75))
    four = sum(PRESETS[name].coverage() for name in ("top_left", "top_right", "bottom_left", "bottom_right"))
    np.testing.assert_allclose(PRESETS["corners"].coverage(), four, atol=1e-12)
    assert PRESETS["bottom_left"].coverage()[GRID - 1, 0] == 1
    assert PRESETS["top_right"].coverage()[0, GRID - 1] == 1
    assert PRESETS["right_half"].coverage()[:, GRID - 1].all()
    assert PRESETS["top_half"].coverage()[0].all()
    quadrants = sum(region.coverage() for name, region in PRESETS.items() if name.endswith("quadrant"))
    np.testing.assert_allclose(quadrants, 1.0)


def test_sentences() -> None:
    assert PRESETS["bottom_left"].sentence() == "the lower left corner"
    assert Region.box(0.25, 0.75, 0.0, 1.0).sentence() == "the lower left corner"
    assert Region.box(0.1, 0.2, 0.4, 0.655).sentence() == "the box from 10 to 40% across and 20 to 65.5% down"
    assert (
        Region.polygon([(0, 0), (0.5, 0), (0, 0.48)]).sentence() == "a drawn shape covering 12% of the image"
    )
    assert Region.mask(np.eye(4)).sentence() == "a painted area covering 25% of the image"


regions = st.one_of(
    st.sampled_from(list(PRESETS.values())),
    st.lists(st.tuples(unit, unit), min_size=2, max_size=2)
    .filter(lambda p: min(abs(p[0][0] - p[1][0]), abs(p[0][1] - p[1][1])) > 1e-6)
    .map(lambda p: Region.box(*p[0], *p[1])),
    st.integers(0, 10_000).map(
        lambda seed: Region.polygon(np.random.default_rng(seed).random((3 + seed % 9, 2)))
    ),
    st.integers(0, 10_000).map(lambda seed: Region.mask(_some_bits(seed))),
)


def _some_bits(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bits = rng.random(rng.integers(1, 20, 2)) < 0.5
    bits.flat[0] = True
    return bits


@given(regions)
def test_a_region_comes_back_from_its_link(region: Region) -> None:
    back = Region.from_json(json.loads(json.dumps(region.to_json())))
    assert back == region
    assert hash(back) == hash(region)


def test_what_reaches_slightly_beyond_the_view_is_cut_off() -> None:
    assert Region.box(-0.05, 0.5, 1.04, 1.1) == PRESETS["bottom_half"]
    assert Region.polygon([(-0.02, 0), (1.05, 0), (0.5, 1.01)]).points == ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5, 1.2, 1e300, "0.5", None, True, 10**400])
def test_coordinates_that_are_none_are_refused(bad: object) -> None:
    with pytest.raises(RegionError):
        Region.box(0, 0, bad, 0.5)  # type: ignore[arg-type]
    with pytest.raises(RegionError):
        Region.polygon([(0, 0), (1, 0), (0.5, bad)])  # type: ignore[list-item]


def test_a_painted_mask_makes_a_short_link() -> None:
    down, across = np.mgrid[:56, :56]
    rng = np.random.default_rng(3)
    bits = np.zeros((56, 56), dtype=bool)
    for x, y, r in rng.integers(3, 50, (12, 3)) / (1, 1, 6):
        bits |= (across - x) ** 2 + (down - y) ** 2 <= r * r
    painted, noise = Region.mask(bits), Region.mask(rng.random((56, 56)) < 0.5)
    assert len(json.dumps(painted.to_json())) < 280
    assert len(json.dumps(noise.to_json())) < 560
    for region in (painted, noise):
        assert Region.from_json(region.to_json()) == region
    # Links of before, with the bits as they are, still open.
    packed = base64.urlsafe_b64encode(np.packbits(bits).tobytes()).decode().rstrip("=")
    assert Region.from_json({"mask": [56, 56, packed]}) == painted


def test_empty_regions_are_refused() -> None:
    for points in (
        [],
        [(0.1, 0.1)],
        [(0, 0), (1, 1)],
        [(0, 0), (1, 1), (0, 0), (1, 1)],
        [(0, 0), (0.5, 0.5), (1, 1)],
    ):
        with pytest.raises(RegionError):
            Region.polygon(points)
    for corners in ((0.2, 0.2, 0.2, 0.8), (0.2, 0.2, 0.8, 0.2), (1.05, 0, 1.1, 1)):
        with pytest.raises(RegionError, match="empty"):
            Region.box(*corners)
    for bits in (np.zeros((4, 4)), np.ones((0, 4)), np.ones(4), np.ones((500, 2)), [[1, 0], [1]]):
        with pytest.raises(RegionError):
            Region.mask(bits)


def test_scribbles_that_would_keep_a_page_waiting_are_refused() -> None:
    with pytest.raises(RegionError, match="fewer"):
        Region.polygon(np.random.default_rng(0).random((MAX_POINTS + 1, 2)))
    with pytest.raises(RegionError, match="simpler"):
        Region.polygon(np.random.default_rng(0).random((600, 2)))


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, 3, "box", {"box": [0, 0, 1]}, {"box": "0011"}, {"box": [0, 0, 1, {}]}, {"circle": [0, 0, 1]},
        {"preset": "nowhere"}, {"preset": []}, {"preset": "border", "box": [0, 0, 1, 1]}, {"polygon": [0, 0, 1]},
        {"polygon": [[0, 0], [1, 0], [0, 1]]}, {"polygon": [0] * 100_000}, {"mask": [2, 2]}, {"mask": [2, 2, "!!!!"]},
        {"mask": [2, 2, "AAAAAAAA"]}, {"mask": [10**9, 10**9, "AA"]}, {"mask": [True, 1, "gA"]}, {"mask": [2.0, 2, "8A"]},
        {"mask": [-1, -8, "gA"]}, {"mask": [2, 2, "é"]}, {"mask": [2, 2, "~"]}, {"mask": [56, 56, "~AAAA"]}, {"mask": [56, 56, "A" * 100_000]},
        {"mask": [56, 56, "~" + "A" * 700]}, {"mask": [128, 128, "~" + BOMB]},
    ],
)  # fmt: skip
def test_nonsense_in_a_link_is_one_sentence(data: object) -> None:
    with pytest.raises(RegionError) as caught:
        Region.from_json(data)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
