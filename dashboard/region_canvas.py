"""The canvas of the Region page: the mean of the selection or one sample, and the answer while the hand draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cache import held, profiles, queries
from cache.catalog import Catalog
from cache.conditions import Condition
from cache.errors import GazelakeError
from cache.filters import Filter
from cache.queries import MeanMap, Sort
from cache.regions import Region
from cache.schema import TARGET_TRUE
from dashboard import attention
from dashboard.components.region_picker import Canvas, region_picker
from dashboard.data import ask
from dashboard.method_choice import method_title
from dashboard.notices import plain
from dashboard.outlines import object_path
from dashboard.rendering import data_url, image_bytes, overlay_pixels
from dashboard.session import PageContext, link_to, param, set_params

IMAGE_SIDE = 192
MEAN, ONE = "mean", "one"
CANVASES = {MEAN: "Mean of the selection", ONE: "One image"}
_LAST, _DRAWN = "region_last_sample", "region_drawn"


def region_link(sample_id: str) -> str:
    """Return the link to the Region page with a sample's picture as the canvas; run, filter and method stay."""
    return link_to("region", on=sample_id)


def view_size(context: PageContext) -> tuple[int, int]:
    """Return the pixels that a picture of the model's view is drawn with: as many as thumbnails have."""
    size = context.manifest.preprocessing.get("size") or [1, 1]
    return IMAGE_SIDE, max(1, round(IMAGE_SIDE * float(size[0]) / float(size[1])))


def canvas_of_url(context: PageContext, filter_: Filter, mean: MeanMap) -> Canvas:
    """Offer what to draw on, and return it."""
    sample_id = param("on")
    row = ask(context.catalog, profiles.sample, sample_id) if sample_id else None
    if sample_id and row is None:
        st.warning(
            f"This run has no image {plain(sample_id[:200])}: it may have been renamed or removed since the link was made. "
            "The mean of the selection is shown instead.",
            icon=":material/image_search:",
        )
    if row is not None:
        st.session_state[_LAST] = sample_id
    _switch(context, filter_, row is not None, sample_id)
    pixels = view_size(context)
    if row is None:
        return _mean_canvas(context, filter_, mean, pixels)
    return _sample_canvas(context, row, pixels)


def _switch(context: PageContext, filter_: Filter, one: bool, sample_id: str) -> None:
    def change() -> None:
        last = st.session_state.get(_LAST)
        if st.session_state["region_canvas"] == MEAN:
            set_params(on=None)
        else:
            first = queries.ids(context.catalog, filter_, Sort(), 1)
            set_params(on=last if last and held_by(context, filter_, last) else first[0] if first else None)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.session_state["region_canvas"] = ONE if one else MEAN
        st.segmented_control(
            "Draw on", list(CANVASES), format_func=lambda name: CANVASES[name], key="region_canvas",
            label_visibility="collapsed", on_change=change, required=True,
        )  # fmt: skip
        if one:
            place = ask(context.catalog, queries.position, filter_, Sort(), sample_id)
            for name, icon, other in (
                ("Previous image", "chevron_left", place.previous),
                ("Next image", "chevron_right", place.next),
            ):
                st.button(
                    "", icon=f":material/{icon}:", help=name, key=f"region_{icon}", disabled=other is None,
                    on_click=set_params, kwargs={"on": other},
                )  # fmt: skip


def held_by(context: PageContext, filter_: Filter, sample_id: str) -> bool:
    """Tell whether a sample is in the selection."""
    return queries.position(context.catalog, filter_, Sort(), sample_id).index is not None


