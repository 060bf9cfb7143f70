"""Attention on the known object or beside it: quick conditions, offered where a run knows where its objects are."""

from __future__ import annotations

import streamlit as st

from cache import queries
from cache.conditions import Condition, Not, Range
from cache.filters import Filter, Is
from dashboard.attention import AT_LEAST, AT_MOST
from dashboard.data import ask
from dashboard.session import PageContext, update_filter

ON_OBJECT = "mass_inside"
"""The statistic of maps that says how much of the attention lies on the known object."""
SUBJECT = f"map.{ON_OBJECT}"
HALF = 50.0
SIDES = {AT_LEAST: "On the object", AT_MOST: "Beside it"}


def knows_objects(context: PageContext) -> bool:
    """Tell whether the run knows where the object is in some of its images, and measured attention by it."""
    measured = any(field.name == ON_OBJECT for field in context.manifest.statistics)
    return measured and ask(context.catalog, queries.count, Filter((Is("masked", True),))).n > 0


def object_range(
    operator: str, share: float, method: str | None, target: str, negated: bool = False
) -> Condition:
    """Return the condition that at least or at most a percentage of the attention lies on the known object."""
    low, high = (None, share / 100) if operator == AT_MOST else (share / 100, None)
    asked = Range(ON_OBJECT, low, high, method, target)
    return Not(asked) if negated else asked


def on_object(condition: Condition | None) -> Range | None:
    """Return the range of a condition on the known object, with or without "not"; None where it is about something else."""
    inner = condition.condition if isinstance(condition, Not) else condition
    return inner if isinstance(inner, Range) and inner.field == ON_OBJECT else None


def bound_of(asked: Range) -> tuple[str, float]:
    """Return which side a range bounds, and the percentage."""
    bound = asked.high if asked.low is None else asked.low
    return AT_MOST if asked.low is None else AT_LEAST, round(100 * float(bound or 0), 1)


def object_conditions(context: PageContext) -> None:
    """Offer samples whose attention lies mostly on the known object, or mostly beside it; nothing where none is known."""
    if not context.manifest.methods or not knows_objects(context):
        return
    current = on_object(context.filter.get(SUBJECT))
    side, share = bound_of(current) if current is not None else (None, HALF)
    key, share_key = "filter_object_side", "filter_object_share"
    st.session_state[key], st.session_state[share_key] = side, share

    def change() -> None:
        chosen = st.session_state[key]
        method = (current.method if current else None) or context.method
        target = (current.target if current else None) or context.target
        asked = object_range(chosen, st.session_state[share_key], method, target) if chosen else None
        update_filter(SUBJECT, asked)

    left, right = st.columns([2, 1], vertical_alignment="bottom")
    left.segmented_control(
        "Attention",
        list(SIDES),
        format_func=lambda name: SIDES[name],
        key=key,
        on_change=change,
        help="At least, or at most, so much of the attention on the mask or box that the dataset knows",
        width="stretch",
    )
    right.number_input(
        "Percent", 0.0, 100.0, step=5.0, format="%g", key=share_key, on_change=change, disabled=side is None
    )
