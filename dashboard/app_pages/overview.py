"""Overview: how good the model is, where it errs, and whether it looks elsewhere when it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cache import queries
from cache.errors import RunDamagedError
from cache.fields import class_titles
from cache.filters import Filter, Is
from dashboard.components.chart import chart
from dashboard.confusions import confusion_view
from dashboard.data import ask
from dashboard.drilldown import cell_of, class_filter, pair_filter, points_of, range_filter
from dashboard.figures import Side, confusion_figure, look_of, reliability_figure
from dashboard.filter_bar import nothing_selected
from dashboard.finding_summary import summary_of, summary_panel
from dashboard.intervals import wilson
from dashboard.notices import notices_of_run, plain
from dashboard.outcome_panel import attention_panel, distribution
from dashboard.provenance import failures, provenance
from dashboard.rendering import PALETTE
from dashboard.session import PageContext, open_page, page_context, param, set_filter, set_params
from dashboard.table_widths import name_width

MATRIX_SIZES = (10, 20, 30, 50)
SHOWN_PAIRS = 200
NO_LABELS = "No sample of this selection has a label, so right and wrong cannot be told apart; what the model predicts is shown."


def main() -> None:
    """Draw the page."""
    context = page_context()
    counts = ask(context.catalog, queries.count, context.filter)
    _heading(context, bool(counts.wrong))
    _headline(context, counts)
    if not context.filter:
        _habits(context)
    if not counts.n:
        nothing_selected(context)
    else:
        if not counts.labelled:
            st.info(NO_LABELS, icon=":material/label_off:")
        left, right = st.columns([4.7, 7.3], gap="small")
        with left, st.container(border=True, height="stretch"):
            if counts.labelled:
                _confusion(context)
            else:
                _confidence(context)
        with right, st.container(border=True, height="stretch"):
            _classes(context, bool(counts.labelled))
        left, right = st.columns([4, 9], gap="small")
        with left, st.container(border=True, height="stretch"):
            if counts.labelled:
                _reliability(context)
            else:
                st.subheader("Reliability")
                st.caption("How far confidence can be trusted shows only against labels.")
        with right, st.container(border=True, height="stretch"):
            attention_panel(context, bool(counts.labelled))
    failures(context)
    provenance(context)
    notices_of_run(context.manifest)


def _heading(context: PageContext, errors: bool) -> None:
    """Say which samples are shown, and offer to see them or to let go of the filter."""
    with st.container(horizontal=True, vertical_alignment="center", key="overview_heading", gap="small"):
        st.title("Overview", width="content")
        st.space("stretch")
        if errors and st.button("See the wrong ones", key="overview_wrong", icon=":material/error_outline:"):
            open_page("browse", filter=context.filter.with_(Is("correct", False)))
        if errors and st.button("Contact sheet", key="overview_contact", icon=":material/view_comfy_alt:"):
            open_page("contact", filter=context.filter)
        if st.button("See the findings", key="overview_findings", icon=":material/troubleshoot:"):
            open_page("findings")
        if st.button("Browse all of these", key="overview_all", icon=":material/grid_view:"):
            open_page("browse", filter=context.filter)
    if context.filter:
        with st.container(horizontal=True, vertical_alignment="center", key="overview_filter"):
            sentence = context.filter.sentence(context.manifest)
            st.markdown(f":material/filter_alt: Only **{plain(sentence)}**", width="content")
            st.button(
                "Clear filter",
                on_click=lambda: set_filter(Filter()),
                key="overview_clear",
                icon=":material/close:",
                type="tertiary",
            )


def _headline(context: PageContext, counts: Any) -> None:
    failed = ask(context.catalog, queries.errors).num_rows
    right = counts.labelled - counts.wrong
    accuracy = wilson(right, counts.labelled)
    known = counts.labelled > 0
    cells = st.columns(5, gap="small")
    cells[0].metric("Samples", f"{counts.n:,}", _unlabelled(counts), **_QUIET)
    cells[1].metric(
        "Accuracy",
        f"{float(accuracy.estimate):.1%}" if known else "–",
        f"{float(accuracy.low):.1%} to {float(accuracy.high):.1%}" if known else "no labels",
        help="Share of labelled samples that are predicted right, with its 95% Wilson interval.",
        **_QUIET,
    )
    cells[2].metric(
        "Wrong",
        f"{counts.wrong:,}" if known else "–",
        f"of {counts.labelled:,} labelled" if known else "no labels",
        **_QUIET,
    )
    cells[3].metric(
        "Failures",
        f"{failed:,}",
        "could not be explained" if failed else "all explained",
        help="Images of the whole run that could not be read, decoded or explained; they are listed below.",
        **_QUIET,
    )
    method = context.manifest.methods.get(context.manifest.default_method, {})
    cells[4].metric(
        "Degenerate maps",
        f"{counts.degenerate:,}",
        f"of {method.get('title', context.manifest.default_method)}",
        help="Maps without any positive attribution, or not finite. They have no shares and match no region.",
        **_QUIET,
    )


def _habits(context: PageContext) -> None:
    """Say in plain words what the model is in the habit of; of the whole run only."""
    try:
        summary = summary_of(context)
    except RunDamagedError as error:
        st.warning(plain(error), icon=":material/broken_image:")
        return
    with st.container(border=True, key="overview_summary"):
        summary_panel(summary, right=False)


_QUIET: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True}


def _unlabelled(counts: Any) -> str:
    missing = counts.n - counts.labelled
    return f"{missing:,} without a label" if missing else "all labelled"


@st.fragment
def _confusion(context: PageContext) -> None:
    catalog = context.catalog
    pairs = ask(catalog, queries.confusion, context.filter)
    label, pred, n = (pairs[name].to_numpy() for name in ("label", "pred", "n"))
    limit = _matrix_size()
    view = confusion_view(label, pred, n, catalog.classes, limit)
    cut = view.classes_met > len(view.classes)
    st.subheader("Confusions")
    if view.classes_met > MATRIX_SIZES[0]:
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.session_state["overview_matrix"] = limit
            st.segmented_control(
                "Classes shown",
                MATRIX_SIZES,
                key="overview_matrix",
                on_change=lambda: set_params(matrix=str(st.session_state["overview_matrix"])),
                required=True,
                label_visibility="collapsed",
                help="How many classes to show",
            )
    if cut:
        st.caption(
            f"The {len(view.classes)} classes of the most frequent confusions, worst pair first, out of "
            f"{view.classes_met:,}: {view.errors_shown:,} of {view.errors:,} errors. Click a cell for its samples."
        )
    else:
        st.caption(
            f"All {view.errors:,} errors; each row adds up to its class. Click a cell for its samples."
        )
    event = chart(
        confusion_figure(view, look_of(st.context.theme.type)),
        "overview_confusion",
        "Confusion matrix: true classes down, predicted classes across",
        picks=True,
    )
    for point in points_of(event):
        truth, called = point["customdata"][:2]
        open_page("browse", filter=pair_filter(context.filter, catalog.classes, int(truth), int(called)))


def _matrix_size() -> int:
    asked = param("matrix", str(MATRIX_SIZES[1]))
    return int(asked) if asked in map(str, MATRIX_SIZES) else MATRIX_SIZES[1]


@st.fragment
def _classes(context: PageContext, labelled: bool) -> None:
    catalog = context.catalog
    table = ask(catalog, queries.per_class, context.filter).to_pandas()
    titles = class_titles(catalog.classes)
    table["wrong"] = np.rint(table["n"] * (1 - table["recall"].astype(float))).fillna(0).astype(int)
    table["mistaken"] = [
        f"{titles[int(index)]} ({times:,}×)" if pd.notna(index) else None
        for index, times in zip(table["most_confused_with"], table["confused"], strict=True)
    ]
    sorting = {"recall": True, "n": False} if labelled else {"predicted": False}
    table = table.sort_values(list(sorting), ascending=list(sorting.values()))
    st.subheader("Classes")
    st.caption(
        f"{len(table):,} classes, the worst first; click a heading to sort, a cell for the samples it counts."
        if labelled
        else f"{len(table):,} predicted classes; click a cell for its samples."
    )
    percent: dict[str, Any] = {"format": "%.1f%%", "min_value": 0, "max_value": 100, "width": 82}
    columns = {
        "name": st.column_config.TextColumn("Class", pinned=True, width=name_width(titles)),
        "n": st.column_config.NumberColumn(
            "Images", help="Samples of the class", format="localized", width=54
        ),
        "wrong": st.column_config.NumberColumn(
            "Wrong", help="Samples of the class called another", format="localized", width=52
        ),
        "recall": st.column_config.ProgressColumn(
            "Recall",
            help="Share of the class's samples that are predicted right",
            color=PALETTE.right,
            **percent,
        ),
        "predicted": st.column_config.NumberColumn(
            "Called", help="Samples called this class", format="localized", width=52
        ),
        "precision": st.column_config.ProgressColumn(
            "Precision",
            help="Share of those called this class that belong to it",
            color=PALETTE.right,
            **percent,
        ),
        "mean_confidence": st.column_config.NumberColumn(
            "Confidence", help="Mean confidence where this class is predicted", format="%.1f%%", width=84
        ),
        "mistaken": st.column_config.TextColumn(
            "Mistaken for", help="The class its samples are most often called instead", width=96
        ),
    }
    order = ("name", "n", "wrong", "recall", "mistaken", "predicted", "precision", "mean_confidence")
    columns = {name: columns[name] for name in order}
    if not labelled:
        columns = {name: columns[name] for name in ("name", "predicted", "mean_confidence")}
    shown = table[list(columns)].copy()
    for name in {"recall", "precision", "mean_confidence"} & set(columns):
        shown[name] = 100 * shown[name].astype(float)
    event = st.dataframe(
        shown,
        key="overview_classes",
        column_config=columns,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        height="content" if len(table) <= 14 else 560,
        placeholder="–",
    )
    cell = cell_of(event)
    if cell is not None:
        row = table.iloc[cell[0]].to_dict()
        row["most_confused_with"] = None if pd.isna(row["most_confused_with"]) else row["most_confused_with"]
        column = "most_confused_with" if cell[1] == "mistaken" else cell[1]
        open_page("browse", filter=class_filter(context.filter, catalog.classes, row, column))


@st.fragment
def _confidence(context: PageContext) -> None:
    """Show how sure the model is where nothing says whether it is right."""
    st.subheader("Confidence")
    found = ask(context.catalog, queries.histogram, context.filter, "confidence")
    st.caption("Drag over a range, or click a bar, for its samples.")
    side = Side("all", found.counts, None, PALETTE.accent)
    distribution(context, found.edges, [side], "confidence", "Confidence", None, None, "overview_confidence")


@st.fragment
def _reliability(context: PageContext) -> None:
    table = ask(context.catalog, queries.reliability, context.filter)
    low, high, n = (table[name].to_numpy() for name in ("low", "high", "n"))
    confidence, accuracy = (
        table[name].to_numpy(zero_copy_only=False).astype(float) for name in ("mean_confidence", "accuracy")
    )
    filled = n > 0
    right = np.rint(np.nan_to_num(accuracy) * n)
    calibration = queries.expected_calibration_error(table) or 0.0
    gap = float(np.sum((confidence - accuracy)[filled] * n[filled]) / max(n.sum(), 1))
    st.subheader("Reliability")
    direction = "above" if gap > 0 else "below"
    st.caption(
        f"Expected calibration error **{calibration:.3f}**; confidence lies {abs(gap) * 100:.1f} points {direction} accuracy. "
        "Diamonds are what was promised. Click a bar for its samples.",
        help=f"Accuracy with 95% Wilson intervals in {len(n)} bins of confidence; a diamond is a bin's mean confidence.",
    )
    event = chart(
        reliability_figure(low, high, n, confidence, right, look_of(st.context.theme.type)),
        "overview_reliability",
        f"Accuracy against confidence; expected calibration error {calibration:.3f}",
        picks=True,
    )
    for point in points_of(event):
        if point.get("customdata"):
            start, end = (float(edge) for edge in point["customdata"][:2])
            open_page("browse", filter=range_filter(context.filter, "confidence", start, end))


main()
