"""The condition that asks where an image lies on a 2-D map of features: within a polygon that somebody drew."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cache.errors import FilterError

Point = tuple[float, float]
Features = str
FEATURES = {"penultimate": "whole images", "attended": "attended content"}
"""What 2-D maps are made of, and how people call it."""
PROJECTION_VERSION = re.compile(r"(penultimate|attended)-[0-9a-f]{16}")
MIN_POINTS, MAX_POINTS = 3, 400
BOUND = 10.0
"""Farthest corner that is taken: a map lies between 0 and 1, and a hand slips over its edge."""
DECIMALS = 4
DAMAGED_AREA = "The area on the map in the link cannot be read: draw it again."


@dataclass(frozen=True)
class InProjection:
    """The image lies within a polygon on a 2-D map; one that has no place on the map is neither inside nor outside.

    Attributes:
        version: Which map: a later one has another version, so that this area goes on meaning the same.
        polygon: Corners (x, y) in fractions of the map, rounded to four decimals, closed by itself; where it crosses
            itself the even-odd rule holds.
    """

    version: str
    polygon: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not PROJECTION_VERSION.fullmatch(self.version):
            raise FilterError(DAMAGED_AREA)
        if len(self.polygon) < MIN_POINTS:
            raise FilterError("An area on the map needs three corners: draw it larger.")
        if len(self.polygon) > MAX_POINTS:
            raise FilterError(f"An area on the map has {MAX_POINTS} corners at most: draw a simpler one.")
        rounded = tuple((_coordinate(x), _coordinate(y)) for x, y in self.polygon)
        object.__setattr__(self, "polygon", rounded)

    @property
    def features(self) -> Features:
        """What the map is made of: ``penultimate`` or ``attended``."""
        return self.version.partition("-")[0]

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "place"

    def numbers(self) -> list[float]:
        """Return the corners as a link holds them: x, y, x, y and so on."""
        return [value for point in self.polygon for value in point]

    @classmethod
    def from_numbers(cls, version: str, numbers: list[object]) -> InProjection:
        """Read what `numbers` wrote.

        Raises:
            FilterError: It is not the corners of a polygon.
        """
        values = [_coordinate(number) for number in numbers]
        if len(values) % 2:
            raise FilterError(DAMAGED_AREA)
        return cls(version, tuple(zip(values[0::2], values[1::2], strict=True)))

    def sentence(self, negated: bool = False) -> str:
        """Say the condition so that it continues "samples …"."""
        return f"{'outside' if negated else 'in'} an area of the map of {FEATURES[self.features]}"


def _coordinate(value: object) -> float:
    # From a link, so nothing is to be trusted; huge integers overflow.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -BOUND <= value <= BOUND:
        raise FilterError(DAMAGED_AREA)
    number = round(float(value), DECIMALS)
    if not math.isfinite(number):
        raise FilterError(DAMAGED_AREA)
    return number + 0.0  # −0 and 0 are one number and must be one link
