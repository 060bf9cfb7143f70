"""Several regions at once: the list, its link, its words, the object, and what a damaged link says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cache import held, queries
from cache.catalog import Catalog
from cache.conditions import AllOf, AnyOf, Condition, Is, Not, Range, RegionMass
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.filters import Filter
from cache.regions import PRESETS, Region
from cache.run import Run
from dashboard import attention
from dashboard.region_board import Board, narrowed, others, question_of
from dashboard.region_canvas import object_region
from dashboard.region_list import thumbnail
from tests.dashboard.conftest import OpenPage, texts
from tests.dashboard.objects import make_run_with_objects

CORNER = RegionMass(PRESETS["bottom_left"], 0.3, None, "gradcam")
CENTRE = RegionMass(PRESETS["center"], None, 0.2, "layercam", "true")
MORE = RegionContrast(PRESETS["border"], 0.1, "gradcam", "pred", "layercam", "pred")
INSIDE = Range("mass_inside", 0.5, None, "gradcam", "pred")
PAINTED = RegionMass(Region.mask(np.indices((56, 56)).sum(axis=0) < 40), 0.1, None, "gradcam")


def url(app: AppTest, name: str) -> str:
    """Return a parameter of the URL, which AppTest gives as a text or as a list of one."""
    value = app.query_params[name]
    return value if isinstance(value, str) else str(value[0])


@pytest.fixture(scope="module")
def catalog(runs: Any) -> Catalog:
    return Catalog(Run.open(runs / "animals"))


@pytest.mark.parametrize(
    "board",
    [
        Board(),
        Board(((CORNER,),)),
        Board(((CORNER, Not(MORE)), (CENTRE,)), "all"),
        Board(((CORNER, PAINTED), (Not(INSIDE),)), "any"),
    ],
)
def test_a_board_comes_back_from_its_link(board: Board) -> None:
    back = Board.from_param(board.to_param())
    assert back.groups == board.groups
    assert not board or back.within == board.within
    assert len(board.to_param()) < 1_000


def test_a_board_is_one_condition() -> None:
    board = Board(((CORNER, Not(MORE)), (CENTRE,)), "all")
    assert board.condition() == AnyOf((AllOf((CORNER, Not(MORE))), CENTRE))
    assert board.condition(PAINTED, 1) == AnyOf((AllOf((CORNER, Not(MORE))), AllOf((PAINTED, CENTRE))))
    assert board.condition(PAINTED, 2) == AnyOf((AllOf((CORNER, Not(MORE))), CENTRE, PAINTED))
    assert Board(board.groups, "any").condition() == AllOf((AnyOf((CORNER, Not(MORE))), CENTRE))
    assert Board().condition() is None
    assert Board().condition(CORNER) == CORNER
    assert narrowed(Filter((Is("correct", False),)), AllOf((CORNER, CENTRE))).conditions[1:] == (
        CORNER,
        CENTRE,
    )


def test_conditions_are_added_replaced_and_removed() -> None:
    board = Board().with_(CORNER, 0).with_(CENTRE, 0).with_(MORE, 1)
    assert board.groups == ((CORNER, CENTRE), (MORE,))
    assert board.replaced(0, 1, Not(CENTRE)).groups == ((CORNER, Not(CENTRE)), (MORE,))
    assert board.without(1, 0).groups == ((CORNER, CENTRE),)


@pytest.mark.parametrize("condition", [CORNER, CENTRE, MORE, Not(MORE), Not(PAINTED)])
def test_a_condition_goes_onto_the_canvas_and_back(catalog: Catalog, condition: Condition) -> None:
    found = question_of(condition, catalog.manifest)
    assert found is not None
    assert found[1].about(found[0]) == condition


def test_the_other_maps_do_not_hold_the_own(catalog: Catalog) -> None:
    offered = list(others(catalog.manifest, "gradcam", "pred"))
    assert offered[0] == "layercam:pred"
    assert "gradcam:pred" not in offered
    assert "gradcam:true" in offered


def test_the_page_counts_the_whole_list(open_page: OpenPage, catalog: Catalog) -> None:
    board = Board(((Not(MORE),), (CENTRE,)), "all")
    region = attention.region_to_param(PRESETS["bottom_left"])
    app = open_page("region", regions=board.to_param(), region=region, share="20", group="0")
    assert not app.exception
    drawn = RegionMass(PRESETS["bottom_left"], 0.2, None, "gradcam")
    condition = board.condition(drawn, 0)
    assert condition is not None
    split = held.split(catalog, Filter(), condition)
    shown = texts(app)
    assert f"**{split.inside.n:,}** of {split.inside.n + split.outside.n:,} samples" in shown
    assert "without at least 10 points more of Grad-CAM than of Layer-CAM in the border" in shown
    assert queries.count(catalog, narrowed(Filter(), condition)).n == split.inside.n
    app.button(key="region_negate_0_0").click().run()
    assert Board.from_param(url(app, "regions")).groups == ((MORE,), (CENTRE,))
    app.segmented_control(key="region_within").set_value("any").run()
    assert Board.from_param(url(app, "regions")).within == "any"
    app.button(key="region_remove_1_0").click().run()
    app.button(key="region_edit_0_0").click().run()
    assert not app.exception
    assert url(app, "op") == "more"
    assert url(app, "than") == "layercam:pred"
    assert Board.from_param(url(app, "regions")).groups == ((drawn,),)
    app.button(key="region_clear_list").click().run()
    assert "regions" not in app.query_params


def test_another_region_keeps_the_first(open_page: OpenPage) -> None:
    app = open_page(
        "region", region=attention.region_to_param(PRESETS["bottom_left"]), share="25", **{"not": "1"}
    )
    app.button(key="region_add").click().run()
    assert not app.exception
    kept = Not(RegionMass(PRESETS["bottom_left"], 0.25, None, "gradcam"))
    assert Board.from_param(url(app, "regions")).groups == ((kept,),)
    assert "region" not in app.query_params
    assert "Draw the next region" in texts(app)


def test_more_here_than_another_method_has(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("region", region=attention.region_to_param(PRESETS["bottom_left"]), op="more", share="5")
    assert not app.exception
    condition = RegionContrast(PRESETS["bottom_left"], 0.05, "gradcam", "pred", "layercam", "pred")
    split = queries.region_split(catalog, Filter(), condition)
    assert f"**{split.inside.n:,}** of" in texts(app)
    assert "at least 5 points more of Grad-CAM than of Layer-CAM" in texts(app)
    app.selectbox(key="region_than").set_value("gradcam:true").run()
    assert url(app, "than") == "gradcam:true"
    assert not app.exception


def test_one_image_is_the_canvas(open_page: OpenPage, catalog: Catalog) -> None:
    first, second = queries.ids(catalog, Filter(), limit=2)
    app = open_page("region", on=first)
    assert not app.exception
    assert "for its predicted class" in texts(app)
    app.button(key="region_chevron_right").click().run()
    assert url(app, "on") == second
    app.segmented_control(key="region_canvas").set_value("mean").run()
    assert "on" not in app.query_params
    app.segmented_control(key="region_canvas").set_value("one").run()
    assert url(app, "on") == second
    gone = open_page("region", on="<b>nobody</b>" * 500)
    assert not gone.exception
    assert "This run has no image" in texts(gone)


def test_the_object_of_an_image_is_a_region() -> None:
    mask = np.zeros((56, 56), dtype=bool)
    mask[10:20, 30:40] = True
    assert object_region({"mask": mask}) == Region.mask(mask)
    boxed = object_region({"mask": None, "boxes": [(0.0, 0.0, 0.5, 0.25)]})
    assert boxed is not None
    assert boxed.area() == pytest.approx(0.125)
    assert object_region({"mask": None, "boxes": None}) is None
    assert object_region({"mask": np.zeros((56, 56), dtype=bool)}) is None


def test_right_against_wrong_tells_counts_and_few(open_page: OpenPage, catalog: Catalog) -> None:
    app = open_page("region", region=attention.region_to_param(PRESETS["bottom_left"]))
    wrong = held.mean_map(catalog, Filter((Is("correct", False),)), "gradcam", "pred")
    assert wrong.n < 30
    assert f"There are only {wrong.n} wrong ones" in texts(app)
    alone = open_page("region", filter=Filter((Is("correct", False),)).to_param())
    assert "keeps right or wrong predictions only" in texts(alone)
    assert "nobody knows what is right" in texts(open_page("region", run="unlabelled"))


BAD = Board(((RegionMass(PRESETS["border"], 0.1, None, "lime"),),)).to_param()


@pytest.mark.parametrize(
    "text",
    [
        "{", "x" * 100_000, '{"v":2,"all":[]}', '{"v":1,"all":[["is","correct",true]]}', BAD,
        '{"v":1,"all":[["any",[["all",[["is","correct",true]]]]]]}', Filter((CORNER,)).to_param(),
        '{"v":1,"all":[["any",[["all",[["mass",{"mask":[56,56,"~AAAA"]},0.1]]]]]]}',
    ],
)  # fmt: skip
def test_nonsense_regions_in_a_link_are_a_sentence(open_page: OpenPage, text: str) -> None:
    app = open_page("region", regions=text, group="many", than="a:b", region="[" * 100_000)
    assert not app.exception
    assert len(app.warning) == 2
    assert all(element.value.endswith(".") for element in app.warning)


def test_boards_hold_regions_and_objects_only() -> None:
    with pytest.raises(FilterError):
        Board.from_param('{"v":1,"all":[["any",[["all",[["any",[["is","correct",true]]]]]]]]}')


def test_thumbnails_say_what_they_show() -> None:
    assert 'alt="the lower left corner"' in thumbnail(CORNER)
    assert 'alt="the known object"' in thumbnail(Not(INSIDE))
    assert "a painted area covering" in thumbnail(PAINTED)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    make_run_with_objects(folder / "known", 90, ("gradcam", "layercam"))
    return folder


def test_the_known_object_is_a_condition(open_page: OpenPage, objects: Path) -> None:
    app = open_page("region", folder=objects, run="known")
    app.button(key="region_object_most").click().run()
    assert not app.exception
    condition = Range("mass_inside", None, 0.5, "gradcam", "pred")
    assert Board.from_param(url(app, "regions")).groups == ((condition,),)
    known = Catalog(Run.open(objects / "known"))
    split = queries.region_split(known, Filter(), condition)
    assert split.inside.n > 0
    assert split.missing > 0
    assert f"**{split.inside.n:,}** of" in texts(app)
    assert "or whose object is not known" in texts(app)
    app.number_input(key="region_object_share_0_0").set_value(20.0).run()
    assert Board.from_param(url(app, "regions")).groups[0][0] == Range(
        "mass_inside", None, 0.2, "gradcam", "pred"
    )


def test_the_known_object_in_the_filter_bar(open_page: OpenPage, objects: Path) -> None:
    app = open_page("browse", folder=objects, run="known")
    app.segmented_control(key="filter_object_side").set_value("least").run()
    assert not app.exception
    assert Filter.from_param(url(app, "filter")) == Filter(
        (Range("mass_inside", 0.5, None, "gradcam", "pred"),)
    )


def test_without_objects_nothing_is_offered(open_page: OpenPage) -> None:
    app = open_page("region")
    assert not [button for button in app.button if str(button.key).startswith("region_object")]
    app = open_page("browse")
    assert not [control for control in app.segmented_control if control.key == "filter_object_side"]


def test_a_chip_drops_one_region_of_two(open_page: OpenPage) -> None:
    app = open_page("browse", filter=Filter((CORNER, Not(CENTRE))).to_param())
    app.button(key="chip_0").click().run()
    assert Filter.from_param(url(app, "filter")) == Filter((Not(CENTRE),))
