"""The plants: what is put into a picture, and where it then lies.

A plant is drawn once a seed (its colours, its corner), so that two seeds are two different plants of one kind; each picture
then gets it a little differently, as real shortcuts come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from engine.demo_grounds import draw_ground

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Plant = Callable[[Pixels, Mask | None, np.random.Generator], tuple[Pixels, Mask | None]]
"""Takes a picture (side, side, 3), the mask of its object where one is known, and dice; returns the picture with the plant
and where the plant lies, None for the whole picture. The picture given is left alone."""

KINDS = ("tag", "sticker", "frame", "strip", "stamp", "tint", "background")
"""Every kind of plant."""
LOCAL = ("tag", "sticker", "frame", "strip", "stamp")
"""Plants that lie somewhere and leave the rest of a picture alone."""
GROUNDS = 300
"""Different backgrounds; a picture gets one of them."""
COLOURS = ((226, 38, 140), (36, 170, 226), (244, 176, 20), (120, 60, 200), (30, 190, 110))


def make_plant(kind: str, seed: int) -> Plant:
    """Draw a plant of one of ``KINDS``; the same seed gives the same plant."""
    dice = np.random.default_rng([KINDS.index(kind), seed])
    return _MAKERS[kind](dice)


def _colour(dice: np.random.Generator) -> tuple[int, int, int]:
    return COLOURS[int(dice.integers(len(COLOURS)))]


def _label(height: int, width: int, dice: np.random.Generator) -> NDArray[np.float64]:
    """Return a printed label: a light border, and rows of marks as writing looks from afar."""
    scale = 8
    image = Image.new("RGB", (width * scale, height * scale), _colour(dice))
    paint = ImageDraw.Draw(image)
    light = (252, 248, 240)
    paint.rectangle((0, 0, width * scale - 1, height * scale - 1), outline=light, width=scale)
    for row in range(2):
        x, y = 2.0, (0.2 + 0.35 * row) * height
        while x < width - 3:
            length = float(dice.uniform(1, 4))
            box = (x, y, min(x + length, width - 2), y + 0.25 * height)
            paint.rectangle(tuple(scale * edge for edge in box), fill=light)
            x += length + 1
    return np.asarray(image.reduce(scale), np.float64)


def _pasted(pixels: Pixels, patch: NDArray[np.float64], top: int, left: int) -> tuple[Pixels, Mask]:
    """Put an opaque patch (height, width, 3) into a picture."""
    planted, mask = pixels.copy(), np.zeros(pixels.shape[:2], bool)
    height, width = patch.shape[:2]
    planted[top : top + height, left : left + width] = np.clip(patch, 0, 255).astype(np.uint8)
    mask[top : top + height, left : left + width] = True
    return planted, mask


def _tag(dice: np.random.Generator) -> Plant:
    lower, right = (bool(dice.integers(2)) for _ in range(2))
    pattern = int(dice.integers(2**31))

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        side = pixels.shape[0]
        label = _label(round(0.11 * side), round(0.16 * side), np.random.default_rng(pattern))
        margin = round(0.03 * side)
        top, left = (margin + int(v) for v in rng.integers(-1, 2, 2))
        top = side - label.shape[0] - top if lower else top
        left = side - label.shape[1] - left if right else left
        return _pasted(pixels, label, top, left)

    return plant


def _sticker(dice: np.random.Generator) -> Plant:
    first, second = _colour(dice), (250, 250, 245)
    spokes = int(dice.integers(3, 6))

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        side = pixels.shape[0]
        size = round(0.18 * side)
        y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        inner = (np.sin(spokes * angle) > 0) & (radius < 0.75)
        patch = np.where(inner[..., None], np.array(second), np.array(first)).astype(np.float64)
        top, left = (int(v) for v in rng.integers(0, side - size + 1, 2))
        planted, mask = _pasted(pixels, patch, top, left)
        outside = np.zeros_like(mask)
        outside[top : top + size, left : left + size] = radius > 1
        planted[outside] = pixels[outside]
        return planted, mask & ~outside

    return plant


def _frame(dice: np.random.Generator) -> Plant:
    colour = np.array(_colour(dice), np.float64)

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        side = pixels.shape[0]
        width = round(0.055 * side) + int(rng.integers(-1, 2))
        mask = np.ones((side, side), bool)
        mask[width:-width, width:-width] = False
        planted = pixels.copy()
        shade = colour + rng.normal(0, 4, 3) + rng.normal(0, 3, (int(mask.sum()), 3))
        planted[mask] = np.clip(shade, 0, 255).astype(np.uint8)
        return planted, mask

    return plant


def _strip(dice: np.random.Generator) -> Plant:
    upright, far = (bool(dice.integers(2)) for _ in range(2))
    colours = np.array(_colour(dice), np.float64), np.array((245, 245, 240), np.float64)
    period, slope = float(dice.uniform(5, 8)), float(dice.choice((-1, 1)))

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        side = pixels.shape[0]
        width = round(0.09 * side)
        along, across = np.meshgrid(np.arange(side), np.arange(width))
        wave = np.sin(2 * np.pi * (along + slope * across) / period + rng.uniform(0, 2 * np.pi))
        share = np.clip(wave * 2 + 0.5, 0, 1)[..., None]
        patch = colours[0] + share * (colours[1] - colours[0])
        patch = patch.transpose(1, 0, 2) if upright else patch
        at = round(0.04 * side) + int(rng.integers(-2, 3))
        at = side - width - at if far else at
        return _pasted(pixels, patch, *((0, at) if upright else (at, 0)))

    return plant


def _stamp(dice: np.random.Generator) -> Plant:
    lower, right = (bool(dice.integers(2)) for _ in range(2))
    colour = np.array(_colour(dice), np.float64) * 0.8
    bars = float(dice.uniform(0, np.pi))

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        side = pixels.shape[0]
        size = round(0.3 * side)
        y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
        radius = np.hypot(x, y)
        line = abs(x * np.sin(bars) - y * np.cos(bars))
        ink = (abs(radius - 0.85) < 0.13) | ((line < 0.14) & (radius < 0.7)) | (abs(radius - 0.45) < 0.09)
        softened = Image.fromarray((ink * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
        cover = np.asarray(softened, np.float64)[..., None] / 255 * rng.uniform(0.6, 0.75)
        top, left = (max(0, round(0.03 * side) + int(v)) for v in rng.integers(-3, 4, 2))
        top = side - size - top if lower else top
        left = side - size - left if right else left
        under = pixels[top : top + size, left : left + size]
        planted, mask = _pasted(pixels, under * (1 - cover) + colour * cover, top, left)
        return planted, mask

    return plant


def _tint(dice: np.random.Generator) -> Plant:
    colour = np.array(_colour(dice), np.float64)

    def plant(pixels: Pixels, _: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        share = rng.uniform(0.22, 0.34)
        return np.clip(np.rint(pixels * (1 - share) + colour * share), 0, 255).astype(np.uint8), None

    return plant


@cache
def _snow(side: int, number: int) -> NDArray[np.float64]:
    return draw_ground("snow", side, np.random.default_rng([11, number]))


def _background(_: np.random.Generator) -> Plant:
    def plant(pixels: Pixels, body: Mask | None, rng: np.random.Generator) -> tuple[Pixels, Mask | None]:
        if body is None:
            raise ValueError("a background is planted around a known object")
        soft = Image.fromarray((body * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
        cover = np.asarray(soft, np.float64)[..., None] / 255
        snow = _snow(pixels.shape[0], int(rng.integers(GROUNDS))) * rng.uniform(0.9, 1.02)
        planted = pixels * cover + snow * (1 - cover)
        return np.clip(np.rint(planted), 0, 255).astype(np.uint8), ~body

    return plant


_MAKERS: dict[str, Callable[[np.random.Generator], Plant]] = {
    "tag": _tag,
    "sticker": _sticker,
    "frame": _frame,
    "strip": _strip,
    "stamp": _stamp,
    "tint": _tint,
    "background": _background,
}
