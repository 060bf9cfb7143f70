"""The figure of an embedding map: a selection's points in colour over the others, free of Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from cache.fields import class_title
from cache.map_areas import InProjection
from cache.scatter import Points
from dashboard.figures import DARK, Look, blank_figure, label_text
from dashboard.ordering import percent_text
from dashboard.rendering import PALETTE

HEIGHT = 640
OTHERS = "others"
FONT = '"Source Sans", "Source Sans Pro", sans-serif'
# Okabe and Ito (2008), without black and with a yellow that white paper carries, most different ones first.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A900", "#7A5FB5")
REST = "#8A929C"
# Viridis (Smith and van der Walt, 2015; CC0).
SCALES = {
    False: [[0, "#440154"], [0.3, "#3b528b"], [0.6, "#21918c"], [0.85, "#5ec962"], [1, "#a5db36"]],
    True: [[0, "#5a4fa0"], [0.22, "#3b6fa0"], [0.5, "#21a08c"], [0.75, "#5ec962"], [1, "#fde725"]],
}
"""Without the end that a theme's paper swallows: by whether the theme is dark."""
LONGEST = 60
TOLERANCE = 0.0025
"""How far a simplified lasso may leave the hand's line, in fractions of the map."""


@dataclass(frozen=True)
class Colouring:
    """What the points are coloured by.

    Attributes:
        name: ``correct``, ``label``, ``pred`` or ``value``.
        title: What people call it.
    """

    name: str
    title: str


def map_figure(
    points: Points,
    classes: Sequence[str],
    colouring: Colouring,
    look: Look,
    area: InProjection | None = None,
    marked: str = "",
) -> go.Figure:
    """Draw a map whose points a lasso, a box or a click chooses; each carries its sample id.

    Args:
        points: What is drawn.
        classes: Names of the model's outputs.
        colouring: What the colours mean.
        look: Colours of the theme.
        area: The area that the filter asks for, outlined.
        marked: Id of the sample that is ringed.
    """
    figure = blank_figure(look, HEIGHT)
    figure.update_layout(
        dragmode="lasso",
        newselection={"line": {"color": PALETTE.accent, "width": 2, "dash": "solid"}},
        modebar={"remove": ["autoScale"], "orientation": "h", "bgcolor": "rgba(0,0,0,0)"},
        showlegend=True,
        legend={
            "orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemsizing": "constant", "font": {"size": 12.5},
            "title": {"text": f"{label_text(colouring.title)} "},
        },
        margin={"l": 4, "r": 4, "t": 34, "b": 4},
        uirevision="map",
        font={"family": FONT, "color": look.text, "size": 13},
    )  # fmt: skip
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(showgrid=False, showticklabels=False, ticks="", showline=False, range=[-0.01, 1.01])
    figure.update_yaxes(scaleanchor="x")
    if len(points.others):
        figure.add_scattergl(
            x=points.others[:, 0], y=points.others[:, 1], mode="markers", name="not in the selection",
            hoverinfo="skip", meta=OTHERS, marker={"size": 3, "color": REST, "opacity": 0.28},
        )  # fmt: skip
    table = points.rows.to_pydict()
    x, y = np.asarray(table["x"], np.float32), np.asarray(table["y"], np.float32)
    words = [
        hover_text(classes, *row)
        for row in zip(*(table[n] for n in ("sample_id", "label", "pred", "confidence")), strict=True)
    ]
    told = np.array([table["sample_id"], words], dtype=object).T if words else np.zeros((0, 2), dtype=object)
    size = marker_size(len(x))
    shared = {"mode": "markers", "hovertemplate": "%{customdata[1]}<extra></extra>"}
    unselected = {"marker": {"opacity": 0.2}}
    if colouring.name == "value":
        _add_numbers(figure, table["value"], x, y, told, size, shared, colouring, look)
    else:
        for title, colour, here in _kinds(table, classes, colouring.name):
            figure.add_scattergl(
                x=x[here], y=y[here], customdata=told[here], name=label_text(title, 32), unselected=unselected,
                marker={"size": size, "color": colour, "opacity": 0.85}, **shared,
            )  # fmt: skip
    if area is not None:
        corners = " L ".join(f"{px},{py}" for px, py in area.polygon)
        figure.add_shape(
            type="path", path=f"M {corners} Z", line={"color": PALETTE.accent, "width": 2},
            fillcolor=PALETTE.accent, opacity=0.9, layer="below",
        )  # fmt: skip
        figure.layout.shapes[0].fillcolor = "rgba(20,148,168,0.10)"
    _ring(figure, table["sample_id"], marked, x, y, size, look)
    return figure


def marker_size(n: int) -> float:
    """Return the width of a point in pixels: few points are large."""
    return float(np.clip(22 / np.log10(max(n, 10)) ** 1.35, 3.2, 9))


