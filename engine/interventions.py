"""What the causal tests do to a model's view: cover an area, paste one, give it the colours or sharpness of another.

Views are uint8 (height, width, channels), as `engine.preprocessing.Preprocessing.view` makes them; none is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from engine.image_statistics import image_statistics

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

INPAINT_SIDE = 56
"""Longest side at which holes are inpainted: a biharmonic surface is smooth, and the full size would take seconds."""
BLUR_SHARE = 1.0
"""Standard deviation of the blur that covers an area, as a share of the side of a square as large as the area."""
SOFTEST, STRONGEST = 0.1, 8.0
"""Largest blur (as a share of the view's side) and largest unsharp amount that a sharpness is imposed with."""
BISECTIONS = 8


def blur_fill(view: Pixels, mask: Mask) -> Pixels:
    """Cover an area (height, width) with a strong blur of the view."""
    return np.where(mask[:, :, None], _blurred(view, BLUR_SHARE * float(np.sqrt(mask.sum()))), view)


def mean_fill(view: Pixels, mask: Mask) -> Pixels:
    """Cover an area with the mean colour of what lies around it; of the view where nothing does."""
    around = view[~mask] if not mask.all() else view.reshape(-1, view.shape[2])
    return np.where(mask[:, :, None], np.rint(around.mean(axis=0)).astype(np.uint8), view)


def inpaint_fill(view: Pixels, mask: Mask) -> Pixels:
    """Cover an area with the biharmonic surface through its surroundings (Damelin & Hoang 2018, by scikit-image)."""
    from skimage.restoration import inpaint_biharmonic

    if mask.all():
        return mean_fill(view, mask)
    height, width = mask.shape
    scale = min(1.0, INPAINT_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # A small cell is a hole as soon as a part of it is, or the covered content would bleed into the surface; the
    # surface is then only looked at inside the mask.
    hole = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0
    if hole.all():
        return mean_fill(view, mask)
    small = _resized(view, size, Image.Resampling.BOX).astype(np.float64) / 255
    surface = inpaint_biharmonic(small, hole, channel_axis=-1)
    filled = _resized(_bytes(surface * 255), (width, height), Image.Resampling.BILINEAR)
    return np.where(mask[:, :, None], filled, view)


FILLS: dict[str, Callable[[Pixels, Mask], Pixels]] = {
    "blur": blur_fill,
    "mean": mean_fill,
    "inpaint": inpaint_fill,
}
"""The fills of the deletion test: an image counts when most of them change its prediction."""


def paste(receiver: Pixels, donor: Pixels, mask: Mask, shift: tuple[int, int] = (0, 0)) -> Pixels:
    """Paste what lies under a mask of the donor into the receiver.

    Args:
        receiver: Where it goes.
        donor: Where it comes from, of the same size.
        mask: (height, width) of the donor.
        shift: Rows down and columns right that it moves by; it must stay within the view.
    """
    rows, columns = np.nonzero(mask)
    pasted = receiver.copy()
    pasted[rows + shift[0], columns + shift[1]] = donor[rows, columns]
    return pasted


def take_colours(view: Pixels, other: Pixels) -> Pixels:
    """Give a view another's mean and deviation in each channel (Reinhard et al. 2001, in RGB).

    In RGB a translucent tint laid over an image is exactly such a change.
    """
    own, given = (image.reshape(-1, image.shape[2]).astype(np.float64) for image in (view, other))
    scale = given.std(axis=0) / np.maximum(own.std(axis=0), 1e-6)
    return _bytes((view - own.mean(axis=0)) * scale + given.mean(axis=0))


def take_brightness(view: Pixels, other: Pixels) -> Pixels:
    """Shift a view to another's mean lightness."""
    return _bytes(view + 255 * (_statistic(other, "brightness") - _statistic(view, "brightness")))


def take_contrast(view: Pixels, other: Pixels) -> Pixels:
    """Stretch a view around its mean lightness to another's contrast."""
    middle = 255 * _statistic(view, "brightness")
    scale = _statistic(other, "contrast") / max(_statistic(view, "contrast"), 1e-6)
    return _bytes((view - middle) * scale + middle)


def take_sharpness(view: Pixels, other: Pixels) -> Pixels:
    """Blur or sharpen a view until it is about as sharp as another."""
    wanted = _statistic(other, "sharpness")
    softer = wanted < _statistic(view, "sharpness")
    change = _blurred if softer else _sharpened
    low, high = 0.0, SOFTEST * max(view.shape[:2]) if softer else STRONGEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beyond = (_statistic(change(view, middle), "sharpness") < wanted) == softer
        low, high = (low, middle) if beyond else (middle, high)
    return change(view, (low + high) / 2)


IMPOSE: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "hue": take_colours,
    "saturation": take_colours,
    "tint": take_colours,
    "brightness": take_brightness,
    "contrast": take_contrast,
    "sharpness": take_sharpness,
}
"""How each property of a whole image is imposed on a view, after the example of another view."""


def take_the_rest(name: str, view: Pixels, other: Pixels) -> Pixels:
    """Give a view something else of another than the property: its sharpness, or its brightness and contrast."""
    if name in ("brightness", "contrast"):
        return take_sharpness(view, other)
    return take_contrast(take_brightness(view, other), other)


def _statistic(view: Pixels, name: str) -> float:
    value = image_statistics(view)[name]
    return value if np.isfinite(value) else 0.0


def _bytes(values: NDArray[np.floating[Any]]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _blurred(view: Pixels, deviation: float) -> Pixels:
    blur = ImageFilter.GaussianBlur(deviation)
    return _by_channel(view, lambda channel: channel.filter(blur))


def _sharpened(view: Pixels, amount: float) -> Pixels:
    soft = _blurred(view, 1.0).astype(np.float64)
    return _bytes(view + amount * (view - soft))


def _resized(view: Pixels, size: tuple[int, int], resampling: Image.Resampling) -> Pixels:
    if size == (view.shape[1], view.shape[0]):
        return view
    return _by_channel(view, lambda channel: channel.resize(size, resampling))


def _by_channel(view: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    changed = [change(Image.fromarray(view[:, :, c])) for c in range(view.shape[2])]
    return np.asarray(np.stack([np.asarray(channel) for channel in changed], axis=2), np.uint8)
