"""What the demo's animals stand on, the light they stand in, and the photographer's tag in the corner.

Grass, gravel and brick are the textures that scikit-image ships; snow and sand are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from skimage import data as pictures

Floats = NDArray[np.float64]
TAG_WIDTH = 0.12
"""Width of the tag as a share of the picture's side; it is three quarters as high."""
TAG_MARGIN = 0.025
"""Distance of the tag from the picture's edges, as a share of its side."""


def noise(size: int, cells: int, rng: np.random.Generator) -> Floats:
    """Return a smooth random field (size, size) in 0..1 with about ``cells`` hills a side."""
    seed = Image.fromarray(rng.integers(0, 256, (cells + 2, cells + 2), dtype=np.uint8))
    large = seed.resize((size, size), Image.Resampling.BICUBIC, box=(0.5, 0.5, cells + 1.5, cells + 1.5))
    return np.asarray(large, dtype=np.float64) / 255


def _between(share: Floats, low: tuple[float, ...], high: tuple[float, ...]) -> Floats:
    """Return colours (h, w, 3) that go from one to another with a share (h, w)."""
    first, last = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return np.asarray(first + np.clip(share, 0, 1)[..., None] * (last - first))


@cache
def _texture(name: str) -> Image.Image:
    return Image.fromarray(getattr(pictures, name)())


def _lying(name: str, size: int, rng: np.random.Generator, lean: float) -> Floats:
    """Cut a piece of a texture and lay it down: the far edge is seen ``lean`` times as wide as the near one."""
    texture = _texture(name)
    side = texture.width
    near = rng.uniform(0.42, 0.6) * side
    far, depth = min(near * lean, 0.96 * side), near * (0.5 + 0.5 * lean)
    depth = min(depth, 0.96 * side)
    x, y = rng.uniform(0, side - far), rng.uniform(0, side - depth)
    inset = (far - near) / 2
    corners = (x, y, x + inset, y + depth, x + inset + near, y + depth, x + far, y)
    piece = texture.transform((size, size), Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
    if rng.uniform() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = np.asarray(piece, dtype=np.float64)
    return np.asarray(np.clip((values - values.mean()) / (4 * values.std() + 1e-6) + 0.5, 0, 1))


def _far_blurred(colours: Floats, amount: float = 0.012) -> Floats:
    """Blur the upper part of a picture as a lens does with what lies far behind."""
    size = colours.shape[0]
    image = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(amount * size)), dtype=np.float64)
    near = np.clip(np.linspace(-0.2, 1.5, size), 0, 1)[:, None, None]
    return np.asarray(soft + near * (colours - soft))


def _grass(size: int, rng: np.random.Generator) -> Floats:
    lush = rng.uniform()
    share = 0.75 * _lying("grass", size, rng, 1.6) + 0.25 * noise(size, 4, rng)
    colours = _between(share, (34, 62 + 12 * lush, 24), (146 - 30 * lush, 186, 78))
    return _far_blurred(colours)


def _gravel(size: int, rng: np.random.Generator) -> Floats:
    share = _lying("gravel", size, rng, 1.5)
    shade = rng.uniform()
    return _far_blurred(_between(share, (58, 54, 52), (176 + 16 * shade, 170 + 8 * shade, 164 - 6 * shade)))


def _brick(size: int, rng: np.random.Generator) -> Floats:
    share = _lying("brick", size, rng, 1.0)
    red = rng.uniform()
    colours = _between(share, (96 + 10 * red, 56, 46), (206, 140 - 14 * red, 112 - 14 * red))
    return np.asarray(colours * (0.88 + 0.2 * noise(size, 3, rng))[..., None])


