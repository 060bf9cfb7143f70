"""Browse: the samples of a filter as a gallery with attention over them, as a table, or on a map of features."""

from __future__ import annotations

import math

import streamlit as st

from cache import queries
from cache.sections import groupings
from dashboard.browse_gallery import (
    gallery_view,
    grouping_of_url,
    page_of_url,
    section_pages,
    sections_view,
)
from dashboard.browse_map import map_controls, map_view
from dashboard.browse_table import columns_chooser, table_view
from dashboard.data import ask
from dashboard.field_help import field_help
from dashboard.filter_bar import Bar, begin_filter_bar, nothing_selected
from dashboard.filter_fields import numbers
from dashboard.likeness import likeness_of_url
from dashboard.notices import notices_of_run, told
from dashboard.ordering import NAME_KEY, number_text, sort_of_url, sort_param, sort_titles
from dashboard.parts import drawn_for, with_current_filter
from dashboard.review_selection import review_all
from dashboard.reviewing import drawn, follow, messages
from dashboard.session import (
    TARGETS,
    PageContext,
    integer_param,
    open_page,
    page_context,
    param,
    set_params,
)
from dashboard.share_panel import share_panel
from dashboard.sidebar import links
from dashboard.similar_header import similar_header

PAGE_SIZES = (24, 48, 96, 192)
DEFAULT_PAGE_SIZE = 48
SORT_WIDTH, GROUP_WIDTH = 210, 170
ARROWS = {"Ascending": "↑ Rising", "Descending": "↓ Falling"}
VIEWS = {
    "gallery": ":material/grid_view: Gallery",
    "table": ":material/table_rows: Table",
    "map": ":material/scatter_plot: Map",
}


def show() -> None:
    """Draw the page."""
    context = page_context()
    drawn(context.catalog)
    drawn_for(context.filter)
    view = param("view") if param("view") in VIEWS else "gallery"
    with st.container(horizontal=True, vertical_alignment="center", key="browse_heading"):
        st.title("Browse", width="content")
        _views(view)
        st.space("stretch")
        if st.button(
            "Contact sheet",
            key="browse_contact",
            icon=":material/view_comfy_alt:",
            help="The surest mistakes of each class",
        ):
            open_page("contact", filter=context.filter)
        ordered = param("sort") or param("similar")
        share_panel(context, sort_of_url(context, numbers(context))[1] if ordered else None)
    bar = begin_filter_bar(context)
    total = ask(context.catalog, queries.count, context.filter).n
    by_itself = view == "gallery" and bool(total)
    if not by_itself:
        links()
        bar.fill(context, review_all)
    if not total:
        nothing_selected(context)
        return
    size = integer_param("per_page", DEFAULT_PAGE_SIZE, PAGE_SIZES[0], PAGE_SIZES[-1])
    size = min(PAGE_SIZES, key=lambda offered: abs(offered - size))
    _order(context, size, view)
    similar_header(context)
    if by_itself:
        _selection(context, bar, size)
    elif view == "map":
        map_view(context)
    else:
        _found(context, view, size)
    notices_of_run(context.manifest)


@st.fragment
@told()
def _selection(context: PageContext, bar: Bar, size: int) -> None:
    """Draw the gallery and what else shows another filter at once; the gallery asks for the rest of the page later."""
    context = with_current_filter(context)
    follow(context.catalog)
    messages()
    links()
    bar.fill(context, review_all)
    if not ask(context.catalog, queries.count, context.filter).n:
        st.rerun()  # all of the page, which says so
    _found(context, "gallery", size)


@st.fragment
@told()
def _found(context: PageContext, view: str, size: int) -> None:
    """Draw one page of what was found and the way to the others: turning it leaves the rest of Browse as it is."""
    by = grouping_of_url(context)
    if view == "gallery" and by is not None:
        _grouped(context, by)
    else:
        _paged(context, view, ask(context.catalog, queries.count, context.filter).n, size)


def _grouped(context: PageContext, by: str) -> None:
    sections, pages = section_pages(context, by)
    number = page_of_url(pages)
    sections_view(context, by, number)
    _pages(number, pages, f"{number_text(sections)} groups")


