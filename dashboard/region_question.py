"""What is asked of the region on the canvas, and the answer of the whole selection to it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cache import held
from cache.conditions import AllOf, Condition
from cache.contrasts import RegionContrast
from cache.fields import TARGETS
from cache.filter_text import clause, join_clauses
from cache.filters import Filter
from cache.queries import MeanMap
from cache.regions import Region, percent
from dashboard import attention
from dashboard.attention import AT_LEAST, AT_MOST, MORE
from dashboard.components.chart import chart, picked
from dashboard.data import ask
from dashboard.drilldown import points_of
from dashboard.figures import look_of, mass_figure
from dashboard.intervals import wilson
from dashboard.method_choice import method_title
from dashboard.notices import plain
from dashboard.region_board import LEAST_POINTS, Question, others
from dashboard.session import PageContext, param, set_params

TITLES = {AT_LEAST: "At least", AT_MOST: "At most", MORE: "More than by"}


def question_of_url(context: PageContext) -> Question:
    """Return what the URL asks of the region on the canvas; what is nonsense falls back to "at least"."""
    operator = param("op") if param("op") in attention.OPERATORS else AT_LEAST
    than = None
    if operator == MORE:
        offered = others(context.manifest, context.method, context.target)
        named = param("than") if param("than") in offered else next(iter(offered), "")
        method, _, target = named.rpartition(":")
        operator, than = (MORE, (method, target)) if target in TARGETS else (AT_LEAST, None)
    share = attention.share_from_param(param("share")) if param("share") or than is None else LEAST_POINTS
    return Question(operator, share, context.method, context.target, than, param("not") == "1")


def question_params(question: Question, region: Region | None) -> dict[str, str | None]:
    """Return a region and its question as parameters of the URL."""
    return {
        "region": None if region is None else attention.region_to_param(region),
        "op": None if question.operator == AT_LEAST else question.operator,
        "share": f"{question.share:g}",
        "than": None if question.than is None else ":".join(question.than),
        "not": "1" if question.negated else None,
        "method": question.method,
        "target": question.target,
    }


def question_widgets(context: PageContext, question: Question) -> None:
    """Let people ask for at least or at most a share of the attention, or more than another map has; slider and number agree."""
    offered = others(context.manifest, question.method, question.target)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["region_op"] = question.operator
        st.segmented_control(
            "Attention in the region",
            [name for name in TITLES if name != MORE or offered],
            format_func=lambda name: TITLES[name],
            key="region_op",
            # A share is no number of points: each starts at its own usual one.
            on_change=lambda: set_params(
                op=st.session_state["region_op"],
                **({"share": None} if MORE in (st.session_state["region_op"], question.operator) else {}),
            ),
            required=True,
        )
        if question.than is not None:
            st.session_state["region_than"] = ":".join(question.than)
            st.selectbox(
                "Other map",
                list(offered),
                format_func=lambda name: offered[name],
                key="region_than",
                width=230,
                label_visibility="collapsed",
                on_change=lambda: set_params(than=st.session_state["region_than"]),
            )
        st.session_state["region_not"] = question.negated
        st.checkbox(
            "Not",
            key="region_not",
            help="The samples for which it does not hold",
            on_change=lambda: set_params(**{"not": "1" if st.session_state["region_not"] else None}),
        )
    unit = "points" if question.than is not None else "percent"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.session_state["region_share"] = question.share
        st.slider(
            "Points more" if question.than is not None else "Share of the attention",
            0.0,
            100.0,
            step=0.5,
            key="region_share",
            format="%g points" if question.than is not None else "%g%%",
            label_visibility="collapsed",
            on_change=lambda: set_params(share=f"{st.session_state['region_share']:g}"),
        )
        st.session_state["region_share_number"] = question.share
        st.number_input(
            f"The same in {unit}",
            0.0,
            100.0,
            step=1.0,
            format="%g",
            key="region_share_number",
            label_visibility="collapsed",
            width=120,
            on_change=lambda: set_params(share=f"{st.session_state['region_share_number']:g}"),
        )


def answer(context: PageContext, filter_: Filter, condition: Condition, alone: bool) -> None:
    """Say how many samples of the selection meet the condition, and how often they are wrong.

    Args:
        context: The page's context.
        filter_: The selection.
        condition: All that is asked.
        alone: Whether it is the question about one region and no more.
    """
    split = ask(context.catalog, held.split, filter_, condition)
    total = split.inside.n + split.outside.n
    parts = condition.conditions if isinstance(condition, AllOf) else (condition,)
    clear = join_clauses([clause(part, context.manifest) for part in parts])
    said = f"have {clear.removeprefix('with ')}" if clear.startswith("with ") else f"match: {clear}"
    st.markdown(
        f"**{split.inside.n:,}** of {total:,} samples ({_share(split.inside.n, total)}) {plain_words(said)}. "
        + (attention.error_words(split) if split.inside.n else "")
    )
    cells = st.columns(3, gap="small")
    quiet: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True}
    cells[0].metric(
        "Matching", f"{split.inside.n:,}", f"{_share(split.inside.n, total)} of {total:,}", **quiet
    )
    for cell, title, side in (
        (cells[1], "Wrong there", split.inside),
        (cells[2], "Wrong in the rest", split.outside),
    ):
        rate = wilson(side.wrong, side.labelled)
        known, why = side.labelled > 0, "no labels" if side.n else "no samples"
        cell.metric(
            title,
            f"{float(rate.estimate):.1%}" if known else "–",
            f"{float(rate.low):.1%} to {float(rate.high):.1%}" if known else why,
            help="Error rate with its 95% Wilson interval",
            **quiet,
        )
    left_out = attention.left_out_words(
        split, plain(method_title(context.manifest, context.method)) if alone else ""
    )
    if left_out:
        st.caption(left_out)


def plain_words(text: str) -> str:
    """Escape a sentence for Markdown, but for what it cannot be mistaken in."""
    return "".join(c if c in ".-&:!+" else plain(c) for c in text)


def distribution(
    context: PageContext, filter_: Filter, region: Region, question: Question, mean: MeanMap
) -> None:
    """Draw how the attention in the region on the canvas is distributed over the selection."""
    measure = question.measure(region)
    histogram = ask(context.catalog, attention.mass_histogram, filter_, measure)
    contrast = isinstance(measure, RegionContrast)
    chart(
        mass_figure(
            histogram.edges,
            histogram.counts,
            question.share / 100,
            (question.operator != AT_MOST) is not question.negated,
            look_of(st.context.theme.type),
            "difference of attention in the region" if contrast else "attention in the region",
        ),
        "region_mass",
        "How the attention in the region is distributed over the selection",
        on_pick=_choose_share,
    )
    assert mean.p is not None
    inside = float((mean.p * region.coverage()).sum())
    st.caption(
        f"On average {percent(inside)}% of the {plain(method_title(context.manifest, question.method))} lies there, on "
        f"{percent(region.area())}% of the image. Click a bar to ask for that share."
    )


def _choose_share() -> None:
    for point in points_of(picked("region_mass")):
        if point.get("customdata"):
            edge = float(point["customdata"][1 if param("op") == AT_MOST else 0])
            set_params(share=f"{round(100 * min(max(edge, 0.0), 1.0), 1):g}")


def _share(part: int, whole: int) -> str:
    return f"{percent(part / whole)}%" if whole else "none"
