from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf, Range
from cache.run import Run
from cache.schema import Field
from dashboard.drilldown import (
    cell_of,
    class_filter,
    class_value,
    dragged_range,
    pair_filter,
    points_of,
    range_filter,
)
from dashboard.intervals import wilson
from dashboard.outcomes import separation, separations
from tests.dashboard.conftest import OpenPage, texts
from tests.seeding import rng
from tests.synthetic import make_run

FIELD = Field("border_mass", "Border mass", "share", 0, 1, "higher", "Mass in the outer eighth.")
CLASSES = ["wolf", "crane", "fox", "crane"]


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def metrics(app: Any) -> dict[str, tuple[str, str]]:
    return {element.label: (element.value, element.delta) for element in app.metric}


def test_the_headline_counts_what_the_filter_holds(open_page: OpenPage, catalog: Catalog) -> None:
    chosen = Filter((OneOf("pred", ("wolf",)),))
    for filter_ in (Filter(), chosen):
        app = open_page("overview", filter=filter_.to_param())
        assert not app.exception
        counts = queries.count(catalog, filter_)
        accuracy = wilson(counts.right, counts.labelled)
        shown = metrics(app)
        assert shown["Samples"][0] == f"{counts.n:,}"
        assert shown["Accuracy"] == (
            f"{float(accuracy.estimate):.1%}",
            f"{float(accuracy.low):.1%} to {float(accuracy.high):.1%}",
        )
        assert shown["Wrong"][0] == f"{counts.wrong:,}"
        assert shown["Failures"][0] == "3"
        assert shown["Degenerate maps"][0] == f"{counts.degenerate:,}"


def test_the_filter_is_a_sentence_that_can_be_cleared(open_page: OpenPage, catalog: Catalog) -> None:
    chosen = Filter((OneOf("pred", ("wolf",)), Is("correct", False)))
    app = open_page("overview", filter=chosen.to_param())
    assert chosen.sentence(catalog.manifest) in texts(app)
    app.button(key="overview_clear").click().run()
    assert "filter" not in app.query_params
    assert metrics(app)["Samples"][0] == "150"
    assert not app.exception


