"""The order of a gallery: what stands in the URL, what people choose from, and what is written under each picture."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cache.conditions import RegionMass
from cache.fields import TARGETS
from cache.queries import Sort
from cache.schema import TARGET_PRED
from dashboard.filter_fields import Choice
from dashboard.likeness import LIKENESS_KEY, likeness_of_url, likeness_text
from dashboard.session import PageContext, param

NAME_KEY = "sample_id"
REGION_KEY = "region"
KEPT = ("sort", "similar", "view")
"""Parameters that the page of a sample keeps for the way back to Browse."""
TEXT_KEYS = {NAME_KEY: "Name", "label": "Class", "pred": "Predicted class"}


def kept_params() -> dict[str, Any]:
    """Return the parameters of the page that lead back to this order and view."""
    return {name: param(name) for name in KEPT if param(name)}


def sort_titles(context: PageContext, choices: Mapping[str, Choice]) -> dict[str, str]:
    """Return what a gallery can be sorted by: title by key."""
    found = dict(TEXT_KEYS)
    if likeness_of_url(context) is not None:
        found = {LIKENESS_KEY: "Likeness", **found}
    if isinstance(context.filter.get("region"), RegionMass):
        found[REGION_KEY] = "Attention · Mass in the filter's region"
    return found | {key: choice.title for key, choice in choices.items()}


def sort_of_url(context: PageContext, choices: Mapping[str, Choice]) -> tuple[str, Sort]:
    """Return the key and the order that the URL asks for; by name where it asks for nothing that is there.

    Likeness to a sample comes before any other order.
    """
    like = likeness_of_url(context)
    if like is not None:
        return LIKENESS_KEY, Sort(descending=True, like=like)
    text = param("sort")
    descending = text.startswith("-")
    key, _, source = text.removeprefix("-").partition("@")
    region = context.filter.get("region")
    if key == REGION_KEY and isinstance(region, RegionMass):
        return key, Sort(descending=descending, region=region)
    choice = choices.get(key)
    if choice is not None and choice.of_map:
        method, _, target = source.rpartition(":")
        known = method in context.manifest.methods and target in TARGETS
        chosen = (method, target) if known else (context.manifest.default_method, TARGET_PRED)
        return key, Sort(choice.field.name, descending, *chosen)
    if choice is not None or key in TEXT_KEYS:
        return key, Sort(key, descending)
    return NAME_KEY, Sort(NAME_KEY, descending)


def sort_param(context: PageContext, key: str, descending: bool) -> str | None:
    """Return an order as the URL holds it; a statistic is that of the map being shown."""
    sign = "-" if descending else ""
    if key.startswith("map."):
        return f"{sign}{key}@{context.method}:{context.target}"
    return None if key == NAME_KEY and not descending else sign + key


def value_text(choices: Mapping[str, Choice], key: str, value: Any) -> str:
    """Write the value that a sample is sorted by; empty where its caption says it already."""
    if key in TEXT_KEYS or key == "confidence":
        return ""
    if key == REGION_KEY:
        return f"{number_text(value, 'share')} in the region"
    if key == LIKENESS_KEY:
        return likeness_text(value)
    field = choices[key].field
    return f"{field.title.lower()} {number_text(value, field.unit)}"


def percent_text(share: float, digits: int = 0) -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:.{digits}f}%"


def number_text(value: Any, unit: str = "") -> str:
    """Write a value with as many digits as tell, and its unit; shares are written as percentages."""
    if value is None:
        return "unknown"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if unit == "share":
        return f"{100 * value:.3g}%"
    ending = f" {unit}" if unit else ""
    if isinstance(value, float):
        return f"{value:,.0f}{ending}" if abs(value) >= 1000 else f"{value:.3g}{ending}"
    return f"{value:,}{ending}" if isinstance(value, int) else str(value)
