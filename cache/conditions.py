"""The conditions that a filter is made of: immutable values, and their form in a link."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.map_areas import InProjection
from cache.regions import Region
from cache.review_condition import Reviewed

Scalar = str | int | float
MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 2_000
MAX_REGIONS = 16
"""Regions of maps that a filter may name: a page must keep the masses of all of them at once."""
MAX_TEXT = 1_000
GROUP_VERSION = re.compile(r"[0-9a-z]{1,64}")
MAX_GROUP = 2**31 - 1


@dataclass(frozen=True)
class OneOf:
    """The field has one of the values; None stands for "unknown".

    Classes (``label``, ``pred``) are named, or given by index where two outputs share a name.
    """

    field: str
    values: tuple[Scalar | None, ...]

    def __post_init__(self) -> None:
        checked = {_scalar(value) for value in self.values}
        if not checked:
            raise FilterError(f"No value of {self.field} is chosen: choose at least one.")
        if len(checked) > MAX_VALUES:
            raise FilterError(
                f"{len(checked)} values of {self.field} are too many: choose {MAX_VALUES} at most."
            )
        # The order in which values were clicked must not make another link of the same filter.
        object.__setattr__(self, "values", tuple(sorted(checked, key=_order)))

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return self.field


@dataclass(frozen=True)
class Range:
    """The field lies between two bounds, both included; None leaves a side open.

    A method or a target makes the field a statistic of maps: of the run's default method and of the predicted class
    where only the other one is named. Times are ISO 8601 texts.
    """

    field: str
    low: Scalar | None = None
    high: Scalar | None = None
    method: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, f"The range of {self.field}")

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return self.field if self.method is None and self.target is None else f"map.{self.field}"


@dataclass(frozen=True)
class Is:
    """A yes-or-no field has the value; None stands for "unknown".

    ``correct``, ``labelled``, ``masked``, a boolean ``meta.*`` field, or ``degenerate`` of a method's map.
    """

    field: str
    value: bool | None
    method: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not isinstance(self.value, bool):
            raise FilterError(f"{self.field} is yes, no or unknown: choose one of them.")

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return self.field


@dataclass(frozen=True)
class Text:
    """A text field contains the text, in upper or lower case."""

    field: str
    contains: str

    def __post_init__(self) -> None:
        if not _scalar(self.contains):
            raise FilterError(f"There is no text to look for in {self.field}: type some.")

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return self.field


@dataclass(frozen=True)
class RegionMass:
    """The share of a map's positive attribution within a region lies between two bounds, both included.

    Attributes:
        region: The area.
        low: Smallest share, 0 to 1.
        high: Largest share, 0 to 1.
        method: Whose map; None for the run's default.
        target: Of the predicted (``pred``) or the true class (``true``).
    """

    region: Region
    low: float | None = None
    high: float | None = None
    method: str | None = None
    target: str = "pred"

    def __post_init__(self) -> None:
        _check_bounds(self, "The share of attention")
        for bound in (self.low, self.high):
            if bound is not None and not (isinstance(bound, int | float) and 0 <= bound <= 1):
                raise FilterError("A share of attention lies between 0 and 100 %: choose one that does.")

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "region"


@dataclass(frozen=True)
class InGroup:
    """The image is in a group of images whose attended content is alike.

    Attributes:
        version: Which grouping: a later one has another version, so that this one goes on meaning the same.
        group: Number of the group within it.
    """

    version: str
    group: int

    def __post_init__(self) -> None:
        # From a link, so neither is to be trusted: the version ends up in a path-like key, the number in a column.
        if not GROUP_VERSION.fullmatch(self.version):
            raise FilterError(DAMAGED)
        if type(self.group) is not int or not 0 <= self.group <= MAX_GROUP:
            raise FilterError(DAMAGED)

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "group"


@dataclass(frozen=True)
class AnyOf:
    """At least one of the conditions holds."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        _check_nested(self.conditions)

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "any of " + ", ".join(sorted({c.subject for c in self.conditions}))


