"""Runs made for measuring keep the contract: their numbers belong to their maps, and mistakes go with where maps lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.make_run import MAP, make_run
from cache import profiles, queries
from cache.catalog import Catalog
from cache.filters import Filter, InProjection, Is, OneOf, Range, RegionMass
from cache.maps import decode_map, grid_of, summed_area
from cache.regions import PRESETS
from cache.run import Run
from cache.schema import CORNERS
from tests.synthetic_story import measure

SAMPLES = 600


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog(Run.open(make_run(tmp_path_factory.mktemp("runs") / "made", SAMPLES, 2, 6)))


def test_every_sample_has_what_an_audit_writes(catalog: Catalog) -> None:
    counts = queries.count(catalog, Filter())
    assert counts.n == counts.labelled == SAMPLES
    assert 0 < counts.degenerate < 0.05 * SAMPLES
    assert 0.05 < counts.wrong / SAMPLES < 0.3
    assert len(set(queries.ids(catalog, Filter()))) == SAMPLES
    assert catalog.run.verify() == []
    some = queries.ids(catalog, Filter((Is("correct", False),)), limit=3)
    assert len(profiles.thumbnails(catalog, some)) == 3
    for name in some:
        assert [one.method for one in profiles.attributions_of(catalog, name)] == [
            "gradcam", "gradcam", "layercam", "layercam",
        ]  # fmt: skip
        assert profiles.nearest(catalog, name)
    everywhere = InProjection(MAP, ((-1, -1), (2, -1), (2, 2), (-1, 2)))
    assert queries.count(catalog, Filter((everywhere,))).n == SAMPLES
    assert queries.count(catalog, Filter((Range("agreement", -1.0),))).n == SAMPLES - counts.degenerate


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_statistics_and_grids_are_those_of_the_maps(catalog: Catalog, method: str) -> None:
    names = ("mass_total", "entropy", "centroid_x", "border_mass", "corner_mass")
    rows = catalog.rows_of_maps(
        method, range(60), ["height", "width", "scale", "map", "degenerate", *names, *CORNERS]
    ).to_pylist()
    maps = np.stack([decode_map(row["map"], row["scale"], row["height"], row["width"]) for row in rows])
    degenerate, values, _ = measure(maps)
    assert degenerate.tolist() == [row["degenerate"] for row in rows]
    for row, each, *own in zip(rows, maps, *(values[name] for name in names), strict=True):
        if row["degenerate"]:
            assert row["entropy"] is None
            continue
        np.testing.assert_allclose([row[name] for name in names], own, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose([row[c] for c in CORNERS], summed_area(grid_of(each)).ravel(), atol=1e-3)


def test_who_looks_at_the_tag_is_called_its_class(catalog: Catalog) -> None:
    tagged = Filter((RegionMass(PRESETS["bottom_left"], 0.5),))
    inside, every = queries.count(catalog, tagged), queries.count(catalog, Filter())
    assert inside.error_rate is not None
    assert every.error_rate is not None
    assert inside.error_rate > 2 * every.error_rate
    wrong = Filter((*tagged.conditions, Is("correct", False)))
    called = queries.count(catalog, Filter((*wrong.conditions, OneOf("pred", ("class 5",)))))
    assert called.n > 0.8 * queries.count(catalog, wrong).n


def test_the_same_seed_makes_the_same_samples(catalog: Catalog, tmp_path: Path) -> None:
    again = Catalog(Run.open(make_run(tmp_path / "again", SAMPLES, 1, 6)))
    columns = "sample_id, content, label, pred, confidence"
    assert again.query(f"SELECT {columns} FROM samples").equals(
        catalog.query(f"SELECT {columns} FROM samples")
    )