def test_the_class_table_lists_the_worst_first(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("overview")
    table = next(frame.value for frame in app.dataframe if "recall" in frame.value)
    expected = queries.per_class(catalog, Filter()).to_pandas().set_index("name")
    assert table["recall"].is_monotonic_increasing
    for row in table.to_dict("records"):
        assert row["recall"] / 100 == pytest.approx(expected.loc[row["name"], "recall"])  # shown in percent
        assert row["wrong"] == row["n"] - round(row["n"] * row["recall"] / 100)


def test_without_labels_the_page_says_why_and_shows_the_rest(open_page: OpenPage) -> None:
    app = open_page("overview", run="unlabelled")
    assert not app.exception
    assert any("has a label" in element.value for element in app.info)
    assert metrics(app)["Accuracy"] == ("–", "no labels")
    assert "shows only against labels" in texts(app)
    table = next(frame.value for frame in app.dataframe if "predicted" in frame.value)
    assert list(table.columns) == ["name", "predicted", "mean_confidence"]
    assert table["predicted"].sum() == 40


def test_an_empty_selection_says_what_to_drop(open_page: OpenPage) -> None:
    app = open_page("overview", filter=Filter((Range("confidence", 0.99999999),)).to_param())
    assert not app.exception
    assert "No image meets all of this" in texts(app)
    assert metrics(app)["Samples"][0] == "0"


def test_failures_are_listed_with_their_kinds(open_page: OpenPage) -> None:
    app = open_page("overview")
    failures = next(frame.value for frame in app.dataframe if "message" in frame.value)
    assert len(failures) == 3
    assert "3 images of the run could not be explained" in texts(app)
    assert not failures["uri"].str.startswith("/").any()


def test_many_classes_are_cut_to_the_most_confused(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "many", samples=400, classes=[f"c{i}" for i in range(60)], methods=("gradcam",))
    app = open_page("overview", folder=tmp_path, run="many", matrix="10")
    assert not app.exception
    assert "The 10 classes of the most frequent confusions" in texts(app)
    app.segmented_control(key="overview_matrix").set_value(50).run()
    assert "The 50 classes" in texts(app)


def test_a_run_without_maps_still_has_an_overview(open_page: OpenPage, tmp_path: Path) -> None:
    make_run(tmp_path / "two", samples=30, classes=("a", "b <b>"), failures=0)
    assert not open_page(
        "overview", folder=tmp_path, run="two", method="nonsense", statistic="nonsense"
    ).exception


@pytest.mark.parametrize("values", ["continuous", "tied"])
def test_the_effect_is_the_mann_whitney_area(values: str) -> None:
    right, wrong = rng.normal(0, 1, 211), rng.normal(1.6, 1.3, 64)
    if values == "tied":
        right, wrong = np.round(right), np.round(wrong)
    found = separation(FIELD, np.append(right, np.nan), wrong, 20)
    expected = stats.mannwhitneyu(wrong, right).statistic / (right.size * wrong.size)
    assert found.auc == pytest.approx(expected)
    assert (found.right, found.wrong) == (211, 64)
    assert found.median_wrong == pytest.approx(np.median(wrong))
    assert found.certain
    assert found.words.endswith("higher")
    assert separation(FIELD, wrong, right).words.endswith("lower")


def test_chance_is_not_called_a_difference() -> None:
    rng = np.random.default_rng(3)
    told = [separation(FIELD, rng.normal(size=150), rng.normal(size=40), 20).words for _ in range(60)]
    assert told.count("unclear") >= 58
    assert separation(FIELD, np.array([]), np.ones(3)).words == "cannot be compared"


def test_separations_rank_the_story_of_the_run(catalog: Catalog) -> None:
    found = separations(catalog, Filter(), "gradcam", "pred")
    effects = [abs(entry.rank_biserial) for entry in found]
    assert effects == sorted(effects, reverse=True)
    assert {entry.field.name for entry in found} == {field.name for field in catalog.method_fields()}
    border = next(entry for entry in found if entry.field.name == "border_mass")
    assert border.words.endswith("higher")
    outcome = queries.statistic_by_outcome(catalog, Filter(), "border_mass", "gradcam", "pred")
    assert (border.median_right, border.median_wrong) == (outcome.right_median, outcome.wrong_median)


def test_clicks_become_filters() -> None:
    base = Filter((Range("confidence", 0.5), Is("correct", False)))
    assert class_value(CLASSES, 0) == "wolf"
    assert class_value(CLASSES, 3) == 3
    assert pair_filter(base, CLASSES, 0, 3) == Filter(
        (Range("confidence", 0.5), OneOf("label", ("wolf",)), OneOf("pred", (3,)))
    )
    row = {"class": 1, "n": 4, "most_confused_with": 2}
    plain = Filter()
    assert class_filter(plain, CLASSES, row, "recall") == Filter((OneOf("label", (1,)),))
    assert class_filter(plain, CLASSES, row, "precision") == Filter((OneOf("pred", (1,)),))
    assert class_filter(plain, CLASSES, row, "wrong") == Filter((OneOf("label", (1,)), Is("correct", False)))
    assert class_filter(plain, CLASSES, row, "most_confused_with") == pair_filter(plain, CLASSES, 1, 2)
    assert class_filter(plain, CLASSES, row | {"n": 0}, "name") == Filter((OneOf("pred", (1,)),))
    assert range_filter(plain, "area50", 0.1, 0.2, "gradcam", "true").conditions == (
        Range("area50", 0.1, 0.2, "gradcam", "true"),
    )


def test_selections_are_read_and_nonsense_is_none() -> None:
    assert points_of({"selection": {"points": [{"x": 1}], "box": []}}) == [{"x": 1}]
    assert dragged_range({"selection": {"box": [{"x": [0.7, 0.2], "y": [0, 1]}]}}) == (0.2, 0.7)
    assert cell_of({"selection": {"rows": [], "cells": [(3, "recall")]}}) == (3, "recall")
    for nothing in (None, {}, {"selection": {}}, {"selection": {"box": [{"x": [1, 1]}]}}):
        assert points_of(nothing) == []
        assert dragged_range(nothing) is None
        assert cell_of(nothing) is None


def test_commands_of_the_summary_are_set_as_code(open_page: OpenPage) -> None:
    app = open_page("overview")
    (summary,) = (
        html.proto.body
        for html in app.get("html")
        if "gl-summary" in html.proto.body and "<style>" not in html.proto.body
    )
    assert "with <code>discover</code>, and prove them with <code>verify</code>." in summary
    assert "`" not in summary
