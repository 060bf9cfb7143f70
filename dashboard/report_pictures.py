"""The pictures of a report: thumbnails without whatever stood in their files, and attention to lay over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cache import profiles, queries
from cache.catalog import Catalog
from cache.filters import Filter
from dashboard.rendering import (
    COLOURS,
    SIGNED_COLOURS,
    ZERO,
    FloatMap,
    data_url,
    decode_image,
    image_bytes,
    mean_image,
    overlay_pixels,
    quantise,
    quantise_signed,
)

OVERLAY_SIDE = 56
"""Pixels of an overlay's longest side: what the browser smooths up to a thumbnail's size."""
OVERLAY_OPACITY = 0.72
AVERAGED = 48
"""Thumbnails that a mean picture is made of."""
MEAN_SIZE = 192


@dataclass(frozen=True)
class Picture:
    """An image and the attention on it, both as ``data:`` URLs; either is empty where there is none.

    Attributes:
        image: The model's view, encoded anew: nothing but its pixels is left.
        overlay: The map, to be stretched over it.
        width: Of the image, in pixels.
        height: Of the image.
    """

    image: str
    overlay: str
    width: int = 1
    height: int = 1


def overlay_url(attribution: FloatMap | None, signed: bool = False) -> str:
    """Return a map as a small transparent picture; empty where it has nothing to show."""
    if attribution is None:
        return ""
    values = quantise_signed(attribution) if signed else quantise(attribution)
    if values is None:
        return ""
    height, width = values.shape
    scale = OVERLAY_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if not signed:
        pixels = overlay_pixels(values.astype(np.float32), size, OVERLAY_OPACITY)
    else:
        smooth = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
        strength = np.clip(np.abs(smooth.astype(np.float32) - ZERO) / (255 - ZERO), 0, 1)
        alpha = np.rint(255 * OVERLAY_OPACITY * strength).astype(np.uint8)
        pixels = np.dstack([SIGNED_COLOURS[smooth.astype(np.intp)], alpha]).astype(np.uint8)
    return data_url(image_bytes(pixels, quality=70))


def sample_pictures(
    catalog: Catalog, sample_ids: Iterable[str], method: str, target: str
) -> dict[str, Picture]:
    """Return the picture of each sample, with the map of a method where there is one."""
    wanted = list(dict.fromkeys(sample_ids))
    thumbnails = profiles.thumbnails(catalog, wanted)
    maps = profiles.maps(catalog, wanted, method, target) if method else {}
    signed = bool(catalog.manifest.methods.get(method, {}).get("signed"))
    found: dict[str, Picture] = {}
    for sample_id in wanted:
        pixels = decode_image(thumbnails[sample_id]) if sample_id in thumbnails else None
        if pixels is None:
            found[sample_id] = Picture("", "")
            continue
        overlay = overlay_url(maps.get(sample_id), signed)
        image = data_url(image_bytes(pixels, quality=80))
        found[sample_id] = Picture(image, overlay, pixels.shape[1], pixels.shape[0])
    return found


def mean_picture(catalog: Catalog, filter_: Filter, method: str, target: str) -> Picture | None:
    """Return the average image of a filter's samples under their average attention; None where there is none."""
    mean = queries.mean_map(catalog, filter_, method, target) if method else None
    if mean is None or mean.p is None:
        return None
    width, height = _view_size(catalog)
    images = profiles.thumbnails(catalog, queries.draw(catalog, filter_, AVERAGED))
    pixels = mean_image(images.values(), (width, height))
    if pixels is None:
        return None
    return Picture(data_url(image_bytes(pixels, quality=75)), overlay_url(mean.p), width, height)


def scale_url(width: int = 128) -> str:
    """Return the colour map as a bar."""
    row = COLOURS[np.linspace(0, 255, width).astype(np.intp)]
    return data_url(image_bytes(np.broadcast_to(row, (6, width, 3)).copy(), quality=90))


def _view_size(catalog: Catalog) -> tuple[int, int]:
    size = catalog.manifest.preprocessing.get("size") or [1, 1]
    height, width = float(size[0]), float(size[-1])
    scale = MEAN_SIZE / max(height, width, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))
