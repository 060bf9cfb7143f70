"""LIME and Kernel SHAP against the lime package, exact Shapley values, on fresh games."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from lime.lime_image import LimeImageExplainer

from engine.attribution.surrogates import (
    Coalitions,
    lime_fit,
    lime_states,
    shap_coalitions,
    shap_fit,
)
from tests.seeding import rng


class Game:
    """A score of 0/1 vectors with interactions of two and three superpixels, for several classes."""

    def __init__(self, superpixels, classes=2):
        self.linear = rng.standard_normal((superpixels, classes))
        pairs = rng.integers(0, superpixels, (superpixels, 2))
        triples = rng.integers(0, superpixels, (superpixels, 3))
        self.groups = [(g, rng.standard_normal(classes)) for g in (*pairs, *triples)]

    def __call__(self, states):
        states = np.asarray(states, np.float64)
        total = 0.3 + states @ self.linear
        for group, weight in self.groups:
            total = total + states[:, group].prod(1)[:, None] * weight
        return total


class Told(np.random.RandomState):
    """Draws what it was told to."""

    def __init__(self, states):
        super().__init__(0)
        self.states = states

    def randint(self, *_args, **_options):
        return self.states.astype(int).ravel()


@pytest.mark.parametrize("sampling", ["paired", "independent"])
@pytest.mark.parametrize("superpixels", [2, 9, 23])
def test_lime_equals_the_package_given_the_same_superpixels_and_perturbations(sampling, superpixels):
    labels = np.repeat(np.arange(superpixels), 6).reshape(-1, 6)
    image = rng.random((*labels.shape, 3)) + 0.1
    game = Game(superpixels)
    states = lime_states(superpixels, 120, sampling, rng)
    hidden = np.stack([image[labels == s].mean(0) for s in range(superpixels)])

    def classify(images):
        first = np.array([[view[labels == s][0] for s in range(superpixels)] for view in images])
        return game(np.abs(first - hidden).max(2) > 1e-9)

    package = LimeImageExplainer(kernel_width=0.4, random_state=Told(states))
    explained = package.explain_instance(
        image, classify, labels=(0, 1), top_labels=None, num_samples=120,
        segmentation_fn=lambda _image: labels, random_seed=0,
    )  # fmt: skip
    found = lime_fit(states, game(states), 0.4)
    for t in range(2):
        expected = [weight for _, weight in sorted(explained.local_exp[t])]
        np.testing.assert_allclose(found.weights[t], expected, atol=1e-9)
        np.testing.assert_allclose(found.intercept[t], explained.intercept[t], atol=1e-9)
    np.testing.assert_allclose(found.trust[1], explained.score, atol=1e-9)


@pytest.mark.parametrize("superpixels", [1, 2, 3, 17, 50, 120])
@pytest.mark.parametrize("samples", [2, 3, 100, 401])
def test_pairs_are_complements_and_show_the_whole_image_first(superpixels, samples):
    states = lime_states(superpixels, samples, "paired", np.random.default_rng(3))
    assert states.shape == (samples, superpixels)
    assert states[0].all()
    pairs = states[1 : 1 + (samples - 1) // 2 * 2].reshape(-1, 2, superpixels)
    assert (pairs[:, 0] ^ pairs[:, 1]).all()
    again = lime_states(superpixels, samples, "paired", np.random.default_rng(3))
    assert (again == states).all()
    if samples > 3 and superpixels > 3:
        assert (lime_states(superpixels, samples, "paired", np.random.default_rng(4)) != states).any()


def test_pairs_are_balanced_and_as_large_as_independent_draws():
    states = lime_states(50, 1001, "paired", rng)[1:]
    signs = states * 2 - 1
    products = (signs.T @ signs)[~np.eye(50, dtype=bool)]
    independent = lime_states(50, 1001, "independent", rng)[1:] * 2 - 1
    usual = (independent.T @ independent)[~np.eye(50, dtype=bool)]
    assert (signs.sum(0) == 0).all()
    assert np.square(products).mean() < 0.3 * np.square(usual).mean()
    assert abs(states.sum(1).std() - math.sqrt(50) / 2) < 0.3


def test_interactions_of_two_do_not_disturb_paired_lime():
    """A game of pairs only: the error at equal passes is a fraction of the package's sampling."""
    errors = {"paired": [], "independent": []}
    weights = rng.standard_normal(20)
    interactions = rng.standard_normal((20, 20))

    def game(states):
        z = states - 0.5
        return (states @ weights + ((z @ interactions) * z).sum(1))[:, None]

    limit = lime_fit(states := lime_states(20, 60_000, "independent", rng), game(states), 0.25).weights
    for sampling, found in errors.items():
        for _ in range(8):
            states = lime_states(20, 200, sampling, rng)
            found.append(np.square(lime_fit(states, game(states), 0.25).weights - limit).mean())
    assert np.mean(errors["paired"]) < 0.4 * np.mean(errors["independent"])


