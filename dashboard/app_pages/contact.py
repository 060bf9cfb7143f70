"""Contact sheet: the surest mistakes of each class side by side, to look through and to print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from cache import queries
from cache.fields import class_title
from cache.filters import Filter
from cache.worst import WORST, By, WorstOfClass, worst_of_each
from dashboard.components.gallery import Group
from dashboard.components.print_page import print_page
from dashboard.data import ask
from dashboard.drilldown import mistakes_filter
from dashboard.filter_bar import filter_bar, nothing_selected
from dashboard.notices import notices_of_run, told
from dashboard.session import (
    PageContext,
    integer_param,
    link_to,
    open_page,
    page_context,
    param,
    set_params,
)
from dashboard.tiles import sample_gallery

CLASSES = 10
"""Classes on a page: at ten pictures each, as many as a browser shows without delay."""
ORDER = "-confidence"
BY: dict[By, str] = {"label": "True class", "pred": "Predicted class"}


def show() -> None:
    """Draw the page."""
    context = page_context()
    by: By = "pred" if param("by") == "pred" else "label"
    with st.container(horizontal=True, vertical_alignment="center", key="contact_heading"):
        st.title("Contact sheet")
        print_page("contact_print")
        if st.button("Gallery", key="contact_browse", icon=":material/grid_view:"):
            open_page("browse", filter=context.filter)
    with st.container(key="contact_bar"):
        filter_bar(context)
    counts = ask(context.catalog, queries.count, context.filter)
    if not counts.n:
        nothing_selected(context)
        return
    found = ask(context.catalog, worst_of_each, context.filter, by)
    if not found:
        _nothing(bool(counts.labelled))
        return
    pages = math.ceil(len(found) / CLASSES)
    number = integer_param("page", 1, 1, pages)
    shown = found[(number - 1) * CLASSES : number * CLASSES]
    _choose(by, len(found), shown)
    _sheet(context, shown, by, number)
    _pages(number, pages, len(found))
    notices_of_run(context.manifest)


def _nothing(labelled: bool) -> None:
    if labelled:
        st.success("No image of this selection is classified wrongly.", icon=":material/task_alt:")
    else:
        st.info(
            "No image of this selection has a label, so nobody knows which predictions are wrong.",
            icon=":material/label_off:",
        )


def _choose(by: By, classes: int, shown: list[WorstOfClass]) -> None:
    """Offer the classes by which mistakes are put together, and say what is shown."""
    st.session_state["contact_by"] = by

    def change() -> None:
        set_params(by="pred" if st.session_state["contact_by"] == "pred" else None, page=None)

    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="contact_choice"):
        st.segmented_control(
            "Mistakes by", list(BY), key="contact_by", on_change=change, required=True,
            format_func=lambda name: BY[name], label_visibility="collapsed",
        )  # fmt: skip
        of = "of each class" if by == "label" else "called each class"
        more = (
            f"; {len(shown)} of {classes:,} classes, those with the most mistakes first"
            if classes > len(shown)
            else ""
        )
        st.caption(f"The {WORST} surest mistakes {of}, the most confident first{more}.")


@st.fragment
@told()
def _sheet(context: PageContext, shown: list[WorstOfClass], by: By, number: int) -> None:
    classes = context.manifest.classes
    rows = [row for one in shown for row in one.rows]
    gallery = sample_gallery(context, rows)
    tiles = list(gallery.groups[0].tiles)
    groups, first = [], 0
    narrowed: dict[str, Filter] = {}
    for one in shown:
        title = class_title(classes, one.index)
        # From a picture on, the arrows walk through its own row.
        mistakes = mistakes_filter(context.filter, classes, by, one.index)
        narrowed |= {str(row["sample_id"]): mistakes for row in one.rows}
        held = tiles[first : first + len(one.rows)]
        first += len(one.rows)
        groups.append(
            Group(
                [
                    replace(
                        tile,
                        mark=None,  # all of them are wrong
                        text=_other(classes, row, by),
                        then="",
                        href=link_to("sample", id=tile.id, filter=mistakes, sort=ORDER),
                    )
                    for tile, row in zip(held, one.rows, strict=True)
                ],
                title=title if by == "label" else f"called {title}",
                note=f"{len(held)} of {one.wrong:,} wrong"
                if one.wrong > len(held)
                else f"{one.wrong:,} wrong",
            )
        )
    opened = replace(gallery, groups=groups, layout="sheet", page=number).mount(
        "contact_sheet", context.method
    )
    if opened:
        open_page("sample", id=opened, filter=narrowed.get(opened, context.filter), sort=ORDER)


def _other(classes: Sequence[str], row: Mapping[str, Any], by: By) -> str:
    """Name the class that the row's heading does not."""
    if by == "label":
        return f"→ {class_title(classes, row['pred'])}"
    return class_title(classes, row["label"])


def _pages(number: int, pages: int, classes: int) -> None:
    if pages <= 1:
        return
    key = f"contact_page_{number}"

    def turn() -> None:
        chosen = st.session_state[key]
        set_params(page=None if chosen == 1 else str(chosen))

    with st.container(horizontal=True, vertical_alignment="center", key="pages"):
        st.pagination(pages, default=number, key=key, on_change=turn)
        first = (number - 1) * CLASSES + 1
        st.caption(f"Classes {first:,}–{min(first + CLASSES - 1, classes):,} of {classes:,}")


show()
