"""Statistics against NumPy and scikit-image written the slow way, on random and adversarial maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.measure import label as label_image
from skimage.measure import regionprops

from cache.maps import grid_of, summed_area
from cache.regions import PRESETS
from cache.schema import CORNERS, GRID, MASK_SIZE, Field
from engine.grids import Grid, label_components
from engine.statistics import STATISTICS, measure, register, statistic_fields

CENTRES = (np.arange(GRID) + 0.5) / GRID
SHAPES = [(7, 7), (14, 14), (4, 9), (1, 1), (2, 30), (28, 56), (5, 3)]


def snake(rows=GRID, columns=GRID):
    """The longest path: rows joined at alternating ends."""
    cells = np.zeros((rows, columns), bool)
    cells[::2] = True
    for turn, row in enumerate(range(1, rows - 1, 2)):
        cells[row, 0 if turn % 2 else -1] = True
    return cells


def spiral():
    cells = np.zeros((GRID, GRID), bool)
    row, column, way = 0, 0, 0
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    cells[0, 0] = True
    for length in (13, 13, 13, 11, 11, 9, 9, 7, 7, 5, 5, 3, 3):
        for _ in range(length):
            row, column = row + steps[way][0], column + steps[way][1]
            cells[row, column] = True
        way = (way + 1) % 4
    return cells


def adversarial():
    """Maps that stretch ranges: one cell, all alike, opposite corners, paths, far ends of float32, no mass."""
    one = np.zeros((GRID, GRID))
    one[0, 0] = 1
    corners = np.zeros((GRID, GRID))
    corners[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    dots = np.zeros((GRID, GRID))
    dots[::2, ::2] = 1
    checker = np.indices((GRID, GRID)).sum(0) % 2
    maps = [one, one[::-1, ::-1], corners, dots, checker, np.ones((GRID, GRID)), snake(), snake().T, spiral()]
    maps += [
        1e-44 * one,
        3e38 * np.ones((GRID, GRID)),
        1e-44 * dots,
        dots - 1e-3,
        np.arange(196).reshape(14, 14),
    ]
    maps += [np.geomspace(1e-30, 1e30, 196).reshape(14, 14), one - 0.5, -one, np.zeros((GRID, GRID))]
    broken = np.ones((3, GRID, GRID))
    broken[0, 2, 3], broken[1, 2, 3], broken[2, 2, 3] = np.nan, np.inf, -np.inf
    return torch.tensor(np.array([*maps, *broken]), dtype=torch.float32)


def reference(array):
    """Every statistic of one map, the slow way."""
    array = np.asarray(array, np.float64)
    p = grid_of(array)
    found = {
        "mass_total": sum(max(v, 0) for v in array.ravel()),
        "mass_negative": sum(max(-v, 0) for v in array.ravel()),
    }
    values = np.sort(p.ravel())[::-1]
    found["entropy"] = -sum(v * math.log(v) for v in values if v > 0) / math.log(196)
    found["gini"] = sum(abs(a - b) for a in values for b in values) / (2 * 196)
    x, y = sum(p[:, j].sum() * CENTRES[j] for j in range(14)), sum(p[i].sum() * CENTRES[i] for i in range(14))
    found["centroid_x"], found["centroid_y"] = x, y
    found["spread"] = math.sqrt(
        sum(p[i, j] * ((CENTRES[j] - x) ** 2 + (CENTRES[i] - y) ** 2) for i, j in np.ndindex(14, 14))
    )
    tied = label_image(p >= p.max() * (1 - 1e-5), connectivity=2)
    plateau = tied == tied.ravel()[np.argmax(p >= p.max() * (1 - 1e-5))]
    found["peak_x"] = np.mean([CENTRES[j] for _, j in np.argwhere(plateau)])
    found["peak_y"] = np.mean([CENTRES[i] for i, _ in np.argwhere(plateau)])
    held, count = 0.0, 0
    while held + values[count] < 0.5:
        held, count = held + values[count], count + 1
    found["area50"] = (count + (0.5 - held) / values[count]) / 196
    found["border_mass"] = (p * PRESETS["border"].coverage()).sum()
    found["center_mass"] = (p * PRESETS["center"].coverage()).sum()
    corners = ("top_left", "top_right", "bottom_left", "bottom_right")
    found["corner_mass"] = max((p * PRESETS[name].coverage()).sum() for name in corners)
    found["components"] = label_image(p > 0.5 * p.max(), connectivity=2).max()
    labels = label_image(p > 0.2 * p.max(), connectivity=2)
    best = max(regionprops(labels), key=lambda r: (r.area, p[labels == r.label].sum()))
    y0, x0, y1, x1 = best.bbox
    found |= {"box_x0": x0 / 14, "box_y0": y0 / 14, "box_x1": x1 / 14, "box_y1": y1 / 14}
    return found


def decided(shape, count):
    """Random maps without cells at a threshold, where rounding decides: a fifth of the peak's row in a cell does it."""
    found = []
    while len(found) < count:
        one = torch.randn(shape) ** 3
        one[0, 0] = one[0, 0].abs() + 0.1
        p = grid_of(one.numpy())
        if min(np.abs(p / p.max() - threshold).min() for threshold in (0.2, 0.5)) > 1e-5:
            found.append(one)
    return torch.stack(found)


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_equal_their_formulas_written_the_slow_way(shape):
    maps = decided(shape, 6)
    found = measure(maps)
    assert not found.degenerate.any()
    for i in range(6):
        expected = reference(maps[i].numpy())
        assert set(expected) == set(found.names)
        for name, value in expected.items():
            assert found.columns[name][i].item() == pytest.approx(value, rel=2e-5, abs=2e-6), name


