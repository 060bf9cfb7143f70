"""What the causal tests do to a model's view: cover an area, paste one, give it the colours or sharpness of another.

Views are uint8 (height, width, channels), as `engine.preprocessing.Preprocessing.view` makes them; none is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

INPAINT_SIDE = 56
"""Longest side at which holes are inpainted: a biharmonic surface is smooth, and the full size would take seconds."""
BLUR_SHARE = 1.0
"""Standard deviation of the blur that covers an area, as a share of the side of a square as large as the area."""
SOFTEST, STRONGEST = 0.1, 8.0
"""Largest blur (as a share of the view's side) and largest unsharp amount that a sharpness is imposed with."""
BISECTIONS = 8
FLAT = 4.0
"""Least deviation (of 255) that a contrast is stretched from: a plain wall has none."""
MOST_STRETCHED = 4.0
"""A contrast is stretched at most so many times."""


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


def take_colours(
    view: Pixels, other: Pixels, around: Mask | None = None, there: Mask | None = None
) -> Pixels:
    """Give a view another's mean and deviation in each channel (Reinhard et al. 2001, in RGB).

    In RGB a translucent tint laid over an image is exactly such a change.

    Args:
        view: What changes.
        other: The example.
        around: Where the view's mean is taken, (height, width); None for everywhere.
        there: Where the example's is.
    """
    own, given = (image.reshape(-1, image.shape[2]).astype(np.float64) for image in (view, other))
    scale = given.std(axis=0) / np.maximum(own.std(axis=0), 1e-6)
    own_mean, given_mean = _values(view, around).mean(axis=0), _values(other, there).mean(axis=0)
    return _bytes((view - own_mean) * scale + given_mean)


def take_brightness(
    view: Pixels, other: Pixels, around: Mask | None = None, there: Mask | None = None
) -> Pixels:
    """Shift a view to another's mean lightness."""
    return _bytes(view + _values(_luma(other), there).mean() - _values(_luma(view), around).mean())


def take_contrast(
    view: Pixels, other: Pixels, around: Mask | None = None, there: Mask | None = None
) -> Pixels:
    """Stretch a view around its mean lightness to another's contrast."""
    own, given = _values(_luma(view), around), _values(_luma(other), there)
    scale = given.std() / max(float(own.std()), FLAT)
    middle = float(own.mean())
    return _bytes((view - middle) * min(float(scale), MOST_STRETCHED) + middle)


def take_sharpness(
    view: Pixels, other: Pixels, around: Mask | None = None, there: Mask | None = None
) -> Pixels:
    """Blur or sharpen a view until it is about as sharp as another."""
    wanted, own = _sharpness(other, there), _sharpness(view, around)
    softer = wanted < own
    change = _blurred if softer else _sharpened
    low, high = 0.0, SOFTEST * max(view.shape[:2]) if softer else STRONGEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        beyond = (_sharpness(change(view, middle), around) < wanted) == softer
        low, high = (low, middle) if beyond else (middle, high)
    return change(view, (low + high) / 2)


Take = Callable[[Pixels, Pixels, "Mask | None", "Mask | None"], Pixels]
IMPOSE: dict[str, Take] = {
    "hue": take_colours,
    "saturation": take_colours,
    "tint": take_colours,
    "brightness": take_brightness,
    "contrast": take_contrast,
    "sharpness": take_sharpness,
}
"""How each property of a whole image is imposed on a view, after the example of another view."""


def take_the_rest(
    name: str, view: Pixels, other: Pixels, around: Mask | None = None, there: Mask | None = None
) -> Pixels:
    """Give a view something else of another than the property: its sharpness, or its brightness and contrast."""
    if name in ("brightness", "contrast"):
        return take_sharpness(view, other, around, there)
    return take_contrast(take_brightness(view, other, around, there), other, around, there)


def _values(pixels: NDArray[Any], where: Mask | None) -> NDArray[np.float64]:
    """Return the pixels of a part, one a row; of the whole where no part is given or the part is empty."""
    if where is None or not where.any():
        return pixels.reshape(-1, *pixels.shape[2:]).astype(np.float64)
    return pixels[where].astype(np.float64)


def _luma(view: Pixels) -> Pixels:
    if view.shape[2] == 1:
        return view[:, :, 0]
    return np.asarray(Image.fromarray(view).convert("L"))


def _sharpness(view: Pixels, where: Mask | None) -> float:
    """Return the root mean square of the Laplacian over a part, as the image statistic has it over the whole."""
    y = _luma(view).astype(np.int16)
    if min(y.shape) < 3:
        return 0.0
    laplacian = 4 * y[1:-1, 1:-1] - y[:-2, 1:-1] - y[2:, 1:-1] - y[1:-1, :-2] - y[1:-1, 2:]
    values = _values(laplacian, None if where is None else where[1:-1, 1:-1])
    return float(np.sqrt((values**2).mean())) / (4 * 255)


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
