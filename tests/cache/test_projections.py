"""2-D maps: stored under a version, asked by areas drawn on them, and held against a slow reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import held, queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import AllOf, AnyOf, Condition, Filter, InProjection, Is, Not, OneOf
from cache.findings import basis_of
from cache.map_areas import MAX_POINTS
from cache.projections import append_projection, latest_version, projection_version, within
from cache.run import Run
from cache.writer import RunWriter
from tests.cache.slow_reference import SlowRun, slow_inside
from tests.seeding import rng
from tests.synthetic import make_run

VERSION = "attended-0123456789abcdef"
Projected = tuple[Catalog, SlowRun, str]


def project_at_random(path: Path, features: str = "attended", seed: int = 0, share: float = 0.8) -> str:
    """Give some of a run's images places on a grid, so that points fall on edges and corners."""
    contents = sorted({row["content"] for row in SlowRun(path).samples})
    contents = contents[: round(share * len(contents))]
    version = projection_version(features, [*contents, str(seed)])
    with RunWriter(path) as writer:
        places = rng.integers(0, 9, (len(contents), 2)) / np.float32(8)
        append_projection(writer, version, contents, places.astype(np.float32))
        writer.publish()
    return version


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Projected:
    path = make_run(tmp_path_factory.mktemp("projected") / "run", 120, seed=11)
    version = project_at_random(path)
    return Catalog(Run.open(path)), SlowRun(path), version


coordinates = st.one_of(st.integers(-1, 9).map(lambda k: k / 8), st.floats(-0.5, 1.5))
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12).map(tuple)


@settings(deadline=None)
@given(polygons)
def test_an_area_comes_back_from_its_link(polygon: tuple[tuple[float, float], ...]) -> None:
    filter_ = Filter((Not(InProjection(VERSION, polygon)), Is("correct", False)))
    back = Filter.from_param(filter_.to_param())
    assert back == filter_
    assert hash(back) == hash(filter_)
    assert back.to_param() == filter_.to_param()


@settings(deadline=None)
@given(polygons, st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=20))
def test_points_lie_inside_as_counting_crossings_says(
    polygon: tuple[tuple[float, float], ...], points: list[tuple[float, float]]
) -> None:
    area = InProjection(VERSION, polygon)
    x, y = np.array(points, np.float64).T
    assert within(x, y, area).tolist() == [slow_inside(px, py, area.polygon) for px, py in points]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(polygons, polygons)
def test_sql_and_held_maps_select_what_a_slow_reading_selects(
    projected: Projected,
    first: tuple[tuple[float, float], ...],
    second: tuple[tuple[float, float], ...],
) -> None:
    catalog, slow, version = projected
    a, b = InProjection(version, first), InProjection(version, second)
    tried: list[tuple[Condition, ...]] = [
        (a,),
        (Not(a), OneOf("pred", ("fox", "wolf"))),
        (AnyOf((a, Not(b))), Is("correct", True)),
        (Not(AllOf((a, b))),),
    ]
    for conditions in tried:
        filter_ = Filter(conditions)
        assert queries.ids(catalog, filter_) == slow.select(conditions)
        assert held.split(catalog, Filter(), AllOf(conditions)).inside.n == len(slow.select(conditions))
        assert filter_.sentence(catalog.manifest)


def test_who_has_no_place_is_neither_inside_nor_outside(projected: Projected) -> None:
    catalog, _, version = projected
    everywhere = InProjection(version, ((-1, -1), (2, -1), (2, 2), (-1, 2)))
    inside = queries.count(catalog, Filter((everywhere,))).n
    assert 0 < inside < 120
    assert queries.count(catalog, Filter((Not(everywhere),))).n == 0
    assert inside == int(catalog.places(version).known.sum())


def test_a_later_map_leaves_the_one_before_alone_and_findings_too(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 60, seed=3)
    basis = basis_of(Run.open(path).manifest)
    first = project_at_random(path, seed=1)
    area = Filter((InProjection(first, ((0, 0), (0.5, 0), (0.5, 1), (0, 1))),))
    before = queries.ids(Catalog(Run.open(path)), area)
    assert before
    second = project_at_random(path, seed=2)
    other = project_at_random(path, "penultimate", seed=3)
    catalog = Catalog(Run.open(path))
    assert queries.ids(catalog, area) == before
    assert latest_version(catalog.manifest, "attended") == second != first
    assert latest_version(catalog.manifest, "penultimate") == other
    assert basis_of(catalog.manifest) == basis, "a map to look at says nothing new about findings"


def test_sentences(projected: Projected) -> None:
    catalog, _, version = projected
    area = InProjection(version, ((0, 0), (1, 0), (0, 1)))
    wrong = Is("correct", False)
    assert Filter((wrong, area)).sentence(catalog.manifest) == (
        "wrong predictions in an area of the map of attended content"
    )
    assert Filter((Not(area),)).sentence(catalog.manifest) == (
        "samples outside an area of the map of attended content"
    )
    assert Filter((area,)).with_(InProjection(version, ((0, 0), (1, 0), (1, 1)))).conditions[0] != area


@pytest.mark.parametrize(
    "entry",
    ['["place","../x",[0,0,1,0,1,1]]', f'["place","{VERSION}",[0,0,1,0,1]]', f'["place","{VERSION}",[0,0,1,"a",1,1]]',
     f'["place","{VERSION}",[0,0,1,true,1,1]]', f'["place","{VERSION}",[0,0,1,1e9,1,1]]', f'["place","{VERSION}",7]',
     f'["place","{VERSION}",[0,0,1,{"9" * 400},1,1]]', f'["place","{VERSION}",[null,0,1,1,1,1]]'],
)  # fmt: skip
def test_damaged_links_are_refused(entry: str) -> None:
    with pytest.raises(FilterError, match="cannot be read"):
        Filter.from_param('{"v":1,"all":[' + entry + "]}")


def test_too_few_and_too_many_corners_are_refused() -> None:
    with pytest.raises(FilterError, match="three corners"):
        InProjection(VERSION, ((0, 0), (1, 1)))
    with pytest.raises(FilterError, match="simpler"):
        InProjection(VERSION, tuple((i / 1000, 0.5) for i in range(MAX_POINTS + 1)))


def test_a_map_that_the_run_does_not_hold_is_refused(projected: Projected) -> None:
    with pytest.raises(FilterError, match="engine project"):
        queries.count(projected[0], Filter((InProjection(VERSION, ((0, 0), (1, 0), (1, 1))),)))