def hover_text(
    classes: Sequence[str], sample_id: str, label: int | None, pred: int, confidence: float | None
) -> str:
    """Say what a point is, escaped for Plotly."""
    called = label_text(class_title(classes, pred), 40)
    if label is not None and label != pred:
        called = f"{label_text(class_title(classes, label), 40)} → {called}"
    sure = "" if confidence is None else f" · {percent_text(confidence)}"
    return f"<b>{label_text(sample_id, LONGEST)}</b><br>{called}{sure}"


def _kinds(
    table: dict[str, list[Any]], classes: Sequence[str], by: str
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Return the title, the colour and the points of each value of a class or of the outcome."""
    values = np.array([-1 if value is None else int(value) for value in table[by]], np.int64)
    if by == "correct":
        named = (
            ("right", PALETTE.right, 1),
            ("wrong", PALETTE.wrong, 0),
            ("unlabelled", PALETTE.neutral, -1),
        )
        return [(title, colour, values == code) for title, colour, code in named if (values == code).any()]
    found, counts = np.unique(values[values >= 0], return_counts=True)
    # The most frequent classes have a colour of their own, and one keeps it whatever the selection's order.
    shown = sorted(found[np.argsort(-counts, kind="stable")][: len(CLASS_COLOURS)].tolist())
    few = len(classes) <= len(CLASS_COLOURS)
    kinds = [
        (class_title(classes, index), CLASS_COLOURS[index if few else place], values == index)
        for place, index in enumerate(shown)
    ]
    rest = ~np.isin(values, shown)
    if rest.any():
        more = len(found) - len(shown)
        kinds.insert(0, (f"{more} other classes" if more > 0 else "unlabelled", REST, rest))
    return kinds


def _add_numbers(
    figure: go.Figure,
    values: list[float | None],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    told: NDArray[Any],
    size: float,
    shared: dict[str, Any],
    colouring: Colouring,
    look: Look,
) -> None:
    number = np.array([np.nan if value is None else value for value in values], np.float64)
    known = np.isfinite(number)
    figure.update_layout(showlegend=False)
    if (~known).any():
        figure.add_scattergl(
            x=x[~known], y=y[~known], customdata=told[~known], name="unknown",
            marker={"size": size, "color": REST, "opacity": 0.5}, **shared,
        )  # fmt: skip
    low, high = np.quantile(number[known], [0.01, 0.99]) if known.any() else (0.0, 1.0)
    figure.add_scattergl(
        x=x[known], y=y[known], customdata=told[known], name=label_text(colouring.title),
        unselected={"marker": {"opacity": 0.2}},
        marker={
            "size": size, "color": number[known], "colorscale": SCALES[look == DARK], "cmin": float(low), "cmax": float(max(high, low + 1e-9)),
            "opacity": 0.9, "showscale": True,
            "colorbar": {
                "title": {"text": label_text(colouring.title), "side": "top"}, "orientation": "h", "thickness": 9, "len": 0.42,
                "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "outlinewidth": 0, "tickfont": {"color": look.text},
                "nticks": 5, "xpad": 4, "ypad": 2,
            },
        },
        **shared,
    )  # fmt: skip
    figure.update_layout(margin={"l": 4, "r": 4, "t": 58, "b": 4})


def _ring(
    figure: go.Figure,
    ids: list[str],
    marked: str,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    size: float,
    look: Look,
) -> None:
    if marked in ids:
        at = ids.index(marked)
        figure.add_scattergl(
            x=x[at : at + 1], y=y[at : at + 1], mode="markers", hoverinfo="skip", showlegend=False, meta=OTHERS,
            marker={"size": size + 10, "color": "rgba(0,0,0,0)", "line": {"width": 3, "color": look.text}},
        )  # fmt: skip


def simplified(
    points: Sequence[tuple[float, float]], tolerance: float = TOLERANCE
) -> list[tuple[float, float]]:
    """Return the corners of a hand-drawn line that matter (Douglas and Peucker 1973), so that links stay short."""
    line = np.asarray(points, np.float64)
    if len(line) < 4:
        return [(float(px), float(py)) for px, py in line]
    kept = np.zeros(len(line), dtype=bool)
    # A closed line has no two ends: the corner farthest from the first stands in for the second.
    far = int(np.argmax(np.hypot(*(line - line[0]).T)))
    kept[[0, far]] = True
    spans = [(0, far), (far, len(line))]
    while spans:
        first, last = spans.pop()
        between = line[first + 1 : last]
        if not len(between):
            continue
        start, end = line[first], line[last % len(line)]
        run = end - start
        length = float(np.hypot(*run))
        offset = between - start
        distance = (
            np.abs(run[0] * offset[:, 1] - run[1] * offset[:, 0]) / length if length else np.hypot(*offset.T)
        )
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = first + 1 + worst
            kept[middle] = True
            spans += [(first, middle), (middle, last)]
    if kept.sum() < 3:
        return [(float(px), float(py)) for px, py in line]
    return [(float(px), float(py)) for px, py in line[kept]]
