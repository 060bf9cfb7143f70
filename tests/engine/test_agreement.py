"""Agreement between methods and gaps in a run: against SciPy on the stored maps, after methods and images are added."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from cache import agreement
from cache.agreement import agreement_matrix
from cache.catalog import Catalog
from cache.filters import Filter, Is, Range
from cache.queries import count
from cache.run import Run
from cache.schema import CORNERS, pair_name
from engine.explain import explain
from tests.engine.audits import config, tables, write_factory, write_images

METHODS = ("eigencam", "gradcam", "layercam")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 12)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_factory(tmp_path)


def cells(rows, row):
    grid = rows.loc[row, list(CORNERS)].to_numpy(float).reshape(14, 14)
    return np.round(np.diff(np.diff(grid, axis=0, prepend=0), axis=1, prepend=0), 6).ravel()


def check(run: Path, methods: tuple[str, ...]) -> None:
    """Compare the table with correlations of the stored grids, map by map."""
    held = tables(run)
    agreement = held["agreement"].set_index(["content", "target"])
    assert not agreement.index.duplicated().any()
    maps = {m: held[f"attributions/{m}"].set_index(["content", "target"]) for m in methods}
    assert set(agreement.index) == set(maps["gradcam"].index)
    assert list(agreement.columns) == [pair_name(a, b) for a, b in combinations(sorted(methods), 2)]
    checked = 0
    for key in agreement.index:
        for a, b in combinations(methods, 2):
            value = agreement.loc[key, pair_name(a, b)]
            if maps[a].loc[key, "degenerate"] or maps[b].loc[key, "degenerate"]:
                assert np.isnan(value)
                continue
            expected = spearmanr(cells(maps[a], key), cells(maps[b], key)).statistic
            np.testing.assert_allclose(value, expected, atol=1e-6)
            checked += 1
    assert checked >= 12


def test_every_two_methods_are_correlated_also_with_one_added_later(images, model, tmp_path):
    run = tmp_path / "run"
    explain(config(images, run, model, methods="gradcam,layercam"))
    check(run, ("gradcam", "layercam"))
    explain(config(images, run, model, methods="gradcam,layercam,eigencam"))
    check(run, METHODS)


def test_new_images_are_correlated_and_known_ones_stay(images, model, tmp_path):
    run = tmp_path / "run"
    explain(config(images, run, model, methods=",".join(METHODS)))
    before = Run.open(run).manifest.parts["agreement"]
    write_images(images, 15)
    explain(config(images, run, model, methods=",".join(METHODS)))
    assert all(part in Run.open(run).manifest.parts["agreement"] for part in before)
    check(run, METHODS)


def test_a_run_of_one_method_has_no_agreement(images, model, tmp_path):
    explain(config(images, tmp_path / "run", model, methods="gradcam"))
    manifest = Run.open(tmp_path / "run").manifest
    assert "agreement" not in manifest.parts
    assert "agreement" not in {field.name for field in manifest.statistics}


def test_agreement_is_a_statistic_in_which_equivalent_methods_count_once(images, model, tmp_path):
    run = tmp_path / "run"
    explain(config(images, run, model, methods="gradcam,xgradcam,hirescam,layercam,eigencam"))
    catalog = Catalog(Run.open(run))
    rows = tables(run)["agreement"]
    held = catalog.query(
        f"SELECT s.content, s.pred, m.agreement FROM samples s JOIN {catalog.source_table(catalog.source('layercam'))} m "
        "ON m.sample = s.sample"
    ).to_pandas()
    merged = held.merge(rows, left_on=["content", "pred"], right_on=["content", "target"])
    expected = merged[["eigencam__layercam", "gradcam__layercam"]].mean(axis=1)
    np.testing.assert_allclose(merged["agreement"], expected, atol=1e-6)
    alone = catalog.query(
        f"SELECT avg(agreement) AS a FROM {catalog.source_table(catalog.source('gradcam'))}"
    )["a"][0].as_py()
    np.testing.assert_allclose(
        alone, merged[["eigencam__gradcam", "gradcam__layercam"]].mean(axis=1).mean(), atol=1e-6
    )
    threshold = float(held["agreement"].median())
    chosen = Filter((Range("agreement", high=threshold, method="layercam"),))
    assert count(catalog, chosen).n == int((held["agreement"] <= np.float32(threshold)).sum())


def test_images_explained_with_fewer_methods_are_told_apart_and_completed(images, model, tmp_path):
    run = tmp_path / "run"
    explain(config(images, run, model, methods="gradcam,layercam"))
    write_images(images, 15)
    summary = explain(config(images, run, model, methods="gradcam"))
    (said,) = [notice for notice in summary.notices if "Maps are missing" in notice]
    lacking = 3
    assert f"Layer-CAM of {lacking} of" in said
    assert "--methods gradcam,layercam" in said
    assert said in Run.open(run).manifest.notices
    summary = explain(config(images, run, model, methods="gradcam,layercam"))
    assert not [notice for notice in summary.notices if "Maps are missing" in notice]
    assert len(tables(run)["attributions/layercam"]) == len(tables(run)["attributions/gradcam"])


def test_a_selection_rests_on_what_is_stored_and_equals_the_grids(images, model, tmp_path, monkeypatch):
    run = tmp_path / "run"
    explain(config(images, run, model, methods=",".join(METHODS)))
    selection = Filter((Is("correct", True),))
    stored = agreement_matrix(Catalog(Run.open(run)), selection, METHODS)
    monkeypatch.setattr(agreement, "_stored", lambda *_: None)
    measured = agreement_matrix(Catalog(Run.open(run)), selection, METHODS)
    np.testing.assert_allclose(stored.mean, measured.mean, atol=1e-6)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_array_equal(stored.pairs[off], measured.pairs[off])
    assert (stored.samples, stored.total) == (measured.samples, measured.total)
