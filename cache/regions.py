"""Areas of the model's view, and how to ask a summed-area table for the mass within them."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.errors import RegionError
from cache.maps import area_matrix
from cache.polygons import polygon_coverage
from cache.schema import CORNERS, GRID

OVERSHOOT = 0.1
"""How far beyond the view a drawn shape may reach; what lies outside is cut off."""
MAX_POINTS = 2_000
MAX_MASK_SIDE = 128
DECIMALS = 5
"""Polygon corners are kept to 1/100,000 of the view, which keeps links short."""
SMALLEST = 1e-9
DEFLATED = "~"
"""First letter of a mask in a link whose bits are deflated (RFC 1951); links carry it as it is."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Region:
    """An area of the model's view in fractions of its width (x, right) and height (y, down); immutable, hashable.

    Make one with `box`, `polygon` or `mask`, or take one from `PRESETS`.

    Attributes:
        kind: The shape.
        points: A box's upper left and lower right corner, or a polygon's corners in order.
        bits: Rows of a mask.
    """

    kind: Literal["box", "polygon", "mask"]
    points: tuple[Point, ...] = ()
    bits: tuple[tuple[bool, ...], ...] = ()

    @staticmethod
    def box(x0: float, y0: float, x1: float, y1: float) -> Region:
        """Return a box; its corners may be given in any order.

        Raises:
            RegionError: A coordinate is not a number, lies outside the view, or nothing is enclosed.
        """
        (ax, ay), (bx, by) = _inside([(x0, y0), (x1, y1)])
        left, right, top, bottom = min(ax, bx), max(ax, bx), min(ay, by), max(ay, by)
        if right - left < SMALLEST or bottom - top < SMALLEST:
            raise RegionError("The box is empty: draw one with a width and a height.")
        return Region("box", ((left, top), (right, bottom)))

    @staticmethod
    def polygon(points: Iterable[Sequence[float]]) -> Region:
        """Return a polygon, closed by itself; where it crosses itself the even-odd rule says what is inside.

        Raises:
            RegionError: There are fewer than three different points or too many, a coordinate is not a number or
                lies outside the view, or nothing is enclosed.
        """
        corners: list[Point] = []
        for x, y in _inside(points):
            corner = (round(x, DECIMALS), round(y, DECIMALS))
            if not corners or corner != corners[-1]:
                corners.append(corner)
        while len(corners) > 1 and corners[0] == corners[-1]:
            corners.pop()
        if len(set(corners)) < 3:
            raise RegionError("A drawn shape needs at least three different points: draw around an area.")
        if len(corners) > MAX_POINTS:
            raise RegionError(
                f"The drawn shape has {len(corners)} points, more than {MAX_POINTS}: draw it with fewer."
            )
        region = Region("polygon", tuple(corners))
        if region.coverage().sum() < SMALLEST:
            raise RegionError("The drawn shape encloses nothing: draw around an area.")
        return region

    @staticmethod
    def mask(bits: ArrayLike) -> Region:
        """Return a painted mask: rows × columns of equal cells over the whole view.

        Raises:
            RegionError: It is not a rectangle of cells, has too many, or none is painted.
        """
        try:
            cells = np.asarray(bits).astype(bool)
        except ValueError as error:
            raise RegionError("The mask is not a rectangle of cells: give rows of equal length.") from error
        if cells.ndim != 2 or not 1 <= min(cells.shape) <= max(cells.shape) <= MAX_MASK_SIDE:
            raise RegionError(
                f"A mask has 1 to {MAX_MASK_SIDE} rows and columns, not the shape {cells.shape}: resample it."
            )
        if not cells.any():
            raise RegionError("The mask is empty: paint at least one cell.")
        return Region("mask", bits=tuple(tuple(bool(cell) for cell in row) for row in cells.tolist()))

    def coverage(self, size: int = GRID) -> NDArray[np.float64]:
        """Return how much of each cell of a size × size grid the region covers: shape (size, size), 0 to 1, exact."""
        if self.kind == "box":
            (x0, y0), (x1, y1) = self.points
            return np.outer(_overlap(y0, y1, size), _overlap(x0, x1, size))
        if self.kind == "polygon":
            return _polygon_coverage(self.points, size)
        cells = np.array(self.bits, dtype=np.float64)
        rows, columns = area_matrix(cells.shape[0], size), area_matrix(cells.shape[1], size)
        covered = rows @ cells @ columns.T * (size * size / cells.size)
        return np.asarray(np.clip(covered, 0.0, 1.0))

    def corner_weights(self) -> dict[str, float]:
        """Return what to multiply the summed-area columns by: ``mass = Σ weight · column``.

        The weights are the second difference of the coverage C, ``w_rc = C_rc − C_r+1,c − C_r,c+1 + C_r+1,c+1``
        (C is 0 beyond the grid), so that ``Σ w·S = Σ C·p``. Zero weights are left out: a box keeps at most 16
        (bilinear between cell edges), 4 on cell edges, and fewer where it touches the upper or left edge.
        """
        c = np.pad(self.coverage(), ((0, 1), (0, 1)))
        weights = (c[:-1, :-1] - c[1:, :-1] - c[:-1, 1:] + c[1:, 1:]).ravel()
        return {
            name: float(w) for name, w in zip(CORNERS, weights.tolist(), strict=True) if abs(w) > SMALLEST
        }

    def area(self) -> float:
        """Return the share of the view that the region covers, 0 to 1."""
        if self.kind == "box":
            (x0, y0), (x1, y1) = self.points
            return (x1 - x0) * (y1 - y0)
        return float(self.coverage().mean())

    @property
    def preset(self) -> str | None:
        """Name of the preset that this region is, if it is one."""
        return _PRESET_NAMES.get(self)

    def to_json(self) -> dict[str, Any]:
        """Return the region as JSON: ``{"preset"|"box"|"polygon"|"mask": …}``."""
        if self.preset:
            return {"preset": self.preset}
        if self.kind == "box":
            return {"box": [value for point in self.points for value in point]}
        if self.kind == "polygon":
            return {"polygon": [value for point in self.points for value in point]}
        return {"mask": [len(self.bits), len(self.bits[0]), _mask_text(self.bits)]}

    @staticmethod
    def from_json(data: object) -> Region:
        """Read what `to_json` wrote.

        Raises:
            RegionError: It is not a region.
        """
        if not isinstance(data, dict) or len(data) != 1:
            raise RegionError("A region is a preset, a box, a polygon or a mask: draw it again.")
        ((kind, value),) = data.items()
        if kind == "preset":
            if not isinstance(value, str) or value not in PRESETS:
                raise RegionError(f"There is no such preset region: choose one of {', '.join(PRESETS)}.")
            return PRESETS[value]
        if kind == "mask":
            return _mask_from_json(value)
        if kind not in ("box", "polygon") or not isinstance(value, list):
            raise RegionError("A region is a preset, a box, a polygon or a mask: draw it again.")
        if len(value) % 2 or (kind == "box" and len(value) != 4) or len(value) > 2 * MAX_POINTS:
            raise RegionError(f"A {kind} of {len(value)} numbers is not a region: draw it again.")
        points = list(zip(value[::2], value[1::2], strict=True))
        return Region.box(*points[0], *points[1]) if kind == "box" else Region.polygon(points)

    def sentence(self) -> str:
        """Name the region as it stands in a sentence: "the lower left corner", "a drawn shape covering 12 % …"."""
        if self.preset:
            return PRESET_TITLES[self.preset]
        if self.kind == "box":
            (x0, y0), (x1, y1) = ((percent(x), percent(y)) for x, y in self.points)
            return f"the box from {x0} to {x1}% across and {y0} to {y1}% down"
        shape = "a drawn shape" if self.kind == "polygon" else "a painted area"
        return f"{shape} covering {percent(self.area())}% of the image"


