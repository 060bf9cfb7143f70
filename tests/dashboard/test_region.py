from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import RegionError
from cache.filters import Filter, OneOf, Range, RegionMass
from cache.queries import Counts, RegionSplit
from cache.regions import PRESETS, Region
from cache.run import Run
from dashboard import attention
from dashboard.components.region_picker import cells_of, preset_title, region_from_shape, shape_of
from dashboard.intervals import newcombe, wilson
from dashboard.region_board import narrowed
from tests.dashboard.conftest import OpenPage, texts
from tests.seeding import rng

CORNER = PRESETS["bottom_left"]


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def region_param(region: Region) -> str:
    return attention.region_to_param(region)


@pytest.mark.parametrize(("operator", "share"), [("least", 30), ("most", 12.5)])
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_the_answer_counts_what_the_cache_counts(
    open_page: OpenPage, catalog: Catalog, operator: str, share: float, method: str
) -> None:
    app = open_page("region", region=region_param(CORNER), op=operator, share=str(share), method=method)
    assert not app.exception
    bound = share / 100
    condition = RegionMass(CORNER, *((bound, None) if operator == "least" else (None, bound)), method)
    split = queries.region_split(catalog, Filter(), condition)
    shown = texts(app)
    total = split.inside.n + split.outside.n
    assert f"**{split.inside.n:,}** of {total:,} samples" in shown
    assert f"at {operator} {share:g}%" in shown
    assert "in the lower left corner" in shown
    assert f"{split.degenerate} with a degenerate" in shown
    metrics = {element.label: element.value for element in app.metric}
    assert (
        metrics["Wrong there"] == f"{float(wilson(split.inside.wrong, split.inside.labelled).estimate):.1%}"
    )
    assert (
        metrics["Wrong in the rest"]
        == f"{float(wilson(split.outside.wrong, split.outside.labelled).estimate):.1%}"
    )


def test_widgets_write_the_link_and_the_link_sets_the_widgets(open_page: OpenPage) -> None:
    app = open_page("region", region=region_param(CORNER))
    app.number_input(key="region_share_number").set_value(45.0).run()
    assert app.query_params["share"] in ("45", ["45"])
    assert app.slider(key="region_share").value == 45.0
    app.segmented_control(key="region_op").set_value("most").run()
    app.segmented_control(key="region_target").set_value("true").run()
    app.segmented_control(key="region_by").set_value("label").run()
    assert not app.exception
    again = open_page("region", region=region_param(CORNER), op="most", share="45", target="true", by="label")
    assert again.slider(key="region_share").value == 45.0
    assert again.segmented_control(key="region_op").value == "most"
    assert again.segmented_control(key="region_target").value == "true"
    assert texts(again) == texts(app)