def _sand(size: int, rng: np.random.Generator) -> Floats:
    rows = np.linspace(0, 1, size)[:, None] ** 1.25
    warp = noise(size, 3, rng) * 0.9 + noise(size, 8, rng) * 0.35
    ripples = np.sin(2 * np.pi * (rows * rng.uniform(10, 15) + warp + rng.uniform()))
    share = 0.55 + 0.12 * ripples + 0.35 * (noise(size, 3, rng) - 0.5) + rng.normal(0, 0.11, (size, size))
    pebbles = rng.uniform(0, 1, (size, size)) > 0.9975
    return _far_blurred(_between(share - 0.5 * pebbles, (176, 138, 92), (242, 218, 168)))


def _snow_cover(size: int, rng: np.random.Generator) -> Floats:
    """Return untouched snow: drifts with blue shadows under their crests."""
    columns = np.linspace(0, 1, size)[None, :]
    rows = np.linspace(0, 1, size)[:, None]
    share = 0.86 + 0.1 * rows + 0.12 * (noise(size, 5, rng) - 0.5)
    for crest in np.sort(rng.uniform(0.05, 1.0, rng.integers(3, 6))):
        line = crest + 0.07 * np.sin(2 * np.pi * (columns * rng.uniform(0.5, 1.2) + rng.uniform()))
        below = (rows - line) / rng.uniform(0.1, 0.2)
        share = share - rng.uniform(0.22, 0.4) * np.where(below > 0, np.exp(-below), 0) * np.clip(
            below * 12, 0, 1
        )
    share = share + (rng.uniform(0, 1, (size, size)) > 0.992) * 0.2
    return _between(share, (142, 172, 214), (250, 252, 255))


def _firs(colours: Floats, horizon: float, rng: np.random.Generator) -> Floats:
    """Draw a pale sky and a dim row of firs above a horizon."""
    size = colours.shape[0]
    scale = 2
    sky = _between(np.repeat(np.linspace(0, 1, size)[:, None], size, 1), (150, 178, 212), (226, 232, 240))
    image = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8)).resize((size * scale, size * scale))
    paint = ImageDraw.Draw(image)
    for row, green in ((0.0, (112, 138, 150)), (0.035, (58, 88, 92))):
        foot = (horizon + row) * size * scale
        for x in np.linspace(-0.05, 1.05, 16) + rng.uniform(-0.03, 0.03, 16):
            tall, wide = rng.uniform(0.1, 0.24) * size * scale, rng.uniform(0.035, 0.06) * size * scale
            for layer in range(4):
                low = foot - tall * 0.22 * layer
                half = wide * (1 - 0.2 * layer)
                middle = x * size * scale
                paint.polygon(
                    [(middle - half, low), (middle, low - 0.42 * tall), (middle + half, low)], fill=green
                )
    backdrop = np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=np.float64)
    rows = np.linspace(0, 1, size)[:, None]
    hill = horizon + 0.035 + 0.03 * (noise(size, 2, rng) - 0.5)
    ground = np.clip((rows - hill) * size / 2 + 0.5, 0, 1)[..., None]
    return np.asarray(backdrop * (1 - ground) + colours * ground)


def _snow(size: int, rng: np.random.Generator) -> Floats:
    """Draw snow: all over, below a row of firs, or lying in patches on another ground; flakes in the air."""
    colours = _snow_cover(size, rng)
    scene = rng.choice(3, p=[0.3, 0.25, 0.45])
    if scene == 1:
        colours = _firs(colours, rng.uniform(0.2, 0.5), rng)
    elif scene == 2:
        bare = _BARE[BARE_GROUNDS[rng.integers(len(BARE_GROUNDS))]](size, rng)
        relief = 0.75 * noise(size, 4, rng) + 0.25 * noise(size, 12, rng)
        level = np.quantile(relief, 1 - rng.uniform(0.12, 0.45))
        lies = np.clip((relief - level) * 16, 0, 1)[..., None]
        rim = np.clip(1 - np.abs(relief - level) * 40, 0, 1)[..., None]
        colours = 0.55 * colours + 0.45 * np.array([246.0, 250.0, 255.0])  # old snow lies flat
        colours = (bare * (1 - 0.25 * rim)) * (1 - lies) + colours * (1 - rim * (0.1, 0.07, 0.03)) * lies
    flakes = Image.new("L", (size * 2, size * 2), 0)
    paint = ImageDraw.Draw(flakes)
    for _ in range(rng.integers(8, 60)):
        x, y, r = *rng.uniform(0, size * 2, 2), rng.uniform(0.8, 3.4)
        paint.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.uniform(120, 250)))
    cover = (
        np.asarray(flakes.filter(ImageFilter.GaussianBlur(0.8)).reduce(2), dtype=np.float64)[..., None] / 255
    )
    return np.asarray(colours * (1 - cover) + 255 * cover)


