"""Reviews: saved views, tags and verdicts with what bears them, label errors to export, and who did what."""

from __future__ import annotations

import streamlit as st

from cache.errors import ReviewError
from cache.filters import Filter, Not, Reviewed
from cache.review_condition import VERDICTS, WRONG_LABEL
from cache.review_views import history, reviewers, tags, verdicts
from dashboard.label_errors import label_error_rows, label_errors_csv
from dashboard.notices import plain
from dashboard.people import person
from dashboard.review_panel import history_line
from dashboard.reviewing import VERDICT_ICONS, asked, entry_text, undo_button
from dashboard.saved_views import view_list
from dashboard.session import PAGES, PageContext, page_context

SHOWN_TAGS = 40
SHOWN_EVENTS = 30


def show() -> None:
    """Draw the page."""
    context = page_context()
    with st.container(horizontal=True, vertical_alignment="center", key="sample_header"):
        st.title("Reviews", width="stretch")
        undo_button(context, "reviews_undo")
    left, right = st.columns([1.25, 1], gap="large")
    try:
        with left:
            st.subheader("Saved views")
            view_list(context)
            _label_errors(context)
        with right:
            _said(context)
            _activity(context)
    except ReviewError as error:
        st.error(plain(error), icon=":material/error:")


def _said(context: PageContext) -> None:
    st.subheader("What was said of images")
    judged = {name: n for name, n in asked(context.catalog, verdicts).items() if n}
    tagged = asked(context.catalog, tags)
    with st.container(gap="xxsmall", key="said"):
        for name in VERDICTS:
            if name in judged:
                _link(context, Reviewed(verdict=name), name, judged[name], VERDICT_ICONS[name])
        for tag in tagged[:SHOWN_TAGS]:
            _link(context, Reviewed(tag=tag.tag), tag.tag, tag.count, ":material/sell:")
        if not judged and not tagged:
            st.caption("Nothing yet: press **t** on a picture in *Browse*, or open one and review it there.")
        st.page_link(
            PAGES["browse"].file, label="Images that nobody has reviewed", icon=":material/pending:",
            query_params={"run": context.run, "filter": Filter((Not(Reviewed()),)).to_param()},
        )  # fmt: skip


def _link(context: PageContext, condition: Reviewed, words: str, count: int, icon: str) -> None:
    st.page_link(
        PAGES["browse"].file, label=f"{plain(words)} :gray[· {count:,}]", icon=icon,
        query_params={"run": context.run, "filter": Filter((condition,)).to_param()},
    )  # fmt: skip


def _label_errors(context: PageContext) -> None:
    st.subheader("Label errors")
    rows = label_error_rows(context.catalog)
    if not rows:
        st.caption(f"No image is judged “{WRONG_LABEL}”, or those that were have the suggested label by now.")
        return
    st.dataframe(
        rows,
        hide_index=True,
        height="content" if len(rows) <= 10 else 400,
        column_config={
            "id": "Image", "label": "Label", "prediction": "Prediction", "suggested_label": "Suggested", "note": "Note",
            "author": "By", "time": st.column_config.DatetimeColumn("When", format="YYYY-MM-DD", width=96),
        },
    )  # fmt: skip
    st.download_button(
        f"Export {len(rows):,} as CSV", label_errors_csv(rows), f"label-errors-{context.manifest.run_id[:8]}.csv",
        "text/csv", key="label_errors_csv", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def _activity(context: PageContext) -> None:
    people = asked(context.catalog, reviewers)
    if not people:
        return
    st.subheader("Who did what")
    st.caption(" · ".join(f"{plain(one.name)} {one.events:,}" for one in people))
    who = person()
    with st.container(key="activity", gap="xxsmall"):
        for entry in asked(context.catalog, history, None, None, SHOWN_EVENTS):
            history_line(context.catalog, entry.id, f"activity_{entry.id}", who, entry_text(entry), entry.author,
                         entry.time, entry.undone, entry.kind == "undo")  # fmt: skip


show()