def test_before_a_region_is_drawn_the_presets_are_compared(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("region", target="pred")
    assert not app.exception
    assert "Draw a region" in texts(app)
    p = queries.mean_map(catalog, Filter(), "gradcam", "pred").p
    assert p is not None
    presets = attention.preset_masses(p)
    assert {name for name, _, _ in presets} == set(PRESETS)
    _, mass, area = next(entry for entry in presets if entry[0] == "top_half")
    assert mass == pytest.approx(p[:7].sum())
    assert area == 0.5
    table = app.dataframe[0].value
    assert list(table["Region"]) == [preset_title(name) for name, _, _ in presets]


@pytest.mark.parametrize(
    "text", ["{", "null", '{"box":[0,0,9,9]}', '{"preset":"moon"}', "[[[[", '{"box":[NaN,0,1,1]}']
)
def test_nonsense_in_the_link_is_a_sentence(open_page: OpenPage, text: str) -> None:
    app = open_page("region", region=text, share="many", op="around", by="moon")
    assert not app.exception
    assert len(app.warning) == 1
    assert "Draw a region" in texts(app)


def test_an_empty_selection_and_missing_maps_say_what_to_do(open_page: OpenPage) -> None:
    nobody = Filter((Range("confidence", 0.99999999),)).to_param()
    assert "No image meets all of this" in texts(open_page("region", filter=nobody))
    app = open_page("region", run="unlabelled", target="true", region=region_param(CORNER))
    assert not app.exception
    assert any("for its true class" in element.value for element in app.info)
    app = open_page("region", run="unlabelled", region=region_param(CORNER))
    assert "Without labels there are no errors to compare" in texts(app)
    assert "Error rates need labels" in texts(app)


def test_a_share_that_nobody_reaches_says_so(open_page: OpenPage) -> None:
    app = open_page("region", region=region_param(PRESETS["top_right"]), share="100")
    assert not app.exception
    assert any("No sample matches" in element.value for element in app.info)


@pytest.mark.parametrize(
    "region",
    [*PRESETS.values(), Region.box(0.1, 0.2, 0.35, 0.9), Region.polygon([(0, 0), (1, 0.2), (0.3, 0.8)])],
)
def test_regions_survive_the_picker_and_the_link(region: Region) -> None:
    assert region_from_shape(json.loads(json.dumps(shape_of(region)))) == region
    assert attention.region_from_param(attention.region_to_param(region)) == region


def test_the_cells_of_a_mask_cover_what_it_covers() -> None:
    bits = rng.random((9, 7)) < 0.5
    bits[4, 3] = True
    covered = np.zeros((9, 7))
    for x0, y0, x1, y1 in cells_of(Region.mask(bits)):
        covered[round(y0 * 9) : round(y1 * 9), round(x0 * 7) : round(x1 * 7)] += 1
    np.testing.assert_array_equal(covered, bits)
    assert cells_of(CORNER) == []


@pytest.mark.parametrize(
    "shape",
    [{}, [], {"kind": "box", "x0": "a", "y0": 0, "x1": 1, "y1": 1}, {"kind": "mask", "preset": "moon"}],
)
def test_what_the_browser_may_not_send_is_refused(shape: object) -> None:
    with pytest.raises(RegionError):
        region_from_shape(shape)


def test_the_difference_is_newcombes_in_words() -> None:
    split = RegionSplit(Counts(70, 70, 56), Counts(80, 80, 48), 0, 0)
    difference = newcombe(56, 70, 48, 80)
    words = attention.error_words(split)
    assert "**80%** of them are wrong, of the rest **60%**: **20.0 points more**" in words
    assert f"{100 * float(difference.low):.1f} to {100 * float(difference.high):.1f}" in words
    mirrored = attention.error_words(RegionSplit(split.outside, split.inside, 0, 0))
    assert "**20.0 points fewer** (95% interval 5.2 to 33.4)" in mirrored
    assert "no clear difference" in attention.error_words(RegionSplit(Counts(9, 9, 3), Counts(9, 9, 2), 0, 0))
    assert "no rest to compare" in attention.error_words(RegionSplit(Counts(9, 9, 3), Counts(0, 0, 0), 0, 0))
    assert "no error rate" in attention.error_words(RegionSplit(Counts(9, 0, 0), Counts(9, 9, 0), 0, 0))
    assert attention.left_out_words(split, "Grad-CAM") == ""


def test_the_histogram_counts_every_defined_mass_once(catalog: Catalog) -> None:
    for filter_ in (Filter(), Filter((OneOf("pred", ("fox",)),))):
        condition = RegionMass(CORNER, 0.3, None, "gradcam")
        split = queries.region_split(catalog, filter_, condition)
        found = attention.mass_histogram(catalog, filter_, condition)
        assert found.counts.sum() == split.inside.n + split.outside.n
        above = found.counts[found.edges[:-1] >= 0.3 - 1e-9].sum()
        assert abs(int(above) - split.inside.n) <= found.counts[np.searchsorted(found.edges, 0.3) - 1]


def test_classes_add_up_to_the_whole(catalog: Catalog) -> None:
    condition = RegionMass(CORNER, 0.3, None, "gradcam")
    split = queries.region_split(catalog, Filter(), condition)
    table = queries.region_by_class(catalog, Filter(), condition, "pred")
    rows = attention.class_rows(table)
    assert sum(row["n"] for row in rows) == split.inside.n
    assert [row["n"] for row in rows] == sorted((row["n"] for row in rows), reverse=True)
    rates = attention.class_rates(table, 2)
    assert list(rates.names) == [row["name"] for row in rows[:2]]
    assert int(attention.class_rates(table, 99).wrong_inside.sum()) == split.inside.wrong


def test_a_regions_condition_is_added_to_one_that_is_there() -> None:
    first = Filter((RegionMass(PRESETS["border"], 0.5),))
    both = narrowed(first, RegionMass(CORNER, 0.3))
    assert len(both.conditions) == 2
