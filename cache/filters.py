"""The filter: one immutable value that says which samples, and becomes SQL, a link and a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cache.conditions import (
    DAMAGED,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_REGIONS,
    AllOf,
    AnyOf,
    Condition,
    InGroup,
    Is,
    Not,
    OneOf,
    Range,
    RegionMass,
    Text,
    about_reviews,
    condition_from_json,
    condition_to_json,
    leaves,
    regions_of,
)
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.fields import Source
from cache.filter_sql import CompiledFilter, Compiler, RegionSource
from cache.filter_text import describe
from cache.manifest import Manifest
from cache.map_areas import InProjection
from cache.review_condition import Reviewed

__all__ = [
    "AllOf",
    "AnyOf",
    "CompiledFilter",
    "Condition",
    "Filter",
    "InGroup",
    "InProjection",
    "Is",
    "Not",
    "OneOf",
    "Range",
    "RegionContrast",
    "RegionMass",
    "RegionSource",
    "Reviewed",
    "Source",
    "Text",
    "compile_filter",
]

FILTER_VERSION = 1
MAX_PARAM = 100_000


@dataclass(frozen=True)
class Filter:
    """Which samples: those for which every condition holds; without conditions, all of them.

    A condition on something that is unknown for a sample (no label, a degenerate map) does not hold, and neither
    does its opposite.
    """

    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if leaves(self.conditions) > MAX_CONDITIONS:
            raise FilterError(f"A filter of more than {MAX_CONDITIONS} conditions is too long: remove some.")
        if len(regions_of(self.conditions)) > MAX_REGIONS:
            raise FilterError(
                f"A filter that names more than {MAX_REGIONS} regions is too long (one of two methods counts twice): "
                "remove some."
            )
        if any(_depth(condition) > MAX_DEPTH for condition in self.conditions):
            raise FilterError(
                f"Conditions nested more than {MAX_DEPTH} deep are too many: simplify the filter."
            )

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def about_reviews(self) -> bool:
        """Whether what it selects changes with the reviews."""
        return about_reviews(self.conditions)

    def with_(self, condition: Condition) -> Filter:
        """Return the filter with this condition in place of the one on the same subject, if there is one."""
        subjects = [c.subject for c in self.conditions]
        if condition.subject not in subjects:
            return Filter((*self.conditions, condition))
        at = subjects.index(condition.subject)
        kept = [c for i, c in enumerate(self.conditions) if i == at or c.subject != condition.subject]
        return Filter(tuple(condition if c.subject == condition.subject else c for c in kept))

    def without(self, subject: str) -> Filter:
        """Return the filter without the conditions on a subject."""
        return Filter(tuple(c for c in self.conditions if c.subject != subject))

    def get(self, subject: str) -> Condition | None:
        """Return the condition on a subject, if there is one."""
        return next((c for c in self.conditions if c.subject == subject), None)

    def to_param(self) -> str:
        """Return the filter as the text of one URL parameter, not yet percent-encoded; ``""`` for no condition."""
        if not self.conditions:
            return ""
        data = {"v": FILTER_VERSION, "all": [condition_to_json(c) for c in self.conditions]}
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_param(cls, text: str) -> Filter:
        """Read what `to_param` wrote.

        Raises:
            FilterError: The text is no filter, or one of another version.
        """
        if not text.strip():
            return cls()
        if len(text) > MAX_PARAM:
            raise FilterError(DAMAGED)
        try:
            data = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise FilterError(DAMAGED) from error
        if not isinstance(data, dict) or not isinstance(data.get("all"), list) or set(data) != {"v", "all"}:
            raise FilterError(DAMAGED)
        if data["v"] != FILTER_VERSION or isinstance(data["v"], bool):
            raise FilterError(
                f"The link's filter has version {str(data['v'])[:20]}, and this Gazelake reads version {FILTER_VERSION}: "
                "make the link again."
            )
        return cls(tuple(condition_from_json(entry) for entry in data["all"]))

    def sentence(self, manifest: Manifest) -> str:
        """Say which samples in words, such as "wrong predictions of wolf with at least 30 % of Grad-CAM in …"."""
        return describe(self.conditions, manifest)


def compile_filter(filter_: Filter, manifest: Manifest) -> CompiledFilter:
    """Turn a filter into SQL over the tables that `cache.catalog.Catalog` joins.

    Identifiers come from the manifest only, and values are always bound.

    Raises:
        FilterError: The filter names a field, class, method or kind of value that the run does not have.
    """
    compiler = Compiler(manifest)
    where = compiler.all_of(filter_.conditions)
    return compiler.finish(where)


def _depth(condition: Condition) -> int:
    match condition:
        case AnyOf(inner) | AllOf(inner):
            return 1 + max(_depth(c) for c in inner)
        case Not(inner_one):
            return 1 + _depth(inner_one)
    return 0


def _refuse_constant(name: str) -> object:
    raise ValueError(name)