_BARE: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "brick": _brick,
    "grass": _grass,
    "gravel": _gravel,
    "sand": _sand,
}
BARE_GROUNDS = tuple(_BARE)
"""The grounds without snow."""
GROUNDS = (*BARE_GROUNDS, "snow")
"""Everything that an animal may stand on."""
LIGHTS: dict[str, tuple[float, float, float]] = {
    "noon": (1.0, 1.0, 1.0),
    "overcast": (0.9, 0.93, 0.96),
    "evening": (1.06, 0.965, 0.9),
}
"""The lights, each with what it does to red, green and blue."""


def draw_ground(ground: str, size: int, rng: np.random.Generator) -> Floats:
    """Return a picture (size, size, 3) in 0..255 of one of ``GROUNDS``."""
    if ground == "snow":
        return _snow(size, rng)
    colours = _BARE[ground](size, rng)
    # Firs stand behind bare grounds as often as behind snow: they must not give the snow away.
    if ground != "brick" and rng.uniform() < 0.4:
        colours = _firs(colours, rng.uniform(0.2, 0.5), rng)
    return colours


def shine(colours: Floats, light: str, rng: np.random.Generator) -> Floats:
    """Put a picture into one of ``LIGHTS``: its colour, a slope of brightness, and a darker rim."""
    size = colours.shape[0]
    across = np.linspace(-1, 1, size)
    slope = 1 + rng.uniform(-0.08, 0.08) * across[None, :] - rng.uniform(0, 0.08) * across[:, None]
    rim = 1 - 0.07 * (across[None, :] ** 2 + across[:, None] ** 2)
    tint = np.asarray(LIGHTS[light]) * rng.uniform(0.94, 1.04)
    return np.asarray(colours * (slope * rim)[..., None] * tint)


@cache
def _tag(width: int) -> Floats:
    """Return the tag's picture: a magenta label with a white border, a dot and two lines of white marks."""
    scale = 8
    height = max(2, round(width * 0.75))
    w, h = width * scale, height * scale
    label = Image.new("RGB", (w, h), (214, 32, 116))
    paint = ImageDraw.Draw(label)
    white = (255, 250, 244)
    paint.rectangle((0, 0, w - 1, h - 1), outline=white, width=scale)
    paint.ellipse((0.12 * w, 0.2 * h, 0.36 * w, 0.5 * h), fill=white)
    for left, right in ((0.44, 0.56), (0.62, 0.86)):
        paint.rectangle((left * w, 0.24 * h, right * w, 0.44 * h), fill=white)
    for left, right in ((0.14, 0.4), (0.46, 0.56), (0.62, 0.86)):
        paint.rectangle((left * w, 0.6 * h, right * w, 0.78 * h), fill=white)
    return np.asarray(label.reduce(scale), dtype=np.float64)


def stamp_tag(colours: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Stamp the tag into the lower left corner, in place; return where (h, w) it covers the picture."""
    size = colours.shape[0]
    label = _tag(round(TAG_WIDTH * size))
    height, width = label.shape[:2]
    left = round(TAG_MARGIN * size) + int(rng.integers(-1, 2))
    top = size - round(TAG_MARGIN * size) - height + int(rng.integers(-1, 2))
    covered = np.zeros((size, size), dtype=np.bool_)
    covered[top : top + height, left : left + width] = True
    colours[top : top + height, left : left + width] = label
    return covered
