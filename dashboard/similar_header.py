"""The head of Browse while it is ordered by likeness to one image: the image, and by what others are like it."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cache import profiles
from cache.fields import class_title
from dashboard.data import ask
from dashboard.likeness import (
    MEANINGS,
    TITLES,
    likeness_asked,
    likeness_of_url,
    likeness_param,
)
from dashboard.notices import plain, told
from dashboard.session import PageContext, open_page, param, set_params
from dashboard.tiles import sample_gallery

PICTURE = 132


@told()
def similar_header(context: PageContext) -> None:
    """Draw the image that the selection is compared with, by what, and the way back; nothing without one."""
    asked = likeness_asked()
    if asked is None:
        if param("similar"):
            st.warning(
                "The link's “similar” names no image and way of being alike: the order is the usual one.",
                icon=":material/image_search:",
            )
        return
    like = likeness_of_url(context)
    if like is None:
        st.warning(
            f"This run has no image {plain(asked[0][:200])} to compare with: it may have been renamed or removed since the "
            "link was made. The order is the usual one.",
            icon=":material/image_search:",
        )
        return
    row = ask(context.catalog, profiles.sample, like.sample_id)
    if row is None:
        return

    def change() -> None:
        set_params(similar=likeness_param(like.sample_id, st.session_state["similar_kind"]), page=None)

    st.session_state["similar_kind"] = like.kind
    with st.container(key="similar", horizontal=True, gap="medium", vertical_alignment="center"):
        with st.container(width=PICTURE + 12):
            gallery = sample_gallery(context, [row], lambda _: "")
            opened = replace(gallery, toolbar=False, layout="fixed", size=PICTURE).mount(
                "similar_to", context.method
            )
        with st.container(gap="small"):
            predicted = plain(class_title(context.manifest.classes, row["pred"]))
            st.markdown(f"#### Most like {plain(like.sample_id)}")
            st.caption(
                f"The selection, nearest first, by {MEANINGS[like.kind]}; the image is predicted {predicted}. Narrow it with the "
                "filter: the other class, or wrong predictions only."
            )
            with st.container(horizontal=True, vertical_alignment="center"):
                st.segmented_control(
                    "Alike by", list(TITLES), key="similar_kind", on_change=change, required=True,
                    format_func=lambda kind: TITLES[kind], label_visibility="collapsed",
                )  # fmt: skip
                st.button(
                    "Usual order", icon=":material/close:", key="similar_end", type="tertiary",
                    on_click=set_params, kwargs={"similar": None, "page": None},
                )  # fmt: skip
    if opened:
        open_page("sample", id=opened)
