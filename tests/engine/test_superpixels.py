"""Superpixels, and what is put in their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.attribution.fills import ALL_FILLS, fill_of
from engine.attribution.superpixels import ALGORITHMS, segment
from tests.engine.scenes import pictures
from tests.seeding import rng


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("size", "channels"), [((64, 48), 3), ((28, 28), 1), ((6, 5), 3)])
def test_labels_cover_the_image_without_gaps_in_their_numbers(algorithm, size, channels):
    (view,) = pictures(1, size, channels)
    labels = segment(view, algorithm, 20)
    assert labels.shape == size
    assert labels.dtype == np.uint16
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert np.array_equal(labels, segment(view, algorithm, 20))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_image_of_one_colour_is_one_superpixel(algorithm):
    assert not segment(np.full((20, 30, 3), 77, np.uint8), algorithm, 50).any()


def test_slic_makes_about_as_many_as_asked():
    (view,) = pictures(1, 96)
    assert 10 <= segment(view, "slic", 25).max() <= 40


@pytest.mark.parametrize("kind", ALL_FILLS)
@pytest.mark.parametrize("channels", [1, 3])
def test_fills(kind, channels):
    image, black = torch.randn(channels, 30, 40) + 3, torch.full((channels,), -2.0)
    found = fill_of(kind, image, black, np.random.default_rng(1))
    again = fill_of(kind, image, black, np.random.default_rng(1))
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    assert torch.equal(found, again)
    mean, deviation = image.mean((1, 2)), image.std((1, 2))
    if kind == "zero":
        assert not found.any()
    elif kind == "black":
        assert (found == -2).all()
    elif kind == "mean":
        torch.testing.assert_close(found, mean[:, None, None].expand_as(image))
    elif kind == "blur":
        assert (found.std((1, 2)) < 0.3 * deviation).all()
        torch.testing.assert_close(found.mean((1, 2)), mean, atol=0.1, rtol=0)
        flat = fill_of(kind, torch.full_like(image, 5), black, rng)
        torch.testing.assert_close(flat, torch.full_like(image, 5))
    else:
        torch.testing.assert_close(found.mean((1, 2)), mean, atol=0.15, rtol=0)
        torch.testing.assert_close(found.std((1, 2)), deviation, atol=0.15, rtol=0)


def test_the_mean_of_superpixels_is_each_ones_own():
    image, labels = torch.randn(3, 9, 8), torch.from_numpy(rng.integers(0, 5, (9, 8)))
    found = fill_of("mean", image, torch.zeros(3), rng, labels)
    for s in range(5):
        expected = image[:, labels == s].mean(1, keepdim=True)
        torch.testing.assert_close(found[:, labels == s], expected.expand(-1, int((labels == s).sum())))
