"""Browse: the samples of a filter as a gallery with attention over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from cache import queries
from dashboard.data import ask
from dashboard.field_help import field_help
from dashboard.filter_bar import filter_bar
from dashboard.filter_fields import numbers
from dashboard.notices import empty_selection, notices_of_run, told
from dashboard.ordering import NAME_KEY, number_text, sort_of_url, sort_param, sort_titles, value_text
from dashboard.review_selection import review_all, selected_bar, tagging
from dashboard.reviewing import drawn
from dashboard.session import (
    TARGETS,
    PageContext,
    integer_param,
    open_page,
    page_context,
    param,
    set_filter,
    set_params,
)
from dashboard.share_panel import share_panel
from dashboard.tiles import sample_gallery

PAGE_SIZES = (24, 48, 96, 192)
DEFAULT_PAGE_SIZE = 48
ARROWS = {"Ascending": "↑ Rising", "Descending": "↓ Falling"}


def show() -> None:
    """Draw the page."""
    context = page_context()
    drawn(context.catalog)
    with st.container(horizontal=True, vertical_alignment="center", key="browse_heading"):
        st.title("Browse")
        if st.button(
            "Contact sheet",
            key="browse_contact",
            icon=":material/view_comfy_alt:",
            help="The surest mistakes of each class",
        ):
            open_page("contact", filter=context.filter)
        share_panel(context, sort_of_url(context, numbers(context))[1] if param("sort") else None)
    filter_bar(context)
    total = ask(context.catalog, queries.count, context.filter).n
    if not total:
        empty_selection(
            context.filter,
            context.manifest,
            lambda kept: ask(context.catalog, queries.count, kept).n,
            set_filter,
        )
        return
    size = integer_param("per_page", DEFAULT_PAGE_SIZE, PAGE_SIZES[0], PAGE_SIZES[-1])
    size = min(PAGE_SIZES, key=lambda offered: abs(offered - size))
    pages = math.ceil(total / size)
    _order(context, size, total)
    number = integer_param("page", 1, 1, pages)
    _gallery(context, number, size)
    _pages(number, pages, total, size)
    notices_of_run(context.manifest)


def _order(context: PageContext, size: int, total: int) -> None:
    choices = numbers(context)
    titles = sort_titles(context, choices)
    key, sort = sort_of_url(context, choices)
    st.session_state.update(
        sort_key=key,
        sort_down="Descending" if sort.descending else "Ascending",
        per_page=size,
        map_target=context.target,
    )

    def change() -> None:
        chosen = st.session_state["sort_key"] or NAME_KEY
        down = st.session_state["sort_down"] == "Descending"
        set_params(sort=sort_param(context, chosen, down), page=None)

    def resize() -> None:
        chosen = st.session_state["per_page"]
        set_params(per_page=None if chosen == DEFAULT_PAGE_SIZE else str(chosen), page=None)

    def retarget() -> None:
        chosen = st.session_state["map_target"]
        set_params(target=None if chosen == "pred" else chosen)

    by, down, target, per_page, _, everything = st.columns(
        [2.4, 1.7, 2.4, 0.9, 0.3, 1.7], vertical_alignment="bottom", gap="small"
    )
    by.selectbox(
        "Sort by", list(titles), key="sort_key", on_change=change, format_func=lambda name: titles[name],
        help=field_help(choices[key].field) if key in choices else None,
    )  # fmt: skip
    down.segmented_control(
        "Order", ["Ascending", "Descending"], key="sort_down", on_change=change, required=True,
        label_visibility="collapsed",
        width="stretch", format_func=lambda name: ARROWS[name],
    )  # fmt: skip
    target.segmented_control(
        "Attention for the", list(TARGETS), key="map_target", on_change=retarget, required=True,
        format_func=lambda name: TARGETS[name], width="stretch",
    )  # fmt: skip
    per_page.selectbox("Per page", PAGE_SIZES, key="per_page", on_change=resize)
    with everything:
        review_all(context, total)


@st.fragment
@told()
def _gallery(context: PageContext, number: int, size: int) -> None:
    choices = numbers(context)
    key, sort = sort_of_url(context, choices)
    rows = ask(context.catalog, queries.page, context.filter, sort, (number - 1) * size, size).to_pylist()
    order = param("sort")

    def note(row: Mapping[str, Any]) -> str:
        return value_text(choices, key, row["sort_value"]) or str(row["sample_id"])

    gallery = sample_gallery(context, rows, note, tagging(context, rows), sort=order or None)
    opened = gallery.mount("gallery", context.method)
    selected_bar(context, gallery, rows, "gallery")
    if opened:
        open_page("sample", id=opened, sort=order or None)


def _pages(number: int, pages: int, total: int, size: int) -> None:
    key = f"page_number_{number}"  # a widget of its own for each page, so that going back shows the right one

    def turn() -> None:
        chosen = st.session_state[key]
        set_params(page=None if chosen == 1 else str(chosen))

    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", key="pages"):
            st.pagination(pages, default=number, key=key, on_change=turn)
            first = (number - 1) * size + 1
            st.caption(
                f"{number_text(first)}–{number_text(min(first + size - 1, total))} of {number_text(total)}"
            )


show()
