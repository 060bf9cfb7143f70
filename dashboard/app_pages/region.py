"""Region: draw where attention lies, and see which samples look there and how often they are wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from cache import queries
from cache.errors import RegionError
from cache.filters import Filter, RegionMass
from cache.queries import MeanMap, Sort
from cache.regions import PRESETS, Region, percent
from dashboard import attention
from dashboard.components.region_picker import preset_title, region_picker
from dashboard.data import ask
from dashboard.drilldown import cell_of, points_of
from dashboard.figures import look_of, mass_figure
from dashboard.filter_bar import filter_bar
from dashboard.intervals import wilson
from dashboard.notices import empty_selection, notices_of_run, plain
from dashboard.outcome_panel import CHART
from dashboard.region_classes import by_class
from dashboard.rendering import data_url, image_bytes, overlay_png
from dashboard.session import (
    TARGETS,
    PageContext,
    open_page,
    page_context,
    param,
    set_filter,
    set_params,
)
from dashboard.tiles import sample_gallery

GALLERY = 24
IMAGE_SIDE = 192


def main() -> None:
    """Draw the page."""
    context = page_context()
    st.title("Region")
    filter_ = filter_bar(context)
    if not context.manifest.methods:
        st.info(
            "This run holds no attributions yet, so there is nothing to draw on. "
            "Wait until the first are published, or run the same `explain` command again.",
            icon=":material/hourglass_top:",
        )
        return
    if not ask(context.catalog, queries.count, filter_).n:
        empty_selection(
            filter_, context.manifest, lambda kept: ask(context.catalog, queries.count, kept).n, set_filter
        )
        return
    _workbench(context, filter_)
    notices_of_run(context.manifest)


@st.fragment
def _workbench(context: PageContext, filter_: Filter) -> None:
    """Everything that the region changes; a fragment, so that drawing leaves the rest of the page alone."""
    method, target = _source(context)
    context = replace(context, method=method, target=target)
    mean = ask(context.catalog, queries.mean_map, filter_, method, target)
    region = _region()
    left, right = st.columns([6, 7], gap="large")
    with left:
        _picker(context, filter_, mean, region, method, target)
    with right:
        method_title = _method_title(context, method)
        _source_pickers(context, method, target)
        if mean.p is None:
            st.info(_no_maps(mean, method_title, target), icon=":material/blur_off:")
            return
        if region is None:
            _orientation(mean, method_title)
            return
        condition = _question(region, method, target)
        _answer(context, filter_, condition, mean, method_title)
    by_class(context, filter_, condition)
    _matching(context, filter_, condition)


def _source(context: PageContext) -> tuple[str, str]:
    """Return the method and the target of the URL, which a fragment reads afresh."""
    method, target = param("method", context.method), param("target", context.target)
    return (
        method if method in context.manifest.methods else context.method,
        target if target in TARGETS else context.target,
    )


def _region() -> Region | None:
    try:
        return attention.region_from_param(param("region"))
    except RegionError as error:
        st.warning(plain(error), icon=":material/gesture:")
        return None


def _set_region(region: Region | None) -> None:
    set_params(region=None if region is None else attention.region_to_param(region))


def _method_title(context: PageContext, method: str) -> str:
    return str(context.manifest.methods[method].get("title", method))


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


def _picker(
    context: PageContext, filter_: Filter, mean: MeanMap, region: Region | None, method: str, target: str
) -> None:
    size = context.manifest.preprocessing.get("size") or [1, 1]
    aspect = float(size[1]) / float(size[0])
    # As large as thumbnails are: the browser scales it, and averaging more pixels would only take longer.
    pixels = (IMAGE_SIDE, max(1, round(IMAGE_SIDE / aspect)))
    photo, averaged = ask(context.catalog, attention.mean_photo, filter_, pixels)
    title = _method_title(context, method)
    region_picker(
        region,
        photo="" if photo is None else data_url(image_bytes(photo)),
        heat=""
        if mean.p is None
        else data_url(overlay_png(mean.p, (2 * pixels[0], 2 * pixels[1])), "image/png"),
        photo_alt=f"Mean of {averaged:,} images of the selection",
        heat_alt=f"Mean {title} of {mean.n:,} maps",
        aspect=aspect,
        on_pick=_set_region,
    )
    degenerate = f"; {mean.degenerate:,} degenerate maps are left out" if mean.degenerate else ""
    whose = "predicted" if target == "pred" else "true"
    st.caption(
        f"Mean {plain(title)} of {mean.n:,} maps for the {whose} class{degenerate}, over the mean of {averaged:,} images."
    )


def _source_pickers(context: PageContext, method: str, target: str) -> None:
    methods = context.manifest.methods
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["region_method"] = method
        st.selectbox(
            "Method",
            list(methods),
            format_func=lambda name: methods[name].get("title", name),
            key="region_method",
            on_change=lambda: set_params(method=st.session_state["region_method"]),
            width=190,
        )
        st.session_state["region_target"] = target
        st.segmented_control(
            "Map of the",
            list(TARGETS),
            format_func=lambda name: TARGETS[name],
            key="region_target",
            on_change=lambda: set_params(target=st.session_state["region_target"]),
            required=True,
        )


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


def _question(region: Region, method: str, target: str) -> RegionMass:
    """Ask for at least or at most a share of the attention; slider and number say the same."""
    operator = param("op") if param("op") in attention.OPERATORS else attention.AT_LEAST
    share = attention.share_from_param(param("share"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["region_op"] = operator
        st.segmented_control(
            "Attention in the region",
            list(attention.OPERATORS),
            format_func=lambda name: attention.OPERATORS[name].capitalize(),
            key="region_op",
            on_change=lambda: set_params(op=st.session_state["region_op"]),
            required=True,
        )
        st.session_state["region_share"] = share
        st.slider(
            "Share of the attention",
            0.0,
            100.0,
            step=0.5,
            key="region_share",
            format="%g%%",
            label_visibility="collapsed",
            on_change=lambda: set_params(share=f"{st.session_state['region_share']:g}"),
        )
        st.session_state["region_share_number"] = share
        st.number_input(
            "Share in percent",
            0.0,
            100.0,
            step=1.0,
            format="%g",
            key="region_share_number",
            label_visibility="collapsed",
            width=120,
            on_change=lambda: set_params(share=f"{st.session_state['region_share_number']:g}"),
        )
    return attention.condition_of(region, operator, share, method, target)


def _answer(context: PageContext, filter_: Filter, condition: RegionMass, mean: MeanMap, method: str) -> None:
    split = ask(context.catalog, queries.region_split, filter_, condition)
    at_least = condition.low is not None
    share = condition.low if condition.low is not None else condition.high
    assert share is not None
    assert mean.p is not None
    total = split.inside.n + split.outside.n
    words = attention.OPERATORS[attention.AT_LEAST if at_least else attention.AT_MOST]
    st.markdown(
        f"**{split.inside.n:,}** of {total:,} samples ({_share(split.inside.n, total)}) have {words} "
        f"{percent(share)}% of their {plain(method)} in {plain(condition.region.sentence())}. "
        + (attention.error_words(split) if split.inside.n else "")
    )
    cells = st.columns(3, gap="small")
    quiet: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True}
    cells[0].metric(
        "Matching", f"{split.inside.n:,}", f"{_share(split.inside.n, total)} of the selection", **quiet
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
    histogram = ask(context.catalog, attention.mass_histogram, filter_, condition)
    st.plotly_chart(
        mass_figure(histogram.edges, histogram.counts, share, at_least, look_of(st.context.theme.type)),
        key="region_mass",
        on_select=_choose_share,
        selection_mode="points",
        config=CHART,
        alt="How the attention in the region is distributed over the selection",
    )
    inside = float((mean.p * condition.region.coverage()).sum())
    st.caption(
        f"On average {percent(inside)}% of the attention lies there, on {percent(condition.region.area())}% of "
        f"the image. Click a bar to ask for that share. {attention.left_out_words(split, plain(method))}"
    )


def _choose_share() -> None:
    for point in points_of(st.session_state["region_mass"]):
        if point.get("customdata"):
            edge = point["customdata"][1 if param("op") == attention.AT_MOST else 0]
            set_params(share=f"{round(100 * float(edge), 1):g}")


def _share(part: int, whole: int) -> str:
    return f"{percent(part / whole)}%" if whole else "none"


def _matching(context: PageContext, filter_: Filter, condition: RegionMass) -> None:
    """Show the samples that match, those with the most (or least) attention there first."""
    chosen = attention.narrowed(filter_, condition)
    descending = condition.low is not None
    order = "-region" if descending else "region"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Matching samples", width="content")
        if st.button("Open in Browse", icon=":material/grid_view:", key="region_browse"):
            open_page("browse", filter=chosen, sort=order)
    sort = Sort(descending=descending, region=condition)
    rows = ask(context.catalog, queries.page, chosen, sort, 0, GALLERY)
    if not rows.num_rows:
        st.info(
            "No sample matches. Move the share towards the middle of the histogram, or draw another region.",
            icon=":material/filter_alt:",
        )
        return
    gallery = sample_gallery(
        context,
        rows.to_pylist(),
        lambda row: f"{percent(row['sort_value'])}% there",
        filter=chosen,
        sort=order,
    )
    opened = gallery.mount("region_gallery", context.method)
    if opened:
        open_page("sample", id=opened, filter=chosen, sort=order)


main()
