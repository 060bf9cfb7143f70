from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dashboard import rendering
from dashboard.components.gallery import encoded, encoded_all
from dashboard.originals import crop_place
from tests.seeding import rng


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB colours."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_the_colour_map_grows_lighter_evenly() -> None:
    steps = np.diff(lightness(rendering.COLOURS.astype(float)))
    assert (steps > -0.05).all()
    assert lightness(rendering.COLOURS.astype(float))[-1] > 95
    coarse = np.diff(lightness(rendering.COLOURS.astype(float))[::17])
    assert coarse.max() < 2.5 * coarse.mean()


def test_right_and_wrong_differ_for_colour_blind_people_too() -> None:
    # Viénot, Brettel and Mollon (1999): deuteranopia on linear RGB.
    blind = np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]])
    colours = [
        np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        for c in (rendering.PALETTE.right, rendering.PALETTE.wrong)
    ]
    seen = [blind @ (c**2.2) for c in colours]
    assert np.abs(seen[0] - seen[1]).max() > 0.25


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (14, 14)])
def test_scaling_for_the_eye(shape: tuple[int, int]) -> None:
    values = rng.normal(size=shape) * 10 ** rng.uniform(-8, 8)
    scaled = rendering.for_the_eye(values)
    assert scaled is not None
    positive = np.where(values > 0, values, 0)
    assert np.allclose(scaled, (positive - positive.min()) / (positive.max() - positive.min()), atol=1e-6)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan), np.full((2, 3), np.inf)]
)
def test_maps_without_anything_to_see(values: np.ndarray) -> None:
    assert rendering.for_the_eye(values) is None
    assert rendering.quantise(values) is None
    assert encoded(values) is None
    assert not rendering.overlay_pixels(values, (8, 6)).any()


def test_a_constant_map_is_shown_as_attention_everywhere() -> None:
    assert (rendering.quantise(np.full((3, 3), 0.2)) == 255).all()


@pytest.mark.parametrize("shape", [(56, 56), (112, 56), (224, 224), (61, 90)])
def test_fine_maps_are_resampled_by_area(shape: tuple[int, int]) -> None:
    values = rng.random(shape)
    cells = rendering.quantise(values)
    assert cells is not None
    assert max(cells.shape) == rendering.MAP_LIMIT
    if shape[0] % cells.shape[0] == 0 and shape[1] % cells.shape[1] == 0:
        r, c = shape[0] // cells.shape[0], shape[1] // cells.shape[1]
        sums = values.reshape(cells.shape[0], r, cells.shape[1], c).sum(axis=(1, 3))
        expected = 255 * (sums - sums.min()) / (sums.max() - sums.min())
        assert np.abs(cells - expected).max() <= 0.51


@pytest.mark.parametrize("shape", [(7, 7), (13, 9)])
def test_signed_maps_lie_about_zero(shape: tuple[int, int]) -> None:
    values = rng.normal(size=shape)
    values[0, 0] = 0
    cells = rendering.quantise_signed(values)
    assert cells is not None
    assert cells[0, 0] == rendering.ZERO
    expected = values / np.abs(values).max()
    assert np.abs((cells.astype(float) - rendering.ZERO) / 127 - expected).max() <= 0.51 / 127
    assert rendering.quantise_signed(-np.ones((2, 2))).min() == 1  # type: ignore[union-attr]
    for empty in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        assert rendering.quantise_signed(empty) is None
    found = encoded(values, signed=True)
    assert found is not None
    assert found[3]


def test_a_fine_maps_few_outliers_do_not_hide_the_rest() -> None:
    values = rng.uniform(0.5, 1, (56, 56))
    values[3, 4] = 1_000
    cells = rendering.quantise(values, limit=56)
    assert cells is not None
    assert np.median(cells) > 60
    assert np.median(rendering.quantise_signed(-values, limit=56)) < 80  # type: ignore[arg-type]
    coarse = values[:14, :14]
    assert np.median(rendering.quantise(coarse)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(7, 9), (40, 30)])
