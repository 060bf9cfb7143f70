"""Browse as a gallery in sections, as a table and as a map, and in the order of likeness: what stands in the URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, InProjection, Is
from cache.projections import latest_version, within
from cache.queries import Likeness, Sort
from cache.run import Run
from cache.scatter import map_points
from dashboard.browse_map import drawn_polygon
from dashboard.figures import DARK, LIGHT
from dashboard.map_figure import CLASS_COLOURS, OTHERS, Colouring, hover_text, map_figure, simplified
from tests.dashboard.conftest import OpenPage, texts
from tests.synthetic import make_run
from tests.synthetic_projection import add_projections

WRONG = Filter((Is("correct", False),))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``mapped``, which has 2-D maps."""
    folder = tmp_path_factory.mktemp("mapped")
    add_projections(make_run(folder / "mapped", samples=120, seed=9))
    return folder


def test_views_are_switched_in_the_url(open_page: OpenPage) -> None:
    app = open_page("browse", filter=WRONG.to_param())
    app.button_group(key="browse_view").set_value("table").run()
    assert app.query_params["view"] == "table"
    assert len(app.dataframe) == 1
    app.button_group(key="browse_view").set_value("gallery").run()
    assert "view" not in app.query_params
    assert not open_page("browse", view="nonsense").exception


def test_the_table_is_the_gallery_s_page(open_page: OpenPage, runs: Path) -> None:
    catalog = Catalog(Run.open(runs / "animals"))
    app = open_page(
        "browse", view="table", sort="-map.border_mass@gradcam:pred", per_page="24", page="2",
        columns="label,meta.camera,nonsense",
    )  # fmt: skip
    assert not app.exception
    frame = app.dataframe[0].value
    expected = queries.page(
        catalog, Filter(), Sort("border_mass", True, "gradcam", "pred"), 24, 24
    ).to_pylist()
    assert frame["sample_id"].tolist() == [row["sample_id"] for row in expected]
    assert list(frame.columns) == [
        "picture",
        "sample_id",
        "outcome",
        "label",
        "meta.camera",
        "map.border_mass",
    ]
    values = [None if value != value else value for value in frame["map.border_mass"].astype(float)]
    assert values == pytest.approx([row["sort_value"] for row in expected])
    assert frame["picture"][0].startswith("data:image/webp")
    app.multiselect(key="table_columns").set_value(["pred", "meta.altitude"]).run()
    assert app.query_params["columns"] == "pred,meta.altitude"
    app.multiselect(key="table_columns").set_value([]).run()
    assert list(app.dataframe[0].value.columns)[3:] == ["map.border_mass"]


def test_a_run_without_maps_says_what_to_type(open_page: OpenPage, runs: Path) -> None:
    app = open_page("browse", view="map")
    assert not app.exception
    assert f"python -m engine project {runs / 'animals'} --features attended" in texts(app)


def test_the_map_counts_what_has_no_place(open_page: OpenPage, mapped: Path) -> None:
    app = open_page("browse", folder=mapped, run="mapped", view="map", colour="map.border_mass")
    assert not app.exception
    catalog = Catalog(Run.open(mapped / "mapped"))
    version = latest_version(catalog.manifest, "attended") or ""
    missing = 120 - int(catalog.places(version).known.sum())
    assert missing
    assert f"{missing} images have no place on this map" in texts(app)
    app.button_group(key="map_features").set_value("penultimate").run()
    assert app.query_params["features"] == "penultimate"
    assert "no place" not in texts(app)
    # An area decides which map is shown; another map drops it.
    area = Filter((InProjection(version, ((0, 0), (1, 0), (1, 1))),))
    app = open_page(
        "browse", folder=mapped, run="mapped", view="map", features="penultimate", filter=area.to_param()
    )
    assert app.button_group(key="map_features").value == "attended"
    app.button_group(key="map_features").set_value("penultimate").run()
    assert "filter" not in app.query_params


def test_an_area_of_another_run_is_refused_in_a_sentence(open_page: OpenPage) -> None:
    area = Filter((InProjection("attended-0123456789abcdef", ((0, 0), (1, 0), (1, 1))),))
    app = open_page("browse", view="map", filter=area.to_param())
    assert not app.exception
    assert "does not hold the map" in texts(app).replace("\\", "")


def test_grouping_stands_in_the_url(open_page: OpenPage) -> None:
    app = open_page("browse")
    app.selectbox(key="group_by").set_value("confusion").run()
    assert app.query_params["group"] == "confusion"
    assert not app.exception
    for by in ("label", "meta.indoors", "meta.camera", "split", "nonsense"):
        assert not open_page("browse", group=by, sort="-confidence", filter=WRONG.to_param()).exception


