"""`project`: the same run gives the same map, whatever the order on disk; what is there is reused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import engine.projection as module
from cache.catalog import Catalog
from cache.errors import ConfigError
from cache.projections import latest_version
from cache.run import Run
from engine.cli import app
from engine.projection import Projected, available, framed, project
from tests.seeding import rng
from tests.synthetic import make_run


def neighbours_kept(path: Path, made: Projected) -> float:
    """Return how often the five nearest on the map are predicted as the image is."""
    catalog = Catalog(Run.open(path))
    places = catalog.places(made.version)
    known = np.flatnonzero(places.known)
    pred = catalog.query("SELECT pred FROM samples ORDER BY sample")["pred"].to_numpy()[known]
    xy = np.column_stack([places.x[known], places.y[known]])
    far = ((xy[:, None] - xy[None]) ** 2).sum(axis=2)
    np.fill_diagonal(far, np.inf)
    return float((pred[np.argsort(far, axis=1)[:, :5]] == pred[:, None]).mean())


@pytest.mark.slow
def test_the_same_run_gives_the_same_map_and_reuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Most of the images are placed by a map that is fitted to some of them.
    monkeypatch.setattr(module, "FITTED", 90)
    monkeypatch.setattr(module, "BLOCK", 20)
    first = make_run(tmp_path / "first", 130, seed=7)
    second = make_run(tmp_path / "second", 130, seed=7, chunk=50)  # the same images in other parts
    made, again = project(first, ["attended"]), project(second, ["attended"])
    assert made == again
    assert not made[0].reused
    assert made[0].placed + made[0].unplaced == 128
    one, other = (Catalog(Run.open(path)).places(made[0].version) for path in (first, second))
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)
    assert np.nanmin(one.x) >= 0
    assert np.nanmax(one.y) <= 1
    assert neighbours_kept(first, made[0]) > 0.8
    generation = Run.open(first).manifest.generation
    assert project(first, ["attended"])[0].reused
    assert Run.open(first).manifest.generation == generation, "nothing was written"
    # A damaged map is made anew under the same version.
    part = Run.open(first).part_paths("projections")[0]
    Path(part).write_bytes(b"gone")
    repaired = project(first, ["attended"])[0]
    assert (repaired.version, repaired.reused) == (made[0].version, False)
    np.testing.assert_array_equal(Catalog(Run.open(first)).places(repaired.version).x, one.x)


def test_few_images_are_shown_by_their_components(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 6, seed=2)
    printed = CliRunner().invoke(app, ["project", str(path)], env={"COLUMNS": "200"})
    assert printed.exit_code == 0, printed.output
    manifest = Run.open(path).manifest
    for features in available(path):
        version = latest_version(manifest, features)
        assert version
        assert f"The map of {features} features is made" in printed.output
        assert Catalog(Run.open(path)).places(version).known.any()
    assert "python -m dashboard serve" in printed.output
    assert (
        "is there already" in CliRunner().invoke(app, ["project", str(path), "--features", "attended"]).output
    )


def test_features_that_nobody_has_are_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 6, seed=2)
    with pytest.raises(ConfigError, match="penultimate or attended"):
        project(path, ["colours"])


def test_a_map_is_framed_with_one_scale_for_both_directions() -> None:
    xy = rng.normal(size=(50, 2)).astype(np.float32) * [3, 1]
    made = framed(xy.astype(np.float32))
    assert made.min() >= 0
    assert made.max() <= 1
    ratio = np.ptp(made, axis=0) / np.ptp(xy, axis=0)
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-4)
    assert (framed(np.ones((4, 2), np.float32)) == 0.5).all()
