"""Reviewing from the gallery: tags from the keyboard, a bar for the tiles that are selected, and the whole selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from cache import queries
from cache.review_events import Subject
from dashboard.components.gallery import Gallery, Reviewing
from dashboard.data import ask
from dashboard.people import person
from dashboard.review_panel import known_tags, review_many
from dashboard.reviewing import confirm, follow, messages, undo_button, write
from dashboard.session import PageContext

Row = Mapping[str, Any]
SUGGESTED = 50


def tagging(context: PageContext, rows: Sequence[Row]) -> Reviewing:
    """Return what a gallery needs so that its tiles can be selected and tagged from the keyboard."""
    contents = {str(row["sample_id"]): str(row["content"]) for row in rows}
    who = person()
    refusal = ""
    if not who.may_review:
        refusal = "You may look at this audit but not review it"
    elif not who.name:
        refusal = "Type your name under “Reviewing as” in the sidebar first"

    def tag(ids: list[str], words: str) -> None:
        subjects = [Subject.sample(contents[key]) for key in ids]
        if write(context.catalog, lambda reviews, name: reviews.tag(name, subjects, words)) is not None:
            n = f"{len(ids)} images" if len(ids) > 1 else "1 image"
            confirm(f"Tagged {n}.")

    return Reviewing(tag, known_tags(context.catalog)[:SUGGESTED], refusal)


def selected_bar(context: PageContext, gallery: Gallery, rows: Sequence[Row], key: str) -> None:
    """Draw the bar at the foot of the window for the tiles that are selected; nothing where none is.

    Args:
        context: The page's context.
        gallery: The gallery, mounted.
        rows: Of its samples.
        key: The gallery's key.
    """
    follow(context.catalog)
    messages()
    ids = set(gallery.selected(key))
    chosen = [row for row in rows if row["sample_id"] in ids]
    if not chosen:
        return
    subjects = [Subject.sample(str(row["content"])) for row in chosen]
    n = f"{len(chosen)} image{'' if len(chosen) == 1 else 's'}"
    with st.container(key="selected_bar", horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{n}** selected", width="content")
        with st.popover(f"Review {n}", icon=":material/rate_review:", type="primary"):
            review_many(context, lambda: subjects, len(chosen), "selected")
        undo_button(context, "selected_bar_undo")


def review_all(context: PageContext) -> None:
    """Draw the popover that reviews all images of the filter at once; nothing where it selects none."""
    filter_ = context.filter
    total = ask(context.catalog, queries.count, filter_).n
    if not total:
        return

    def subjects() -> list[Subject]:
        return [Subject.sample(content) for content in ask(context.catalog, queries.contents, filter_)]

    with st.popover(f"Review all {total:,}", icon=":material/rate_review:", width="content"):
        review_many(context, subjects, total, "all")
