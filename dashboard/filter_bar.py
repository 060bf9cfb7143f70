"""The filter bar: widgets that write the filter into the URL, and the filter in words above what it selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cache import queries
from cache.fields import class_index, class_titles, sample_fields
from cache.filter_text import clause
from cache.filters import Filter, Is, OneOf, Range
from dashboard.data import ask
from dashboard.facets import counts_of, meant, with_count
from dashboard.field_help import field_help
from dashboard.filter_fields import more_filters
from dashboard.notices import empty_selection, plain
from dashboard.ordering import percent_text
from dashboard.review_filters import review_filters
from dashboard.session import PageContext, set_filter, update_filter

UNLABELLED = -1
LONGEST_CHIP = 90
OUTCOMES = {"Right": True, "Wrong": False}


@dataclass(frozen=True)
class Bar:
    """The filter bar without what shows a changed filter at once: a page that draws its selection by itself draws that too.

    Attributes:
        outcome: The place of right and wrong.
        confidence: The place of the confidence.
        words: The place of the filter in words.
    """

    outcome: DeltaGenerator
    confidence: DeltaGenerator
    words: DeltaGenerator

    def fill(self, context: PageContext, beside: Callable[[PageContext], None] | None = None) -> None:
        """Draw the rest of the bar.

        Args:
            context: The page's context.
            beside: Draws what can be done with the whole selection, at the end of the line that says what it is.
        """
        with self.outcome:
            _outcome(context)
        with self.confidence:
            _confidence(context)
        with self.words:
            _chips(context)
            _sentence(context, beside)


def filter_bar(context: PageContext) -> Filter:
    """Draw the filter bar with the filter in words under it, and return the filter."""
    begin_filter_bar(context).fill(context)
    return context.filter


def begin_filter_bar(context: PageContext) -> Bar:
    """Draw the filter bar except for what `Bar.fill` draws."""
    with st.container(key="filter_bar", gap="small"):
        label, predicted, outcome, confidence, reviews, more = st.columns(
            [2.1, 2.1, 1.5, 1.8, 1.3, 1.0], vertical_alignment="bottom", gap="small"
        )
        with label:
            _classes(context, "label", "Class")
        with predicted:
            _classes(context, "pred", "Predicted class")
        with reviews, st.popover("Reviews", icon=":material/rate_review:", width="stretch"):
            review_filters(context)
        with more, st.popover("More", icon=":material/tune:", width="stretch"):
            more_filters(context)
        return Bar(outcome, confidence, st.container(key="filter_words", gap="small"))


def filtered_maps(context: PageContext, title: str, purpose: str) -> Filter | None:
    """Begin a page about the maps of a selection: title and filter bar; None where there are no maps or no samples.

    Args:
        context: The page's context.
        title: The page's title.
        purpose: What there is nothing to do without maps: "there is nothing to …".
    """
    st.title(title)
    filter_ = filter_bar(context)
    if not context.manifest.methods:
        st.info(
            f"This run holds no attributions yet, so there is nothing to {purpose}. "
            "Wait until the first are published, or run the same `explain` command again.",
            icon=":material/hourglass_top:",
        )
        return None
    if not ask(context.catalog, queries.count, filter_).n:
        nothing_selected(context)
        return None
    return filter_


def nothing_selected(context: PageContext) -> None:
    """Say that no sample meets the filter, and offer to drop its conditions."""
    empty_selection(
        context.filter, context.manifest, lambda kept: ask(context.catalog, queries.count, kept).n, set_filter
    )


def _classes(context: PageContext, field: str, title: str) -> None:
    classes = context.manifest.classes
    titles = class_titles(classes)
    current = context.filter.get(field)
    chosen = [_index(classes, value) for value in current.values] if isinstance(current, OneOf) else []
    options = list(range(len(classes)))
    if field == "label" and ask(context.catalog, queries.count, Filter()).labelled < context.manifest.rows(
        "samples"
    ):
        options.append(UNLABELLED)
    counts = counts_of(context, field)
    key = f"filter_{field}"
    st.session_state[key] = [index for index in options if index in chosen]

    def said(index: int) -> str:
        if index == UNLABELLED:
            return with_count("unlabelled", None, counts)
        return with_count(titles[index], index, counts)

    def change() -> None:
        values = tuple(_value(classes, index) for index in meant(st.session_state[key], options, said))
        update_filter(field, OneOf(field, values) if values else None)

    st.multiselect(
        title,
        options,
        key=key,
        on_change=change,
        format_func=said,
        placeholder="any",
        # Letters in order, anywhere, would find digits of the counts.
        filter_mode="contains",
    )


def _index(classes: Sequence[str], value: Any) -> int:
    return UNLABELLED if value is None else class_index(classes, value)


def _value(classes: Sequence[str], index: int) -> str | int | None:
    if index == UNLABELLED:
        return None
    return classes[index] if classes.count(classes[index]) == 1 else index


def _outcome(context: PageContext) -> None:
    current = context.filter.get("correct")
    value = current.value if isinstance(current, Is) else None
    key = "filter_correct"
    st.session_state[key] = next((name for name, meant in OUTCOMES.items() if meant is value), None)

    def change() -> None:
        name = st.session_state[key]
        update_filter("correct", Is("correct", OUTCOMES[name]) if name else None)

    st.segmented_control("Prediction", list(OUTCOMES), key=key, on_change=change, width="stretch")


def _confidence(context: PageContext) -> None:
    current = context.filter.get("confidence")
    low, high = (current.low, current.high) if isinstance(current, Range) else (None, None)
    key = "filter_confidence"
    bounds = tuple(
        round(100 * float(value)) if isinstance(value, int | float) else usual
        for value, usual in ((low, 0), (high, 100))
    )
    st.session_state[key] = tuple(min(max(bound, 0), 100) for bound in bounds)

    def change() -> None:
        first, last = st.session_state[key]
        bounded = (first / 100 if first > 0 else None, last / 100 if last < 100 else None)
        update_filter(
            "confidence", Range("confidence", *bounded) if any(b is not None for b in bounded) else None
        )

    declared = sample_fields(context.manifest)["confidence"].field
    st.slider("Confidence", 0, 100, key=key, on_change=change, format="%d%%", help=field_help(declared))


def _chips(context: PageContext) -> None:
    if not context.filter:
        return
    with st.container(horizontal=True, key="chips"):
        for index, condition in enumerate(context.filter.conditions):
            words = clause(condition, context.manifest)
            st.button(
                plain(words if len(words) <= LONGEST_CHIP else f"{words[: LONGEST_CHIP - 1]}…"),
                key=f"chip_{index}",
                icon=":material/close:",
                icon_position="right",
                help="Drop this condition",
                # Not by its subject, which several regions share.
                on_click=_drop_to,
                args=(Filter(tuple(c for i, c in enumerate(context.filter.conditions) if i != index)),),
            )
        if len(context.filter.conditions) > 1:
            st.button("Clear all", key="chip_all", type="tertiary", on_click=_drop_to, args=(Filter(),))


def _drop_to(kept: Filter) -> None:
    """Leave some of the filter only; all of the page is drawn, since its lists still show what was dropped."""
    set_filter(kept)
    st.rerun()


def _sentence(context: PageContext, beside: Callable[[PageContext], None] | None) -> None:
    counts = ask(context.catalog, queries.count, context.filter)
    total = context.manifest.rows("samples")
    parts = [f"**{counts.n:,}** of {total:,} images"] if context.filter else [f"**{total:,}** images"]
    # Among wrong predictions only, an error rate of 100 % tells nobody anything.
    if counts.error_rate is not None and context.filter.get("correct") is None:
        rate = percent_text(counts.error_rate, 1)
        parts.append(f"error rate **{rate}** ({counts.wrong:,} of {counts.labelled:,} labelled)")
    if counts.degenerate:
        parts.append(f"{counts.degenerate:,} without positive attention")
    with st.container(key="sentence", horizontal=True, vertical_alignment="center"):
        said = f"{plain(context.filter.sentence(context.manifest))} — " if context.filter else ""
        st.markdown(f"{said[:1].upper()}{said[1:]}{' · '.join(parts)}", width="content")
        if beside is not None:
            st.space("stretch")
            beside(context)
