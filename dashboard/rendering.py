"""Turns maps and thumbnails into pixels for the browser; plain functions, without Streamlit.

Scaling happens here and only here: what is stored and measured stays as the method's paper defines it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cache.maps import area_matrix

Pixels = npt.NDArray[np.uint8]
FloatMap = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Palette:
    """Colours that tell things apart in both themes and for colour-blind people (Okabe and Ito, 2008)."""

    right: str = "#2E86C8"
    wrong: str = "#DB6114"
    neutral: str = "#868E99"
    accent: str = "#1494A8"


PALETTE = Palette()

MAP_LIMIT = 28
"""Longest side of a map that a gallery carries; finer maps are resampled by area."""
OUTLIERS = 0.01
"""Share of the cells of a fine map that are drawn as if they were no larger than the rest."""
OVERLAY_FLOOR = 0.22
"""Share of the overlay's opacity that stays where there is no attention, so that the rest of the image recedes."""

# Inferno (van der Walt and Smith, 2015; CC0): lightness rises evenly, and its order survives colour blindness.
_INFERNO = (
    "#000004", "#160b39", "#420a68", "#6a176e", "#932667", "#bc3754",
    "#dd513a", "#f37819", "#fca50a", "#f6d746", "#fcffa4",
)  # fmt: skip


# From blue over nearly white to red (after ColorBrewer's RdBu, Brewer 2002; Apache 2.0): safe for the colour-blind, and
# the way round that Shapley values are usually drawn.
_DIVERGING = (
    "#1b5a9e", "#3a87bd", "#7fb8d8", "#c3dcea", "#f4f4f4", "#fbd3bf", "#f0997a", "#d55747", "#b2182b",
)  # fmt: skip
FOR, AGAINST = _DIVERGING[-1], _DIVERGING[0]
"""What speaks for a class and what speaks against it."""
ZERO = 128
"""The byte that a signed map has where it is 0."""


