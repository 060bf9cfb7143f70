"""The agreement between methods as a figure and in words: plain functions, free of Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from cache.agreement import AgreementMatrix
from dashboard.figures import DARK, LIGHT, Look, blank_figure, label_text

SAME = "≡"
"""What marks methods that are the same evidence."""
ENDS = {LIGHT: ("#8c510a", "#01796f", "#ffffff"), DARK: ("#dba656", "#52c7b8", "#0d1217")}
"""Where methods disagree and where they agree (after ColorBrewer's BrBG, Brewer 2002; safe for the colour-blind), with
the ink on either, by theme."""
LABELS = 176
"""Pixels for the methods' names."""


def arranged(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return methods with those that are the same evidence next to one another."""
    return [method for group in groups for method in group]


def marks(groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the mark of each method that is the same evidence as another; numbered where there are several such sets."""
    alike = [group for group in groups if len(group) > 1]
    return {
        method: SAME + (str(number).translate(_RAISED) if len(alike) > 1 else "")
        for number, group in enumerate(alike, 1)
        for method in group
    }


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def same_words(groups: Sequence[Sequence[str]], titles: Mapping[str, str]) -> str:
    """Say which methods are the same evidence; empty where none are."""
    marked = marks(groups)
    told = []
    for group in groups:
        if len(group) > 1:
            names = [titles[method] for method in group]
            told.append(f"{marked[group[0]]} {', '.join(names[:-1])} and {names[-1]}")
    if not told:
        return ""
    return f"{'; '.join(told)} coincide up to scale on this network: the same evidence, counted once in every average."


def agreement_figure(
    matrix: AgreementMatrix,
    titles: Mapping[str, str],
    families: Mapping[str, str],
    groups: Sequence[Sequence[str]],
    look: Look,
) -> go.Figure:
    """Draw the matrix with its numbers.

    Args:
        matrix: The mean rank correlations.
        titles: What each method is called.
        families: Family of each method; a line parts neighbours of different families.
        groups: The methods that are the same evidence.
        look: Colours.
    """
    n = len(matrix.methods)
    cell = 66 if n <= 6 else 46 if n <= 12 else 33
    slanted = n > 4
    beside = 70 if slanted else 28  # slanted names reach beyond the last column
    figure = blank_figure(
        look, int(LABELS * 0.75) + 28 + int(cell * 0.8) * n, width=LABELS + beside + cell * n
    )
    marked, alike = marks(groups), {method: group for group in groups for method in group}
    disagree, agree, ink = ENDS[look]
    names = [label_text(titles[m], 24) + (f" {marked[m]}" if m in marked else "") for m in matrix.methods]
    shown = np.where(np.eye(n, dtype=bool), np.nan, matrix.mean)
    text, hover = [], []
    for i, first in enumerate(matrix.methods):
        text.append([""] * n)
        hover.append([""] * n)
        for j, second in enumerate(matrix.methods):
            value, same = matrix.mean[i, j], i != j and second in alike.get(first, ())
            told = f"{value:+.3f}" if np.isfinite(value) else "no maps to compare"
            if i != j:
                text[i][j] = SAME if same else _short(value)
            hover[i][j] = f"{names[i]}<br>{names[j]}<br><b>{told}</b> over {matrix.pairs[i, j]:,} samples" + (
                "<br>the same evidence on this network" if same else ""
            )
    figure.add_heatmap(
        z=shown,
        x=list(range(n)),
        y=list(range(n)),
        zmin=-1,
        zmax=1,
        colorscale=[[0, disagree], [0.5, look.paper], [1, agree]],
        xgap=1,
        ygap=1,
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        colorbar={
            "orientation": "h", "thickness": 8, "len": 0.4, "x": 1, "xanchor": "right", "y": 0, "yanchor": "top",
            "ypad": 8, "tickvals": [-1, 0, 1], "ticktext": ["−1", "0", "1"],
            "outlinewidth": 0, "tickfont": {"size": 11},
        },
    )  # fmt: skip
    rows, columns = np.divmod(np.arange(n * n), n)
    strong = np.abs(np.nan_to_num(shown)).ravel() > 0.75
    figure.add_scatter(
        x=columns,
        y=rows,
        mode="text",
        text=[text[r][c] for r, c in zip(rows, columns, strict=True)],
        textfont={"size": 12 if n <= 12 else 11, "color": [ink if s else look.text for s in strong]},
        hoverinfo="skip",
    )
    for at in range(1, n):
        if families.get(matrix.methods[at]) != families.get(matrix.methods[at - 1]):
            for axis in ("x", "y"):
                other = "y" if axis == "x" else "x"
                ends = {f"{axis}0": at - 0.5, f"{axis}1": at - 0.5, f"{other}0": -0.5, f"{other}1": n - 0.5}
                figure.add_shape(type="line", line={"color": look.text, "width": 1.2}, **ends)
    ticks = {
        "tickvals": list(range(n)),
        "ticktext": names,
        "showgrid": False,
        "showline": False,
        "ticks": "",
        "tickfont": {"size": 12},
    }
    figure.update_xaxes(range=[-0.5, n - 0.5], side="top", tickangle=-45 if slanted else 0, **ticks)
    figure.update_yaxes(range=[n - 0.5, -0.5], **ticks)
    figure.update_layout(margin={"r": beside})
    return figure


def _short(value: float) -> str:
    """Write a correlation as short as it can be told: .87, −.04, 1."""
    if not np.isfinite(value):
        return "–"
    digits = f"{abs(value):.2f}"
    sign = "−" if value < 0 and float(digits) else ""
    return sign + ("1" if digits == "1.00" else digits[1:] if float(digits) else "0")
