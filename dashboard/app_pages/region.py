"""Region: draw where attention lies, and see which samples look there and how often they are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from cache import held, queries
from cache.conditions import AllOf, Condition, RegionMass
from cache.contrasts import RegionContrast
from cache.errors import FilterError, RegionError
from cache.filters import Filter, compile_filter
from cache.queries import MeanMap, Sort
from cache.regions import PRESETS, Region, percent
from dashboard import attention
from dashboard.components.region_picker import preset_title
from dashboard.data import ask
from dashboard.drilldown import cell_of
from dashboard.filter_bar import filtered_maps
from dashboard.method_choice import method_title, source_of_url, source_pickers
from dashboard.notices import AVERAGING, notices_of_run, plain, told
from dashboard.region_board import Board, Question, narrowed
from dashboard.region_canvas import canvas_of_url, draw_on
from dashboard.region_classes import by_class
from dashboard.region_list import board_of_url, conditions_list
from dashboard.region_question import answer, distribution, question_of_url, question_widgets
from dashboard.region_versus import versus
from dashboard.session import PageContext, open_page, page_context, param, set_params
from dashboard.tiles import TILE_COLUMNS, sample_gallery

GALLERY = 24


def main() -> None:
    """Draw the page."""
    context = page_context()
    filter_ = filtered_maps(context, "Region", "draw on")
    if filter_ is None:
        return
    _workbench(context, filter_)
    notices_of_run(context.manifest)


@st.fragment
@told()
def _workbench(context: PageContext, filter_: Filter) -> None:
    """Everything that the region changes; a fragment, so that its widgets leave the rest of the page alone."""
    method, target = source_of_url(context)
    context = replace(context, method=method, target=target)
    with st.spinner(AVERAGING):
        mean = ask(context.catalog, held.mean_map, filter_, method, target)
    region, question = _region(), question_of_url(context)
    board, group = board_of_url()
    condition, chosen = _whole(context, filter_, board, group, region, question)
    left, right = st.columns([6, 7], gap="large")
    with left:
        canvas = canvas_of_url(context, filter_, mean)

        def asked(shape: Region | None) -> Condition | None:
            return board.condition(None if shape is None else question.about(shape), group)

        draw_on(context, filter_, canvas, region, asked, _set_region)
    with right:
        title = method_title(context.manifest, method)
        source_pickers(context, "region")
        if mean.p is None:
            st.info(_no_maps(mean, title, target), icon=":material/blur_off:")
            return
        if region is None and not board:
            _orientation(mean, title)
        elif region is not None:
            question_widgets(context, question)
        else:
            st.markdown("**Draw the next region on the image**; what is in the list holds already.")
        if condition is not None and chosen is not None:
            answer(context, filter_, condition, not board)
        conditions_list(context, board, group, region, question)
        if region is not None:
            distribution(context, filter_, region, question, mean)
    versus(context, filter_, region)
    if condition is not None and chosen is not None:
        by_class(context, filter_, condition)
        _matching(context, chosen, condition, question.measure(region) if region is not None else None)


def _region() -> Region | None:
    try:
        return attention.region_from_param(param("region"))
    except RegionError as error:
        st.warning(plain(error), icon=":material/gesture:")
        return None


def _set_region(region: Region | None) -> None:
    set_params(region=None if region is None else attention.region_to_param(region))


def _whole(
    context: PageContext, filter_: Filter, board: Board, group: int, region: Region | None, question: Question
) -> tuple[Condition | None, Filter | None]:
    """Return all that is asked, and the selection that meets it; says so where the run cannot answer it."""
    condition = board.condition(None if region is None else question.about(region), group)
    if condition is None:
        return None, None
    try:
        chosen = narrowed(filter_, condition)
        compile_filter(chosen, context.manifest)
        return condition, chosen
    except FilterError as error:
        st.warning(plain(error), icon=":material/filter_alt:")
        return condition, None


def _no_maps(mean: MeanMap, method: str, target: str) -> str:
    if mean.degenerate:
        return (
            f"All {mean.degenerate:,} maps of {method} in this selection are degenerate (no positive attribution, or "
            "not finite), so there is no attention to ask about. Choose another method, or change the filter."
        )
    if target == "true":
        return (
            f"No sample of this selection has a {method} map for its true class. Choose the predicted class."
        )
    return f"No sample of this selection has a {method} map yet. Choose another method, or compute this one."


def _orientation(mean: MeanMap, method: str) -> None:
    """Before anything is drawn: which areas get more of the attention than their size would."""
    assert mean.p is not None
    st.markdown("**Draw a region on the image**, or start from where attention lies:")
    presets = attention.preset_masses(mean.p)
    event = st.dataframe(
        [
            {
                "Region": preset_title(name),
                "Attention": mass,
                "Area": area,
                "Ratio": mass / area,
            }
            for name, mass, area in presets
        ],
        key="region_presets",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        height="content",
        column_config={
            "Attention": st.column_config.ProgressColumn(
                help=f"Share of the mean {method} in it", format="percent", min_value=0, max_value=1
            ),
            "Area": st.column_config.NumberColumn(help="Share of the image it covers", format="percent"),
            "Ratio": st.column_config.NumberColumn(
                help="Attention divided by area: above 1, it gets more than its size would", format="%.2f×"
            ),
        },
    )
    cell = cell_of(event)
    if cell is not None:
        _set_region(PRESETS[presets[cell[0]][0]])
        st.rerun(scope="fragment")


def _matching(
    context: PageContext, chosen: Filter, condition: Condition, measure: RegionMass | RegionContrast | None
) -> None:
    """Show the samples that match, those with the most (or least) attention in the region on the canvas first."""
    first = measure or _first_region(condition)
    descending = not (isinstance(first, RegionMass) and first.low is None)
    # In Browse the order is known by the filter's own region, so it holds where that one is a condition of the filter.
    order = (
        ("-region" if descending else "region") if first is not None and first in chosen.conditions else None
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Matching samples", width="content")
        if st.button("Open in Browse", icon=":material/grid_view:", key="region_browse"):
            open_page("browse", filter=chosen, sort=order)
    sort = Sort() if first is None else Sort(descending=descending, region=first)
    rows = ask(context.catalog, queries.page, chosen, sort, 0, GALLERY, TILE_COLUMNS)
    if not rows.num_rows:
        st.info(
            "No sample matches. Move the share towards the middle of the histogram, or draw another region.",
            icon=":material/filter_alt:",
        )
        return
    unit = "points more" if isinstance(first, RegionContrast) else "there"

    def note(row: Mapping[str, Any]) -> str:
        value = row["sort_value"]
        if first is None or value is None:
            return str(row["sample_id"])
        said = percent(value)
        return f"{said} {unit}" if isinstance(first, RegionContrast) else f"{said}% {unit}"

    gallery = sample_gallery(context, rows.to_pylist(), note, filter=chosen, sort=order)
    opened = gallery.mount("region_gallery", context.method)
    if opened:
        open_page("sample", id=opened, filter=chosen, sort=order)


def _first_region(condition: Condition) -> RegionMass | RegionContrast | None:
    """Return a region that samples can be ordered by where there is none on the canvas."""
    parts = condition.conditions if isinstance(condition, AllOf) else (condition,)
    return next((part for part in parts if isinstance(part, RegionMass | RegionContrast)), None)


main()
