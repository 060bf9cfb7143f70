"""Matching: against the slow way on random windows, and what each measure is blind to."""

from __future__ import annotations

import numpy as np
import pytest

from engine.discovery.matching import (
    COLOUR_DRIFT,
    COLOUR_STRIDE,
    COLOUR_TEMPLATE,
    DRIFT,
    STRIDE,
    TEMPLATE,
    Measure,
    Searched,
    matches_anywhere,
    matches_in_place,
    own_matches,
)
from tests.seeding import rng


def match(a: np.ndarray, b: np.ndarray, measure: Measure) -> float:
    """Compare two patches the slow way, in double precision."""
    a, b = a.astype(float), b.astype(float)
    if measure == "colour":
        return float(1 - ((a - b) ** 2).mean())
    if measure == "edges":
        a, b = (np.concatenate([np.diff(v, axis=0)[:, :-1], np.diff(v, axis=1)[:-1]], axis=2) for v in (a, b))
        return float((a * b).mean() / np.sqrt((a**2).mean() * (b**2).mean()))
    a0, b0 = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
    apart = ((a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) ** 2).mean()
    return float(2 * (a0 * b0).mean() / ((a0**2).mean() + (b0**2).mean() + apart + 1e-6))


def slow(windows: np.ndarray, searched: np.ndarray, measure: Measure, anywhere: bool) -> np.ndarray:
    colour = measure == "colour"
    side, stride = (COLOUR_TEMPLATE, COLOUR_STRIDE) if colour else (TEMPLATE, STRIDE)
    drift = 99 if anywhere else COLOUR_DRIFT if colour else DRIFT
    height, width = windows.shape[1] - side + 1, windows.shape[2] - side + 1
    places = [(y, x) for y in range(0, height, stride) for x in range(0, width, stride)]
    found = np.empty((len(windows), len(places), len(searched)))
    for i, window in enumerate(windows):
        for t, (y, x) in enumerate(places):
            template = window[y : y + side, x : x + side]
            for j, other in enumerate(searched):
                found[i, t, j] = max(
                    match(template, other[v : v + side, u : u + side], measure)
                    for v in range(max(y - drift, 0), min(y + drift + 1, other.shape[0] - side + 1))
                    for u in range(max(x - drift, 0), min(x + drift + 1, other.shape[1] - side + 1))
                )
    return found


@pytest.mark.parametrize("measure", ["pattern", "edges", "colour"])
def test_matches_equal_the_slow_way(measure: Measure) -> None:
    windows = rng.random((2, 23, 21, 3)).astype(np.float32)
    searched = np.concatenate([windows, rng.random((1, 23, 21, 3)).astype(np.float32)])
    near = matches_in_place(windows, searched, measure)
    np.testing.assert_allclose(near, slow(windows, searched, measure, False), atol=1e-4)


@pytest.mark.parametrize("measure", ["pattern", "edges"])
def test_what_is_found_anywhere_is_nearly_the_best_there_is(measure: Measure) -> None:
    # As smooth as photographs are: of white noise, half of the places say nothing about the others.
    rough = rng.random((3, 12, 12, 3)).repeat(4, axis=1).repeat(4, axis=2)
    kernel = sum(np.roll(rough, (dy, dx), axis=(1, 2)) for dy in range(4) for dx in range(4)) / 16
    searched = kernel[:, 5:36, 7:36].astype(np.float32)
    windows = np.stack([searched[0, 3:24, 5:26], searched[1, 1:22, 2:23]])
    found, best = (
        matches_anywhere(windows, Searched(searched, measure)),
        slow(windows, searched, measure, True),
    )
    assert (found <= best + 1e-4).all()
    assert np.mean(found >= best - 1e-4) > 0.4
    assert (best - found).max() < 0.3
    for i in range(2):
        np.testing.assert_allclose(found[i, :, i], 1, atol=1e-3)  # at whatever place, odd or even


def test_a_template_without_a_pattern_is_not_found_anywhere() -> None:
    plain = np.full((1, 20, 20, 3), 0.4, np.float32)
    for measure in ("pattern", "edges"):
        assert (matches_anywhere(plain, Searched(plain, measure)) == -1).all()


def test_what_each_measure_is_blind_to() -> None:
    pattern = rng.random((1, 20, 20, 3)).astype(np.float32)
    plain = np.full((1, 20, 20, 3), 0.4, np.float32)

    def best(first: np.ndarray, second: np.ndarray, measure: Measure) -> float:
        return float(matches_in_place(first, second, measure).max())

    assert best(pattern, 0.5 * pattern + 0.2, "edges") == pytest.approx(1, abs=1e-3)
    assert best(pattern, 0.5 * pattern + 0.2, "pattern") < 0.9
    assert best(plain, plain, "pattern") == best(plain, plain, "edges") == -1
    assert best(plain, plain, "colour") == pytest.approx(1, abs=1e-5)


def test_a_template_is_not_found_in_its_own_image() -> None:
    found = np.zeros((3, 2, 3), np.float32)
    found[[0, 1, 2], :, [0, 1, 2]] = 1
    assert not own_matches(found).any()
