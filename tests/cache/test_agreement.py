from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from cache import profiles, queries
from cache.agreement import agreement_matrix
from cache.catalog import Catalog
from cache.errors import RunDamagedError
from cache.evidence import same_evidence
from cache.filters import Filter, Is
from cache.manifest import Manifest
from cache.maps import grid_of
from cache.ranks import CELL_DECIMALS
from cache.run import Run
from tests.synthetic import make_run
from tests.synthetic_methods import CELLS, KINDS, labels_of, weights_of
from tests.synthetic_story import SIDE, Story

METHODS = ("gradcam", "hirescam", "occlusion", "lime")
SEED, SAMPLES = 9, 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = make_run(tmp_path_factory.mktemp("runs") / "many", SAMPLES, methods=METHODS, seed=SEED)
    return Catalog(Run.open(path))


@pytest.mark.parametrize("target", ["pred", "true"])
def test_means_are_those_of_scipy(many: Catalog, target: str) -> None:
    matrix = agreement_matrix(many, Filter(), METHODS, target)
    ids = queries.ids(many, Filter())
    grids = {
        m: {key: grid_of(each) for key, each in profiles.maps(many, ids, m, target).items()} for m in METHODS
    }
    for i, first in enumerate(METHODS):
        for j, second in enumerate(METHODS):
            found = []
            for key in ids:
                a, b = grids[first].get(key), grids[second].get(key)
                if a is not None and b is not None:
                    cells = [np.round(p.ravel(), CELL_DECIMALS) for p in (a, b)]
                    found.append(spearmanr(*cells).statistic)
            assert matrix.pairs[i, j] == len(found)
            # Corners are stored in single precision: cells near zero may tie or not.
            assert matrix.mean[i, j] == pytest.approx(np.mean(found), abs=5e-3)
    assert matrix.samples == matrix.total == SAMPLES


def test_a_large_selection_rests_on_a_fixed_choice(many: Catalog) -> None:
    some, again = (agreement_matrix(many, Filter(), METHODS, limit=20) for _ in range(2))
    assert (some.samples, some.total) == (20, SAMPLES)
    assert np.array_equal(some.mean, again.mean)
    wrong = agreement_matrix(many, Filter((Is("correct", False),)), METHODS)
    assert wrong.total == queries.count(many, Filter((Is("correct", False),))).n


def test_an_empty_selection_has_no_means(many: Catalog) -> None:
    nothing = Filter((Is("correct", False), Is("correct", True)))
    matrix = agreement_matrix(many, nothing, METHODS)
    assert np.isnan(matrix.mean).all()
    assert matrix.with_the_others([(m,) for m in METHODS]) == [None] * len(METHODS)


def test_what_coincides_counts_once(many: Catalog) -> None:
    groups = same_evidence(many.manifest, METHODS)
    assert groups == [("gradcam", "hirescam"), ("occlusion",), ("lime",)]
    matrix = agreement_matrix(many, Filter(), METHODS)
    mean = matrix.with_the_others(groups)
    assert mean[0] == pytest.approx((matrix.mean[0, 2] + matrix.mean[0, 3]) / 2)
    assert mean[2] == pytest.approx((matrix.mean[2, 0] + matrix.mean[2, 3]) / 2)


def test_what_equals_the_same_is_the_same_evidence() -> None:
    named = {"a": ["b"], "b": [], "c": ["b"], "d": [], "e": ["gone"]}
    described = Manifest("x", methods={m: {"equivalent": others} for m, others in named.items()})
    assert same_evidence(described, tuple("dabce")) == [("d",), ("a", "b", "c"), ("e",)]
    assert same_evidence(described, ("c", "a")) == [("c", "a")]


def test_superpixels_are_read_back(many: Catalog) -> None:
    story = Story(np.random.default_rng(SEED), SAMPLES, 4)
    wrong = queries.page(many, Filter((Is("correct", False),))).to_pylist()
    numbers = [int(row["sample_id"].rpartition("/")[2].partition(".")[0]) for row in wrong]
    # Where the story does not look at the object, the maps of the two classes differ.
    row, at = next(
        (row, i) for row, i in zip(wrong, numbers, strict=True) if story.looks_at[i] in ("ground", "corner")
    )
    for target, own in ((row["pred"], True), (row["label"], False)):
        found = profiles.superpixels(many, row["content"], "lime", target)
        assert found is not None
        assert found.labels.shape == (SIDE, SIDE)
        assert np.array_equal(found.labels, labels_of(story, np.array([at]))[0])
        assert np.array_equal(found.weights, weights_of(story, np.array([at]), KINDS["lime"], own)[0])
        assert len(found.weights) == CELLS**2
        assert found.intercept == pytest.approx(0.1)
    assert profiles.superpixels(many, row["content"], "gradcam", row["pred"]) is None
    assert profiles.superpixels(many, "nowhere", "lime", row["pred"]) is None


@pytest.mark.parametrize("data", [b"", b"nonsense", None])
def test_superpixels_that_do_not_fit_are_damage(
    many: Catalog, monkeypatch: pytest.MonkeyPatch, data: bytes | None
) -> None:
    import zlib

    import pyarrow as pa

    row = queries.page(many, Filter(), None, 0, 1).to_pylist()[0]
    bomb = zlib.compress(bytes(10_000_000))
    stored = pa.table(
        {"target": [row["pred"]], "height": [4], "width": [4], "superpixels": [bomb if data is None else data],
         "weights": [[1.0]], "intercept": [0.0]}
    )  # fmt: skip
    monkeypatch.setattr(many, "rows_of_maps", lambda *_: stored)
    with pytest.raises(RunDamagedError, match="do not fit"):
        profiles.superpixels(many, row["content"], "lime", row["pred"])


def test_runs_are_not_in_the_way_of_each_other(tmp_path: Path) -> None:
    """A run whose methods have no maps yet has a matrix of nothing."""
    catalog = Catalog(Run.open(make_run(tmp_path / "a", 12, failures=0)))
    catalog.manifest.methods["rise"] = {"equivalent": []}
    matrix = agreement_matrix(catalog, Filter(), ("gradcam", "rise"))
    assert np.isnan(matrix.mean[0, 1])
    assert matrix.mean[0, 0] == pytest.approx(1)