def _paged(context: PageContext, view: str, total: int, size: int) -> None:
    pages = math.ceil(total / size)
    number = page_of_url(pages)
    if view == "table":
        table_view(context, number, size)
    else:
        gallery_view(context, number, size, pages)
    first = (number - 1) * size + 1
    last = min(first + size - 1, total)
    _pages(number, pages, f"{number_text(first)}–{number_text(last)} of {number_text(total)}")


def _views(view: str) -> None:
    st.session_state["browse_view"] = view

    def change() -> None:
        chosen = st.session_state["browse_view"]
        set_params(view=None if chosen == "gallery" else chosen, point=None)

    st.segmented_control(
        "View", list(VIEWS), key="browse_view", on_change=change, required=True, width="content",
        format_func=lambda name: VIEWS[name], label_visibility="collapsed",
    )  # fmt: skip


def _order(context: PageContext, size: int, view: str) -> None:
    with st.container(key="order", horizontal=True, vertical_alignment="bottom", gap="small"):
        _sorting(context, SORT_WIDTH - 40 if view == "map" else SORT_WIDTH)
        _target(context)
        if view == "map":
            map_controls(context)
            return
        if view == "table":
            columns_chooser(context)
        else:
            _grouping(context)
        _page_size(size, view == "gallery" and grouping_of_url(context) is not None)


def _sorting(context: PageContext, width: int) -> None:
    choices = numbers(context)
    titles = sort_titles(context, choices)
    key, sort = sort_of_url(context, choices)
    alike = likeness_of_url(context) is not None
    st.session_state.update(sort_key=key, sort_down="Descending" if sort.descending else "Ascending")

    def change() -> None:
        chosen = st.session_state["sort_key"] or NAME_KEY
        falling = st.session_state["sort_down"] == "Descending"
        set_params(sort=sort_param(context, chosen, falling and not alike), similar=None, page=None)

    st.selectbox(
        "Sort by", list(titles), key="sort_key", on_change=change, format_func=lambda name: titles[name],
        help=field_help(choices[key].field) if key in choices else None, width=width,
    )  # fmt: skip
    st.segmented_control(
        "Order", ["Ascending", "Descending"], key="sort_down", on_change=change, required=True,
        label_visibility="collapsed", disabled=alike, format_func=lambda name: ARROWS[name],
    )  # fmt: skip


def _target(context: PageContext) -> None:
    st.session_state["map_target"] = context.target

    def retarget() -> None:
        chosen = st.session_state["map_target"]
        set_params(target=None if chosen == "pred" else chosen)

    st.segmented_control(
        "Attention for the", list(TARGETS), key="map_target", on_change=retarget, required=True,
        format_func=lambda name: TARGETS[name],
    )  # fmt: skip


def _grouping(context: PageContext) -> None:
    titles = groupings(context.manifest)
    st.session_state["group_by"] = grouping_of_url(context)

    def regroup() -> None:
        set_params(group=st.session_state["group_by"], page=None)

    st.selectbox(
        "Group by", list(titles), key="group_by", on_change=regroup, format_func=lambda name: titles[name],
        placeholder="nothing", width=GROUP_WIDTH,
    )  # fmt: skip


def _page_size(size: int, disabled: bool) -> None:
    st.session_state["per_page"] = size

    def resize() -> None:
        chosen = st.session_state["per_page"]
        set_params(per_page=None if chosen == DEFAULT_PAGE_SIZE else str(chosen), page=None)

    st.selectbox("Per page", PAGE_SIZES, key="per_page", on_change=resize, disabled=disabled, width=84)


def _pages(number: int, pages: int, words: str) -> None:
    key = f"page_number_{number}"  # a widget of its own for each page, so that going back shows the right one

    def turn() -> None:
        chosen = st.session_state[key]
        set_params(page=None if chosen == 1 else str(chosen))

    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", key="pages"):
            st.pagination(pages, default=number, key=key, on_change=turn)
            st.caption(words)


show()
