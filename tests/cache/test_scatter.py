"""The points of a map: the selection's, with their values, evenly drawn where there are many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, OneOf
from cache.projections import latest_version
from cache.queries import Sort
from cache.run import Run
from cache.scatter import map_points
from tests.synthetic import make_run
from tests.synthetic_projection import add_projections

FOXES = Filter((OneOf("pred", ("fox",)),))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, str]:
    path: Path = add_projections(make_run(tmp_path_factory.mktemp("mapped") / "run", 200, seed=6))
    catalog = Catalog(Run.open(path))
    version = latest_version(catalog.manifest, "attended")
    assert version
    return catalog, version


def test_points_are_the_selection_s_with_their_values(mapped: tuple[Catalog, str]) -> None:
    catalog, version = mapped
    points = map_points(catalog, version, FOXES, ("border_mass", "gradcam", "pred"))
    rows = {row["sample_id"]: row for row in points.rows.to_pylist()}
    expected = queries.page(catalog, FOXES, Sort("border_mass", False, "gradcam", "pred"), 0, 500).to_pylist()
    ids = catalog.query("SELECT sample_id FROM samples ORDER BY sample")["sample_id"].to_pylist()
    places = catalog.places(version)
    known = {ids[i] for i in np.flatnonzero(places.known)}
    assert set(rows) == {row["sample_id"] for row in expected} & known
    assert points.chosen == len(expected)
    assert points.placed == len(rows)
    assert len(points.others) == len(known) - len(rows)
    for row in expected:
        if row["sample_id"] in rows:
            point = rows[row["sample_id"]]
            assert point["value"] == row["sort_value"]
            at = ids.index(row["sample_id"])
            assert (point["x"], point["y"]) == (places.x[at], places.y[at])


def test_many_are_drawn_evenly_and_always_alike(mapped: tuple[Catalog, str]) -> None:
    catalog, version = mapped
    few = map_points(catalog, version, FOXES, None, 10, 7)
    assert (few.rows.num_rows, len(few.others)) == (10, 7)
    assert few.placed == map_points(catalog, version, FOXES).placed
    assert few.rows.equals(map_points(catalog, version, FOXES, None, 10, 7).rows)
    more = map_points(catalog, version, FOXES, None, 20, 7).rows
    assert set(few.rows["sample_id"].to_pylist()) < set(more["sample_id"].to_pylist())
    assert set(few.rows["value"].to_pylist()) == {None}