def test_likeness_is_an_order_until_another_is_chosen(open_page: OpenPage, runs: Path) -> None:
    catalog = Catalog(Run.open(runs / "animals"))
    first = queries.ids(catalog, WRONG, None, 1)[0]
    app = open_page("browse", similar=f"{first}:attended", view="table", filter=WRONG.to_param())
    assert not app.exception
    order = Sort(descending=True, like=Likeness(first, "attended"))
    assert app.dataframe[0].value["sample_id"].tolist() == queries.ids(catalog, WRONG, order, 48)
    assert "Most like" in texts(app)
    app.button_group(key="similar_kind").set_value("where").run()
    assert app.query_params["similar"] == f"{first}:where"
    app.selectbox(key="sort_key").set_value("confidence").run()
    assert "similar" not in app.query_params
    assert app.query_params["sort"] == "confidence"


@pytest.mark.parametrize("asked", ["nobody.jpg:attended", "x", ":where", "fox/00001.jpg:smell"])
def test_a_likeness_to_nothing_is_said(open_page: OpenPage, asked: str) -> None:
    app = open_page("browse", similar=asked)
    assert not app.exception
    assert len(app.warning) == 1


def test_a_sample_leads_to_its_like_and_back(open_page: OpenPage, runs: Path) -> None:
    catalog = Catalog(Run.open(runs / "animals"))
    first = queries.ids(catalog, Filter(), None, 1)[0]
    order = Sort(descending=True, like=Likeness(first, "whole"))
    second = queries.ids(catalog, Filter(), order, 2)[1]
    app = open_page("sample", id=second, similar=f"{first}:whole")
    assert not app.exception
    assert "Find similar by" in texts(app)
    assert "2 of 150" in texts(app)


@pytest.mark.parametrize("look", [LIGHT, DARK])
@pytest.mark.parametrize("name", ["correct", "label", "pred", "value"])
def test_every_point_is_drawn_once_and_says_what_it_is(mapped: Path, look: Any, name: str) -> None:
    catalog = Catalog(Run.open(mapped / "mapped"))
    version = latest_version(catalog.manifest, "attended") or ""
    points = map_points(catalog, version, WRONG, ("border_mass", "gradcam", "pred"))
    first = points.rows["sample_id"][0].as_py()
    figure = map_figure(points, catalog.classes, Colouring(name, "Title"), look, marked=first)
    drawn = [row[0] for trace in figure.data if trace.meta != OTHERS for row in trace.customdata]
    assert sorted(drawn) == sorted(points.rows["sample_id"].to_pylist())
    assert {trace.type for trace in figure.data} == {"scattergl"}
    if name == "pred":
        colours = [trace.marker.color for trace in figure.data if trace.meta != OTHERS]
        assert set(colours) <= set(CLASS_COLOURS)


def test_hovering_shows_names_as_text() -> None:
    assert hover_text(["<b>x</b>", "y"], "<i>.jpg", 0, 1, 0.51) == (
        "<b>&lt;i&gt;.jpg</b><br>&lt;b&gt;x&lt;/b&gt; → y · 51%"
    )


@settings(deadline=None)
@given(st.integers(5, 300), st.floats(0.02, 0.4), st.integers(0, 2**31))
def test_a_simplified_lasso_holds_what_the_hand_went_round(n: int, radius: float, seed: int) -> None:
    dice = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    wobbly = radius * (1 + 0.15 * np.sin(3 * angle))
    line = [
        (0.5 + float(r * np.cos(a)), 0.5 + float(r * np.sin(a))) for r, a in zip(wobbly, angle, strict=True)
    ]
    few = simplified(line)
    assert 3 <= len(few) <= len(line)
    version = "attended-0123456789abcdef"
    x, y = dice.uniform(0, 1, (2, 400))
    exact, near = (within(x, y, InProjection(version, tuple(p))) for p in (line, few))
    # Only what lies within the tolerance of the line may change sides.
    length = float(np.hypot(*np.diff(np.array([*line, line[0]]), axis=0).T).sum())
    assert (exact != near).mean() <= 8 * length * 0.0025 + 0.02


def test_what_was_drawn_last_is_the_area() -> None:
    lasso = {"x": [0.1, 0.5, 0.5, 0.1], "y": [0.1, 0.1, 0.5, 0.5]}
    box = {"x": [0.2, 0.4], "y": [0.9, 0.3]}
    assert drawn_polygon({"lasso": [lasso], "box": []}) == [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5)]
    assert drawn_polygon({"lasso": [], "box": [box]}) == [(0.2, 0.9), (0.4, 0.9), (0.4, 0.3), (0.2, 0.3)]
    assert drawn_polygon({"points": [], "lasso": [], "box": []}) is None