def test_shares_and_corners_equal_the_cache_s_own():
    for shape in SHAPES:
        maps = torch.rand(3, *shape) - 0.3
        maps[:, -1, -1] = 1
        grid, found = Grid(maps), measure(maps)
        assert found.corners.shape == (3, len(CORNERS))
        for i in range(3):
            p = grid_of(maps[i].numpy())
            np.testing.assert_allclose(grid.p[i], p, atol=1e-6)
            np.testing.assert_allclose(found.corners[i], summed_area(p), atol=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_every_value_lies_in_the_declared_range(seed):
    torch.manual_seed(seed)
    batches = [adversarial(), torch.randn(40, 7, 7), torch.randn(40, 14, 14).exp() ** 4, torch.rand(40, 3, 5)]
    for maps in batches:
        mask = torch.rand(len(maps), MASK_SIZE, MASK_SIZE) > torch.rand(len(maps), 1, 1)
        found = measure(maps, mask)
        for name, column in found.columns.items():
            field, values = STATISTICS[name].field, column[~column.isnan()]
            assert values.isfinite().all(), name
            assert field.low is None or (values >= field.low).all(), name
            assert field.high is None or (values <= field.high).all(), name
            if STATISTICS[name].share and not STATISTICS[name].needs_object:
                assert torch.equal(column.isnan(), found.degenerate), name


def test_degenerate_maps_are_flagged_and_have_no_shares():
    maps = torch.ones(5, 6, 6)
    maps[0], maps[1] = 0, -1
    maps[2, 1, 1], maps[3, 1, 1] = torch.nan, torch.inf
    found = measure(maps)
    assert found.degenerate.tolist() == [True, True, True, True, False]
    assert found.corners[:4].isnan().all()
    assert found.corners[4].isfinite().all()
    assert found.columns["entropy"].isnan().tolist() == [True] * 4 + [False]
    # What a finite map holds is known even where its shares are not.
    assert found.columns["mass_negative"][1] == 36
    assert found.columns["mass_total"][:2].tolist() == [0, 0]
    assert found.columns["mass_total"][2:4].isnan().all()


def test_one_broken_map_changes_nothing_for_its_neighbours():
    maps = torch.rand(3, 7, 7)
    alone = measure(maps[2:])
    maps[0, 0, 0], maps[1] = torch.nan, 0
    torch.testing.assert_close(measure(maps).values[2:], alone.values)


def test_scale_does_not_move_shares():
    maps = torch.rand(8, 7, 7)
    plain = measure(maps).columns
    for scale in (1e-38, 1e-12, 1e12, 1e36):
        scaled = measure(maps * scale).columns
        for name in set(plain) - {"mass_total", "mass_negative"}:
            torch.testing.assert_close(scaled[name], plain[name], atol=2e-6, rtol=1e-5, msg=name)


def test_the_peak_of_a_coarse_map_is_the_centre_of_its_cell():
    maps = torch.rand(1, 7, 7) * 0.5
    maps[0, 2, 5] = 1
    found = measure(maps).columns
    assert found["peak_x"].item() == pytest.approx(5.5 / 7)
    assert found["peak_y"].item() == pytest.approx(2.5 / 7)


@pytest.mark.parametrize("density", [0.2, 0.4, 0.5, 0.7])
def test_components_equal_scikit_image(density):
    cells = torch.rand(60, GRID, GRID) < density
    found = label_components(cells)
    for one, labels in zip(cells.numpy(), found.numpy(), strict=True):
        expected = label_image(one, connectivity=2)
        pairs = set(zip(expected.ravel().tolist(), labels.ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert (0, 0) in pairs or one.all()


def test_components_follow_the_longest_paths():
    shapes = [snake(), snake().T, snake()[::-1], snake()[:, ::-1], spiral(), spiral()[::-1, ::-1], spiral().T]
    cells = torch.tensor(np.array(shapes))
    for one in label_components(cells):
        assert len(one.unique()) == 2
    assert all(label_image(shape, connectivity=2).max() == 1 for shape in shapes)


def test_masks_say_how_much_lies_inside():
    maps = torch.rand(5, 7, 9)
    mask = torch.zeros(5, MASK_SIZE, MASK_SIZE, dtype=torch.bool)
    for i in range(4):
        mask[i, 5 + i : 30 + 4 * i, 12 : 20 + 7 * i] = True
    found = measure(maps, mask).columns
    for i in range(4):
        p = grid_of(maps[i].numpy())
        fine = np.kron(p, np.ones((4, 4))) / 16
        assert found["mass_inside"][i].item() == pytest.approx(fine[mask[i].numpy()].sum(), abs=1e-5)
        x, y = found["peak_x"][i].item(), found["peak_y"][i].item()
        assert found["pointing_hit"][i].item() == float(mask[i, int(y * 56), int(x * 56)])
        (props,) = regionprops(mask[i].numpy().astype(int))
        y0, x0, y1, x1 = (edge / 56 for edge in props.bbox)
        ours = [found[f"box_{side}"][i].item() for side in ("x0", "y0", "x1", "y1")]
        assert found["localization_iou"][i].item() == pytest.approx(overlap(ours, (x0, y0, x1, y1)), abs=1e-5)
    # An empty mask says that the object is unknown.
    assert all(found[name][4].isnan() for name in ("mass_inside", "pointing_hit", "localization_iou"))


def test_boxes_count_by_their_exact_area_and_the_best_of_them():
    maps = torch.rand(3, 14, 14)
    boxes = torch.full((3, 2, 4), torch.nan)
    boxes[0, 0] = torch.tensor([0.11, 0.2, 0.52, 0.93])
    boxes[1] = torch.tensor([[0.0, 0.0, 0.3, 0.3], [0.05, 0.1, 0.97, 0.9]])
    found = measure(maps, boxes=boxes).columns
    p = grid_of(maps[0].numpy())
    edges = np.arange(15) / 14
    across, down = (
        np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * 14
        for low, high in ((0.11, 0.52), (0.2, 0.93))
    )
    assert found["mass_inside"][0].item() == pytest.approx((p * np.outer(down, across)).sum(), abs=1e-5)
    ours = [found[f"box_{side}"][1].item() for side in ("x0", "y0", "x1", "y1")]
    best = max(overlap(ours, box) for box in boxes[1].tolist())
    assert found["localization_iou"][1].item() == pytest.approx(best, abs=1e-5)
    assert found["mass_inside"][2].isnan()


def test_statistics_of_objects_are_there_only_where_objects_are_known():
    plain, known = statistic_fields(), statistic_fields(objects=True)
    assert [f.name for f in plain] == list(measure(torch.rand(2, 3, 3)).names)
    extra = {f.name for f in known} - {f.name for f in plain}
    assert extra == {"mass_inside", "pointing_hit", "localization_iou"}


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=lambda s: s.field.name)
def test_every_statistic_declares_what_a_screen_must_know(statistic):
    field = statistic.field
    assert field.title
    assert field.formula
    assert field.description.endswith(".")
    assert field.suggests.endswith(".")
    assert field.low is not None
    assert Field.from_json(field.to_json()) == field


def test_an_extension_comes_in_by_the_same_door():
    field = Field("left_mass", "Left mass", "", 0, 1, "none", "Share of the left half.", "Σ p, x < ½")
    try:
        register(field)(lambda grid: grid.p[:, :, :7].sum((1, 2)))
        found = measure(torch.ones(2, 4, 4))
        assert found.names[-1] == "left_mass"
        torch.testing.assert_close(found.columns["left_mass"], torch.tensor([0.5, 0.5]))
        with pytest.raises(ValueError, match="registered already"):
            register(field)(lambda grid: grid.peak)
    finally:
        STATISTICS.pop("left_mass", None)


def test_an_empty_batch_is_measured():
    found = measure(torch.zeros(0, 7, 7))
    assert found.values.shape == (0, len(found.names))
    assert found.corners.shape == (0, 196)


def overlap(one, other):
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return width * height / (sum(areas) - width * height)
