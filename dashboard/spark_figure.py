"""A distribution small enough to stand above a slider: a plain function, free of Streamlit."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from dashboard.figures import Look, blank_figure, rows_of
from dashboard.rendering import PALETTE


def spark_figure(
    edges: ArrayLike, counts: ArrayLike, asked: tuple[str | float | None, str | float | None], look: Look
) -> go.Figure:
    """Draw a distribution without axes, small enough to stand above a slider, with the asked-for part in colour.

    Args:
        edges: Bin edges, (B+1,).
        counts: Samples in each bin, (B,).
        asked: The bounds of the condition; None for none on a side.
        look: Colours.
    """
    bounds, n = np.asarray(edges, np.float64), np.asarray(counts, np.int64)
    low, high = (
        default if end is None else float(end) for end, default in zip(asked, (-np.inf, np.inf), strict=True)
    )
    inside = (bounds[1:] > low) & (bounds[:-1] < high)
    figure = blank_figure(look, 52)
    figure.add_bar(
        x=(bounds[:-1] + bounds[1:]) / 2,
        y=n,
        width=np.diff(bounds) * 0.92,
        marker={
            "color": [PALETTE.accent if hit else PALETTE.neutral for hit in inside],
            "line": {"width": 0},
        },
        customdata=rows_of(bounds[:-1], bounds[1:]),
        hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}: <b>%{y:,}</b> samples<extra></extra>",
    )
    figure.update_xaxes(visible=False, range=[float(bounds[0]), float(bounds[-1])])
    figure.update_yaxes(visible=False)
    return figure
