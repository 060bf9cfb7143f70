"""The condition that compares two maps of one sample: more attention in a region by one than by the other."""

from __future__ import annotations

from dataclasses import dataclass

from cache.errors import FilterError
from cache.regions import Region


@dataclass(frozen=True)
class RegionContrast:
    """A map has more of its positive attribution within a region than another map of the same sample has.

    Both maps must be defined: where one is degenerate or missing, neither this nor its opposite holds.

    Attributes:
        region: The area.
        least: How much more at least, as a share: 0 to 1 (0.1 is 10 percentage points).
        method: Whose map has more; None for the run's default.
        target: Of the predicted (``pred``) or the true class (``true``).
        than_method: Whose map has less; None for the run's default.
        than_target: Of which class.
    """

    region: Region
    least: float
    method: str | None = None
    target: str = "pred"
    than_method: str | None = None
    than_target: str = "pred"

    def __post_init__(self) -> None:
        least = self.least
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise FilterError(
                "A difference of attention lies between 0 and 100 points: choose one that does."
            )
        if (self.method, self.target) == (self.than_method, self.than_target):
            raise FilterError("A map is compared with itself: choose another method, or the other class.")
        object.__setattr__(self, "least", int(least) if float(least).is_integer() else float(least))

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "region contrast"
