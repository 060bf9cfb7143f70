"""Draws the superpixels that speak most for and against a class; plain functions, without Streamlit."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cache.profiles import Superpixels
from dashboard.ordering import number_text
from dashboard.rendering import AGAINST, FOR, Pixels

SIDE = 480
"""Longer side of the picture in pixels."""
EDGE = 2
"""Half the width of an outline in pixels."""
_FADED, _TINT = 0.45, (0.18, 0.5)


def strongest(weights: NDArray[np.floating], k: int) -> tuple[list[int], list[int]]:
    """Return the superpixels that speak most for a class and most against it, at most ``k`` each, strongest first."""
    order = np.argsort(-np.abs(weights), kind="stable").tolist()
    return (
        [index for index in order if weights[index] > 0][:k],
        [index for index in order if weights[index] < 0][:k],
    )


def names(k: int, against: bool) -> list[str]:
    """Return what marks the superpixels in order: numbers for the class, letters against it, so that colour is not all."""
    return [chr(ord("A") + i) if against else str(i + 1) for i in range(k)]


def superpixel_picture(view: Pixels | None, found: Superpixels, k: int, side: int = SIDE) -> Pixels:
    """Draw the strongest superpixels over the model's view.

    Args:
        view: The model's view, RGB of any size; None leaves it grey.
        found: The superpixels with their weights.
        k: How many of each side are shown at most.
        side: Longer side of the result in pixels.

    Returns:
        RGB: the rest of the image fades, red areas speak for the class and blue ones against it, the stronger the
        deeper, each outlined and marked.
    """
    height, width = found.labels.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    labels = np.asarray(Image.fromarray(found.labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    pixels = np.full((*labels.shape, 3), 128.0)
    if view is not None:
        pixels = np.asarray(Image.fromarray(view).resize(size, Image.Resampling.BICUBIC), np.float64)
    grey = pixels @ [0.299, 0.587, 0.114]
    drawn = np.repeat((_FADED * grey + (1 - _FADED) * 150.0)[..., None], 3, axis=2)
    largest = float(np.abs(found.weights).max(initial=0.0)) or 1.0
    edges = _edges(labels)
    marks: list[tuple[tuple[int, int], str]] = []
    for chosen, colour, against in zip(
        strongest(found.weights, k), (FOR, AGAINST), (False, True), strict=True
    ):
        ink = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float64)
        for index, name in zip(chosen, names(len(chosen), against), strict=True):
            area = labels == index
            if not area.any():
                continue
            strength = abs(float(found.weights[index])) / largest
            tint = _TINT[0] + (_TINT[1] - _TINT[0]) * strength
            drawn[area] = (1 - tint) * pixels[area] + tint * ink
            drawn[area & edges] = ink
            marks.append((_middle(area), name))
    image = Image.fromarray(np.clip(np.rint(drawn), 0, 255).astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(11.0, side / 26))
    for place, name in marks:
        draw.text(place, name, "white", font, anchor="mm", stroke_width=3, stroke_fill="#10161c")
    return np.asarray(image)


def _edges(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell which pixels lie within `EDGE` of another superpixel or of the border."""
    padded = np.pad(labels, EDGE, constant_values=-1)
    height, width = labels.shape
    found = np.zeros(labels.shape, bool)
    for shift in range(2 * EDGE + 1):
        found |= padded[shift : shift + height, EDGE : EDGE + width] != labels
        found |= padded[EDGE : EDGE + height, shift : shift + width] != labels
    return found


def _middle(area: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel (x, y) of an area that lies nearest to its centre, so that a mark is never outside."""
    rows, columns = np.nonzero(area)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def superpixel_html(found: Superpixels, k: int, picture: str, alt: str) -> str:
    """Return the picture with the weights under it as bars about zero; every text is escaped.

    Args:
        found: The superpixels with their weights.
        k: How many of each side are shown at most.
        picture: The picture, a URL.
        alt: What it shows, for those who do not see it.
    """
    largest = float(np.abs(found.weights).max(initial=0.0)) or 1.0
    lines = []
    for chosen, colour, against in zip(
        strongest(found.weights, k), (FOR, AGAINST), (False, True), strict=True
    ):
        for index, name in zip(chosen, names(len(chosen), against), strict=True):
            weight = float(found.weights[index])
            half = 50 * abs(weight) / largest
            left = 50 - half if against else 50
            lines.append(
                f'<tr><td><b class="gl-tag" style="background:{colour}">{name}</b></td>'
                f'<td style="width:100%"><div class="gl-weight"><i style="left:{left:.1f}%;width:{half:.1f}%;'
                f'background:{colour}"></i></div></td><td class="figure">{escape(number_text(weight))}</td></tr>'
            )
    body = "".join(lines) or "<tr><td>No superpixel speaks for or against this class.</td></tr>"
    return (
        f'<img class="gl-superpixels" src="{picture}" alt="{escape(alt)}">'
        f'<table class="gl-table gl-weights"><tbody>{body}</tbody></table>'
    )
