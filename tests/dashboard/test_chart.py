"""What a chart sends to the browser, and what it takes back from there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import streamlit as st

from dashboard.components.chart import picked, sent
from dashboard.confusions import confusion_view
from dashboard.figures import (
    DARK,
    LIGHT,
    Side,
    confusion_figure,
    distribution_figure,
    mass_figure,
    reliability_figure,
)
from tests.seeding import rng

HOSTILE = '<img src=x onerror="alert(1)">\u202e'


def test_a_matrix_has_the_colour_of_each_share() -> None:
    counts = rng.integers(1, 50, (3, 3))
    label, pred = np.divmod(np.arange(9), 3)
    view = confusion_view(label, pred, counts.ravel(), ["a", "b", "c"], 10)
    figure = confusion_figure(view, LIGHT)
    drawn = sent(figure)
    right, wrong, cells = drawn["traces"][:3]
    assert len(right["colours"]) == 3
    assert len(wrong["colours"]) == 6
    assert [(x, y) for x, y in zip(right["x"], right["y"], strict=True)] == [(i, i) for i in range(3)]
    shares = counts / counts.sum(axis=1, keepdims=True)
    order = [shares[y, x] for x, y in zip(wrong["x"], wrong["y"], strict=True)]
    blue = [int(colour[5:7], 16) for colour in wrong["colours"]]
    assert np.all(np.diff(np.array(blue)[np.argsort(order)]) <= 1)  # the more, the further from the paper
    assert cells["custom"] == [
        [view.classes[y], view.classes[x]] for x, y in zip(cells["x"], cells["y"], strict=True)
    ]
    json.dumps(drawn, allow_nan=False)


def test_hovering_says_what_plotly_would() -> None:
    drawn = sent(
        distribution_figure([0, 0.5, 1], [Side("right", [1_200, 300], 0.4, "#123456")], "Mass", DARK)
    )
    assert drawn["traces"][0]["tips"] == [
        "0 to 0.5<br><b>1,200</b> right (80.0% of them)",
        "0.5 to 1<br><b>300</b> right (20.0% of them)",
    ]
    assert drawn["layout"]["dragmode"] == "select"
    bars = sent(mass_figure([0, 0.25, 0.5], [7, 1_234], 0.3, True, LIGHT))["traces"][0]
    assert bars["tips"][1] == "25% to 50%<br><b>1,234</b> samples"


def test_what_is_not_finite_is_left_out_of_the_json() -> None:
    figure = reliability_figure([0, 0.5], [0.5, 1], [0, 8], [np.nan, 0.7], [0, 5], LIGHT)
    json.dumps(sent(figure), allow_nan=False)


def test_names_reach_the_browser_escaped() -> None:
    view = confusion_view([0, 1], [1, 1], [3, 4], [HOSTILE, "b"], 10)
    told = json.dumps(sent(confusion_figure(view, LIGHT)))
    assert "<img" not in told
    assert "&lt;img" in told


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"custom": [1, 0]}, {"points": [{"customdata": [1, 0]}]}),
        ({"range": [0.25, 0.5]}, {"box": [{"x": [0.25, 0.5]}]}),
        ({"range": [0.25]}, {}),
        ({"range": [float("nan"), 1]}, {}),
        ({"range": ["0", "1"]}, {}),
        ({"custom": "1; DROP TABLE samples"}, {}),
        ({"custom": [{"label": 0}]}, {}),
        ("anything", {}),
        (None, {}),
    ],
)
def test_only_numbers_are_taken_from_the_browser(
    monkeypatch: pytest.MonkeyPatch, said: object, kept: dict[str, object]
) -> None:
    monkeypatch.setattr(st, "session_state", {"figure": {"picked": said}})
    assert picked("figure") == {"selection": kept}