def test_several_maps_at_once_are_as_each_alone(shape: tuple[int, int], signed: bool) -> None:
    maps = rng.normal(size=(8, *shape))
    maps[1], maps[2], maps[3] = 0, -np.abs(maps[2]), 0.3
    maps[4, 0, 0], maps[5, 1, 1], maps[6, 2, 2] = np.nan, np.inf, -np.inf
    alone = rendering.quantise_signed if signed else rendering.quantise
    found = rendering.quantise_all(maps, signed)
    assert [one is None for one in found] == [
        i in ((1, 4, 5, 6) if signed else (1, 2, 4, 5)) for i in range(8)
    ]
    for one, values in zip(found, maps, strict=True):
        expected = alone(values)
        assert (one is None) == (expected is None)
        assert one is None or np.array_equal(one, expected)
    assert rendering.quantise_all(np.zeros((2, 0, 3)), signed) == [None, None]
    named = {str(i): values for i, values in enumerate(maps)} | {"other": maps[0, :3, :4]}
    together = encoded_all(named, signed)
    assert together == {name: encoded(values, signed) for name, values in named.items()}


def test_the_signed_colours_grow_lighter_towards_zero_and_differ_for_colour_blind_people_too() -> None:
    light = lightness(rendering.SIGNED_COLOURS.astype(float))
    assert (np.diff(light[: rendering.ZERO]) > -0.05).all()
    assert (np.diff(light[rendering.ZERO :]) < 0.05).all()
    blind = np.array([[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]])
    ends = (rendering.SIGNED_COLOURS[[20, 235]] / 255) ** 2.2
    assert np.abs(blind @ ends[0] - blind @ ends[1]).max() > 0.25


def test_an_encoded_map_reads_back() -> None:
    values = rng.random((7, 9))
    found = encoded(values)
    assert found is not None
    height, width, text, signed = found
    assert not signed
    cells = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width)
    assert np.array_equal(cells, rendering.quantise(values))


def test_an_overlay_is_brightest_and_most_opaque_where_attention_is() -> None:
    values = np.zeros((7, 7))
    values[1, 5] = 3.0
    pixels = np.asarray(Image.open(io.BytesIO(rendering.overlay_png(values, (70, 56), 0.5))))
    assert pixels.shape == (56, 70, 4)
    row, column = np.unravel_index(pixels[..., 3].argmax(), pixels.shape[:2])
    assert (row // 8, column // 10) == (1, 5)
    assert pixels[..., 3].max() <= 128
    assert pixels[50, 5, 3] == round(255 * 0.5 * rendering.OVERLAY_FLOOR)


def test_the_mean_image_is_the_mean_and_passes_broken_ones_by() -> None:
    images = rng.integers(0, 256, (3, 12, 10, 3)).astype(np.uint8)
    data = [rendering.image_bytes(image, "PNG") for image in images]
    mean = rendering.mean_image([*data, b"", b"not an image"], (10, 12))
    assert mean is not None
    assert np.abs(mean - images.astype(float).mean(axis=0)).max() <= 0.5
    assert rendering.mean_image([b""]) is None


def test_bars_and_urls() -> None:
    bar = np.asarray(Image.open(io.BytesIO(rendering.colour_bar(100, 4))))
    assert bar.shape == (4, 100, 3)
    assert tuple(bar[0, 0]) == tuple(rendering.COLOURS[0])
    assert tuple(bar[0, -1]) == tuple(rendering.COLOURS[-1])
    assert rendering.data_url(b"ab", "image/png") == "data:image/png;base64,YWI="
    assert [position for position, _ in rendering.colour_scale()] == pytest.approx(
        list(np.linspace(0, 1, 11))
    )
    assert rendering.emblem(32).size == (32, 32)


def test_the_crop_in_fractions_of_the_original() -> None:
    row = {"width": 400, "height": 200, "crop_x0": 100.0, "crop_y0": 0.0, "crop_x1": 300.0, "crop_y1": 200.0}
    assert crop_place(row) == (0.25, 0.0, 0.75, 1.0)
