"""Regions: sums over boxes against the slow way, planted regions found, and nothing found where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from engine.discovery import where
from engine.discovery.statistics import PERMUTATIONS, familywise
from tests.seeding import rng


def slow_masses(p: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    grids = p.reshape(-1, 14, 14)
    return np.stack([grids[:, t:b, left:r].sum(axis=(1, 2)) for t, b, left, r in boxes], axis=1)


def random_maps(rng: np.random.Generator, n: int) -> np.ndarray:
    p = rng.gamma(0.3, size=(n, 196)).astype(np.float32)
    return p / p.sum(axis=1, keepdims=True)


def planted(rng: np.random.Generator, n: int, hits: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of which the wrong ones look at rows 10 to 13, columns 1 to 4."""
    p, wrong = random_maps(rng, n), np.zeros(n, bool)
    wrong[rng.choice(n, hits, replace=False)] = True
    corner = np.zeros((14, 14), np.float32)
    corner[10:14, 1:5] = 1 / 16
    p[wrong] = 0.4 * p[wrong] + 0.6 * corner.ravel()
    return p, wrong


def test_boxes_are_all_up_to_a_quarter_of_the_view() -> None:
    boxes = where.boxes()
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    assert area.max() <= 49
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    slow = sum((14 - h + 1) * (14 - w + 1) for h in range(2, 15) for w in range(2, 15) if h * w <= 49)
    assert len(boxes) == slow


def test_masses_and_deviations_equal_the_slow_way() -> None:
    p = random_maps(rng, 90)
    slow = slow_masses(p.astype(np.float64), where.boxes())
    np.testing.assert_allclose(where.masses_of_boxes(p.astype(np.float64).T).T, slow, atol=1e-12)
    covariance = np.cov(p.astype(np.float64).T, bias=True)
    np.testing.assert_allclose(where.deviations_of_boxes(covariance), slow.std(axis=0), atol=1e-9)


@pytest.mark.parametrize("hits", [20, 70])
def test_scores_equal_the_slow_way(hits: int) -> None:
    p = random_maps(rng, 120)
    rows = np.sort(rng.choice(120, 100, replace=False))
    happened = np.zeros(100, bool)
    happened[rng.choice(100, hits, replace=False)] = True
    scores, largest, excess = where.scan(p, rows, happened, np.random.default_rng(1))
    mass = slow_masses(p[rows].astype(np.float64), where.boxes())
    difference = mass[happened].mean(axis=0) - mass[~happened].mean(axis=0)
    deviation = np.maximum(mass.std(axis=0), where.DEVIATION_FLOOR)
    np.testing.assert_allclose(excess, difference, atol=1e-7)
    np.testing.assert_allclose(
        scores, difference / (deviation * np.sqrt(1 / hits + 1 / (100 - hits))), rtol=1e-4, atol=1e-5
    )
    assert largest.shape == (PERMUTATIONS,)


def test_chance_is_rarely_carried_over() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(20):
        p, happened = random_maps(rng, 80), rng.random(80) < 0.3
        scores, largest, _ = where.scan(p, np.arange(80), happened, rng)
        p_values.append(familywise(scores, largest).min())
    assert np.mean(np.array(p_values) <= 0.05) <= 0.2
    assert np.mean(p_values) > 0.25, "p-values under chance are spread evenly"


def test_a_planted_region_is_found_with_its_samples() -> None:
    rng = np.random.default_rng(7)
    p, wrong = planted(rng, 200, 40)
    scores, largest, excess = where.scan(p, np.arange(200), wrong, rng)
    p_values = familywise(scores, largest)
    (best, *_) = where.choose_boxes(scores, p_values, excess)
    np.testing.assert_array_equal(where.boxes()[best], [10, 14, 1, 5])
    mass = slow_masses(p.astype(np.float64), where.boxes()[best : best + 1])[:, 0]
    low = where.threshold(mass, wrong)
    assert low is not None
    np.testing.assert_array_equal(mass >= low, wrong)


def test_no_threshold_where_nothing_separates() -> None:
    assert where.threshold(np.zeros(50), np.arange(50) < 10) is None