@dataclass(frozen=True)
class AllOf:
    """All of the conditions hold."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        _check_nested(self.conditions)

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "all of " + ", ".join(sorted({c.subject for c in self.conditions}))


@dataclass(frozen=True)
class Not:
    """The condition does not hold; where it cannot be told (a value is unknown), this does not hold either."""

    condition: Condition

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return self.condition.subject


Condition = (
    OneOf
    | Range
    | Is
    | Text
    | RegionMass
    | RegionContrast
    | InGroup
    | InProjection
    | Reviewed
    | AnyOf
    | AllOf
    | Not
)
DAMAGED = "The filter in the link cannot be read: start again from a page without it."


def condition_to_json(condition: Condition) -> list[Any]:  # noqa: PLR0911 - one return a kind
    """Return a condition as the short list that stands in a link."""
    match condition:
        case OneOf(field, values):
            return ["in", field, list(values)]
        case Range(field, low, high, method, target):
            return _trimmed(["range", field, low, high, method, target])
        case Is(field, value, method, target):
            return ["is", field, value, *_trimmed([method, target])]
        case Text(field, contains):
            return ["has", field, contains]
        case RegionMass(region, low, high, method, target):
            return [
                "mass",
                region.to_json(),
                *_trimmed([low, high, method, None if target == "pred" else target]),
            ]
        case RegionContrast(region, least, method, target, than_method, than_target):
            than = [than_method, than_target]
            return ["more", region.to_json(), least, [method, target], than]
        case InGroup(version, group):
            return ["group", version, group]
        case InProjection():
            return ["place", condition.version, condition.numbers()]
        case Reviewed():
            return ["reviewed", condition.words()]
        case AnyOf(conditions):
            return ["any", [condition_to_json(c) for c in conditions]]
        case AllOf(conditions):
            return ["all", [condition_to_json(c) for c in conditions]]
        case Not(inner):
            return ["not", condition_to_json(inner)]


def condition_from_json(data: object, depth: int = 0) -> Condition:  # noqa: PLR0911, PLR0912 - one return a kind
    """Read what `condition_to_json` wrote.

    Raises:
        FilterError: It is not a condition.
    """
    if not isinstance(data, list) or not 2 <= len(data) <= 6 or depth > MAX_DEPTH:
        raise FilterError(DAMAGED)
    match data:
        case ["in", str(field), list(values)]:
            return OneOf(_name(field), tuple(values))
        case ["range", str(field), *rest] if len(rest) <= 4:
            low, high, method, target = rest + [None] * (4 - len(rest))
            return Range(_name(field), low, high, _optional_name(method), _optional_name(target))
        case ["is", str(field), bool() | None as value, *rest] if len(rest) <= 2:
            method, target = rest + [None] * (2 - len(rest))
            return Is(_name(field), value, _optional_name(method), _optional_name(target))
        case ["has", str(field), str(contains)]:
            return Text(_name(field), contains)
        case ["mass", region, *rest] if len(rest) <= 4:
            low, high, method, target = rest + [None] * (4 - len(rest))
            return RegionMass(
                Region.from_json(region), low, high, _optional_name(method), _optional_name(target) or "pred"
            )
        case ["more", region, least, [method, str(target)], [than_method, str(than_target)]]:
            sides = (_optional_name(method), _name(target), _optional_name(than_method), _name(than_target))
            return RegionContrast(Region.from_json(region), least, *sides)
        case ["group", str(version), int(group)]:
            return InGroup(version, group)
        case ["place", str(version), list(numbers)]:
            return InProjection.from_numbers(version, numbers)
        case ["reviewed", dict(words)]:
            return Reviewed.from_words(words)
        case ["any", list(inner)]:
            return AnyOf(tuple(condition_from_json(c, depth + 1) for c in inner))
        case ["all", list(inner)]:
            return AllOf(tuple(condition_from_json(c, depth + 1) for c in inner))
        case ["not", inner]:
            return Not(condition_from_json(inner, depth + 1))
    raise FilterError(DAMAGED)


def leaves(conditions: Iterable[Condition]) -> int:
    """Count the simple conditions within conditions."""
    total = 0
    for condition in conditions:
        match condition:
            case AnyOf(inner) | AllOf(inner):
                total += leaves(inner)
            case Not(inner_one):
                total += leaves([inner_one])
            case _:
                total += 1
    return total


def regions_of(conditions: Iterable[Condition]) -> set[tuple[Region, str | None, str]]:
    """Return the regions that conditions name, each with the method and target of the maps that it is of."""
    found: set[tuple[Region, str | None, str]] = set()
    for condition in conditions:
        match condition:
            case RegionMass():
                found.add((condition.region, condition.method, condition.target))
            case RegionContrast(region, _, method, target, than_method, than_target):
                found |= {(region, method, target), (region, than_method, than_target)}
            case AnyOf(inner) | AllOf(inner):
                found |= regions_of(inner)
            case Not(inner_one):
                found |= regions_of([inner_one])
    return found


def about_reviews(conditions: Iterable[Condition]) -> bool:
    """Tell whether conditions ask for reviews, so that what they select changes with them."""
    for condition in conditions:
        match condition:
            case Reviewed():
                return True
            case AnyOf(inner) | AllOf(inner) if about_reviews(inner):
                return True
            case Not(inner_one) if about_reviews([inner_one]):
                return True
    return False


def _trimmed(values: list[Any]) -> list[Any]:
    while values and values[-1] is None:
        values = values[:-1]
    return values


def _name(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise FilterError(DAMAGED)
    return text


def _optional_name(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise FilterError(DAMAGED)
    return _name(value)


def _scalar(value: object) -> Scalar | None:
    """Check one value and bring equal ones to one form (2.0 is 2)."""
    if value is None:
        return None
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise FilterError(f"A text of {len(value)} characters is too long to filter by: shorten it.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FilterError("A text to filter by holds broken characters: type it again.") from error
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError as error:
            raise FilterError("A number to filter by is too large: choose a smaller one.") from error
        if math.isfinite(number):
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
    raise FilterError("A filter compares with finite numbers and texts: choose one.")


def _order(value: Scalar | None) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 2, 0.0, value
    return 1, float(value), ""


def _check_bounds(condition: Range | RegionMass, what: str) -> None:
    low, high = _scalar(condition.low), _scalar(condition.high)
    if low is None and high is None:
        raise FilterError(f"{what} has no bound: give a lower or an upper one.")
    if low is not None and high is not None:
        if isinstance(low, str) != isinstance(high, str):
            raise FilterError(f"{what} mixes a number with a text: give two of a kind.")
        if low > high:  # type: ignore[operator]
            raise FilterError(f"{what} is empty: its lower bound lies above its upper bound.")
    object.__setattr__(condition, "low", low)
    object.__setattr__(condition, "high", high)


def _check_nested(conditions: tuple[Condition, ...]) -> None:
    if not conditions:
        raise FilterError("A group of conditions is empty: put at least one into it.")
