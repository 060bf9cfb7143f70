"""What the Region page asks: the region being drawn, and those beside it, joined with and, or and not.

Plain values: they are read from the URL, turned into one condition, and written back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cache.conditions import AllOf, AnyOf, Condition, Not, RegionMass
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.fields import TARGETS
from cache.filters import Filter
from cache.manifest import Manifest
from cache.regions import Region
from cache.schema import TARGET_PRED, TARGET_TRUE
from dashboard.attention import AT_LEAST, AT_MOST, MORE
from dashboard.object_conditions import on_object

Join = Literal["all", "any"]
JOINS: Mapping[Join, str] = {"all": "All of these", "any": "Any of these"}
LEAST_POINTS = 10.0
Groups = tuple[tuple[Condition, ...], ...]


@dataclass(frozen=True)
class Question:
    """What is asked of the region on the canvas.

    Attributes:
        operator: A key of `attention.OPERATORS`.
        share: Percentage, or percentage points more.
        method: Whose map.
        target: Of which class.
        than: The other map that "more than" compares with: method and target.
        negated: Whether the samples are meant for which it does not hold.
    """

    operator: str
    share: float
    method: str
    target: str
    than: tuple[str, str] | None = None
    negated: bool = False

    def about(self, region: Region) -> Condition:
        """Return the condition that it makes of a region."""
        asked = self.measure(region)
        return Not(asked) if self.negated else asked

    def measure(self, region: Region) -> RegionMass | RegionContrast:
        """Return the condition without its "not"."""
        bound = round(self.share / 100, 6)
        if self.operator == MORE and self.than is not None:
            return RegionContrast(region, bound, self.method, self.target, *self.than)
        low, high = (None, bound) if self.operator == AT_MOST else (bound, None)
        return RegionMass(region, low, high, self.method, self.target)


@dataclass(frozen=True)
class Board:
    """Conditions in groups.

    Attributes:
        groups: The conditions of each group.
        within: How those of a group are joined; groups are joined by the other word.
    """

    groups: Groups = ()
    within: Join = "all"

    def __bool__(self) -> bool:
        return any(self.groups)

    @property
    def between(self) -> Join:
        """How groups are joined."""
        return "any" if self.within == "all" else "all"

    def with_(self, condition: Condition, group: int) -> Board:
        """Return the board with a condition more, in a group that there is or in a new one."""
        if 0 <= group < len(self.groups):
            return self._changed(group, (*self.groups[group], condition))
        return replace(self, groups=(*self.groups, (condition,)))

    def without(self, group: int, index: int) -> Board:
        """Return the board without one condition; a group goes with its last one."""
        return self._changed(group, tuple(c for i, c in enumerate(self.groups[group]) if i != index))

    def replaced(self, group: int, index: int, condition: Condition) -> Board:
        """Return the board with another condition in the place of one."""
        kept = self.groups[group]
        return self._changed(group, tuple(condition if i == index else c for i, c in enumerate(kept)))

    def _changed(self, group: int, conditions: tuple[Condition, ...]) -> Board:
        groups = tuple(conditions if i == group else kept for i, kept in enumerate(self.groups))
        return replace(self, groups=tuple(kept for kept in groups if kept))

    def condition(self, drawn: Condition | None = None, group: int = 0) -> Condition | None:
        """Return all of it as one condition, with the one on the canvas first in its group; None for nothing."""
        groups = [list(kept) for kept in self.groups]
        if drawn is not None:
            if 0 <= group < len(groups):
                groups[group].insert(0, drawn)
            else:
                groups.append([drawn])
        joined = [_joined(self.within, conditions) for conditions in groups if conditions]
        return _joined(self.between, joined) if joined else None

    def to_param(self) -> str:
        """Return the board as the text of a URL parameter: a filter of one condition, groups within groups."""
        if not self:
            return ""
        inner, outer = (AllOf, AnyOf) if self.within == "all" else (AnyOf, AllOf)
        return Filter((outer(tuple(inner(group) for group in self.groups)),)).to_param()

    @classmethod
    def from_param(cls, text: str) -> Board:
        """Read what `to_param` wrote.

        Raises:
            FilterError: It is no board, or one of another version.
        """
        board = cls()
        match Filter.from_param(text).conditions:
            case ():
                return board
            case (AnyOf(groups),) if all(isinstance(group, AllOf) for group in groups):
                board = cls(tuple(group.conditions for group in groups if isinstance(group, AllOf)), "all")
            case (AllOf(groups),) if all(isinstance(group, AnyOf) for group in groups):
                board = cls(tuple(group.conditions for group in groups if isinstance(group, AnyOf)), "any")
        if not board or not all(_simple(condition) for group in board.groups for condition in group):
            raise FilterError("They are not in the form of this page: draw them again.")
        return board


def _simple(condition: Condition) -> bool:
    """Tell whether the list can show a condition: a region or the known object, at most with a "not"."""
    inner = condition.condition if isinstance(condition, Not) else condition
    return isinstance(inner, RegionMass | RegionContrast) or on_object(inner) is not None


def _joined(join: Join, conditions: Sequence[Condition]) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    return AllOf(tuple(conditions)) if join == "all" else AnyOf(tuple(conditions))


def narrowed(filter_: Filter, condition: Condition) -> Filter:
    """Add a condition to a filter, beside those that it has; each part of an "and" becomes one of its own.

    Raises:
        FilterError: The filter would be too long, or name too many regions.
    """
    parts = condition.conditions if isinstance(condition, AllOf) else (condition,)
    return Filter((*filter_.conditions, *parts))


def others(manifest: Manifest, method: str, target: str) -> dict[str, str]:
    """Return the maps that one may be compared with, as the URL names them and as people do: other methods first."""
    found = {}
    targets = [kept for kept in TARGETS if kept == TARGET_PRED or TARGET_TRUE in manifest.targets]
    for name in sorted(manifest.methods, key=lambda other: other == method):
        for whose in sorted(targets, key=lambda other: other != target):
            if (name, whose) != (method, target):
                title = str(manifest.methods[name].get("title") or name)
                wanted = "predicted" if whose == TARGET_PRED else "true"
                found[f"{name}:{whose}"] = title if whose == target else f"{title} for the {wanted} class"
    return found


def question_of(condition: Condition, manifest: Manifest) -> tuple[Region, Question] | None:
    """Return the region and the question that make a condition; None where the canvas cannot show it."""
    inner, negated = (condition.condition, True) if isinstance(condition, Not) else (condition, False)
    default = manifest.default_method
    match inner:
        case RegionMass(region, low, high, method, target) if (low is None) != (high is None):
            operator, bound = (AT_MOST, high) if low is None else (AT_LEAST, low)
            return region, Question(
                operator, round(100 * float(bound or 0), 1), method or default, target, None, negated
            )
        case RegionContrast(region, least, method, target, than_method, than_target):
            than = (than_method or default, than_target)
            return region, Question(MORE, round(100 * least, 1), method or default, target, than, negated)
    return None
