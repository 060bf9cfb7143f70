"""What a run says of itself (dataset, model, versions) as words for a page or a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def known_facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the names and values of the facts that are known."""
    return [
        (key.replace("_", " "), short_text(value))
        for key, value in found.items()
        if value not in (None, "", [], {})
    ]


def short_text(value: Any) -> str:
    """Write a value in one line: the parts of a mapping or a list one after the other."""
    if isinstance(value, dict):
        return ", ".join(f"{key} = {short_text(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(short_text(inner) for inner in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
