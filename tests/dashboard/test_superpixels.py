from __future__ import annotations

import numpy as np
import pytest

from cache.profiles import Superpixels
from dashboard import rendering
from dashboard.superpixels import names, strongest, superpixel_html, superpixel_picture
from tests.seeding import rng


def quarters(weights: list[float]) -> Superpixels:
    labels = np.zeros((8, 8), np.uint16)
    labels[:4, 4:], labels[4:, :4], labels[4:, 4:] = 1, 2, 3
    return Superpixels(labels, np.array(weights, np.float32), 0.2)


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)


def test_the_strongest_of_each_side() -> None:
    weights = rng.normal(size=30)
    favour, against = strongest(weights, 4)
    assert favour == sorted((i for i in range(30) if weights[i] > 0), key=lambda i: -weights[i])[:4]
    assert against == sorted((i for i in range(30) if weights[i] < 0), key=lambda i: weights[i])[:4]
    assert strongest(np.zeros(3), 4) == ([], [])
    assert names(3, False) == ["1", "2", "3"]
    assert names(2, True) == ["A", "B"]


def test_the_picture_tints_what_is_chosen_and_fades_the_rest() -> None:
    view = np.full((16, 16, 3), 100, np.uint8)
    view[..., 1] = 180
    pixels = superpixel_picture(view, quarters([0.5, -0.25, 0.1, 0.0]), 1, side=160).astype(float)
    assert pixels.shape == (160, 160, 3)
    assert np.array_equal(pixels[1, 1], rgb(rendering.FOR))
    assert np.array_equal(pixels[1, 158], rgb(rendering.AGAINST))
    favour, against, rest = pixels[15, 15], pixels[15, 100], pixels[120, 15]
    assert favour[0] > against[0]
    assert against[2] > favour[2]
    assert np.ptp(rest) == 0
    assert np.array_equal(rest, pixels[100, 120])
    # The stronger, the deeper.
    assert np.abs(favour - view[0, 0]).sum() > np.abs(against - view[0, 0]).sum()


@pytest.mark.parametrize("shape", [(7, 11), (30, 20)])
def test_pictures_keep_the_shape_of_the_view(shape: tuple[int, int]) -> None:
    labels = rng.integers(0, 5, shape).astype(np.uint16)
    found = Superpixels(labels, np.zeros(5, np.float32), None)
    pixels = superpixel_picture(None, found, 3, side=60)
    assert max(pixels.shape[:2]) == 60
    assert pixels.shape[0] / pixels.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.05)
    assert np.ptp(pixels) == 0


def test_the_weights_stand_beside_the_picture() -> None:
    html = superpixel_html(quarters([0.5, -0.25, 0.1, 0.0]), 5, "data:x", 'a "view" <of> it')
    assert html.count("<tr>") == 3
    assert "left:50.0%;width:50.0%" in html
    assert "left:25.0%;width:25.0%" in html
    assert "&lt;of&gt;" in html
    assert "No superpixel speaks" in superpixel_html(quarters([0.0] * 4), 5, "data:x", "x")
