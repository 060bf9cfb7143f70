"""The region picker: draw a box or a free shape or paint over a picture and its attention, or take a preset."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cache.errors import RegionError
from cache.regions import PRESET_TITLES, PRESETS, Region

_HERE = Path(__file__).resolve().parent
_picker = st.components.v2.component(
    "gazelake_region_picker",
    html=(_HERE / "region_picker.html").read_text("utf-8"),
    css=(_HERE / "region_picker.css").read_text("utf-8"),
    # One module of two files: the second knows the first's functions.
    js=(_HERE / "region_shapes.js").read_text("utf-8") + (_HERE / "region_picker.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Canvas:
    """What is drawn on.

    Attributes:
        photo: Data URL of the picture, empty where there is none.
        heat: Data URL of the coloured attention, empty where there is none.
        photo_alt: What the picture is, for people who do not see it.
        heat_alt: The same for the attention.
        label: What both are together.
        aspect: Width of the model's view divided by its height.
        outline: Outline of a known object as an SVG path, 0 to 1 across and down.
        own: Regions that this picture offers besides the presets, by their names.
    """

    photo: str
    heat: str
    photo_alt: str
    heat_alt: str
    label: str
    aspect: float = 1.0
    outline: str = ""
    own: tuple[tuple[str, Region], ...] = ()


def region_picker(
    region: Region | None,
    canvas: Canvas,
    *,
    on_pick: Callable[[Region | None], None],
    answer: Callable[[Region | None], Sequence[str]],
    key: str = "region_picker",
) -> None:
    """Show the picker; the region is the caller's to keep, and is drawn as it is given.

    Args:
        region: The region to show, None for none.
        canvas: What it is drawn on.
        on_pick: Called with the new region, or None when it was cleared, before the page runs again.
        answer: Called with the region as it is at this moment, also while it is drawn: what to say of it under the
            picture, in parts of which every second one is emphasised.
        key: Key of the element.
    """
    turn, drawing = f"{key}_turn", f"{key}_drawing"

    def picked() -> None:
        value = st.session_state[key].get("picked")
        if not isinstance(value, Mapping):
            return
        # The browser counts what it sends, and so knows an answer to something older when it sees one.
        st.session_state[turn] = _count(value.get("turn"))
        st.session_state[drawing] = (_asked(drawing), None)
        try:
            on_pick(region_from_shape(value.get("region")))
        except RegionError as error:
            st.toast(str(error), icon=":material/gesture:")

    def drawn() -> None:
        value = st.session_state[key].get("drawing")
        if not isinstance(value, Mapping):
            return
        shape = None
        with suppress(RegionError):  # half-drawn shapes may be none; what is kept in the end is checked aloud
            shape = region_from_shape(value.get("region"))
        st.session_state[drawing] = (_count(value.get("asked")), shape)

    asked, shape = st.session_state.get(drawing, (0, None))
    presets = [(name, preset_title(name), preset) for name, preset in PRESETS.items()]
    own = [(f"own_{index}", title, given) for index, (title, given) in enumerate(canvas.own)]
    _picker(
        key=key,
        data={
            "region": None if region is None else shape_of(region),
            "turn": st.session_state.get(turn, 0),
            "answer": {"asked": asked, "words": list(answer(shape or region))},
            "photo": canvas.photo,
            "heat": canvas.heat,
            "photo_alt": canvas.photo_alt,
            "heat_alt": canvas.heat_alt,
            "object": canvas.outline,
            "aspect": canvas.aspect,
            "label": f"{canvas.label}. Drag to draw a region; arrow keys start and move a box, with Shift they resize it, "
            "Escape clears it. The letters b, l, p and e choose box, lasso, brush and eraser.",
            "presets": [
                {
                    "name": name,
                    "title": title,
                    "named": name.startswith("own_") or preset.kind == "mask" or name == "center",
                    "region": shape_of(preset),
                }
                for name, title, preset in own + presets
            ],
        },
        on_picked_change=picked,
        on_drawing_change=drawn,
    )


def _asked(name: str) -> int:
    return int(st.session_state.get(name, (0, None))[0])


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


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
    packed = np.packbits(np.array(region.bits, dtype=np.uint8)).tobytes()
    shape: dict[str, Any] = {"kind": "mask", "rows": len(region.bits), "cols": len(region.bits[0])}
    shape["bits"] = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    return shape | ({"preset": region.preset} if region.preset else {})


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
        case {"kind": "mask", "rows": rows, "cols": cols, "bits": bits}:
            return Region.from_json({"mask": [rows, cols, bits]})
    raise RegionError("The picker sent no region: draw it again.")
