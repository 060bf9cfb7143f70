"""Maps held in memory answer what the database answers."""

from __future__ import annotations

import numpy as np
import pytest

from cache import attention, held, queries
from cache.attention import RegionSplit
from cache.catalog import Catalog
from cache.conditions import AllOf, AnyOf, Condition, Is, Not, OneOf, Range, RegionMass
from cache.contrasts import RegionContrast
from cache.filters import Filter
from cache.regions import PRESETS, Region

CORNER = RegionMass(PRESETS["bottom_left"], 0.3)
MORE = RegionContrast(PRESETS["bottom_left"], 0.05, "layercam", "pred", None, "true")
PAINTED = RegionMass(
    Region.mask(np.random.default_rng(0).random((56, 56)) < 0.3), None, 0.35, "layercam", "true"
)
CONDITIONS: list[Condition] = [
    CORNER,
    PAINTED,
    MORE,
    Not(CORNER),
    RegionMass(Region.polygon([(0, 0), (1, 0.2), (0.3, 0.8)]), 0.2, 0.6),
    AllOf((CORNER, Not(PAINTED), Is("masked", True))),
    AnyOf((MORE, AllOf((Not(CORNER), Range("border_mass", 0.2, None, "layercam"))))),
    Not(AnyOf((PAINTED, Is("meta.indoors", True)))),
]
FILTERS = [Filter(), Filter((Is("correct", False),)), Filter((OneOf("pred", ("fox",)), Not(CORNER)))]


@pytest.mark.parametrize("condition", CONDITIONS, ids=range(len(CONDITIONS)))
@pytest.mark.parametrize("filter_", FILTERS, ids=("all", "wrong", "fox"))
def test_a_split_is_the_database_s(catalog: Catalog, filter_: Filter, condition: Condition) -> None:
    assert held.split(catalog, filter_, condition) == attention.region_split(catalog, filter_, condition)


def test_the_split_adds_up(catalog: Catalog) -> None:
    for condition in CONDITIONS:
        split = held.split(catalog, Filter(), condition)
        assert split.inside.n + split.outside.n + split.degenerate + split.missing == 260
    assert held.split(catalog, Filter(), CORNER).degenerate > 0
    assert held.split(catalog, Filter(), PAINTED) != RegionSplit(
        *[held.split(catalog, Filter(), CORNER).inside] * 2, 0, 0
    )


@pytest.mark.parametrize(("method", "target"), [(None, "pred"), ("layercam", "true")])
@pytest.mark.parametrize("filter_", FILTERS, ids=("all", "wrong", "fox"))
def test_a_mean_map_is_the_database_s(
    catalog: Catalog, filter_: Filter, method: str | None, target: str
) -> None:
    found, expected = (source.mean_map(catalog, filter_, method, target) for source in (held, attention))
    assert (found.n, found.degenerate) == (expected.n, expected.degenerate)
    assert found.n > 0
    assert found.p is not None
    assert expected.p is not None
    np.testing.assert_allclose(found.p, expected.p, atol=1e-6)


def test_without_labels_true_maps_are_missing(unlabelled: Catalog) -> None:
    condition = RegionMass(PRESETS["center"], 0.1, None, None, "true")
    split = held.split(unlabelled, Filter(), condition)
    assert split == attention.region_split(unlabelled, Filter(), condition)
    assert split.missing == 60
    assert held.mean_map(unlabelled, Filter(), None, "true").p is None


def test_larger_runs_are_asked_through_the_database(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MOST_SAMPLES", 10)
    monkeypatch.setattr(catalog, "index", None)  # whose grids need not be held
    monkeypatch.setattr(held, "held_maps", lambda *_: pytest.fail("nothing may be held"))
    assert held.split(catalog, Filter(), CORNER) == attention.region_split(catalog, Filter(), CORNER)
    assert held.mean_map(catalog, Filter()).n == attention.mean_map(catalog, Filter()).n


def test_a_difference_sorts(catalog: Catalog) -> None:
    rows = queries.page(catalog, Filter((MORE,)), queries.Sort(descending=True, region=MORE), 0, 400)
    values = rows["sort_value"].to_pylist()
    assert values == sorted(values, reverse=True)
    assert len(values) == held.split(catalog, Filter(), MORE).inside.n > 0
    assert min(values) >= 0.05
