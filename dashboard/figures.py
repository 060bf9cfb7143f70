"""The figures of the pages: plain functions from numbers to Plotly figures, free of Streamlit.

Blue says right and orange says wrong everywhere, a pair that people with any colour blindness tell apart.
Text that comes from a run (class names) is escaped: Plotly reads labels as a little HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from dashboard.confusions import ConfusionView
from dashboard.intervals import wilson
from dashboard.rendering import PALETTE

CELL_NUMBERS = 24
"""Widest matrix whose cells carry their count; wider ones tell it on hovering."""


@dataclass(frozen=True)
class Look:
    """What a theme adds to the palette, which is the same in both."""

    text: str
    grid: str
    paper: str


LIGHT = Look("#1f2733", "rgba(100,116,139,0.22)", "#f4f6f9")
DARK = Look("#e6eaf0", "rgba(148,163,184,0.22)", "#1a212c")


def look_of(theme: str | None) -> Look:
    """Return the colours for a theme type as the browser names it."""
    return DARK if theme == "dark" else LIGHT


def label_text(name: object, longest: int | None = None) -> str:
    """Return a text of the run as a label: escaped, and cut where it is too long."""
    text = str(name)
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return html.escape(text, quote=False)


def rows_of(*columns: ArrayLike) -> list[list[float]]:
    """Return columns as rows; lists, since typed arrays come back from a click as something else."""
    return [list(row) for row in np.column_stack(columns).tolist()]


def blank_figure(look: Look, height: int, **layout: object) -> go.Figure:
    """Return an empty figure in the colours of a theme, without what pages do not use."""
    figure = go.Figure()
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": look.text, "size": 12},
        hoverlabel={"align": "left"},
        hovermode="closest",
        showlegend=False,
        modebar={
            "remove": ["zoom", "pan", "select", "lasso", "zoomIn", "zoomOut", "autoScale", "resetScale"]
        },
        dragmode=False,
        **layout,
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(gridcolor=look.grid, zeroline=False, linecolor=look.grid, automargin=True, title_standoff=6)
    return figure


def _fade(paper: str, colour: str) -> list[list[object]]:
    """Return an opaque colour scale from nearly the paper to the colour, so that labels pick a legible ink."""
    start, end = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (paper, colour))
    stops = ((0.0, 0.0), (1e-6, 0.14), (0.5, 0.6), (1.0, 1.0))
    return [
        [at, "rgb({}, {}, {})".format(*np.round(start + (end - start) * part).astype(int))]
        for at, part in stops
    ]


def confusion_figure(view: ConfusionView, look: Look) -> go.Figure:
    """Draw the confusion matrix, each row shaded by its shares, under points that a click can hit.

    The trace named ``cells`` is invisible and carries (true, predicted) class indices: heat maps themselves
    report no clicks. The diagonal is blue; errors are orange and scaled to the largest share of errors.
    """
    counts = view.counts
    n = len(view.classes)
    totals = np.maximum(np.asarray(view.row_totals, np.float64), 1)[:, None]
    share = counts / totals
    diagonal = np.eye(n, dtype=bool)
    figure = blank_figure(look, int(np.clip(150 + 21 * n, 330, 660)))
    top = float(share[~diagonal].max()) if n > 1 else 0.0
    labels = [label_text(name) for name in view.names]
    for keep, colour, most in ((diagonal, PALETTE.right, 1.0), (~diagonal, PALETTE.wrong, max(top, 1e-3))):
        figure.add_heatmap(
            z=np.where(keep, share, np.nan),
            colorscale=_fade(look.paper, colour),
            zmin=0,
            zmax=most,
            xgap=1,
            ygap=1,
            showscale=False,
            hoverinfo="skip",
        )
    rows, columns = np.divmod(np.arange(n * n), n)
    figure.add_scatter(
        name="cells",
        x=columns,
        y=rows,
        mode="markers",
        marker={"size": 14, "opacity": 0, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[[view.classes[r], view.classes[c]] for r, c in zip(rows, columns, strict=True)],
        hovertext=[
            f"<b>{counts[r, c]:,}</b> of {view.row_totals[r]:,} {labels[r]}<br>called {labels[c]}"
            f" ({share[r, c]:.1%})"
            for r, c in zip(rows, columns, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    if n <= CELL_NUMBERS:
        ceiling = np.where(diagonal, 1.0, max(top, 1e-3))
        figure.add_scatter(
            name="numbers",
            x=columns,
            y=rows,
            mode="text",
            text=[f"{c:,}" if c else "" for c in counts.ravel()],
            textfont={
                "color": ["#ffffff" if dark else look.text for dark in (share / ceiling > 0.45).ravel()],
                "size": 13 if n <= 12 else 11,
            },
            hoverinfo="skip",
        )
    size = 12 if n <= 12 else 10 if n <= 30 else 8
    ticks = {
        "tickvals": list(range(n)),
        "ticktext": [label_text(name, 18) for name in view.names],
        "tickfont": {"size": size},
        "showgrid": False,
        "ticks": "",
    }
    # Points snap from anywhere in a cell, so a click need not hit the middle.
    figure.update_layout(hoverdistance=-1, clickmode="event+select")
    figure.update_xaxes(title_text="predicted", range=[-0.5, n - 0.5], tickangle=-40 if n > 6 else 0, **ticks)
    figure.update_yaxes(title_text="true", range=[n - 0.5, -0.5], **ticks)
    return figure


def reliability_figure(
    low: ArrayLike, high: ArrayLike, counts: ArrayLike, confidence: ArrayLike, right: ArrayLike, look: Look
) -> go.Figure:
    """Draw accuracy against confidence with 95% intervals, and how many predictions each bin holds.

    Args:
        low: Lower edge of each bin.
        high: Upper edge.
        counts: Labelled predictions in it.
        confidence: Their mean confidence, NaN where a bin is empty.
        right: How many of them are right.
        look: Colours.
    """
    lower, upper = np.asarray(low, np.float64), np.asarray(high, np.float64)
    n, mean = np.asarray(counts, np.int64), np.asarray(confidence, np.float64)
    filled = n > 0
    accuracy = wilson(np.asarray(right, np.float64)[filled], n[filled])
    middle, width = (lower + upper)[filled] / 2, (upper - lower)[filled]
    figure = blank_figure(look, 360, bargap=0, barmode="overlay")
    told = [
        f"confidence {a:.0%} to {b:.0%}: <b>{c:,}</b> predictions<br>"
        f"mean confidence {m:.1%}<br>accuracy <b>{p:.1%}</b> (95% interval {lo:.1%} to {hi:.1%})"
        for a, b, c, m, p, lo, hi in zip(
            lower[filled], upper[filled], n[filled], mean[filled], *accuracy, strict=True
        )
    ]
    edges = rows_of(lower[filled], upper[filled])
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": PALETTE.neutral, "dash": "dot", "width": 1},
        hoverinfo="skip",
    )
    figure.add_bar(
        name="accuracy",
        x=middle,
        y=accuracy.estimate,
        width=width * 0.94,
        marker={"color": PALETTE.right, "opacity": 0.75, "line": {"width": 0}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": accuracy.high - accuracy.estimate,
            "arrayminus": accuracy.estimate - accuracy.low,
            "color": look.text,
            "thickness": 1,
            "width": 3,
        },
        customdata=edges,
        hovertext=told,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    # Where confidence exceeds accuracy, the gap is what the model promised and did not keep.
    figure.add_scatter(
        name="mean confidence",
        x=mean[filled],
        y=mean[filled],
        mode="markers",
        marker={"symbol": "diamond", "size": 7, "color": PALETTE.wrong},
        hoverinfo="skip",
    )
    figure.add_bar(
        name="count",
        x=middle,
        y=n[filled],
        width=width * 0.94,
        yaxis="y2",
        marker={"color": PALETTE.neutral, "line": {"width": 0}},
        customdata=edges,
        hovertext=told,
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.update_layout(
        clickmode="event+select",
        yaxis={"domain": [0.3, 1], "range": [0, 1.02], "tickformat": ".0%", "title": {"text": "accuracy"}},
        yaxis2={"domain": [0, 0.2], "title": {"text": "count"}, "gridcolor": look.grid, "nticks": 3},
    )
    figure.update_xaxes(
        range=[min(0.0, float(lower.min(initial=0))), 1], tickformat=".0%", title_text="confidence"
    )
    figure.update_xaxes(anchor="y2")
    return figure


@dataclass(frozen=True)
class Side:
    """One of the distributions that `distribution_figure` lays over one another."""

    name: str
    counts: ArrayLike
    median: float | None
    colour: str


def distribution_figure(edges: ArrayLike, sides: Sequence[Side], title: str, look: Look) -> go.Figure:
    """Draw how a statistic is distributed on each side, each as shares of its own, with the medians.

    Args:
        edges: Bin edges, (B+1,), that all sides share.
        sides: Distributions with counts (B,), the first below the others.
        title: What the statistic is called, with its unit.
        look: Colours.
    """
    bounds = np.asarray(edges, np.float64)
    figure = blank_figure(look, 330, bargap=0, barmode="overlay")
    middle, width = (bounds[:-1] + bounds[1:]) / 2, np.diff(bounds)
    for level, side in enumerate(sides):
        n = np.asarray(side.counts, np.float64)
        figure.add_bar(
            name=side.name,
            x=middle,
            y=n / max(float(n.sum()), 1.0),
            width=width,
            marker={"color": side.colour, "opacity": 0.55, "line": {"width": 0}},
            customdata=rows_of(bounds[:-1], bounds[1:], n),
            hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}<br><b>%{customdata[2]:,}</b> "
            f"{side.name} (%{{y:.1%}} of them)<extra></extra>",
        )
        if side.median is not None and np.isfinite(side.median):
            figure.add_vline(x=side.median, line={"color": side.colour, "width": 2, "dash": "dash"})
            right_half = side.median > (bounds[0] + bounds[-1]) / 2
            figure.add_annotation(
                x=side.median,
                y=1 + 0.065 * (len(sides) - 1 - level),
                yref="paper",
                text=f"{side.name}: median {side.median:.3g}",
                showarrow=False,
                font={"color": side.colour, "size": 12},
                xanchor="right" if right_half else "left",
                yanchor="bottom",
            )
    figure.update_layout(dragmode="select", selectdirection="h", clickmode="event+select", margin={"t": 44})
    figure.update_xaxes(title_text=label_text(title))
    figure.update_yaxes(title_text="share", tickformat=".0%", rangemode="tozero")
    return figure


def mass_figure(
    edges: ArrayLike,
    counts: ArrayLike,
    share: float,
    at_least: bool,
    look: Look,
    title: str = "attention in the region",
) -> go.Figure:
    """Draw how the mass in a region is distributed, with the asked-for part of it in colour.

    Args:
        edges: Bin edges in fractions of the attention, (B+1,).
        counts: Samples in each bin, (B,).
        share: The threshold, 0 to 1.
        at_least: Whether the part above it is asked for, or the part below.
        look: Colours.
        title: What is distributed.
    """
    bounds, n = np.asarray(edges, np.float64), np.asarray(counts, np.int64)
    middle = (bounds[:-1] + bounds[1:]) / 2
    asked = middle >= share if at_least else middle <= share
    figure = blank_figure(look, 170, bargap=0.04)
    figure.add_bar(
        name="mass",
        x=middle,
        y=n,
        width=np.diff(bounds) * 0.96,
        marker={"color": [PALETTE.right if hit else PALETTE.neutral for hit in asked], "line": {"width": 0}},
        customdata=rows_of(bounds[:-1], bounds[1:]),
        hovertemplate="%{customdata[0]:.0%} to %{customdata[1]:.0%}<br><b>%{y:,}</b> samples<extra></extra>",
    )
    figure.add_vline(x=share, line={"color": look.text, "width": 2})
    figure.update_layout(clickmode="event+select")
    figure.update_xaxes(
        range=[float(bounds[0]), float(max(bounds[-1], min(share * 1.05, 1)))],
        tickformat=".0%",
        title_text=title,
    )
    figure.update_yaxes(title_text="samples", nticks=4)
    return figure


@dataclass(frozen=True)
class ClassRates:
    """Error counts of each class inside and outside a region, all arrays of one length."""

    names: Sequence[str]
    inside: NDArray[np.int64]
    wrong_inside: NDArray[np.int64]
    outside: NDArray[np.int64]
    wrong_outside: NDArray[np.int64]


def class_rates_figure(rates: ClassRates, look: Look) -> go.Figure:
    """Draw each class's error rate in the region against the rest of it, with 95% Wilson intervals."""
    n = len(rates.names)
    figure = blank_figure(look, 90 + 34 * max(n, 1))
    sides = (
        ("in the region", rates.wrong_inside, rates.inside, PALETTE.wrong, -0.14, "circle"),
        ("the rest", rates.wrong_outside, rates.outside, PALETTE.neutral, 0.14, "diamond"),
    )
    for name, wrong, counts, colour, shift, symbol in sides:
        interval = wilson(wrong, counts)
        figure.add_scatter(
            name=name,
            x=interval.estimate,
            y=np.arange(n) + shift,
            mode="markers",
            marker={"color": colour, "size": 9, "symbol": symbol},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": interval.high - interval.estimate,
                "arrayminus": interval.estimate - interval.low,
                "color": colour,
                "thickness": 1.5,
                "width": 0,
            },
            customdata=rows_of(wrong, counts, interval.low, interval.high),
            hovertemplate=f"{name}: <b>%{{x:.1%}}</b> wrong (%{{customdata[0]:,}} of %{{customdata[1]:,}})<br>"
            "95% interval %{customdata[2]:.1%} to %{customdata[3]:.1%}<extra></extra>",
        )
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0})
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", title_text="error rate")
    figure.update_yaxes(
        tickvals=list(range(n)),
        ticktext=[label_text(name, 22) for name in rates.names],
        range=[n - 0.5, -0.5],
        showgrid=False,
    )
    return figure