def _mean_canvas(context: PageContext, filter_: Filter, mean: MeanMap, pixels: tuple[int, int]) -> Canvas:
    photo, averaged = ask(context.catalog, photo_url, filter_, pixels)
    title = method_title(context.manifest, context.method)
    degenerate = f"; {mean.degenerate:,} degenerate maps are left out" if mean.degenerate else ""
    whose = "true" if context.target == TARGET_TRUE else "predicted"
    st.caption(
        f"Mean {plain(title)} of {mean.n:,} maps for the {whose} class{degenerate}, over the mean of {averaged:,} images."
    )
    return Canvas(
        photo,
        "" if mean.p is None else heat_url(mean.p, pixels),
        f"Mean of {averaged:,} images of the selection",
        f"Mean {title} of {mean.n:,} maps",
        "Mean image with mean attention",
        pixels[0] / pixels[1],
    )


def _sample_canvas(context: PageContext, row: dict[str, Any], pixels: tuple[int, int]) -> Canvas:
    sample_id = str(row["sample_id"])
    title = method_title(context.manifest, context.method)
    found = ask(context.catalog, profiles.maps, (sample_id,), context.method, context.target).get(sample_id)
    picture = ask(context.catalog, profiles.thumbnails, (sample_id,)).get(sample_id)
    outline, source = object_path(row)
    own = object_region(row)
    whose = "true" if context.target == TARGET_TRUE else "predicted"
    shown = f"{plain(title)} for its {whose} class" if found is not None else f"no {plain(title)} map of it"
    known = f"; dashed: {plain(source)}" if source else ""
    st.caption(f"[{plain(sample_id)}]({link_to('sample', id=sample_id)}), {shown}{known}.")
    return Canvas(
        data_url(picture) if picture else "",
        heat_url(found, pixels) if found is not None else "",
        f"The image {sample_id}",
        f"{title} of {sample_id}",
        f"The image {sample_id} with its attention",
        pixels[0] / pixels[1],
        outline,
        (("Its object", own),) if own is not None else (),
    )


def object_region(row: dict[str, Any]) -> Region | None:
    """Return a sample's known object as a region: its mask, or else what its boxes cover."""
    mask = row.get("mask")
    if mask is None and row.get("boxes"):
        side = 56
        at = (np.arange(side) + 0.5) / side
        mask = np.zeros((side, side), dtype=bool)
        for x0, y0, x1, y1 in row["boxes"]:
            mask |= np.outer((at > y0) & (at < y1), (at > x0) & (at < x1))
    return Region.mask(mask) if mask is not None and np.any(mask) else None


def heat_url(attribution: NDArray[np.floating[Any]], pixels: tuple[int, int]) -> str:
    """Return a map as a picture to lay over the model's view."""
    # WebP is a fifth of the PNG: the picture travels with every answer while a hand draws.
    return data_url(image_bytes(overlay_pixels(attribution, pixels), quality=80))


def photo_url(catalog: Catalog, filter_: Filter, pixels: tuple[int, int]) -> tuple[str, int]:
    """Return the mean image of a selection as a URL, and how many images it averages."""
    photo, averaged = attention.mean_photo(catalog, filter_, pixels)
    return ("" if photo is None else data_url(image_bytes(photo))), averaged


@st.fragment
def draw_on(
    context: PageContext,
    filter_: Filter,
    canvas: Canvas,
    region: Region | None,
    asked: Callable[[Region | None], Condition | None],
    set_region: Callable[[Region | None], None],
) -> None:
    """Show the picker; a fragment of its own, so that what is asked while drawing leaves the rest of the page alone.

    Args:
        context: The page's context.
        filter_: The selection.
        canvas: What is drawn on.
        region: The region of the URL.
        asked: Makes the whole condition from the region on the canvas.
        set_region: Keeps a finished region.
    """
    if st.session_state.pop(_DRAWN, False):
        st.rerun()  # the rest of the page follows the finished region

    def picked(finished: Region | None) -> None:
        set_region(finished)
        st.session_state[_DRAWN] = True

    def answer(shape: Region | None) -> list[str]:
        try:
            condition = asked(shape)
            if condition is None:
                return []
            return attention.live_words(held.split(context.catalog, filter_, condition))
        except GazelakeError as error:
            return [str(error)]

    region_picker(region, canvas, on_pick=picked, answer=answer)
