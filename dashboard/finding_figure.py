"""The causal tests of a finding as a figure: how often predictions changed, and by how much more than the controls."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from cache.findings import REFUTED, RELIED_ON, Finding, Rate
from dashboard.figures import Look, blank_figure, label_text
from dashboard.intervals import wilson
from dashboard.rendering import PALETTE

ROW = 88
SHIFT = 0.24


@dataclass(frozen=True)
class Trial:
    """A test as the figure shows it: what was done, what is counted, and what came of it."""

    title: str
    counts: str
    rate: Rate


def trials(finding: Finding, name: str) -> list[Trial]:
    """Return the tests of a finding that were made on any image.

    Args:
        finding: The finding.
        name: What its class is called.
    """
    whole = finding.property is not None
    made = (
        ("Changed" if whole else "Covered", f"no longer {name}", finding.deletion),
        ("Pasted elsewhere", f"becomes {name}", finding.transplant),
        ("Imposed elsewhere", f"becomes {name}", finding.imposed),
    )
    return [
        Trial(title, counts, rate)
        for title, counts, rate in made
        if rate is not None and rate.n and rate.rate is not None
    ]


def trials_figure(shown: list[Trial], name: str, look: Look) -> go.Figure:
    """Draw each test as a row: on the left the rates with Wilson's intervals, on the right the paired differences.

    Args:
        shown: The tests, at least one.
        name: What the class is called.
        look: Colours.
    """
    figure = blank_figure(look, 86 + ROW * len(shown))
    rest = f"rest of {label_text(name, 14)}"
    kinds = (
        ("this finding", PALETTE.wrong, "circle", -SHIFT),
        ("control", PALETTE.neutral, "diamond", 0.0),
        (rest, PALETTE.right, "square", SHIFT),
    )
    for (kind, colour, symbol, shift), member in zip(
        kinds, ("rate", "control_rate", "class_rate"), strict=True
    ):
        rows = [
            (at, t, getattr(t.rate, member))
            for at, t in enumerate(shown)
            if getattr(t.rate, member) is not None
        ]
        if rows:
            _rates(figure, kind, colour, symbol, [(at + shift, t, value) for at, t, value in rows])
    sides = (
        ("beyond the control", PALETTE.neutral, "diamond-open", -SHIFT / 2, "control_rate", "low", "high"),
        (f"beyond the {rest}", PALETTE.right, "square-open", SHIFT / 2, "class_rate", "class_low", "class_high"),
    )  # fmt: skip
    for kind, colour, symbol, shift, other, low, high in sides:
        _differences(figure, kind, colour, symbol, shift, shown, (other, low, high))
    for value, words in ((RELIED_ON, "relied on"), (REFUTED, "refuted")):
        figure.add_shape(
            type="line", x0=value, x1=value, xref="x2", y0=0, y1=1, yref="paper",
            line={"color": look.text, "width": 1, "dash": "dot"}, opacity=0.55,
        )  # fmt: skip
        above = value == RELIED_ON
        figure.add_annotation(
            x=value, xref="x2", y=1, yref="paper", yanchor="bottom", xanchor="left" if above else "right",
            text=f"{words} {'above' if above else 'below'} {value:.0%}",
            showarrow=False, font={"size": 11}, opacity=0.8, xshift=2 if above else -2,
        )  # fmt: skip
    ticks = [f"<b>{t.title}</b><br>{label_text(t.counts, 24)}<br>{t.rate.n:,} images" for t in shown]
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        margin={"t": 34},
        xaxis={
            "domain": [0, 0.55], "range": [-0.02, 1.02], "tickformat": ".0%", "title": {"text": "predictions that changed"},
        },
        xaxis2={
            "domain": [0.62, 1], "anchor": "y", "range": _span(shown), "tickformat": ".0%", "gridcolor": look.grid,
            "zeroline": True, "zerolinecolor": look.text, "zerolinewidth": 1, "title": {"text": "more than the controls, 95% interval", "standoff": 6},
            "automargin": True, "linecolor": look.grid,
        },
        yaxis={
            "tickvals": list(range(len(shown))), "ticktext": ticks, "range": [len(shown) - 0.5, -0.5], "showgrid": False,
        },
    )  # fmt: skip
    return figure


def _span(shown: list[Trial]) -> list[float]:
    lows = [v for t in shown for v in (t.rate.low, t.rate.class_low) if v is not None]
    return [min(-0.12, min(lows, default=0) - 0.05), 1.02]


def _rates(
    figure: go.Figure, kind: str, colour: str, symbol: str, rows: list[tuple[float, Trial, float]]
) -> None:
    n = [t.rate.n for _, t, _ in rows]
    values = [value for *_, value in rows]
    interval = wilson([round(v * m) for v, m in zip(values, n, strict=True)], n)
    figure.add_scatter(
        name=kind,
        x=values,
        y=[at for at, *_ in rows],
        mode="markers",
        marker={"color": colour, "size": 11, "symbol": symbol},
        error_x=_bars(colour, interval.low, interval.high, values),
        customdata=[[float(a), float(b)] for a, b in zip(interval.low, interval.high, strict=True)],
        hovertemplate=f"{kind}: <b>%{{x:.0%}}</b><br>95% interval %{{customdata[0]:.0%}} to %{{customdata[1]:.0%}}"
        "<extra></extra>",
    )


def _differences(
    figure: go.Figure,
    kind: str,
    colour: str,
    symbol: str,
    shift: float,
    shown: list[Trial],
    names: tuple[str, str, str],
) -> None:
    rows = []
    for at, trial in enumerate(shown):
        other, low, high = (getattr(trial.rate, name) for name in names)
        if other is not None and low is not None and high is not None:
            # Where not every image could be compared with the class, the interval's own middle is the better place.
            middle = min(max((trial.rate.rate or 0.0) - other, low), high)
            rows.append((at + shift, middle, low, high))
    if not rows:
        return
    values = [row[1] for row in rows]
    figure.add_scatter(
        name=kind,
        x=values,
        y=[row[0] for row in rows],
        xaxis="x2",
        mode="markers",
        showlegend=False,
        marker={"color": colour, "size": 11, "symbol": symbol, "line": {"width": 2}},
        error_x=_bars(colour, [row[2] for row in rows], [row[3] for row in rows], values),
        customdata=[[100 * v, 100 * row[2], 100 * row[3]] for v, row in zip(values, rows, strict=True)],
        hovertemplate=f"{kind}: <b>%{{customdata[0]:+.0f}} points</b><br>95% interval %{{customdata[1]:+.0f}} to "
        "%{customdata[2]:+.0f}<extra></extra>",
    )


def _bars(colour: str, low: object, high: object, values: list[float]) -> dict[str, object]:
    lows, highs = list(low), list(high)  # type: ignore[call-overload]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(float(b) - v, 0.0) for b, v in zip(highs, values, strict=True)],
        "arrayminus": [max(v - float(a), 0.0) for a, v in zip(lows, values, strict=True)],
        "color": colour,
        "thickness": 2,
        "width": 0,
    }
