"""The chart component: draws a figure as SVG, so that a page of small figures needs no plotting library in the browser.

Figures are Plotly's, of which this draws what the pages use: bars, points with intervals, lines, texts and matrices. The
library itself is 4.7 MB of code that took longer to load and lay out than everything else on Overview together; only the
map of features, which is drawn on and zoomed, still needs it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_HERE = Path(__file__).resolve().parent
_MOUNT: ComponentRenderer = st.components.v2.component(
    "gazelake_chart",
    html='<div class="chart"></div>',
    css=(_HERE / "chart.css").read_text("utf-8"),
    js=(_HERE / "chart_scales.js").read_text("utf-8") + (_HERE / "chart.js").read_text("utf-8"),
)
_FIELD = re.compile(r"%\{(\w+)(?:\[(\d+)\])?(?::([^}]*))?\}")
_PLAIN = ("type", "name", "mode", "xaxis", "yaxis", "marker", "line", "textfont", "showlegend", "text")
_LAYOUT = (
    "height",
    "font",
    "margin",
    "legend",
    "showlegend",
    "shapes",
    "annotations",
    "dragmode",
    "hoverdistance",
)


def chart(
    figure: go.Figure,
    key: str,
    alt: str,
    *,
    picks: bool = False,
    on_pick: Callable[[], None] | None = None,
) -> Mapping[str, Any]:
    """Draw a figure, and return what was just clicked or dragged in it, as `dashboard.drilldown` reads it.

    Args:
        figure: The figure; its width is that of the page unless it has one.
        key: Key of the element.
        alt: What the figure shows, for those who do not see it.
        picks: Whether points and bars can be clicked; ranges can be dragged where the figure's drag mode is ``select``.
        on_pick: Called before the page runs again; it reads the pick with `picked`.
    """
    drawn = sent(figure)
    _MOUNT(
        key=key,
        data={**drawn, "alt": alt, "picks": picks or on_pick is not None},
        width=int(figure.layout.width) if figure.layout.width else "stretch",
        on_picked_change=on_pick or _nothing,
    )
    event = picked(key)
    for point in event["selection"].get("points", ()):
        if not any(point["customdata"] in (trace.get("custom") or ()) for trace in drawn["traces"]):
            return {"selection": {}}  # of another figure, or made up
    return event


def picked(key: str) -> Mapping[str, Any]:
    """Return what was just clicked or dragged in a chart; nothing of it is taken on trust but its shape."""
    state = st.session_state.get(key)
    said = state.get("picked") if isinstance(state, Mapping) else None
    if not isinstance(said, Mapping):
        return {"selection": {}}
    if _numbers(said.get("range"), 2):
        return {"selection": {"box": [{"x": list(said["range"])}]}}
    if _numbers(said.get("custom")):
        return {"selection": {"points": [{"customdata": list(said["custom"])}]}}
    return {"selection": {}}


def _numbers(value: object, length: int | None = None) -> bool:
    return (
        isinstance(value, list)
        and len(value) == (len(value) if length is None else length)
        and all(isinstance(one, int | float) and np.isfinite(one) for one in value)
    )


def _nothing() -> None:
    """Have a click rerun the page; what it means is read where the chart is mounted."""


def sent(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as the browser draws it: plain lists, what hovering says in words, colours of matrices worked out."""
    whole = _listed(figure.to_plotly_json())
    layout = whole["layout"]
    axes = {name: axis for name, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", name)}
    return {
        "traces": [_trace(trace) for trace in whole["data"]],
        "layout": {name: layout[name] for name in _LAYOUT if name in layout} | {"axes": axes},
    }


def _listed(value: Any) -> Any:
    """Replace arrays by lists, and what is not finite by None, which JSON has."""
    if isinstance(value, Mapping) and "bdata" in value:  # Plotly's own way of writing arrays
        array = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
        shape = str(value.get("shape") or array.size).split(",")
        value = array.reshape([int(length) for length in shape])
    if isinstance(value, Mapping):
        return {name: _listed(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_listed(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _trace(trace: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: trace[name] for name in _PLAIN if name in trace}
    if trace["type"] == "heatmap":
        return found | _cells(trace)
    x, y = trace["x"], trace["y"]
    found |= {"x": x, "y": y, "width": trace.get("width"), "custom": trace.get("customdata")}
    for name in ("error_x", "error_y"):
        if name in trace:
            found[name] = trace[name]
    if "hovertemplate" in trace:
        found["tips"] = [_tip(trace, at) for at in range(len(x))]
    return found


def _cells(trace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a matrix as the cells that have a value, each with its place and colour."""
    z = trace["z"]
    places = [(r, c) for r, row in enumerate(z) for c, value in enumerate(row) if value is not None]
    low, high = float(trace["zmin"]), float(trace["zmax"])
    colours = [
        _colour(trace["colorscale"], (min(max(z[r][c], low), high) - low) / (high - low)) for r, c in places
    ]
    found: dict[str, Any] = {
        "x": [c for _, c in places], "y": [r for r, _ in places], "colours": colours, "gap": trace.get("xgap", 0),
        "bar": trace.get("colorbar"), "scale": [colour for _, colour in trace["colorscale"]],
    }  # fmt: skip
    if "hovertemplate" in trace:
        found["tips"] = [trace["customdata"][r][c] for r, c in places]
    return found


def _tip(trace: Mapping[str, Any], at: int) -> str:
    """Fill in a template of what hovering says, as Plotly would."""

    def fill(field: re.Match[str]) -> str:
        name, index, form = field.groups()
        value = trace[name]
        value = value[at] if isinstance(value, list) else value
        if index is not None:
            value = value[int(index)]
        if form is None or value is None:
            return "" if value is None else str(value)
        whole = form == "," and float(value).is_integer()
        return format(int(value) if whole else value, form)

    return _FIELD.sub(fill, str(trace["hovertemplate"])).replace("<extra></extra>", "")


def _rgb(colour: str) -> list[float]:
    if colour.startswith("#"):
        return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def _colour(scale: Sequence[Sequence[Any]], share: float) -> str:
    """Return the colour at a share of a colour scale, between its anchors."""
    at = [float(place) for place, _ in scale]
    anchors = [_rgb(str(colour)) for _, colour in scale]
    mixed = (np.interp(share, at, [anchor[c] for anchor in anchors]) for c in range(3))
    return "#{:02x}{:02x}{:02x}".format(*(round(float(channel)) for channel in mixed))