def _colour_table(colours: Sequence[str], middle: float | None = None) -> Pixels:
    """Return 256 colours between anchors; byte ``middle`` has the anchor in the middle, where it is given."""
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.float64)
    last = len(anchors) - 1
    position = np.linspace(0, last, 256)
    if middle is not None:
        position = np.clip(last / 2 * (1 + (np.arange(256) - middle) / (255 - middle)), 0, last)
    channels = [np.interp(position, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


COLOURS = _colour_table(_INFERNO)
"""The colour map: 256 × RGB, from no attention to the most."""
SIGNED_COLOURS = _colour_table(_DIVERGING, ZERO)
"""The colour map of signed maps: 256 × RGB, from what speaks most against the class to what speaks most for it."""


def colour_scale() -> list[list[float | str]]:
    """Return the colour map as Plotly takes it."""
    return [[i / (len(_INFERNO) - 1), colour] for i, colour in enumerate(_INFERNO)]


def for_the_eye(attribution: FloatMap) -> npt.NDArray[np.float32] | None:
    """Scale a map's positive part to 0..1 by minimum and maximum; None where there is nothing to see."""
    positive = np.maximum(np.asarray(attribution, np.float64), 0)
    if positive.size == 0 or not np.isfinite(positive).all() or not positive.max() > 0:
        return None
    scaled: npt.NDArray[np.float32] = _between(positive[None])[0]
    return scaled


def quantise(attribution: FloatMap, limit: int = MAP_LIMIT) -> Pixels | None:
    """Return a map as bytes 0..255 for the browser, at most ``limit`` cells a side; None where there is nothing to see."""
    return quantise_all(np.asarray(attribution)[None], limit=limit)[0]


def quantise_signed(attribution: FloatMap, limit: int = MAP_LIMIT) -> Pixels | None:
    """Return a signed map as bytes about `ZERO`, the largest magnitude 127 from it; None where there is nothing to see."""
    return quantise_all(np.asarray(attribution)[None], signed=True, limit=limit)[0]


def quantise_all(attributions: FloatMap, signed: bool = False, limit: int = MAP_LIMIT) -> list[Pixels | None]:
    """Return maps of one shape, (n, height, width), as `quantise` or `quantise_signed` returns each of them."""
    values = np.asarray(attributions, np.float64)
    if values.size == 0:
        return [None] * len(values)
    if not signed:
        values = np.maximum(values, 0)
    finite = np.isfinite(values).all(axis=(1, 2), keepdims=True)
    values = _resampled(np.where(finite, values, 0), limit)
    magnitudes = np.abs(values)
    largest = _ceiling(magnitudes)
    if signed:
        shares = values / np.where(largest > 0, largest, 1)[:, None, None]
        cells = np.rint(ZERO + (255 - ZERO) * np.clip(shares, -1, 1))
    else:
        cells = np.rint(_between(np.minimum(magnitudes, largest[:, None, None])) * 255)
    shown = (largest > 0).tolist()
    return [one if seen else None for one, seen in zip(cells.astype(np.uint8), shown, strict=True)]


def _between(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Scale each of several maps to 0..1 by its minimum and maximum; a constant one is 1."""
    low = values.min(axis=(1, 2), keepdims=True)
    span = values.max(axis=(1, 2), keepdims=True) - low
    return np.where(span > 0, (values - low) / np.where(span > 0, span, 1), 1).astype(np.float32)


def _ceiling(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what is drawn strongest in each of several maps: the largest value, in fine maps that which `OUTLIERS` of the cells exceed.

    A gradient's few largest pixels would leave the rest too faint to see.
    """
    highest: npt.NDArray[np.float64] = values.max(axis=(1, 2))
    if max(values.shape[1:]) <= MAP_LIMIT:
        return highest
    usual = np.quantile(values, 1 - OUTLIERS, axis=(1, 2))
    return np.where(usual > 0, usual, highest)


def _resampled(values: npt.NDArray[np.float64], limit: int) -> npt.NDArray[np.float64]:
    """Bring finite maps to at most ``limit`` cells a side, by area."""
    height, width = values.shape[1:]
    if max(height, width) <= limit:
        return values
    scale = limit / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    return np.asarray(area_matrix(height, rows) @ values @ area_matrix(width, columns).T)


def overlay_pixels(attribution: FloatMap, size: tuple[int, int], opacity: float = 1.0) -> Pixels:
    """Colour a map for laying over an image.

    Args:
        attribution: The map (h, w), unscaled.
        size: Width and height of the result in pixels.
        opacity: Opacity where attention is highest, 0 to 1.

    Returns:
        RGBA (height, width, 4); fully transparent where the map has nothing to show.
    """
    width, height = size
    scaled = for_the_eye(attribution)
    if scaled is None:
        return np.zeros((height, width, 4), np.uint8)
    smooth = Image.fromarray(scaled).resize((width, height), Image.Resampling.BICUBIC)
    value = np.clip(np.asarray(smooth), 0, 1)
    alpha = opacity * (OVERLAY_FLOOR + (1 - OVERLAY_FLOOR) * value)
    return np.dstack(
        [COLOURS[np.rint(value * 255).astype(np.intp)], np.rint(alpha * 255).astype(np.uint8)]
    ).astype(np.uint8)


def overlay_png(attribution: FloatMap, size: tuple[int, int], opacity: float = 1.0) -> bytes:
    """Return `overlay_pixels` as a PNG."""
    return _encode(Image.fromarray(overlay_pixels(attribution, size, opacity)), "PNG")


def colour_bar(width: int = 256, height: int = 8) -> bytes:
    """Return the colour map as a horizontal bar, a PNG."""
    row = COLOURS[np.linspace(0, 255, width).astype(np.intp)]
    return _encode(Image.fromarray(np.broadcast_to(row, (height, width, 3)).copy()), "PNG")


def emblem(side: int = 64) -> Image.Image:
    """Draw the dashboard's mark, a gaze in a lake."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    gaze = np.clip(1 - np.hypot(x - 0.12, y + 0.1) / 0.42, 0, 1)
    inside = np.clip((0.5 - np.hypot(x, y)) * side, 0, 1)
    colours = np.where((gaze > 0.12)[..., None], COLOURS[np.rint(gaze * 255).astype(np.intp)], (11, 114, 133))
    return Image.fromarray(np.dstack([colours, np.rint(inside * 255)]).astype(np.uint8))


@lru_cache(maxsize=1)
def emblem_png() -> bytes:
    """Return the dashboard's mark as a PNG: every run of a page names it."""
    return _encode(emblem(), "PNG")


def decode_image(data: bytes) -> Pixels | None:
    """Decode a thumbnail or a small image into RGB (h, w, 3), upright; None where the bytes are no image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def mean_image(thumbnails: Iterable[bytes], size: tuple[int, int] = (224, 224)) -> Pixels | None:
    """Average thumbnails pixel by pixel at the given width and height; None where there is none to average."""
    total = np.zeros((size[1], size[0], 3))
    count = 0
    for data in thumbnails:
        pixels = decode_image(data)
        if pixels is not None:
            total += np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
            count += 1
    return np.rint(total / count).astype(np.uint8) if count else None


def image_bytes(pixels: Pixels, kind: str = "WEBP", quality: int = 85) -> bytes:
    """Encode RGB or RGBA pixels for the browser."""
    return _encode(Image.fromarray(pixels), kind, quality)


def data_url(data: bytes, mime: str = "image/webp") -> str:
    """Return bytes as a ``data:`` URL."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _encode(image: Image.Image, kind: str, quality: int = 85) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": quality} if kind in ("WEBP", "JPEG") else {}))
    return buffer.getvalue()