def percent(share: float) -> str:
    """Write a share as a percentage without its sign: whole where it is whole, else with one decimal."""
    text = f"{100 * share:.1f}"
    return text.removesuffix(".0")


def _inside(points: Iterable[Sequence[float]]) -> list[Point]:
    """Check coordinates and cut off what reaches slightly beyond the view."""
    checked: list[Point] = []
    try:
        for x, y in points:
            if isinstance(x, bool | str) or isinstance(y, bool | str):
                raise TypeError
            checked.append((float(x), float(y)))
    except (TypeError, ValueError, OverflowError) as error:
        raise RegionError("A region's points are pairs of numbers: draw it again.") from error
    values = [value for point in checked for value in point]
    if not all(math.isfinite(value) for value in values):
        raise RegionError("A region's coordinates must be finite numbers: draw it again.")
    if any(not -OVERSHOOT <= value <= 1 + OVERSHOOT for value in values):
        raise RegionError("A region lies within the image, from 0 to 1 across and down: draw it again.")
    return [(min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in checked]


@lru_cache(maxsize=64)
def _polygon_coverage(points: tuple[Point, ...], size: int) -> NDArray[np.float64]:
    covered = polygon_coverage(np.array(points), size)
    covered.flags.writeable = False
    return covered


def _overlap(low: float, high: float, size: int) -> NDArray[np.float64]:
    """Return the covered share of each of `size` cells of the unit interval; whole cells are exactly 1."""
    edges = np.arange(size + 1, dtype=np.float64)
    share = np.minimum(high * size, edges[1:]) - np.maximum(low * size, edges[:-1])
    return np.asarray(np.clip(share, 0.0, 1.0))


def _mask_text(bits: tuple[tuple[bool, ...], ...]) -> str:
    """Write a mask for a link: its bits, deflated where that is shorter, as it is for all that a hand paints."""
    packed = np.packbits(np.array(bits, dtype=np.uint8)).tobytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    shorter = deflate.compress(packed) + deflate.flush()
    lead, data = (DEFLATED, shorter) if len(shorter) + 1 < len(packed) else ("", packed)
    return lead + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _mask_from_json(value: object) -> Region:
    wrong = RegionError("The mask in the link is damaged: paint it again.")
    if not isinstance(value, list) or len(value) != 3:
        raise wrong
    rows, columns, text = value
    if not (type(rows) is int and type(columns) is int and isinstance(text, str)):
        raise wrong
    if not (1 <= rows <= MAX_MASK_SIDE and 1 <= columns <= MAX_MASK_SIDE):
        raise wrong
    size = -(-rows * columns // 8)
    # Base64 has four letters for three bytes, and no text that is longer than the bits themselves was written here.
    if len(text) > 2 * size + 8:
        raise wrong
    plain = text.removeprefix(DEFLATED)
    try:
        packed = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
        if text.startswith(DEFLATED):
            # Never more than the mask has cells, whatever the bytes would unfold to.
            packed = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise wrong from error
    if len(packed) != size:
        raise wrong
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=rows * columns)
    return Region.mask(bits.reshape(rows, columns))


def _frame(cells: int) -> NDArray[np.bool_]:
    frame = np.ones((cells, cells), dtype=bool)
    frame[1:-1, 1:-1] = False
    return frame


def _four_corners() -> NDArray[np.bool_]:
    corners = np.zeros((4, 4), dtype=bool)
    corners[np.ix_([0, 3], [0, 3])] = True
    return corners


PRESETS: dict[str, Region] = {
    "border": Region.mask(_frame(8)),
    "center": Region.box(0.25, 0.25, 0.75, 0.75),
    "corners": Region.mask(_four_corners()),
    "top_left": Region.box(0.0, 0.0, 0.25, 0.25),
    "top_right": Region.box(0.75, 0.0, 1.0, 0.25),
    "bottom_left": Region.box(0.0, 0.75, 0.25, 1.0),
    "bottom_right": Region.box(0.75, 0.75, 1.0, 1.0),
    "left_half": Region.box(0.0, 0.0, 0.5, 1.0),
    "right_half": Region.box(0.5, 0.0, 1.0, 1.0),
    "top_half": Region.box(0.0, 0.0, 1.0, 0.5),
    "bottom_half": Region.box(0.0, 0.5, 1.0, 1.0),
    "top_left_quadrant": Region.box(0.0, 0.0, 0.5, 0.5),
    "top_right_quadrant": Region.box(0.5, 0.0, 1.0, 0.5),
    "bottom_left_quadrant": Region.box(0.0, 0.5, 0.5, 1.0),
    "bottom_right_quadrant": Region.box(0.5, 0.5, 1.0, 1.0),
}
"""Regions with a name: the outer eighth all round, the middle half of each side, quarter-by-quarter corners, …"""

PRESET_TITLES: dict[str, str] = {
    "border": "the border",
    "center": "the centre",
    "corners": "the four corners",
    "top_left": "the upper left corner",
    "top_right": "the upper right corner",
    "bottom_left": "the lower left corner",
    "bottom_right": "the lower right corner",
    "left_half": "the left half",
    "right_half": "the right half",
    "top_half": "the upper half",
    "bottom_half": "the lower half",
    "top_left_quadrant": "the upper left quadrant",
    "top_right_quadrant": "the upper right quadrant",
    "bottom_left_quadrant": "the lower left quadrant",
    "bottom_right_quadrant": "the lower right quadrant",
}
_PRESET_NAMES = {region: name for name, region in PRESETS.items()}
