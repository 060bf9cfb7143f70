"""The counts behind the values that the filter bar offers: of the images that meet the rest of the filter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from cache import queries
from cache.fields import sample_fields
from cache.index import LARGE_RUN
from dashboard.data import ask
from dashboard.session import PageContext

MOST_VALUES = 200
"""Values of a field that are offered and counted."""


def is_large(context: PageContext) -> bool:
    """Tell whether every click would wait for the counts of all fields: then they are those of the whole run."""
    return context.catalog.samples >= LARGE_RUN


def counts_of(context: PageContext, field: str) -> dict[Any, int] | None:
    """Return how many images have each value of a field, of those that meet all of the filter but its condition on it.

    None where that is not counted.
    """
    if field not in _fields(context):
        return None
    found = ask(context.catalog, queries.distinct, field, context.filter.without(field))
    return dict(zip(found["value"].to_pylist(), found["n"].to_pylist(), strict=True))


def with_count(text: str, value: Any, counts: dict[Any, int] | None) -> str:
    """Write how many images have a value behind it; nothing where that is not known."""
    return text if counts is None else f"{text} ({counts.get(value, 0):,})"


_COUNT = re.compile(r" \([\d,]+\)$")


def meant(chosen: Iterable[Any], options: Iterable[Any], said: Callable[[Any], str]) -> list[Any]:
    """Return which options somebody chose.

    A browser names what is chosen by its words. If they bear the count of a moment ago, since another choice is under way,
    Streamlit knows no such option and hands the words on.

    Args:
        chosen: What a widget's value holds.
        options: The widget's options.
        said: How an option is written.
    """
    known = list(options)
    by_words = {_COUNT.sub("", said(option)): option for option in known}
    found = [(one in known, one, _COUNT.sub("", str(one))) for one in chosen]
    return [
        one if is_known else by_words[words]
        for is_known, one, words in found
        if is_known or words in by_words
    ]


def _fields(context: PageContext) -> list[str]:
    """Return the fields whose values are counted.

    A text with thousands of values would hold up the rest. Of a million samples the two classes take 10 to 50 ms on two
    busy cores; with the metadata it would be 40 to 230.
    """
    if is_large(context):
        return ["label", "pred"]
    return [
        name
        for name, entry in sample_fields(context.manifest).items()
        if entry.kind == "class"
        or (entry.kind == "boolean" and name not in ("correct", "labelled"))
        or (
            entry.kind == "text"
            and name != "sample_id"
            and ask(context.catalog, queries.distinct, name).num_rows <= MOST_VALUES
        )
    ]
