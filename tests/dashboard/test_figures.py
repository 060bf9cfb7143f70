import json

import numpy as np
import pytest

from dashboard.confusions import confusion_view, most_confused
from dashboard.figures import (
    DARK,
    LIGHT,
    ClassRates,
    Side,
    class_rates_figure,
    confusion_figure,
    distribution_figure,
    look_of,
    mass_figure,
    reliability_figure,
)
from tests.seeding import rng


def random_confusions(classes: int, samples: int = 5_000):
    label = rng.integers(0, classes, samples)
    pred = np.where(rng.random(samples) < 0.7, label, rng.integers(0, classes, samples))
    pairs, n = np.unique(np.stack([label, pred]), axis=1, return_counts=True)
    return label, pred, pairs[0], pairs[1], n


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_a_whole_matrix_counts_every_sample(classes):
    label, pred, pair_label, pair_pred, n = random_confusions(classes)
    view = confusion_view(pair_label, pair_pred, n, [f"c{i}" for i in range(classes)], 40)
    expected = np.zeros((classes, classes), int)
    for t, p in zip(label, pred, strict=True):
        expected[t, p] += 1
    assert view.classes == list(range(classes))
    np.testing.assert_array_equal(view.counts, expected)
    assert view.row_totals == expected.sum(axis=1).tolist()
    assert view.errors == view.errors_shown == int((label != pred).sum())


def test_a_thousand_classes_show_the_worst_pairs_and_say_what_is_left_out():
    *_, pair_label, pair_pred, n = random_confusions(1000, 20_000)
    n[(pair_label != pair_pred)] = 1
    pair_label = np.append(pair_label, [700, 3])
    pair_pred = np.append(pair_pred, [41, 900])
    n = np.append(n, [60, 50])
    view = confusion_view(pair_label, pair_pred, n, ["same"] * 1000, 20)
    assert len(view.classes) == len(view.names) == 20
    assert view.classes[:4] == [41, 700, 3, 900]
    assert view.names[0] == "same (41)"
    assert view.counts[1, 0] >= 60
    assert view.row_totals[1] == int(n[pair_label == 700].sum())
    assert view.errors == int(n[pair_label != pair_pred].sum()) > view.errors_shown > 0
    assert view.classes_met > 900


def test_without_errors_the_largest_classes_are_shown():
    assert most_confused([0, 1, 2, 3], [0, 1, 2, 3], [5, 9, 1, 7], 2) == [1, 3]


def test_every_cell_of_the_matrix_can_be_hit_and_names_its_classes():
    *_, pair_label, pair_pred, n = random_confusions(6)
    view = confusion_view(pair_label, pair_pred, n, [f"<b>{i}</b> & co" for i in range(6)], 4)
    figure = confusion_figure(view, LIGHT)
    cells = next(trace for trace in figure.data if trace.name == "cells")
    assert len(cells.x) == 16
    for x, y, (label, pred) in zip(cells.x, cells.y, cells.customdata, strict=True):
        assert (view.classes[int(y)], view.classes[int(x)]) == (label, pred)
    assert cells.marker.opacity == cells.unselected.marker.opacity == 0
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;" + view.names[0][3] + "&lt;/b&gt; &amp; co"
    assert "<b>0</b>" not in " ".join(cells.hovertext)
    shares = np.nansum([trace.z for trace in figure.data if trace.type == "heatmap"], axis=0)
    np.testing.assert_allclose(shares, view.counts / np.array(view.row_totals)[:, None])


def test_reliability_leaves_empty_bins_out_and_carries_their_edges():
    figure = reliability_figure(
        [0, 0.5, 0.75], [0.5, 0.75, 1], [0, 8, 40], [np.nan, 0.6, 0.9], [0, 4, 39], DARK
    )
    accuracy = next(trace for trace in figure.data if trace.name == "accuracy")
    np.testing.assert_allclose(accuracy.y, [0.5, 39 / 40])
    np.testing.assert_allclose(accuracy.customdata, [[0.5, 0.75], [0.75, 1]])
    counts = next(trace for trace in figure.data if trace.name == "count")
    assert list(counts.y) == [8, 40]


def test_outcomes_are_shares_of_their_own_side():
    sides = [Side("right", [30, 10], 0.4, "#123456"), Side("wrong", [1, 3], None, "#654321")]
    figure = distribution_figure([0, 1, 2], sides, "Border mass", LIGHT)
    right, wrong = (next(t for t in figure.data if t.name == name) for name in ("right", "wrong"))
    np.testing.assert_allclose(right.y, [0.75, 0.25])
    np.testing.assert_allclose(wrong.y, [0.25, 0.75])
    assert len(figure.layout.shapes) == 1


@pytest.mark.parametrize(
    ("at_least", "asked"), [(True, [False, False, True, True]), (False, [True, True, False, False])]
)
def test_the_mass_asked_for_is_in_colour(at_least, asked):
    figure = mass_figure([0, 0.1, 0.2, 0.3, 0.4], [9, 4, 2, 1], 0.2, at_least, LIGHT)
    colours = figure.data[0].marker.color
    assert [colour == colours[asked.index(True)] for colour in colours] == asked


def test_class_rates_are_wilson_centred_on_the_counted_rate():
    rates = ClassRates(["a", "b"], *(np.array(v) for v in ([10, 0], [5, 0], [40, 20], [4, 2])))
    figure = class_rates_figure(rates, DARK)
    inside, outside = figure.data
    assert inside.x[0] == 0.5
    assert np.isnan(inside.x[1])
    np.testing.assert_allclose(outside.x, [0.1, 0.1])


def test_figures_become_json_and_follow_the_theme():
    assert look_of("dark") is DARK
    assert look_of(None) is look_of("light") is LIGHT
    *_, pair_label, pair_pred, n = random_confusions(3)
    view = confusion_view(pair_label, pair_pred, n, ["a", "b", "c"], 10)
    assert json.loads(confusion_figure(view, DARK).to_json())["layout"]["font"]["color"] == DARK.text
