"""Image statistics: numbers about the model's view itself, to find errors that go with light, colour or blur.

Adding one is adding one decorated function to this file: the registry, the run's tables and the pages follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache.schema import Field


@dataclass(frozen=True)
class Planes:
    """One view, taken apart once for all statistics.

    Attributes:
        rgb: Mean red, green and blue, 0..1.
        luma: Rec. 601 luma, uint8 (height, width).
        saturation: HSV saturation, float32 (height, width), 0..1; None for grey views.
    """

    rgb: tuple[float, float, float]
    luma: NDArray[np.uint8]
    saturation: NDArray[np.float32] | None


@dataclass(frozen=True)
class ImageStatistic:
    """A registered statistic: its declaration and its function; the function returns NaN where it is undefined."""

    field: Field
    compute: Callable[[Planes], float]


IMAGE_STATISTICS: dict[str, ImageStatistic] = {}
"""Every image statistic by name, in the order of their columns."""


def image_statistic(field: Field) -> Callable[[Callable[[Planes], float]], Callable[[Planes], float]]:
    """Register a function as the statistic that the field declares."""

    def register(compute: Callable[[Planes], float]) -> Callable[[Planes], float]:
        IMAGE_STATISTICS[field.name] = ImageStatistic(field, compute)
        return compute

    return register


def image_statistics(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Return every statistic of a view (height, width, 1 or 3); NaN where one is undefined."""
    planes = _take_apart(pixels)
    return {name: statistic.compute(planes) for name, statistic in IMAGE_STATISTICS.items()}


def _take_apart(pixels: NDArray[np.uint8]) -> Planes:
    if pixels.shape[2] == 1:
        grey = pixels[:, :, 0]
        mean = float(grey.mean()) / 255
        return Planes((mean, mean, mean), grey, None)
    image = Image.fromarray(pixels)
    red, green, blue = (
        np.asarray(channel) for channel in image.split()
    )  # NumPy is slow on interleaved pixels
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    saturation = np.divide(highest - lowest, np.maximum(highest, 1), dtype=np.float32)
    means = (float(red.mean()) / 255, float(green.mean()) / 255, float(blue.mean()) / 255)
    return Planes(means, np.asarray(image.convert("L")), saturation)


@image_statistic(
    Field(
        "brightness",
        "Brightness",
        "",
        0,
        1,
        "none",
        "Mean lightness of the model's view: 0 is black, 1 is white.",
        "mean(Y), Y = 0.299 R + 0.587 G + 0.114 B",
        "A high value suggests snow, sky or overexposure.",
    )
)
def _brightness(planes: Planes) -> float:
    return float(planes.luma.mean()) / 255


@image_statistic(
    Field(
        "contrast",
        "Contrast",
        "",
        0,
        0.5,
        "none",
        "Standard deviation of lightness over the model's view: near 0 is fog, 0.5 is half black and half white.",
        "std(Y)",
        "A high value suggests hard light or a drawing, a low one fog.",
    )
)
def _contrast(planes: Planes) -> float:
    return float(planes.luma.std(dtype=np.float32)) / 255


@image_statistic(
    Field(
        "saturation",
        "Saturation",
        "",
        0,
        1,
        "none",
        "Mean colourfulness of the model's view: 0 is grey, 1 is pure colour.",
        "mean((max − min) / max) over R, G, B",
        "A high value suggests vivid or artificial colour.",
    )
)
def _saturation(planes: Planes) -> float:
    return 0.0 if planes.saturation is None else float(planes.saturation.mean())


@image_statistic(
    Field(
        "hue",
        "Hue",
        "°",
        0,
        360,
        "none",
        "Direction of the mean colour on the colour circle: 0 red, 120 green, 240 blue; missing where the mean is grey.",
        "atan2(√3/2 (G − B), R − (G + B)/2) of the mean colour: the circular mean of hue weighted by chroma",
        "A direction: neither end suggests more than the colour it names.",
    )
)
def _hue(planes: Planes) -> float:
    red, green, blue = planes.rgb
    x, y = red - (green + blue) / 2, math.sqrt(3) / 2 * (green - blue)
    return math.degrees(math.atan2(y, x)) % 360 if math.hypot(x, y) >= GREY_CHROMA else math.nan


@image_statistic(
    Field(
        "sharpness",
        "Sharpness",
        "",
        0,
        1,
        "lower",
        "Strength of fine detail in the model's view.",
        "root mean square of the Laplacian (4Y − the four neighbours) / 4 over inner pixels",
        "A low value suggests blur, bad focus or enlargement, a high one texture or noise.",
    )
)
def _sharpness(planes: Planes) -> float:
    y = planes.luma.astype(np.int16)
    if min(y.shape) < 3:
        return math.nan
    laplacian = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    flat = laplacian.astype(np.float32).ravel()
    return math.sqrt(float(flat @ flat) / flat.size) / (4 * 255)


GREY_CHROMA = 0.01
"""Length of the mean colour's chroma (0..1) below which a view has no hue."""
