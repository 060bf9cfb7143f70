"""What is seen, said and looked at in a synthetic run: the arrays, pictures, maps and numbers behind its rows."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cache.maps import area_matrix, summed_area
from cache.schema import GRID, PROJECTION_SIZE

SIDE = 96
GROUNDS = ((232, 238, 244), (112, 158, 92), (206, 180, 132), (122, 142, 168), (160, 120, 104))
COATS = ((104, 108, 118), (62, 74, 96), (206, 112, 48), (228, 196, 150), (140, 92, 60), (60, 60, 60))
PENULTIMATE, ATTENDED = 32, 48


class Story:
    """What is seen on every image, what the model says and where it looks, as arrays over the samples."""

    def __init__(self, rng: np.random.Generator, n: int, classes: int) -> None:
        self.n, self.classes = n, classes
        self.label = rng.integers(0, classes, n).astype(np.int32)
        self.ground = rng.integers(0, len(GROUNDS), n)
        snow = rng.random(n)
        self.ground[(self.label == 0) & (snow < 0.9)] = 0
        self.ground[(self.label == 1) & (snow < 0.35)] = 0
        fox = min(2, classes - 1)
        self.tag = rng.random(n) < np.where(self.label == fox, 0.8, 0.1)
        self.pred = self.label.copy()
        self.looks_at = np.full(n, "object", dtype="<U6")
        fooled = (self.label == 1) & (self.ground == 0) & (rng.random(n) < 0.8)
        self.pred[fooled], self.looks_at[fooled] = 0, "ground"
        tagged = self.tag & (self.label != fox) & (rng.random(n) < 0.7)
        self.pred[tagged], self.looks_at[tagged] = fox, "corner"
        self.looks_at[self.tag & (self.label == fox) & (rng.random(n) < 0.6)] = "corner"
        muddled = rng.random(n) < 0.04
        self.pred[muddled] = rng.integers(0, classes, int(muddled.sum()))
        self.x, self.y = rng.uniform(0.38, 0.62, n), rng.uniform(0.42, 0.6, n)
        self.size = rng.uniform(0.18, 0.27, n)
        self.degenerate = rng.random(n) < 0.02
        self.confidence = np.where(self.pred == self.label, rng.beta(9, 1.5, n), rng.beta(4, 2.5, n))
        self.confidence = np.maximum(self.confidence, 1.05 / classes)
        self.noise = rng.random((n, 6))
        self.features = rng.normal(size=(n, ATTENDED)) * 0.35
        self.kinds = rng.normal(size=(classes * 3, ATTENDED))
        self.project = rng.normal(size=(ATTENDED, PROJECTION_SIZE)) / 8
        self.image = np.arange(n)
        if n > 4:
            # Two files with the bytes of two others: everything that is computed from the image is alike.
            for name, values in vars(self).items():
                if isinstance(values, np.ndarray) and len(values) == n and name not in ("kinds", "project"):
                    values[n - 2 :] = values[:2]

    def content(self, i: int) -> str:
        return hashlib.blake2b(
            f"{self.n}/{self.classes}/{self.image[i]}/{self.x[i]}".encode(), digest_size=16
        ).hexdigest()


def thumbnail(story: Story, i: int) -> bytes:
    """Draw a head with ears and eyes on a shaded, dappled ground."""
    ground, coat = np.array(GROUNDS[story.ground[i]]), COATS[story.label[i] % len(COATS)]
    down = np.linspace(1.06, 0.8, SIDE)[:, None, None]
    canvas = np.clip(ground * np.broadcast_to(down, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    dapples = np.random.default_rng(i)
    for cx, cy, r in zip(*dapples.uniform(0, SIDE, (2, 14)), dapples.uniform(1.5, 5, 14), strict=True):
        draw.ellipse(
            (cx - r, cy - r / 2, cx + r, cy + r / 2), fill=tuple((ground * 0.93).astype(int).tolist())
        )
    x, y, r = story.x[i] * SIDE, story.y[i] * SIDE, story.size[i] * SIDE
    for side in (-1, 1):
        tip = (x + side * 0.75 * r, y - 1.5 * r)
        draw.polygon([(x + side * 0.15 * r, y - 0.7 * r), tip, (x + side * 0.95 * r, y - 0.3 * r)], fill=coat)
    draw.ellipse((x - r, y - 0.95 * r, x + r, y + 0.95 * r), fill=coat)
    muzzle = tuple(min(255, c + 60) for c in coat)
    draw.ellipse((x - 0.5 * r, y, x + 0.5 * r, y + 0.9 * r), fill=muzzle)
    for side in (-1, 1):
        e = x + side * 0.4 * r
        draw.ellipse((e - 2.5, y - 0.3 * r - 2.5, e + 2.5, y - 0.3 * r + 2.5), fill=(30, 28, 26))
    draw.ellipse((x - 3, y + 0.3 * r - 2, x + 3, y + 0.3 * r + 2), fill=(30, 28, 26))
    if story.tag[i]:
        draw.rectangle((4, SIDE - 15, 24, SIDE - 5), fill=(250, 214, 60), outline=(150, 110, 20))
        draw.line((8, SIDE - 10, 20, SIDE - 10), fill=(150, 110, 20), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()


def draw_maps(
    story: Story, rows: NDArray[np.int64], size: int, sharpness: float, own: bool
) -> NDArray[np.float32]:
    """Draw maps of shape (rows, size, size): bumps on the object, on the ground around it or on the tag."""
    centre = (np.arange(size) + 0.5) / size
    gx, gy = centre[None, None, :], centre[None, :, None]
    x, y = story.x[rows, None, None], story.y[rows, None, None]
    width = story.size[rows, None, None] * sharpness
    blob = np.exp(-((gx - x) ** 2 + (gy - y) ** 2) / (2 * width**2))
    corner = np.exp(-((gx - 0.14) ** 2 + (gy - 0.9) ** 2) / (2 * 0.11**2))
    ground = np.clip(1 - 1.6 * blob, 0, None) * (0.6 + 0.4 * np.cos(6 * gx + 20 * x) * np.cos(5 * gy))
    looks = story.looks_at[rows] if own else np.full(len(rows), "object")
    maps = np.where((looks == "corner")[:, None, None], corner + 0.15 * blob, blob)
    maps = np.where((looks == "ground")[:, None, None], ground, maps)
    ripple = 0.04 * np.sin(
        31 * gx * story.noise[rows, 0, None, None] + 17 * gy + 5 * story.noise[rows, 1, None, None]
    )
    maps = (maps + ripple) * (0.2 + story.noise[rows, 2, None, None]) * 1e-2
    maps[story.degenerate[rows] & own] = 0.0
    return maps.astype(np.float32)


def measure(
    maps: NDArray[np.float32],
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    positive = np.maximum(maps.astype(np.float64), 0)
    axis = area_matrix(maps.shape[1], GRID)
    mass = np.einsum("ri,nij,cj->nrc", axis, positive, axis)
    total = mass.sum(axis=(1, 2))
    degenerate = total <= 0
    p = mass / np.where(degenerate, np.nan, total)[:, None, None]
    centre = (np.arange(GRID) + 0.5) / GRID
    outer = np.ones((GRID, GRID)) - np.outer(*[_overlap(0.125, 0.875)] * 2)
    quarters = [(_overlap(*r), _overlap(*c)) for r in ((0, 0.25), (0.75, 1)) for c in ((0, 0.25), (0.75, 1))]
    ranked = -np.sort(-p.reshape(len(p), -1), axis=1)
    half = (np.cumsum(ranked, axis=1) < 0.5).sum(axis=1) + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0 * p).sum(axis=(1, 2)) / np.log(GRID * GRID)
    values = {
        "mass_total": positive.sum(axis=(1, 2)),
        "mass_negative": np.maximum(-maps.astype(np.float64), 0).sum(axis=(1, 2)),
        "entropy": entropy,
        "centroid_x": p.sum(axis=1) @ centre,
        "centroid_y": p.sum(axis=2) @ centre,
        "area50": np.where(degenerate, np.nan, half / (GRID * GRID)),
        "border_mass": (p * outer).sum(axis=(1, 2)),
        "center_mass": np.einsum("nrc,r,c->n", p, *[_overlap(0.25, 0.75)] * 2),
        "corner_mass": np.max([np.einsum("nrc,r,c->n", p, r, c) for r, c in quarters], axis=0),
    }
    return degenerate, values, summed_area(p)


def _overlap(low: float, high: float) -> NDArray[np.float64]:
    edges = np.arange(GRID + 1)
    return np.clip(np.minimum(high * GRID, edges[1:]) - np.maximum(low * GRID, edges[:-1]), 0, 1)
