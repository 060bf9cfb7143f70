"""The region picker: draw a box or a free shape over the mean image and its mean attention, or take a preset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from cache.errors import RegionError
from cache.regions import PRESET_TITLES, PRESETS, Region

_HERE = Path(__file__).resolve().parent
_picker = st.components.v2.component(
    "gazelake_region_picker",
    html=(_HERE / "region_picker.html").read_text("utf-8"),
    css=(_HERE / "region_picker.css").read_text("utf-8"),
    js=(_HERE / "region_picker.js").read_text("utf-8"),
)


def region_picker(
    region: Region | None,
    *,
    photo: str,
    heat: str,
    photo_alt: str,
    heat_alt: str,
    on_pick: Callable[[Region | None], None],
    aspect: float = 1.0,
    key: str = "region_picker",
) -> None:
    """Show the picker; the region is the caller's to keep, and is drawn as it is given.

    Args:
        region: The region to show, None for none.
        photo: Data URL of the mean image, empty where there is none.
        heat: Data URL of the coloured mean attention, empty where there is none.
        photo_alt: What the image is, for people who do not see it.
        heat_alt: The same for the attention.
        on_pick: Called with the new region, or None when it was cleared, before the page runs again.
        aspect: Width of the model's view divided by its height.
        key: Key of the element.
    """
    memo = f"{key}_turn"

    def picked() -> None:
        value = st.session_state[key].get("picked")
        if value is None:
            return
        # The browser counts what it sends, and so knows an answer to something older when it sees one.
        st.session_state[memo] = int(value.get("turn", 0))
        try:
            on_pick(region_from_shape(value.get("region")))
        except RegionError as error:
            st.toast(str(error), icon=":material/gesture:")

    _picker(
        key=key,
        data={
            "region": None if region is None else shape_of(region),
            "cells": [] if region is None else cells_of(region),
            "turn": st.session_state.get(memo, 0),
            "photo": photo,
            "heat": heat,
            "photo_alt": photo_alt,
            "heat_alt": heat_alt,
            "aspect": aspect,
            "label": "Mean image with mean attention. Drag to draw a region; arrow keys start and move a box, "
            "with Shift they resize it, Escape clears it.",
            "presets": [
                {
                    "name": name,
                    "title": preset_title(name),
                    "named": preset.kind == "mask" or name == "center",
                    "region": shape_of(preset),
                    "cells": cells_of(preset),
                }
                for name, preset in PRESETS.items()
            ],
        },
        on_picked_change=picked,
    )


def preset_title(name: str) -> str:
    """Return a preset's name as a button says it: without the article, with a capital."""
    title = PRESET_TITLES[name].removeprefix("the ")
    return title[0].upper() + title[1:]


def shape_of(region: Region) -> dict[str, Any]:
    """Return a region as the picker's script knows it."""
    if region.kind == "box":
        (x0, y0), (x1, y1) = region.points
        return {"kind": "box", "x0": x0, "y0": y0, "x1": x1, "y1": y1}
    if region.kind == "polygon":
        return {"kind": "polygon", "points": [list(point) for point in region.points]}
    return {"kind": "mask"} | ({"preset": region.preset} if region.preset else {})


def cells_of(region: Region) -> list[list[float]]:
    """Return the rectangles of a mask, one a run of painted cells: x0, y0, x1, y1; empty for other shapes."""
    if region.kind != "mask":
        return []
    height, width = len(region.bits), len(region.bits[0])
    cells: list[list[float]] = []
    for row, bits in enumerate(region.bits):
        start = None
        for column, bit in enumerate((*bits, False)):
            if bit and start is None:
                start = column
            elif not bit and start is not None:
                cells.append([start / width, row / height, column / width, (row + 1) / height])
                start = None
    return cells


def region_from_shape(shape: object) -> Region | None:
    """Read what the picker's script sent; None where the region was cleared.

    Raises:
        RegionError: It is not a region.
    """
    if shape is None:
        return None
    match shape:
        case {"kind": "box", "x0": x0, "y0": y0, "x1": x1, "y1": y1}:
            return Region.box(x0, y0, x1, y1)
        case {"kind": "polygon", "points": list(points)}:
            return Region.polygon(points)
        case {"kind": "mask", "preset": str(name)} if name in PRESETS:
            return PRESETS[name]
    raise RegionError("The picker sent no region: draw it again.")
