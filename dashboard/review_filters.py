"""The part of the filter bar that asks for reviews: a tag, a verdict, a reviewer, a note, or none of it yet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from cache.errors import FilterError, ReviewError
from cache.filters import Not, Reviewed
from cache.review_condition import VERDICTS
from cache.review_views import reviewers, tags, verdicts
from dashboard.facets import meant
from dashboard.notices import plain
from dashboard.reviewing import asked
from dashboard.session import PageContext, update_filter

SUBJECT = "reviewed"
STATES = {"reviewed": "Reviewed", "not": "Not reviewed"}
_ASPECTS = ("tag", "verdict", "author", "note")


def review_filters(context: PageContext) -> None:
    """Draw what the popover "Reviews" of the filter bar holds."""
    current = context.filter.get(SUBJECT)
    negated = isinstance(current, Not)
    inner = current.condition if isinstance(current, Not) else current
    chosen = inner if isinstance(inner, Reviewed) else Reviewed()
    try:
        tagged = {tag.tag: tag.count for tag in asked(context.catalog, tags)}
        judged = asked(context.catalog, verdicts)
        people = {one.name: one.events for one in asked(context.catalog, reviewers)}
    except ReviewError as error:
        st.error(plain(error))
        return
    key = "filter_reviewed"
    state = None if current is None else "not" if negated else "reviewed"
    st.session_state[key] = state
    for aspect in _ASPECTS:
        st.session_state[f"{key}_{aspect}"] = getattr(chosen, aspect) or ("" if aspect == "note" else None)

    def change(of_state: bool = False) -> None:
        words = {aspect: st.session_state[f"{key}_{aspect}"] or None for aspect in _ASPECTS}
        for aspect, counts in (("tag", tagged), ("verdict", judged)):
            if words[aspect] is not None:
                words[aspect] = next(
                    iter(meant([words[aspect]], counts, partial(_said, counts))), words[aspect]
                )
        asks = st.session_state[key]
        if asks is None and (of_state or not any(words.values())):
            update_filter(SUBJECT, None)
            return
        try:
            asked_for = Reviewed(**words)
        except FilterError:
            return
        update_filter(SUBJECT, Not(asked_for) if asks == "not" else asked_for)

    st.segmented_control(
        "Images", list(STATES), key=key, on_change=change, args=(True,), format_func=lambda s: STATES[s],
        help="“Not reviewed” with a tag or a verdict means without that one", width="stretch",
    )  # fmt: skip
    _choice("Tag", f"{key}_tag", tagged, chosen.tag, change)
    _choice("Verdict", f"{key}_verdict", {name: judged[name] for name in VERDICTS}, chosen.verdict, change)
    _choice("Reviewed by", f"{key}_author", dict.fromkeys(people, None), chosen.author, change)
    st.text_input(
        "Note contains",
        key=f"{key}_note",
        on_change=change,
        placeholder="part of a note",
        icon=":material/search:",
    )


def _said(counts: Mapping[str, Any], value: str) -> str:
    n = counts.get(value)
    return value if n is None else f"{value} ({n:,})"


def _choice(label: str, key: str, counts: dict[str, Any], chosen: str | None, change: Any) -> None:
    options = [*counts, *([chosen] if chosen is not None and chosen not in counts else [])]

    st.selectbox(
        label, options, index=None, key=key, on_change=change, format_func=partial(_said, counts), placeholder="any",
        disabled=not options,
    )  # fmt: skip
