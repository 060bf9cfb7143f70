"""Region: draw where attention lies, and see which samples look there and how often they are wrong."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cache import queries
from cache.errors import RegionError
from cache.filters import OneOf, RegionMass
from cache.queries import MeanMap, Sort
from cache.regions import PRESETS, Region, percent
from dashboard import attention
from dashboard.components.gallery import gallery
from dashboard.components.region_picker import preset_title, region_picker
from dashboard.data import ask
from dashboard.drilldown import cell_of, class_value, points_of
from dashboard.figures import class_rates_figure, look_of, mass_figure
from dashboard.filter_bar import filter_bar
from dashboard.intervals import wilson
from dashboard.notices import plain
from dashboard.rendering import data_url, image_bytes, overlay_png
from dashboard.session import (
    TARGETS,
    PageContext,
    open_page,
    page_context,
    param,
    set_params,
)

CHART = {"displayModeBar": False}
CLASSES_DRAWN = 12
GALLERY = 24
BY = {"pred": "Predicted class", "label": "True class"}
IMAGE_SIDE = 336


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
        st.info(
            "No sample matches the filter, so there is no mean to draw on. Loosen or clear the filter above.",
            icon=":material/filter_alt:",
        )
        return
    _workbench(context, filter_)


@st.fragment
def _workbench(context: PageContext, filter_: Any) -> None:
    """Everything that the region changes; a fragment, so that drawing leaves the rest of the page alone."""
    catalog = context.catalog
    method, target = _source(context)
    mean = ask(catalog, queries.mean_map, filter_, method, target)
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
    _by_class(context, filter_, condition)
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
        return f"No sample of this selection has a {method} map for its true class. Choose the predicted class."
    return f"No sample of this selection has a {method} map yet. Choose another method, or compute this one."


def _picker(
    context: PageContext, filter_: Any, mean: MeanMap, region: Region | None, method: str, target: str
) -> None:
    size = context.manifest.preprocessing.get("size") or [1, 1]
    aspect = float(size[1]) / float(size[0])
    pixels = (IMAGE_SIDE, max(1, round(IMAGE_SIDE / aspect)))
    photo, averaged = ask(context.catalog, attention.mean_photo, filter_, pixels)
    title = _method_title(context, method)
    region_picker(
        region,
        photo="" if photo is None else data_url(image_bytes(photo)),
        heat="" if mean.p is None else data_url(overlay_png(mean.p, pixels), "image/png"),
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
            on_change=lambda: set_params(target=st.session_state["region_target"] or "pred"),
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
        height=38 + 35 * len(presets),
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
            on_change=lambda: set_params(op=st.session_state["region_op"] or attention.AT_LEAST),
        )
        st.session_state["region_share"] = share
        st.slider(
            "Share of the attention",
            0.0,
            100.0,
            step=0.5,
            key="region_share",
            format="%g %%",
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


def _answer(
    context: PageContext, filter_: Any, condition: RegionMass, mean: MeanMap, method: str
) -> None:
    split = ask(context.catalog, queries.region_split, filter_, condition)
    at_least = condition.low is not None
    share = condition.low if condition.low is not None else condition.high
    assert share is not None and mean.p is not None
    total = split.inside.n + split.outside.n
    words = attention.OPERATORS[attention.AT_LEAST if at_least else attention.AT_MOST]
    st.markdown(
        f"**{split.inside.n:,}** of {total:,} samples ({_share(split.inside.n, total)}) have {words} "
        f"{percent(share)} % of their {plain(method)} in {plain(condition.region.sentence())}. "
        + (attention.error_words(split) if split.inside.n else "")
    )
    cells = st.columns(3, gap="small")
    quiet: dict[str, Any] = {"delta_color": "off", "delta_arrow": "off", "border": True}
    cells[0].metric("Matching", f"{split.inside.n:,}", f"{_share(split.inside.n, total)} of the selection", **quiet)
    for cell, title, side in ((cells[1], "Wrong there", split.inside), (cells[2], "Wrong in the rest", split.outside)):
        rate = wilson(side.wrong, side.labelled)
        known = side.labelled > 0
        cell.metric(
            title,
            f"{float(rate.estimate):.1%}" if known else "–",
            f"{float(rate.low):.1%} to {float(rate.high):.1%}" if known else "no labels",
            help="Error rate with its 95 % Wilson interval",
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
        f"On average {percent(inside)} % of the attention lies there, on {percent(condition.region.area())} % of "
        f"the image. Click a bar to ask for that share. {attention.left_out_words(split, plain(method))}"
    )


def _choose_share() -> None:
    for point in points_of(st.session_state["region_mass"]):
        if point.get("customdata"):
            edge = point["customdata"][1 if param("op") == attention.AT_MOST else 0]
            set_params(share=f"{round(100 * float(edge), 1):g}")


def _share(part: int, whole: int) -> str:
    return f"{percent(part / whole)} %" if whole else "none"


def _by_class(context: PageContext, filter_: Any, condition: RegionMass) -> None:
    by = param("by") if param("by") in BY else "pred"
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
                on_change=lambda: set_params(by=st.session_state["region_by"] or "pred"),
            )
        table = ask(context.catalog, queries.region_by_class, filter_, condition, by)
        rows = attention.class_rows(table)
        rates = attention.class_rates(table, CLASSES_DRAWN)
        labelled = bool(rates.inside.sum() + rates.outside.sum())
        if not rows:
            st.caption("No sample of this selection has a label." if by == "label" else "No sample has such a map.")
            return
        left, right = st.columns([6, 7], gap="medium")
        with left:
            if labelled:
                st.plotly_chart(
                    class_rates_figure(rates, look_of(st.context.theme.type)),
                    key="region_classes",
                    config=CHART,
                    alt="Error rate of each class in the region and in the rest",
                )
                if len(rows) > CLASSES_DRAWN:
                    st.caption(f"The {CLASSES_DRAWN} classes with the most samples in the region; all are in the table.")
            else:
                st.caption("Error rates need labels; the table says how many of each class look there.")
        with right:
            _class_table(context, filter_, condition, rows, by)


def _class_table(
    context: PageContext, filter_: Any, condition: RegionMass, rows: list[dict[str, Any]], by: str
) -> None:
    order = ["name", "n", "share", "here", "rest", "difference", "interval"]
    event = st.dataframe(
        rows,
        key=f"region_class_table_{by}",
        hide_index=True,
        column_order=order,
        on_select="rerun",
        selection_mode="single-cell",
        height=min(38 + 35 * len(rows), 460),
        column_config={
            "name": st.column_config.TextColumn("Class", pinned=True),
            "n": st.column_config.NumberColumn("Matching", help="Samples of the class that match", format="localized"),
            "share": st.column_config.ProgressColumn(
                "Of the class", help="Share of the class's samples that match", format="percent", min_value=0, max_value=1
            ),
            "here": st.column_config.NumberColumn("Wrong there", format="percent"),
            "rest": st.column_config.NumberColumn("Wrong in the rest", format="percent"),
            "difference": st.column_config.NumberColumn("Points", help="Difference of the error rates", format="%+.0f"),
            "interval": st.column_config.TextColumn("95 % interval", help="Newcombe's interval of the difference"),
        },
    )
    cell = cell_of(event)
    if cell is not None:
        value = class_value(context.catalog.classes, int(rows[cell[0]]["class"]))
        open_page("browse", filter=filter_.with_(condition).with_(OneOf(by, (value,))))


def _matching(context: PageContext, filter_: Any, condition: RegionMass) -> None:
    """Show the samples that match, those with the most (or least) attention there first."""
    chosen = filter_.with_(condition)
    descending = condition.low is not None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Matching samples", width="content")
        if st.button("Open in Browse", icon=":material/grid_view:", key="region_browse"):
            open_page("browse", filter=chosen)
    sort = Sort(descending=descending, region=condition)
    rows = ask(context.catalog, queries.page, chosen, sort, 0, GALLERY)
    if not rows.num_rows:
        st.info(
            "No sample matches. Move the share towards the middle of the histogram, or draw another region.",
            icon=":material/filter_alt:",
        )
        return
    gallery(context, rows)


main()
