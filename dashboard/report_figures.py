"""The figures of a report: small SVG drawings that follow the reader's theme and need nothing from anywhere.

Colours are classes of the report's style sheet. Every text is escaped: class names may hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cache.findings import Finding, Rate
from cache.intervals import wilson
from dashboard.confusions import ConfusionView

LARGEST_CELL, SMALLEST_CELL = 64, 24
MATRIX = 360
"""Side that a matrix takes where its cells may be as large or small as that needs."""
LETTER = 6.6
"""Width of a letter of the labels, about."""
LONGEST_LABEL = 18
WIDTH = 600
LEFT, RIGHT = 150, 74
ROW = 46


def svg(width: float, height: float, content: Sequence[Markup], alt: str, kind: str) -> Markup:
    """Return a drawing that shrinks with the page, with words for those who do not see it."""
    return Markup(
        '<svg class="figure {}" viewBox="0 0 {:g} {:g}" style="max-width:{:g}px" role="img" aria-label="{}">{}</svg>'
    ).format(kind, width, height, width, alt, Markup("").join(content))


def _text(x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
        x, y, kind, anchor, str(words)
    )


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(
        x0, y0, x1, y1, kind
    )


def _box(x: float, y: float, width: float, height: float, kind: str, opacity: float = 1.0) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" fill-opacity="{:.2f}"/>'
    ).format(x, y, max(width, 0.0), max(height, 0.0), kind, opacity)


def _cut(name: str, longest: int = LONGEST_LABEL) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def confusion_svg(view: ConfusionView) -> Markup:
    """Draw a confusion matrix: each row shaded by its shares, blue where right and orange where wrong."""
    n = len(view.classes)
    cell = min(max(MATRIX / max(n, 1), SMALLEST_CELL), LARGEST_CELL)
    names = [_cut(name) for name in view.names]
    margin = 34 + LETTER * max((len(name) for name in names), default=0)
    slanted = n > 4 or any(len(name) * LETTER > cell for name in names)
    top = 22 + (0.72 * margin if slanted else 18)
    share = view.counts / np.maximum(np.asarray(view.row_totals, np.float64), 1)[:, None]
    diagonal = np.eye(n, dtype=bool)
    most = max(float(share[~diagonal].max()) if n > 1 else 0.0, 1e-3)
    parts = [_text(margin + n * cell / 2, 12, "predicted", "axis", "middle")]
    for at, name in enumerate(names):
        middle = margin + (at + 0.5) * cell
        if slanted:
            turned = Markup('<g transform="translate({:.1f} {:.1f}) rotate(-40)">{}</g>')
            parts.append(turned.format(middle, top - 6, _text(0, 0, name, "label")))
        else:
            parts.append(_text(middle, top - 8, name, "label", "middle"))
        parts.append(_text(margin - 8, top + (at + 0.5) * cell + 4, name, "label", "end"))
    for row in range(n):
        for column in range(n):
            count, right = int(view.counts[row, column]), row == column
            strength = share[row, column] if right else share[row, column] / most
            x, y = margin + column * cell, top + row * cell
            told = Markup("<title>{}</title>").format(
                f"{count:,} of {view.row_totals[row]:,} {view.names[row]} called {view.names[column]}"
            )
            kind = ("right" if right else "wrong") if count else "empty"
            opacity = 0.12 + 0.88 * float(strength) if count else 1.0
            parts.append(
                Markup("<g>{}{}</g>").format(
                    told, _box(x + 0.75, y + 0.75, cell - 1.5, cell - 1.5, kind, opacity)
                )
            )
            if count and n <= 24:
                ink = "number strong" if opacity > 0.55 else "number"
                parts.append(
                    _text(
                        x + cell / 2,
                        y + cell / 2 + 4,
                        _short(count) if n > 12 else f"{count:,}",
                        ink,
                        "middle",
                    )
                )
    parts.append(
        Markup('<g transform="translate(9 {:.1f}) rotate(-90)">{}</g>').format(
            top + n * cell / 2, _text(0, 0, "true", "axis", "middle")
        )
    )
    right_edge = margin + n * cell + (0.6 * margin if slanted else 4)
    alt = f"Confusion matrix of {n} classes: true classes down, predicted classes across"
    return svg(right_edge, top + n * cell + 4, parts, alt, "confusion")


def _short(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 1000 else str(count)


def reliability_svg(
    low: NDArray[np.float64], high: NDArray[np.float64], n: NDArray[np.int64],
    confidence: NDArray[np.float64], right: NDArray[np.float64],
) -> Markup:  # fmt: skip
    """Draw accuracy with its 95 % interval against confidence, and how many predictions each bin holds.

    Args:
        low: Lower edge of each bin of confidence, (B,).
        high: Upper edge.
        n: Labelled predictions in it.
        confidence: Their mean confidence, NaN where a bin is empty.
        right: How many of them are right.
    """
    left, top, side, bars = 46.0, 10.0, 300.0, 54.0
    base = top + 210.0
    accuracy = wilson(right, n)

    def across(value: float) -> float:
        return left + side * value

    def up(value: float) -> float:
        return base - (base - top) * value

    parts: list[Markup] = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line(left, up(tick), left + side, up(tick), "grid"))
        parts.append(_text(left - 6, up(tick) + 4, f"{tick:.0%}", "tick", "end"))
        parts.append(_text(across(tick), base + bars + 36, f"{tick:.0%}", "tick", "middle"))
    parts.append(_line(across(0), up(0), across(1), up(1), "ideal"))
    most = max(int(n.max(initial=0)), 1)
    for at in np.flatnonzero(n > 0).tolist():
        x0, x1 = across(float(low[at])) + 1, across(float(high[at])) - 1
        middle = (x0 + x1) / 2
        words = f"confidence {low[at]:.0%} to {high[at]:.0%}: {n[at]:,} predictions, {accuracy.estimate[at]:.1%} right"
        value = float(accuracy.estimate[at])
        parts += [
            Markup("<g><title>{}</title>{}</g>").format(
                words, _box(x0, up(value), x1 - x0, base - up(value), "right", 0.75)
            ),
            _line(middle, up(float(accuracy.low[at])), middle, up(float(accuracy.high[at])), "whisker"),
            _diamond(across(float(confidence[at])), up(float(confidence[at]))),
            _box(x0, base + bars + 20 - bars * n[at] / most, x1 - x0, bars * n[at] / most, "neutral"),
        ]
    parts += [
        _line(left, base + bars + 20, left + side, base + bars + 20, "grid"),
        _text(left - 6, base + 30, f"{most:,}", "tick", "end"),
        _text(left + side / 2, base + bars + 54, "confidence", "axis", "middle"),
        Markup('<g transform="translate(9 {:.1f}) rotate(-90)">{}</g>').format(
            (top + base) / 2, _text(0, 0, "accuracy", "axis", "middle")
        ),
    ]
    return svg(
        left + side + 10,
        base + bars + 62,
        parts,
        "Accuracy against confidence in bins, with 95 % intervals",
        "reliability",
    )


def _diamond(x: float, y: float) -> Markup:
    return Markup('<path d="M{:.1f} {:.1f}l4.5 4.5 -4.5 4.5 -4.5 -4.5z" class="wrong"/>').format(x, y - 4.5)


@dataclass(frozen=True)
class Dot:
    """A rate on a line of `evidence_svg`: how large, whose, and in which style."""

    value: float
    kind: str
    title: str


def evidence_svg(finding: Finding, name: str) -> Markup:
    """Draw what is known of a finding: the difference in error rate, and each causal test against its controls.

    Args:
        finding: What was measured.
        name: Of the class that it leads to.
    """
    rows: list[Markup] = []
    spoken: list[str] = []
    y = 18.0
    if finding.effect is not None:
        rows += _effect(finding.effect, finding.ci, y)
        spoken.append(f"error rate {finding.effect:+.0%} where it is there")
        y += ROW
    tests = (
        ("Changed it" if finding.property else "Covered it", "left the class", finding.deletion),
        ("Pasted it", f"became {_cut(name)}", finding.transplant),
        ("Imposed it", f"became {_cut(name)}", finding.imposed),
    )
    for title, outcome, test in tests:
        if test is not None and test.rate is not None:
            rows += _test(title, outcome, test, y)
            spoken.append(f"{title.lower()} in {test.n} images: {test.rate:.0%} {outcome}")
            y += ROW
    if not rows:
        return Markup("")
    return svg(WIDTH, y - 8, rows, "; ".join(spoken), "evidence")


def _effect(effect: float, ci: tuple[float, float] | None, y: float) -> list[Markup]:
    span = WIDTH - LEFT - RIGHT

    def across(value: float) -> float:
        return LEFT + span * (min(max(value, -1.0), 1.0) + 1) / 2

    drawn = [
        _text(0, y + 1, "More errors with it", "name"),
        _text(0, y + 16, "held-back half", "tick"),
        _line(LEFT, y, LEFT + span, y, "track"),
        _line(across(0), y - 9, across(0), y + 9, "zero"),
        _text(across(0), y + 23, "no difference", "tick", "middle"),
    ]
    if ci is not None:
        drawn.append(_line(across(ci[0]), y, across(ci[1]), y, "span"))
        drawn.append(_text(LEFT, y + 23, f"95 %: {100 * ci[0]:+.0f} to {100 * ci[1]:+.0f}", "tick"))
    told = Markup("<title>{}</title>").format(f"{100 * effect:+.1f} points")
    drawn.append(
        Markup('<g>{}<circle cx="{:.1f}" cy="{:.1f}" r="6" class="wrong"/></g>').format(
            told, across(effect), y
        )
    )
    drawn.append(_text(WIDTH, y + 4, f"{100 * effect:+.0f} pts", "value", "end"))
    return drawn


def _test(title: str, outcome: str, test: Rate, y: float) -> list[Markup]:
    span = WIDTH - LEFT - RIGHT

    def across(value: float) -> float:
        return LEFT + span * min(max(value, 0.0), 1.0)

    rate = test.rate or 0.0
    dots = [Dot(test.control_rate, "control", "controls")] if test.control_rate is not None else []
    if test.class_rate is not None:
        dots.append(Dot(test.class_rate, "rest", "rest of the class"))
    drawn = [
        _text(0, y + 1, title, "name"),
        _text(0, y + 16, outcome, "tick"),
        _line(LEFT, y, LEFT + span, y, "track"),
    ]
    if dots:
        drawn.append(_line(across(dots[0].value), y, across(rate), y, "span"))
    for dot in (*dots, Dot(rate, "wrong", "with it")):
        drawn.append(
            Markup('<g><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="6" class="{}"/></g>').format(
                f"{dot.title}: {dot.value:.0%}", across(dot.value), y, dot.kind
            )
        )
    words = [f"controls {test.control_rate:.0%}"] if test.control_rate is not None else []
    if test.class_rate is not None:
        words.append(f"rest of the class {test.class_rate:.0%}")
    if test.low is not None and test.high is not None:
        words.append(f"difference 95 %: {100 * test.low:+.0f} to {100 * test.high:+.0f}")
    drawn.append(_text(LEFT, y + 23, " · ".join([*words, f"n = {test.n:,}"]), "tick"))
    drawn.append(_text(WIDTH, y + 4, f"{rate:.0%}", "value", "end"))
    return drawn