def shapley(game, superpixels):
    """Shapley values by the mean over every order."""
    values, orders = 0, 0
    for order in itertools.permutations(range(superpixels)):
        states = np.zeros((superpixels + 1, superpixels))
        for step, superpixel in enumerate(order):
            states[step + 1 :, superpixel] = 1
        gains = np.diff(game(states), axis=0)
        found = np.empty_like(gains)
        found[list(order)] = gains
        values, orders = values + found, orders + 1
    return (values / orders).T


@pytest.mark.parametrize("superpixels", [1, 2, 3, 5, 7])
def test_kernel_shap_of_few_superpixels_equals_the_mean_over_every_order(superpixels):
    game = Game(superpixels)
    coalitions = shap_coalitions(superpixels, 4, rng)
    assert coalitions.exact
    found = shap_fit(coalitions, game(coalitions.states))
    np.testing.assert_allclose(found.weights, shapley(game, superpixels), atol=1e-10)
    np.testing.assert_allclose(found.intercept, game(np.zeros((1, superpixels)))[0])
    assert (found.trust < 1e-5).all()


def all_subsets(superpixels):
    bits = np.arange(2**superpixels)[:, None] >> np.arange(superpixels) & 1
    return bits.astype(bool)


def test_the_regression_over_all_weighted_subsets_is_exact_too():
    game, count = Game(6), 6
    states = all_subsets(count)
    sizes = states.sum(1)[1:-1]
    weights = [(count - 1) / (math.comb(count, k) * k * (count - k)) for k in sizes.tolist()]
    sampled = Coalitions(states, np.array([0, *weights, 0]), exact=False)
    np.testing.assert_allclose(
        shap_fit(sampled, game(states)).weights, shap_fit(Coalitions(states, np.zeros(64), True), game(states)).weights,
        atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("superpixels", [11, 12, 31, 60])
@pytest.mark.parametrize("samples", [50, 400, 1000])
def test_sampled_subsets_come_in_pairs_of_every_size_without_repetition(superpixels, samples):
    found = shap_coalitions(superpixels, samples, np.random.default_rng(1))
    assert not found.exact
    assert samples - 3 <= len(found.states) <= samples
    assert not found.states[0].any()
    assert found.states[-1].all()
    inner = {row.tobytes() for row in found.states[1:-1]}
    assert len(inner) == len(found.states) - 2
    assert all((~row).tobytes() in inner for row in found.states[1:-1])
    sizes, counts = np.unique(found.states[1:-1].sum(1), return_counts=True)
    assert (counts == counts[::-1]).all()
    if samples == 1000:
        assert len(sizes) == superpixels - 1
        mass = {k: found.weights[1:-1][found.states[1:-1].sum(1) == k].sum() for k in (3, 5)}
        assert mass[3] / mass[5] == pytest.approx(5 * (superpixels - 5) / (3 * (superpixels - 3)))
    again = shap_coalitions(superpixels, samples, np.random.default_rng(1))
    assert (again.states == found.states).all()


def test_sampled_kernel_shap_adds_up_and_comes_near_the_exact_values():
    count = 12
    game = Game(count)
    coalitions = shap_coalitions(count, 1500, rng)
    found = shap_fit(coalitions, game(coalitions.states))
    every = all_subsets(count)
    exact = shap_fit(Coalitions(every, np.zeros(len(every)), exact=True), game(every)).weights
    assert np.abs(found.weights - exact).max() < 0.1 * np.abs(exact).max()
    assert (found.trust < 1e-5).all()


def test_more_superpixels_than_passes_still_adds_up():
    game = Game(200)
    coalitions = shap_coalitions(200, 40, rng)
    assert len(coalitions.states) <= 40
    assert (shap_fit(coalitions, game(coalitions.states)).trust < 1e-3).all()
