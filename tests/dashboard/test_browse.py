from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cache import queries
from cache.catalog import Catalog
from cache.conditions import Condition
from cache.filters import Filter, Is, OneOf, Range, RegionMass, Text
from cache.queries import Sort
from cache.regions import Region
from cache.run import Run
from dashboard import facets
from dashboard.components.gallery import Gallery, Group, Tile, View
from dashboard.filter_fields import Scale
from dashboard.ordering import number_text
from dashboard.tiles import encoded_maps, outcome_texts, pictures_of
from tests.dashboard.conftest import OpenPage, texts
from tests.seeding import rng
from tests.synthetic import CLASSES, METHODS


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


def filter_of(app: AppTest) -> Filter:
    value = app.query_params.get("filter", "")
    return Filter.from_param(value if isinstance(value, str) else value[0])


def test_everything_is_shown_first(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("browse")
    counts = queries.count(catalog, Filter())
    assert "**150** images" in texts(app)
    assert f"({counts.wrong:,} of 150 labelled)" in texts(app)
    assert not app.exception


def test_widgets_write_the_filter_and_the_filter_sets_the_widgets(open_page: OpenPage) -> None:
    app = open_page("browse")
    app.multiselect(key="filter_pred").set_value([0, 2]).run()
    app.segmented_control(key="filter_correct").set_value("Wrong").run()
    app.slider(key="filter_confidence").set_value((20, 100)).run()
    expected = Filter((OneOf("pred", ("wolf", "fox")), Is("correct", False), Range("confidence", 0.2)))
    assert filter_of(app) == expected
    again = open_page("browse", filter=expected.to_param())
    assert again.multiselect(key="filter_pred").value == [0, 2]
    assert again.segmented_control(key="filter_correct").value == "Wrong"
    assert again.slider(key="filter_confidence").value == (20, 100)
    again.segmented_control(key="filter_correct").set_value(None).run()
    assert filter_of(again) == expected.without("correct")


def test_the_count_and_the_sentence_follow_the_filter(open_page: OpenPage, catalog: Catalog) -> None:
    chosen = Filter((OneOf("label", ("husky",)), Range("brightness", 0.5)))
    counts = queries.count(catalog, chosen)
    shown = texts(open_page("browse", filter=chosen.to_param())).replace("\\", "")
    assert f"**{counts.n}** of 150 images" in shown
    assert f"error rate **{100 * counts.wrong / counts.labelled:.1f}%**" in shown
    assert chosen.sentence(catalog.manifest)[1:] in shown


def test_a_statistics_range_can_be_added_and_keeps_its_method(open_page: OpenPage) -> None:
    app = open_page("browse", method="layercam")
    app.selectbox(key="filter_add").set_value("map.border_mass").run()
    slider = app.slider(key="filter_map.border_mass")
    low, high = slider.min, slider.max
    slider.set_value((low + 0.25 * (high - low), high)).run()
    (condition,) = filter_of(app).conditions
    assert isinstance(condition, Range)
    assert (condition.field, condition.high, condition.target) == ("border_mass", None, "pred")
    assert condition.method == "gradcam"
    app.selectbox(key="filter_map.border_mass_method").set_value("layercam").run()
    (condition,) = filter_of(app).conditions
    assert isinstance(condition, Range)
    assert condition.method == "layercam"


def test_metadata_and_names_are_filtered(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("browse")
    app.multiselect(key="filter_meta.camera").set_value(["camera A", None]).run()
    app.segmented_control(key="filter_meta.indoors").set_value("no").run()
    app.text_input(key="filter_sample_id").set_value("fox/").run()
    expected = Filter(
        (OneOf("meta.camera", ("camera A", None)), Is("meta.indoors", False), Text("sample_id", "fox/"))
    )
    assert filter_of(app) == expected
    assert f"**{queries.count(catalog, expected).n}** of 150" in texts(app)


def counted(texts: Sequence[str]) -> dict[str, int]:
    """Read the numbers behind the values of a widget."""
    return {text.rpartition(" (")[0]: int(text.rpartition(" (")[2].rstrip(")")) for text in texts}


@pytest.mark.parametrize("key", ["filter_label", "filter_pred", "filter_meta.camera"])
def test_typing_in_a_filter_finds_what_holds_the_text(open_page: OpenPage, key: str) -> None:
    """Letters in order would find "class 02" in the count of "class 10 (502)" as well."""
    widget = open_page("browse").multiselect(key=key).proto
    modes = widget.DESCRIPTOR.fields_by_name["filter_mode"].enum_type.values_by_number
    assert modes[widget.filter_mode].name.endswith("CONTAINS")


def test_values_are_counted_over_the_rest_of_the_filter(open_page: OpenPage, catalog: Catalog) -> None:
    def n(*conditions: Condition) -> int:
        return queries.count(catalog, Filter(conditions)).n

    app = open_page("browse")
    whole = counted(app.multiselect(key="filter_pred").options)
    assert whole == {name: n(OneOf("pred", (name,))) for name in catalog.classes}
    app.multiselect(key="filter_pred").set_value([0]).run()
    app.segmented_control(key="filter_correct").set_value("Wrong").run()
    first, wrong = OneOf("pred", (catalog.classes[0],)), Is("correct", False)
    # What is predicted is counted as if nothing had been chosen of it: that is what one could choose as well.
    predicted = counted(app.multiselect(key="filter_pred").options)
    assert predicted == {name: n(wrong, OneOf("pred", (name,))) for name in catalog.classes}
    labels = counted(app.multiselect(key="filter_label").options)
    assert labels == {name: n(first, wrong, OneOf("label", (name,))) for name in catalog.classes}
    cameras = counted(app.multiselect(key="filter_meta.camera").options)
    for name, count in cameras.items():
        assert count == n(first, wrong, OneOf("meta.camera", (None if name == "unknown" else name,)))


def test_large_runs_count_the_classes_and_the_metadata_of_the_whole_run(
    open_page: OpenPage, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "LARGE_RUN", 100)
    wrong = Filter((Is("correct", False),))
    app = open_page("browse", filter=wrong.to_param())
    assert (
        sum(counted(app.multiselect(key="filter_pred").options).values()) == queries.count(catalog, wrong).n
    )
    assert sum(counted(app.multiselect(key="filter_meta.camera").options).values()) == 150
    assert "Counts are those of the whole run" in texts(app)


def test_a_text_with_many_values_is_offered_without_counts(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "MOST_VALUES", 2)
    app = open_page("browse")
    assert not any("(" in option for option in app.multiselect(key="filter_meta.camera").options)
    assert all("(" in option for option in app.multiselect(key="filter_pred").options)


def test_an_empty_selection_says_which_condition_to_drop(open_page: OpenPage, catalog: Catalog) -> None:
    kept = Filter((OneOf("label", ("wolf",)),))
    chosen = kept.with_(Text("sample_id", "no such name"))
    app = open_page("browse", filter=chosen.to_param())
    assert "No image meets all of this" in texts(app)
    assert f"{queries.count(catalog, kept).n:,} images" in app.button(key="drop_1").label
    app.button(key="drop_1").click().run()
    assert filter_of(app) == kept


def test_sorting_stands_in_the_url(open_page: OpenPage) -> None:
    app = open_page("browse", method="layercam", page="2")
    app.selectbox(key="sort_key").set_value("map.entropy").run()
    assert app.query_params["sort"] == "map.entropy@layercam:pred"
    assert "page" not in app.query_params
    app.segmented_control(key="sort_down").set_value("Descending").run()
    assert app.query_params["sort"] == "-map.entropy@layercam:pred"
    again = open_page("browse", sort="-map.entropy@layercam:pred")
    assert again.selectbox(key="sort_key").value == "map.entropy"
    assert again.segmented_control(key="sort_down").value == "Descending"


def test_a_filter_on_a_region_can_be_sorted_by(open_page: OpenPage) -> None:
    chosen = Filter((RegionMass(Region.box(0, 0.7, 0.3, 1), 0.2),))
    app = open_page("browse", filter=chosen.to_param(), sort="-region")
    assert not app.exception
    assert app.selectbox(key="sort_key").value == "region"


def test_unlabelled_runs_have_no_error_rate(open_page: OpenPage) -> None:
    app = open_page("browse", run="unlabelled")
    assert not app.exception
    assert "error rate" not in texts(app)
    app.multiselect(key="filter_label").set_value([-1]).run()
    assert filter_of(app) == Filter((OneOf("label", (None,)),))
    assert "**40** of 40" in texts(app)


def test_tiles_carry_what_the_run_holds(catalog: Catalog) -> None:
    rows = queries.page(catalog, Filter((Is("correct", False),)), Sort("confidence", True), 0, 10).to_pylist()
    ids = tuple(row["sample_id"] for row in rows)
    assert set(pictures_of(catalog, rows)) == set(ids)
    maps = encoded_maps(catalog, ids, tuple(METHODS), "true")
    for row in rows:
        assert outcome_texts(CLASSES, row) == (CLASSES[row["label"]], f"→ {CLASSES[row['pred']]}")
        for name, (_, size) in METHODS.items():
            found = maps[row["sample_id"]][name]
            assert found is None or found[:2] == (size, size)


def test_what_a_gallery_sends_names_its_content() -> None:
    def gallery(text: str) -> Gallery:
        return Gallery([Group([Tile("a", "a", text, "alt")])], {"a": "data:,"}, [("m", "M")], "m")

    view = View("m")
    keys = {text: gallery(text).data(view, 0)["key"] for text in ("<b>x</b>", "y")}
    assert keys["<b>x</b>"] != keys["y"]
    assert gallery("y").data(View("m", False), 3)["key"] == keys["y"]
    assert gallery("<b>x</b>").data(view, 0)["groups"][0]["tiles"][0]["text"] == "<b>x</b>"


def test_a_view_reads_what_a_browser_reports_and_nothing_else() -> None:
    usual = View("a")
    assert View.of({"method": "b", "overlay": False, "opacity": 35, "size": 200}, ["a", "b"], usual) == View(
        "b", False, 35, 200
    )
    assert View.of({"method": "<x>", "opacity": 1e9, "size": "big"}, ["a", "b"], usual) == View(
        "a", True, 100, 130
    )
    assert not View.of({"object": False}, ["a", "b"], usual).object
    assert View("b", False, 35, 200).params("a") == {
        "method": "b",
        "overlay": "0",
        "opacity": "35",
        "tile": "200",
        "object": None,
    }
    assert set(usual.params("a").values()) == {None}


@pytest.mark.parametrize("magnitude", [1e-6, 0.3, 1.0, 72.0, 1e7])
def test_a_sliders_scale_covers_every_value_with_round_steps(magnitude: float) -> None:
    low, high = np.sort(rng.normal(size=2) * magnitude)
    scale = Scale("number", float(low), float(high))
    first, last = scale.ends
    assert first <= low
    assert last >= high
    assert last - first <= (high - low) + 2.001 * scale.unit
    assert scale.meant(scale.ends) == (None, None)
    assert scale.meant(scale.shown((None, None))) == (None, None)
    inner = first + 3 * scale.unit
    assert scale.meant(scale.shown((inner, None))) == (inner, None)
    assert scale.shown((low - 10 * magnitude, high + 10 * magnitude)) == scale.ends


def test_a_scale_of_times() -> None:
    start = datetime(2024, 3, 1, 7, 30)
    scale = Scale("time", start.timestamp(), start.timestamp() + 40 * 86_400)
    low, high = scale.ends
    assert isinstance(low, datetime)
    assert scale.meant((low, high)) == (None, None)
    middle = datetime(2024, 3, 20)
    assert scale.meant((middle, high)) == ("2024-03-20T00:00:00", None)
    assert scale.shown(("2024-03-20T00:00:00", None)) == (middle, high)
    assert scale.shown(("nonsense", None)) == (low, high)


def test_numbers_are_written_with_digits_that_tell() -> None:
    assert number_text(0.123456) == "0.123"
    assert number_text(0.5, "share") == "50%"
    assert number_text(0.123456, "share") == "12.3%"
    assert number_text(1234567.8) == "1,234,568"
    assert number_text(None) == "unknown"
    assert number_text(1.5, "nats") == "1.5 nats"
