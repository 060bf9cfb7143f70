"""The design of LIME's pairs: balance, interactions of three, and what an image alone says about its superpixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.attribution.designs import balanced, importance
from engine.attribution.surrogates import lime_fit, lime_states
from tests.seeding import rng


def aliasing(signs, top):
    """Mean square of what an interaction of three of the first columns adds to a column's inner product."""
    triples = np.stack([signs[:, list(t)].prod(1) for t in itertools.combinations(range(top), 3)])
    inner = np.square(triples @ signs)
    # A column times an interaction that holds it is one of two, which is another matter.
    inside = np.array(
        [[c in t for c in range(signs.shape[1])] for t in itertools.combinations(range(top), 3)]
    )
    return inner[~inside].mean()


@pytest.mark.parametrize("ranks", [20, 45, 70])
def test_columns_are_balanced_and_interactions_of_the_first_disturb_little(ranks):
    signs = balanced(ranks, 200) * 2.0 - 1
    drawn = rng.choice([-1.0, 1.0], signs.shape)
    off = ~np.eye(ranks, dtype=bool)
    assert np.square((signs.T @ signs)[off]).mean() < 0.4 * np.square((drawn.T @ drawn)[off]).mean()
    assert aliasing(signs, 5) < 0.6 * aliasing(drawn, 5)


def test_fewer_rows_or_columns_are_a_part_of_more():
    whole = balanced(60, 90)
    assert (balanced(60, 40) == whole[:40]).all()
    assert (balanced(33, 90) == whole[:, :33]).all()
    assert balanced(300, 12).shape == (12, 300)


def test_importance_is_contrast_by_nearness_to_the_centre():
    labels = np.repeat(np.repeat(np.arange(9, dtype=np.uint16).reshape(3, 3), 4, 0), 4, 1)
    pixels = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    found = importance(pixels, labels)
    for superpixel in range(9):
        inside = pixels[labels == superpixel].astype(float)
        down, across = divmod(superpixel, 3)
        # Centres lie two thirds of half a side from the middle.
        distance = ((down - 1) ** 2 + (across - 1) ** 2) * 4 / 9
        contrast = np.square(inside - inside.mean(0)).sum()
        assert found[superpixel] == pytest.approx(contrast / (1 + 2 * distance) ** 2)
    assert (importance(np.full((12, 12, 1), 7, np.uint8), labels) == 0).all()


def test_interactions_of_three_among_what_is_expected_to_matter_disturb_lime_less():
    superpixels, top = 40, 8
    expected = np.arange(superpixels, 0, -1.0)
    weights = rng.standard_normal(superpixels)
    groups = [(list(t), rng.standard_normal()) for t in itertools.combinations(range(top), 3)]

    def game(states):
        z = states * 2.0 - 1
        return (z @ weights + sum(w * z[:, g].prod(1) for g, w in groups))[:, None]

    errors = {}
    for name, order in (("told", expected), ("misled", expected[::-1])):
        found = []
        for _ in range(6):
            states = lime_states(superpixels, 400, "paired", rng, order)
            # A wide kernel, so that the surrogate is the weights themselves.
            found.append(np.square(lime_fit(states, game(states), 50).weights[0] / 2 - weights).mean())
        errors[name] = np.mean(found)
    assert errors["told"] < 0.6 * errors["misled"]
