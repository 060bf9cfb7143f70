"""How often each class looks at a region, and how often it is wrong there."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from cache import queries
from cache.conditions import Condition
from cache.filters import Filter, OneOf
from dashboard import attention
from dashboard.components.chart import chart
from dashboard.data import ask
from dashboard.drilldown import cell_of, class_value
from dashboard.figures import class_rates_figure, look_of
from dashboard.region_board import narrowed
from dashboard.session import PageContext, open_page, param, set_params
from dashboard.table_widths import name_width

CLASSES_DRAWN = 12
BY = {"pred": "Predicted class", "label": "True class"}


def by_class(context: PageContext, filter_: Filter, condition: Condition) -> None:
    """Draw the error rates of the classes in the region and in the rest, and a table of all classes."""
    by: Literal["pred", "label"] = "label" if param("by") == "label" else "pred"
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("By class", width="content")
            st.session_state["region_by"] = by
            st.segmented_control(
                "Group by",
                list(BY),
                format_func=lambda name: BY[name],
                key="region_by",
                label_visibility="collapsed",
                on_change=lambda: set_params(by=st.session_state["region_by"]),
                required=True,
            )
        table = ask(context.catalog, queries.region_by_class, filter_, condition, by)
        rows = attention.class_rows(table)
        rates = attention.class_rates(table, CLASSES_DRAWN)
        labelled = bool(rates.inside.sum() + rates.outside.sum())
        if not rows:
            st.caption(
                "No sample of this selection has a label." if by == "label" else "No sample has such a map."
            )
            return
        left, right = st.columns([4.6, 7.4], gap="small")
        with left:
            if labelled:
                chart(
                    class_rates_figure(rates, look_of(st.context.theme.type)),
                    "region_classes",
                    "Error rate of each class in the region and in the rest",
                )
                if len(rows) > CLASSES_DRAWN:
                    st.caption(
                        f"The {CLASSES_DRAWN} classes with the most samples in the region; all are in the table."
                    )
            else:
                st.caption("Error rates need labels; the table says how many of each class look there.")
        with right:
            _class_table(context, filter_, condition, rows, by)


def _class_table(
    context: PageContext, filter_: Filter, condition: Condition, rows: list[dict[str, Any]], by: str
) -> None:
    order = ["name", "n", "share", "here", "rest", "difference", "interval"]
    shares = ("share", "here", "rest")
    event = st.dataframe(
        [row | {name: None if row[name] is None else 100 * row[name] for name in shares} for row in rows],
        key=f"region_class_table_{by}",
        hide_index=True,
        column_order=order,
        on_select="rerun",
        selection_mode="single-cell",
        height="content" if len(rows) <= 12 else 460,
        placeholder="–",
        column_config={
            "name": st.column_config.TextColumn(
                "Class", pinned=True, width=name_width([str(row["name"]) for row in rows])
            ),
            "n": st.column_config.NumberColumn(
                "Matching", help="Samples of the class that match", format="localized", width=66
            ),
            "share": st.column_config.ProgressColumn(
                "Of the class",
                help="Share of the class's samples that match",
                format="%.1f%%",
                min_value=0,
                max_value=100,
                width=92,
            ),
            "here": st.column_config.NumberColumn("Wrong there", format="%.1f%%", width=86),
            "rest": st.column_config.NumberColumn("Wrong in the rest", format="%.1f%%", width=118),
            "difference": st.column_config.NumberColumn(
                "Points", help="Difference of the error rates", format="%+.0f", width=56
            ),
            "interval": st.column_config.TextColumn(
                "95% interval", help="Newcombe's interval of the difference", width=96
            ),
        },
    )
    cell = cell_of(event)
    if cell is not None:
        value = class_value(context.catalog.classes, int(rows[cell[0]]["class"]))
        open_page("browse", filter=narrowed(filter_, condition).with_(OneOf(by, (value,))))
