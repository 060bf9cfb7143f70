"""Filters as SQL: identifiers from the manifest's allow-list, values bound, maps named by their source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cache.conditions import (
    AllOf,
    AnyOf,
    Condition,
    InGroup,
    Is,
    Not,
    OneOf,
    Range,
    RegionMass,
    Scalar,
    Text,
)
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.fields import (
    SampleField,
    Source,
    class_index,
    is_statistic,
    quote,
    resolve_source,
    sample_fields,
    statistic_fields,
    unknown_field,
)
from cache.groups import group_alias
from cache.manifest import Manifest
from cache.map_areas import InProjection
from cache.projections import area_alias
from cache.regions import Region
from cache.review_condition import Reviewed, reviewed_alias
from cache.schema import GROUPS, PROJECTIONS

SAMPLES = "s"
"""Alias of the table of samples."""
RANKS = "k"
"""Alias of the table of ranks by id."""
MASS_DECIMALS = 6
"""Masses are rounded to what single precision carries, so that "at least 50 %" holds for exactly a half."""


@dataclass(frozen=True)
class RegionSource:
    """A region of one method's maps: its table has the mass of every sample."""

    source: Source
    region: Region


@dataclass(frozen=True)
class CompiledFilter:
    """A filter as SQL.

    Attributes:
        where_sql: A three-valued condition over the aliases `SAMPLES`, `source_alias` and `region_alias`, and
            the tables `cache.groups.group_alias`, `cache.projections.area_alias` and
            `cache.review_condition.reviewed_alias`.
        params: Values by name, bound as ``$name``.
        sources: Tables of statistics that the condition reads.
        regions: Tables of masses that the condition reads, in the order of their aliases.
        groups: Versions of the groups that the condition reads, in the order of their aliases.
        areas: Areas of 2-D maps that the condition reads, in the order of their aliases.
        reviewed: Conditions on reviews that it reads the images of, in the order of their aliases.
    """

    where_sql: str
    params: dict[str, Any]
    sources: tuple[Source, ...] = ()
    regions: tuple[RegionSource, ...] = ()
    groups: tuple[str, ...] = ()
    reviewed: tuple[Reviewed, ...] = ()
    areas: tuple[InProjection, ...] = ()


