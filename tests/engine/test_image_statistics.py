"""Image statistics against the slow way."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest

from engine.image_statistics import GREY_CHROMA, IMAGE_STATISTICS, image_statistics
from tests.engine.pictures import photo, pixels
from tests.seeding import rng


def slow_statistics(view: np.ndarray) -> dict[str, float]:
    rgb = view.astype(float) / 255
    luma = rgb @ (0.299, 0.587, 0.114)
    height, width = luma.shape
    saturations = [colorsys.rgb_to_hsv(*p)[1] for p in rgb.reshape(-1, 3)]
    laplacian = [
        (4 * luma[r, c] - luma[r - 1, c] - luma[r + 1, c] - luma[r, c - 1] - luma[r, c + 1]) / 4
        for r in range(1, height - 1)
        for c in range(1, width - 1)
    ]
    chroma = np.array([1, np.exp(2j * np.pi / 3), np.exp(4j * np.pi / 3)])
    mean = complex((rgb.reshape(-1, 3) @ chroma).mean())
    return {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "saturation": float(np.mean(saturations)),
        "hue": float(np.degrees(np.angle(mean)) % 360) if abs(mean) >= GREY_CHROMA else math.nan,
        "sharpness": float(np.sqrt(np.mean(np.square(laplacian)))),
    }


@pytest.mark.parametrize(("width", "height"), [(17, 23), (40, 31)])
def test_statistics_against_the_slow_way(width: int, height: int) -> None:
    view = pixels(photo(width, height))
    measured, expected = image_statistics(view), slow_statistics(view)
    assert set(measured) == set(expected) == set(IMAGE_STATISTICS)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=0.01 if name == "hue" else 0.003, nan_ok=True), name


def test_statistics_of_known_pictures() -> None:
    def flat(*colour: int) -> dict[str, float]:
        return image_statistics(np.full((16, 16, 3), colour, np.uint8))

    for colour, hue in (((255, 0, 0), 0), ((0, 255, 0), 120), ((0, 0, 255), 240), ((255, 255, 0), 60)):
        assert math.remainder(flat(*colour)["hue"] - hue, 360) == pytest.approx(0, abs=1e-6)
        assert flat(*colour)["saturation"] == 1
    assert math.isnan(flat(128, 128, 128)["hue"])
    assert flat(255, 255, 255)["brightness"] == 1
    assert flat(77, 10, 200)["contrast"] == flat(77, 10, 200)["sharpness"] == 0
    board = np.indices((16, 16)).sum(axis=0) % 2 * 255
    grey = image_statistics(board[:, :, None].astype(np.uint8))
    assert grey["contrast"] == pytest.approx(0.5)
    assert grey["sharpness"] == pytest.approx(1.0, abs=1e-6)
    assert grey["saturation"] == 0
    assert math.isnan(grey["hue"])
    assert math.isnan(image_statistics(np.zeros((2, 5, 3), np.uint8))["sharpness"])


@pytest.mark.parametrize("name", list(IMAGE_STATISTICS))
def test_statistics_stay_within_their_declared_range(name: str) -> None:
    field = IMAGE_STATISTICS[name].field
    assert field.name == name
    assert field.description
    assert field.formula
    assert field.suggests.endswith(".")
    for view in (
        rng.integers(0, 256, (20, 20, 3)),
        rng.integers(0, 2, (20, 20, 3)) * 255,
        pixels(photo(20, 20)),
    ):
        value = image_statistics(view.astype(np.uint8))[name]
        assert math.isnan(value) or field.low <= value <= field.high + 1e-6  # type: ignore[operator]
