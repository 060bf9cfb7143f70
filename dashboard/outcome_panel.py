"""The panel that sets right against wrong predictions by where the model looked, and the distributions in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cache import queries
from dashboard.components.chart import chart
from dashboard.data import ask
from dashboard.drilldown import cell_of, dragged_range, points_of, range_filter
from dashboard.field_help import field_help
from dashboard.figures import Side, distribution_figure, look_of
from dashboard.method_choice import source_pickers
from dashboard.notices import plain
from dashboard.outcomes import Separation, separations
from dashboard.rendering import PALETTE
from dashboard.session import PageContext, open_page, param, set_params


@st.fragment
def attention_panel(context: PageContext, labelled: bool) -> None:
    """Draw the panel: which statistics separate, and how the chosen one is distributed."""
    manifest = context.manifest
    st.subheader("Where it looks, right against wrong" if labelled else "Where it looks")
    if not manifest.methods or not manifest.statistics:
        st.caption("This run holds no attributions yet.")
        return
    method, target = source_pickers(context, "overview", "collapsed", target=labelled)
    ranking = ask(context.catalog, separations, context.filter, method, target) if labelled else []
    fields = {field.name: field for field in manifest.statistics}
    name = param("statistic")
    if name not in fields:
        name = ranking[0].field.name if ranking else next(iter(fields))
    chosen, figure = st.columns([8, 5], gap="small")
    with chosen:
        if ranking:
            name = _ranking(ranking, name)
        else:
            st.session_state["overview_statistic"] = name
            st.selectbox(
                "Statistic",
                list(fields),
                format_func=lambda key: fields[key].title,
                key="overview_statistic",
                on_change=lambda: set_params(statistic=st.session_state["overview_statistic"]),
            )
        chosen_field = fields[name]
        about = " ".join(part for part in (chosen_field.description, chosen_field.suggests) if part)
        st.caption(plain(about), help=field_help(chosen_field))
    field = fields[name]
    title = f"{field.title} ({field.unit})" if field.unit else field.title
    with figure:
        key = f"overview_outcome_{method}_{target}_{name}"
        if labelled:
            told = ask(context.catalog, queries.statistic_by_outcome, context.filter, name, method, target)
            sides = [
                Side("right", told.right, told.right_median, PALETTE.right),
                Side("wrong", told.wrong, told.wrong_median, PALETTE.wrong),
            ]
            edges = told.edges
        else:
            found = ask(context.catalog, queries.histogram, context.filter, name, method, target)
            edges, sides = found.edges, [Side("all", found.counts, None, PALETTE.accent)]
        if not any(np.sum(side.counts) for side in sides):
            st.info("Every map of this selection is degenerate or missing, so there is nothing to show.")
            return
        distribution(context, edges, sides, name, title, method, target, key)
        st.caption("Drag over a range, or click a bar, for its samples.")


def _ranking(ranking: list[Separation], name: str) -> str:
    """Show which statistics separate most, and return the one that is chosen."""
    table = pd.DataFrame(
        {
            "Statistic": [s.field.title for s in ranking],
            "When wrong": ["–" if math.isnan(s.auc) else s.words for s in ranking],
            "Effect": [None if math.isnan(s.auc) else round(s.rank_biserial, 3) for s in ranking],
            "Right": [s.median_right for s in ranking],
            "Wrong": [s.median_wrong for s in ranking],
        }
    )
    event = st.dataframe(
        table,
        key="overview_ranking",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        height=306,
        placeholder="–",
        row_height=30,
        column_config={
            "Statistic": st.column_config.TextColumn(pinned=True, width=148),
            "Effect": st.column_config.NumberColumn(
                help="Rank-biserial correlation, −1 to 1: how surely a wrong prediction has the larger (+) or smaller "
                "(−) value. “unclear” where chance could do it, allowing for all statistics here.",
                format="%+.2f",
                width=50,
            ),
            "When wrong": st.column_config.TextColumn(width=84),
            "Right": st.column_config.NumberColumn(
                help="Median of right predictions", format="%.3g", width=50
            ),
            "Wrong": st.column_config.NumberColumn(
                help="Median of wrong predictions", format="%.3g", width=50
            ),
        },
    )
    cell = cell_of(event)
    if cell is not None:
        name = ranking[cell[0]].field.name
        set_params(statistic=name)
    return name


def distribution(
    context: PageContext,
    edges: Any,
    sides: list[Side],
    field: str,
    title: str,
    method: str | None,
    target: str | None,
    key: str,
) -> None:
    """Draw a distribution; a click on a bar or a dragged range opens its samples in Browse."""
    event = chart(
        distribution_figure(edges, sides, title, look_of(st.context.theme.type)),
        key,
        f"Distribution of {title}",
        picks=True,
    )
    dragged = dragged_range(event)
    points = [point for point in points_of(event) if point.get("customdata")]
    if dragged is None and points:
        dragged = float(points[0]["customdata"][0]), float(points[0]["customdata"][1])
    if dragged is not None:
        # Four digits select the same samples, and make a link and a sentence that can be read.
        dragged = float(f"{dragged[0]:.4g}"), float(f"{dragged[1]:.4g}")
        open_page("browse", filter=range_filter(context.filter, field, *dragged, method, target))
