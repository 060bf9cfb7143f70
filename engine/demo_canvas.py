"""Drawing for the demo: poses, smooth outlines, and layers of paint with tufts, hairs and relief.

A head is drawn in its own coordinates: x from −1 (left cheek) to 1, y from −1 (crown) to about 1 (chin), ears
above. A pose carries it into the picture. Everything is drawn at three times the final size and reduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]
Floats = NDArray[np.float64]

OVERSAMPLING = 3
"""Drawing is done at this multiple of the final size, then averaged down: smooth edges, thin hairs."""


@dataclass(frozen=True)
class Pose:
    """Where a head is and which way it looks.

    Attributes:
        x: Centre of the head, as a fraction of the picture's width.
        y: Centre of the head, as a fraction of the picture's height.
        scale: Half the width of the head, as a fraction of the picture's side.
        tilt: Rotation in the picture plane, radians, clockwise.
        yaw: Turn to the right (positive) or left, −1 to 1.
        pitch: Nod down (positive) or up, −1 to 1.
    """

    x: float
    y: float
    scale: float
    tilt: float
    yaw: float
    pitch: float

    def project(self, points: Floats, depth: float, size: int) -> Floats:
        """Carry (N, 2) head coordinates at a depth (0 skull, 1 nose) to pixels of a picture of the given side."""
        x = points[:, 0] * (1 - 0.10 * abs(self.yaw)) + 0.22 * self.yaw * depth
        y = points[:, 1] + 0.16 * self.pitch * depth
        cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = (x * cosine - y * sine) * (self.scale * size) + self.x * size
        pixels[:, 1] = (x * sine + y * cosine) * (self.scale * size) + self.y * size
        return pixels


@cache
def _spline(count: int, steps: int) -> Floats:
    """Return the matrix (count · steps, count) of a closed Catmull–Rom curve through ``count`` points."""
    t = np.arange(steps) / steps
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    basis = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    weights = powers @ basis
    matrix = np.zeros((count, steps, count))
    for segment in range(count):
        for neighbour in range(4):
            matrix[segment, :, (segment + neighbour - 1) % count] += weights[:, neighbour]
    return matrix.reshape(count * steps, count)


def smooth_outline(points: Points, steps: int = 8) -> Floats:
    """Return a closed Catmull–Rom curve through the points, ``steps`` samples a segment."""
    return np.asarray(_spline(len(points), steps) @ np.asarray(points, dtype=np.float64))


def flattened(pixels: Floats) -> list[float]:
    """Return (N, 2) pixels as x0, y0, x1, y1, …, which Pillow draws from."""
    values: list[float] = pixels.ravel().tolist()
    return values


def mirrored(points: Points) -> Points:
    """Return the points of the right half followed by their mirror images, as one closed outline."""
    return points + [(-x, y) for x, y in reversed(points) if x != 0]


def jitter(colour: Colour, rng: np.random.Generator, amount: float = 10) -> Colour:
    """Return the colour a little lighter or darker, warmer or colder."""
    light, warm = rng.normal(0, amount), rng.normal(0, amount / 3)
    shift = (light + warm, light, light - warm)
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shift, strict=True))
    return red, green, blue


class Layer:
    """A coat of paint and the silhouette that cuts it out."""

    def __init__(self, size: int, base: Colour, pose: Pose, rng: np.random.Generator) -> None:
        self.size = size
        self.pose = pose
        self.rng = rng
        self.coat = Image.new("RGB", (size, size), base)
        self.silhouette = Image.new("L", (size, size), 0)
        self.height = Image.new("L", (size, size), 0)
        self._paint = ImageDraw.Draw(self.coat)
        self._cut = ImageDraw.Draw(self.silhouette)
        self._raise = ImageDraw.Draw(self.height)

    def _pixels(self, points: Points, depth: float, tuft: float) -> list[float]:
        curve = smooth_outline(points)
        if tuft:
            ring = np.concatenate([curve[-1:], curve, curve[:1]])
            tangent = ring[2:] - ring[:-2]
            normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
            normal /= np.sqrt((normal**2).sum(axis=1, keepdims=True)) + 1e-9
            # The sign of the enclosed area says which way round the outline runs, so hairs point outwards.
            area = (curve * normal).sum() - curve.mean(axis=0) @ normal.sum(axis=0)
            hair = self.rng.uniform(-0.3, 1, (len(curve), 1)) * (np.arange(len(curve)) % 2)[:, None]
            curve = curve + tuft * hair * (normal * np.sign(area) + (0, 0.5))
        return flattened(self.pose.project(curve, depth, self.size))

    def outline(self, points: Points, colour: Colour, depth: float = 0.0, tuft: float = 0.03) -> None:
        """Add a shape to the silhouette and paint it."""
        pixels = self._pixels(points, depth, tuft)
        self._paint.polygon(pixels, fill=colour)
        self._cut.polygon(pixels, fill=255)
        self._raise.polygon(pixels, fill=130)

    def patch(
        self, points: Points, colour: Colour, depth: float = 0.0, tuft: float = 0.03, both: bool = False
    ) -> None:
        """Paint a marking, on both sides of the face if asked; only what lies on the silhouette will show."""
        for side in (1, -1) if both else (1,):
            self._paint.polygon(self._pixels([(side * x, y) for x, y in points], depth, tuft), fill=colour)

    def bulge(self, points: Points, depth: float, level: int) -> None:
        """Raise a part towards the light."""
        self._raise.polygon(self._pixels(points, depth, 0.0), fill=level)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, depth: float, turn: float = 0.0
    ) -> None:
        """Paint an ellipse, turned by an angle in radians."""
        angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        u, v = rx * np.cos(angle), ry * np.sin(angle)
        points = np.stack(
            [x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], axis=1
        )
        pixels = self.pose.project(points, depth, self.size)
        self._paint.polygon(flattened(pixels), fill=colour)

    def stroke(self, points: Points, colour: Colour, width: float, depth: float) -> None:
        """Paint a line through the points, its width in head coordinates."""
        pixels = self.pose.project(np.asarray(points, dtype=np.float64), depth, self.size)
        thickness = max(1, round(width * self.pose.scale * self.size))
        self._paint.line(flattened(pixels), fill=colour, width=thickness, joint="curve")

    def fur(self, count: int, centre: tuple[float, float], reach: tuple[float, float], length: float) -> None:
        """Comb the paint: short hairs that point away from a centre and carry the colour of their root."""
        rng = self.rng
        radius, angle = np.sqrt(rng.uniform(0.02, 1, count)), rng.uniform(0, 2 * np.pi, count)
        root = np.stack([radius * np.cos(angle) * reach[0], radius * np.sin(angle) * reach[1]], axis=1)
        flow = np.stack([np.cos(angle), np.sin(angle) + 0.35], axis=1) + rng.normal(0, 0.25, (count, 2))
        tip = root + length * rng.uniform(0.5, 1.3, (count, 1)) * flow
        start = self.pose.project(root + centre, 0.3, self.size)
        end = self.pose.project(tip + centre, 0.3, self.size)
        inside = ((start >= 0) & (start < self.size)).all(axis=1)
        start, end = start[inside], end[inside]
        columns, rows = start.astype(int).T
        colours = np.asarray(self.coat)[rows, columns].astype(np.float64)
        colours = np.clip(colours * rng.normal(1, 0.09, (len(colours), 1)), 0, 255).astype(int)
        for (x0, y0), (x1, y1), colour in zip(start.tolist(), end.tolist(), colours.tolist(), strict=True):
            self._paint.line((x0, y0, x1, y1), fill=tuple(colour), width=2)

    def reduced(self) -> tuple[Floats, Floats]:
        """Return the shaded colours (h, w, 3) in 0..255 and the coverage (h, w) in 0..1 at the final size."""
        colours = np.asarray(self.coat.reduce(OVERSAMPLING), dtype=np.float64)
        cover = np.asarray(self.silhouette.reduce(OVERSAMPLING), dtype=np.float64) / 255
        small = self.height.reduce(OVERSAMPLING)
        side = small.size[0]
        relief = (
            np.asarray(
                small.filter(ImageFilter.BoxBlur(0.025 * side)).filter(ImageFilter.BoxBlur(0.025 * side)),
                dtype=np.float64,
            )
            / 255
        )
        down, right = np.gradient(relief * 0.11 * side)
        # Light from the upper left: slopes that face it brighten, those that turn away darken.
        shade = np.clip(0.86 + 0.26 * relief + 0.34 * (right + 1.2 * down), 0.55, 1.18)
        return np.clip(colours * shade[..., None], 0, 255), cover


def shifted(values: Floats, down: int, right: int) -> Floats:
    """Move values down and right, repeating the first row and column."""
    rows, columns = np.arange(values.shape[0]) - down, np.arange(values.shape[1]) - right
    return np.asarray(values[np.maximum(rows, 0)][:, np.maximum(columns, 0)])


def blurred(values: Floats, radius: float) -> Floats:
    """Return a field of 0..1 blurred by a Gaussian of the given radius in pixels."""
    image = Image.fromarray(np.clip(values * 255, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64) / 255