def identifier(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def source_alias(source: Source) -> str:
    """Return the quoted alias under which a source's statistics are joined."""
    return identifier(f"{source.method}/{source.target}")


def region_alias(index: int) -> str:
    """Return the alias under which the masses of the nth region are joined."""
    return f"region_{index}"


@dataclass
class Compiler:
    """Gathers what one query needs: conditions and values, the tables to join and the values to bind."""

    manifest: Manifest
    params: dict[str, Any] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    regions: list[RegionSource] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    areas: list[InProjection] = field(default_factory=list)
    reviewed: list[Reviewed] = field(default_factory=list)
    ranked: bool = False

    def finish(self, where: str) -> CompiledFilter:
        """Return what was gathered, with a condition."""
        return CompiledFilter(
            where,
            dict(self.params),
            tuple(self.sources),
            tuple(self.regions),
            tuple(self.groups),
            tuple(self.reviewed),
            areas=tuple(self.areas),
        )

    def bind(self, value: object) -> str:
        """Bind a value and return its placeholder."""
        name = f"v{len(self.params)}"
        self.params[name] = value
        return f"${name}"

    def rank(self) -> str:
        """Return the expression of a sample's place in the order of the ids."""
        self.ranked = True
        return f"{RANKS}.rank"

    def join(self, source: Source) -> str:
        """Ask for a source's statistics and return their alias."""
        if source not in self.sources:
            self.sources.append(source)
        return source_alias(source)

    def mass(self, condition: RegionMass) -> str:
        """Return the expression of a region's mass: NULL where the map is degenerate or missing."""
        wanted = RegionSource(
            resolve_source(self.manifest, condition.method, condition.target), condition.region
        )
        if wanted not in self.regions:
            self.regions.append(wanted)
        return f"{region_alias(self.regions.index(wanted))}.mass"

    def contrast(self, condition: RegionContrast) -> str:
        """Return the expression of how much more one map has in a region than another: NULL where one is undefined.

        Raises:
            FilterError: The run lacks a method, or both maps are the same one.
        """
        more, less = (
            self.mass(RegionMass(condition.region, 0.0, None, method, target))
            for method, target in (
                (condition.method, condition.target),
                (condition.than_method, condition.than_target),
            )
        )
        if more == less:
            raise FilterError("A map is compared with itself: choose another method, or the other class.")
        # Two decimals rarely subtract to a third one exactly: "at least 10 points" holds for exactly ten.
        return f"round({more} - {less}, {MASS_DECIMALS})"

    def measured(self, condition: RegionMass | RegionContrast) -> str:
        """Return the expression of what a condition on a region bounds: the mass, or how much more there is."""
        return self.mass(condition) if isinstance(condition, RegionMass) else self.contrast(condition)

    def value(self, name: str, method: str | None = None, target: str | None = None) -> str:
        """Return the expression of a field's value.

        Raises:
            FilterError: The run has no such field, method or target.
        """
        if is_statistic(self.manifest, name, method, target):
            return f"{self.join(resolve_source(self.manifest, method, target))}.{identifier(name)}"
        if method is not None or target is not None:
            raise unknown_field(name, statistic_fields(self.manifest))
        self._sample_field(name)
        return f"{SAMPLES}.{identifier(name)}"

    def number(self, name: str, method: str | None = None, target: str | None = None) -> str:
        """Return the expression of a field's value in double precision; of a time, seconds since 1970.

        Raises:
            FilterError: The run has no such field, method or target, or it is neither a number nor a time.
        """
        value = self.value(name, method, target)
        if not is_statistic(self.manifest, name, method, target):
            kind = self._sample_field(name).kind
            if kind not in ("number", "time"):
                raise FilterError(f"{name} is not a number: choose a field that is.")
            if kind == "time":
                return f"epoch({value})"
        return f"({value}::DOUBLE)"

    def all_of(self, conditions: Iterable[Condition]) -> str:
        """Return the conjunction of conditions; TRUE without any."""
        return " AND ".join(self.condition(c) for c in conditions) or "TRUE"

    def condition(self, condition: Condition) -> str:  # noqa: PLR0911, PLR0912 - one return a kind
        """Return one condition as SQL, in parentheses.

        Raises:
            FilterError: It names something that the run does not have, or compares unlike kinds.
        """
        match condition:
            case OneOf():
                return self._one_of(condition)
            case Range():
                return self._range(condition)
            case Is():
                return self._is(condition)
            case Text(name, contains):
                if self._sample_field(name).kind != "text":
                    raise FilterError(f"{name} is not a text: filter it by its values.")
                return f"(contains(lower({self.value(name)}), lower({self.bind(contains)}::VARCHAR)))"
            case RegionMass():
                return self._between(self.mass(condition), condition.low, condition.high)
            case RegionContrast():
                return self._between(self.contrast(condition), condition.least, None)
            case InGroup():
                return self._in_group(condition)
            case InProjection():
                return self._in_projection(condition)
            case Reviewed():
                return self._reviewed(condition)
            case AnyOf(conditions):
                return "(" + " OR ".join(self.condition(c) for c in conditions) + ")"
            case AllOf(conditions):
                return "(" + self.all_of(conditions) + ")"
            case Not(inner):
                return f"(NOT {self.condition(inner)})"

    def _sample_field(self, name: str) -> SampleField:
        known = sample_fields(self.manifest)
        if name not in known:
            raise unknown_field(name, [*known, *statistic_fields(self.manifest)])
        return known[name]

    def _between(self, value: str, low: Any, high: Any) -> str:
        parts = [f"{value} >= {self.bind(low)}"] if low is not None else []
        parts += [f"{value} <= {self.bind(high)}"] if high is not None else []
        return "(" + " AND ".join(parts) + ")"

    def _one_of(self, condition: OneOf) -> str:
        kind = self._sample_field(condition.field).kind
        column = self.value(condition.field)
        known = [value for value in condition.values if value is not None]
        values: list[Any]
        if kind == "class":
            values = sorted({class_index(self.manifest.classes, value) for value in known})
        elif kind == "text":
            values = [_expect(value, str, condition.field, "a text") for value in known]
        elif kind == "number":
            single = self._sample_field(condition.field).single
            values = [_number(value, condition.field, single) for value in known]
        else:
            raise FilterError(
                f"{condition.field} cannot be filtered by a list of values: use yes or no, or a range."
            )
        parts = [f"{column} IS NULL"] if len(known) < len(condition.values) else []
        if values:
            parts.append(f"{column} IN ({', '.join(self.bind(value) for value in values)})")
        return "(" + " OR ".join(parts) + ")"

    def _range(self, condition: Range) -> str:
        name = condition.field
        value = self.value(name, condition.method, condition.target)
        statistic = is_statistic(self.manifest, name, condition.method, condition.target)
        declared = None if statistic else self._sample_field(name)
        if name == "degenerate" and statistic:
            raise FilterError("degenerate is yes or no: it has no range.")
        bounds: list[Any] = [condition.low, condition.high]
        if declared is not None and declared.kind == "time":
            bounds = [bound if bound is None else _time(bound, name) for bound in bounds]
        elif declared is None or declared.kind == "number":
            single = declared is None or declared.single
            bounds = [bound if bound is None else _number(bound, name, single) for bound in bounds]
        else:
            raise FilterError(f"{name} is not a number: it has no range.")
        return self._between(value, *bounds)

    def _in_group(self, condition: InGroup) -> str:
        if condition.version not in {part.key for part in self.manifest.parts.get(GROUPS, [])}:
            raise FilterError(
                "This run does not hold the group that the filter names: open the link with the run it was made for, "
                "or run `python -m engine discover` and choose the group again."
            )
        if condition.version not in self.groups:
            self.groups.append(condition.version)
        held = group_alias(self.groups.index(condition.version))
        return f'({SAMPLES}.content IN (SELECT content FROM {held} WHERE "group" = {self.bind(condition.group)}))'

    def _in_projection(self, condition: InProjection) -> str:
        if condition.version not in {part.key for part in self.manifest.parts.get(PROJECTIONS, [])}:
            raise FilterError(
                "This run does not hold the map that the filter's area was drawn on: open the link with the run it was "
                "made for, or run `python -m engine project` and draw the area again."
            )
        if condition not in self.areas:
            self.areas.append(condition)
        return f"({area_alias(self.areas.index(condition))}.inside)"

    def _reviewed(self, condition: Reviewed) -> str:
        if condition not in self.reviewed:
            self.reviewed.append(condition)
        return f"({reviewed_alias(self.reviewed.index(condition))}.held)"

    def _is(self, condition: Is) -> str:
        named = condition.method is not None or condition.target is not None
        if condition.field != "degenerate":
            if named or self._sample_field(condition.field).kind != "boolean":
                raise FilterError(
                    f"{quote(condition.field)} is not a yes-or-no field: filter it by its values or range."
                )
            column = self.value(condition.field)
        else:
            column = self.value("degenerate", condition.method, condition.target)
        return (
            f"({column} IS NULL)" if condition.value is None else f"({column} = {self.bind(condition.value)})"
        )


def _expect(value: Scalar, kind: type | tuple[type, ...], name: str, noun: str) -> Any:
    if not isinstance(value, kind):
        raise FilterError(f"{name} is compared with {noun}, not with {quote(value)}.")
    return value


def _number(value: Scalar, name: str, single: bool) -> float:
    number = float(_expect(value, (int, float), name, "a number"))
    if not single:
        return number
    # A column in single precision holds 0.9 as 0.89999998: the bound is rounded likewise, or 0.9 would not match it.
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def _time(value: Scalar, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_expect(value, str, name, "a time such as 2024-05-31"))
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError) as error:
        raise FilterError(
            f"{quote(value)} is not a time: write it like 2024-05-31 or 2024-05-31T18:00."
        ) from error
