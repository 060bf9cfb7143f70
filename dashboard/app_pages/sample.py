"""Sample: one image, what the model made of it, and where it looked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from cache import profiles, queries
from cache.fields import class_title
from cache.profiles import Attribution
from cache.review_events import Subject
from cache.schema import TARGET_TRUE
from cache.similarity import KINDS
from dashboard.components.copy_link import copy_link
from dashboard.data import ask
from dashboard.filter_fields import numbers
from dashboard.likeness import TITLES, likeness_param
from dashboard.notices import notices_of_run, plain, unknown_sample
from dashboard.ordering import kept_params, sort_of_url
from dashboard.region_canvas import region_link
from dashboard.review_panel import review_panel
from dashboard.sample_maps import every_method, large_maps, superpixel_panel
from dashboard.sample_tables import facts_html, standings_html, top_html, verdict_html
from dashboard.session import PageContext, link_to, open_page, page_context, param, set_params
from dashboard.tiles import sample_gallery, without_confidence

NEAREST = 12
SMALL = 112
FEW_METHODS = 9  # so many find room beside what the model said; more have the whole width
Row = Mapping[str, Any]


def show() -> None:
    """Draw the page."""
    context = page_context()
    sample_id = param("id")
    row = ask(context.catalog, profiles.sample, sample_id) if sample_id else None
    if row is None:
        unknown_sample(sample_id, link_to("browse"))
        return
    _header(context, row)
    attributions = ask(context.catalog, profiles.attributions_of, sample_id)
    left, right = st.columns([2.55, 1], gap="large")
    few = len(context.manifest.methods) <= FEW_METHODS
    with left:
        large_maps(context, row, attributions)
        st.markdown(f"[Filter by a region of this image]({region_link(row['sample_id'])}) · {_alike(row)}")
        if few:
            every_method(context, row, attributions)
        superpixel_panel(context, row, attributions)
    with right:
        st.html(verdict_html(context.manifest, row))
        st.html(top_html(context.manifest, row))
        st.subheader("Reviews")
        review_panel(context, Subject.sample(row["content"]), "sample")
        st.subheader("About this image")
        st.html(facts_html(context.manifest, row))
    if not few:
        every_method(context, row, attributions)
    left, right = st.columns([1.3, 1], gap="large")
    with left:
        _standings(context, row, attributions)
    with right:
        _nearest(context, row)
    notices_of_run(context.manifest)


def _header(context: PageContext, row: Row) -> None:
    _, sort = sort_of_url(context, numbers(context))
    place = ask(context.catalog, queries.position, context.filter, sort, row["sample_id"])
    with st.container(horizontal=True, vertical_alignment="center", key="sample_header"):
        if st.button("Gallery", icon=":material/arrow_back:", help="Back to the gallery"):
            open_page("browse", **kept_params())
        if place.index is not None:
            st.button(
                "Previous", icon=":material/chevron_left:", disabled=place.previous is None, shortcut="Left",
                on_click=set_params, kwargs={"id": place.previous}, key="previous",
            )  # fmt: skip
            st.button(
                "Next", icon=":material/chevron_right:", icon_position="right", disabled=place.next is None,
                shortcut="Right", on_click=set_params, kwargs={"id": place.next}, key="next",
            )  # fmt: skip
            of = f" {plain(context.filter.sentence(context.manifest))}" if context.filter else ""
            st.caption(f"{place.index + 1:,} of {place.total:,}{of}")
        else:
            st.caption(f"Not among the {place.total:,} {plain(context.filter.sentence(context.manifest))}")
        with st.container(width=120):
            copy_link("copy_link")
    st.title(plain(row["sample_id"]), anchor=False)


def _alike(row: Row) -> str:
    links = [
        f"[{TITLES[kind].lower()}]({link_to('browse', similar=likeness_param(row['sample_id'], kind))})"
        for kind in KINDS
    ]
    return f"Find similar by {links[0]}, {links[1]} or {links[2]}"


def _standings(context: PageContext, row: Row, attributions: list[Attribution]) -> None:
    title = str(context.manifest.methods.get(context.method, {}).get("title", context.method))
    predicted = plain(class_title(context.manifest.classes, row["pred"]))
    whose = " for the true class" if context.target == TARGET_TRUE else ""
    st.subheader(f"{plain(title)}{whose} among the images predicted {predicted}")
    standings = ask(context.catalog, profiles.standing, row["sample_id"], context.method, context.target)
    explained = row["label"] if context.target == TARGET_TRUE else row["pred"]
    if any(a.degenerate for a in attributions if (a.method, a.target) == (context.method, explained)):
        st.caption("This map has no positive attention, so it has no shares.")
    # Some numbers are known by some methods only: a surrogate's fit, say.
    st.html(standings_html([standing for standing in standings if standing.n]))


def _nearest(context: PageContext, row: Row) -> None:
    st.subheader("Nearest by what the model attended to")
    found = ask(context.catalog, profiles.nearest, row["sample_id"], "attended", NEAREST)
    if not found:
        st.caption("This run has no attended features of this image, because its map is empty.")
        return
    similarity = dict(found)
    rows = [
        sample for key in similarity if (sample := ask(context.catalog, profiles.sample, key)) is not None
    ]
    gallery = sample_gallery(
        context, rows, lambda near: f"similarity {similarity[str(near['sample_id'])]:.2f}"
    )
    small = replace(without_confidence(gallery), toolbar=False, layout="fixed", size=SMALL)
    opened = small.mount("sample_nearest", context.method)
    if opened:
        open_page("sample", id=opened)


show()
