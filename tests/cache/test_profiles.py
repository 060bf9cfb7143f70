"""Single samples: their values, maps, thumbnails, standing and nearest relatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache import profiles, queries
from cache.catalog import Catalog
from cache.filters import Filter
from cache.run import Run
from tests.cache.slow_reference import SlowRun


@pytest.fixture(scope="module")
def slow(run_path: Path) -> SlowRun:
    return SlowRun(run_path)


def test_everything_about_a_sample(catalog: Catalog, slow: SlowRun) -> None:
    for row in slow.samples[::37]:
        found = profiles.sample(catalog, row["sample_id"])
        assert found is not None
        for name, value in row.items():
            if name == "mask" and value is not None:
                bits = np.unpackbits(np.frombuffer(value, np.uint8)).astype(bool)
                np.testing.assert_array_equal(found["mask"].ravel(), bits)
            else:
                assert found[name] == value, name
    assert profiles.sample(catalog, "nowhere") is None


def test_thumbnails_are_each_sample_s_own(catalog: Catalog, slow: SlowRun, run_path: Path) -> None:
    images = {
        row["content"]: row["image"]
        for part in Run.open(run_path).part_paths("thumbnails")
        for row in pq.read_table(part).to_pylist()
    }
    by_id = {row["sample_id"]: row["content"] for row in slow.samples}
    wanted = list(by_id)[::-1]
    found = profiles.thumbnails(catalog, [*wanted[:100], "nowhere", *wanted[:3]])
    assert list(found) == wanted[:100]
    assert all(found[i] == images[by_id[i]] for i in found)


@pytest.mark.parametrize(("method", "target"), [(None, None), ("layercam", "true")])
def test_maps_of_several_samples(
    catalog: Catalog, slow: SlowRun, method: str | None, target: str | None
) -> None:
    rows = slow.samples[5::11]
    found = profiles.maps(catalog, [row["sample_id"] for row in rows], method, target)
    assert set(found) == {row["sample_id"] for row in rows}
    for row in rows:
        stored = slow.map_of(row, method, target)
        assert stored is not None
        values = (
            np.frombuffer(stored["map"], "<f2").astype(np.float64).reshape(stored["height"], stored["width"])
        )
        np.testing.assert_allclose(found[row["sample_id"]], values * stored["scale"], rtol=1e-6)


def test_every_map_of_a_sample(catalog: Catalog, slow: SlowRun) -> None:
    wrong = next(row for row in slow.samples if row["correct"] is False)
    right = next(row for row in slow.samples if row["correct"])
    for row in (wrong, right):
        found = profiles.attributions_of(catalog, row["sample_id"])
        targets = sorted({row["pred"], row["label"]})
        assert [(a.method, a.target) for a in found] == [
            (m, t) for m in ("gradcam", "layercam") for t in targets
        ]
        for attribution in found:
            stored = slow.maps[attribution.method, row["content"], attribution.target]
            assert attribution.map.shape == (stored["height"], stored["width"])
            assert attribution.degenerate == stored["degenerate"]
            assert attribution.statistics == {name: stored[name] for name in attribution.statistics}
            assert "border_mass" in attribution.statistics


def test_a_degenerate_map_has_no_shares(catalog: Catalog, slow: SlowRun) -> None:
    row = next(row for row in slow.samples if slow.value(row, "degenerate", None, "pred"))
    own = next(a for a in profiles.attributions_of(catalog, row["sample_id"]) if a.target == row["pred"])
    assert own.degenerate
    assert own.statistics["border_mass"] is None
    assert not own.map.any()
    standing = {s.field.name: s for s in profiles.standing(catalog, row["sample_id"])}
    assert standing["border_mass"].value is None
    assert standing["border_mass"].percentile is None
    assert standing["border_mass"].median is not None
    assert profiles.nearest(catalog, row["sample_id"]) == []
    assert profiles.nearest(catalog, row["sample_id"], "penultimate")


def test_standing_within_the_predicted_class(catalog: Catalog, slow: SlowRun) -> None:
    for row in slow.samples[::50]:
        peers = [other for other in slow.samples if other["pred"] == row["pred"]]
        for standing in profiles.standing(catalog, row["sample_id"], "layercam"):
            name = standing.field.name
            values = [v for p in peers if (v := slow.value(p, name, "layercam", None)) is not None]
            own = slow.value(row, name, "layercam", None)
            assert standing.value == own
            assert standing.n == len(values)
            assert standing.median == pytest.approx(np.median(values), rel=1e-5)
            if own is not None:
                below = sum(v < own for v in values) + sum(v == own for v in values) / 2
                assert standing.percentile == pytest.approx(below / len(values))
    assert profiles.standing(catalog, "nowhere") == []


@pytest.mark.parametrize("by", ["attended", "penultimate"])
def test_nearest_by_cosine(catalog: Catalog, slow: SlowRun, run_path: Path, by: str) -> None:
    vectors = {
        row["content"]: np.array(row[f"{by}_projection"], dtype=np.float64)
        for part in Run.open(run_path).part_paths("embeddings")
        for row in pq.read_table(part).to_pylist()
        if row[f"{by}_projection"] is not None
    }
    names: dict[str, list[str]] = {}
    for row in slow.samples:
        names.setdefault(row["content"], []).append(row["sample_id"])
    asked = [row for row in slow.samples[3::41] if row["content"] in vectors]
    for row in asked:
        own = vectors[row["content"]]
        expected = {
            content: float(own @ v / np.linalg.norm(own) / np.linalg.norm(v))
            for content, v in vectors.items()
        }
        found = profiles.nearest(catalog, row["sample_id"], by, k=9)  # type: ignore[arg-type]
        assert len(found) == 9
        assert row["sample_id"] not in [name for name, _ in found]
        contents = {name: content for content, held in names.items() for name in held}
        best = sorted((s for c, s in expected.items() if set(names[c]) - {row["sample_id"]}), reverse=True)[
            :9
        ]
        assert [s for _, s in found] == pytest.approx(best, abs=2e-3)
        for name, similarity in found:
            assert similarity == pytest.approx(expected[contents[name]], abs=2e-3)


def test_a_copy_of_an_image_is_its_nearest_neighbour_once(catalog: Catalog, slow: SlowRun) -> None:
    copy = next(
        r
        for r in slow.samples
        if r["sample_id"].startswith("copies/") and not slow.value(r, "degenerate", None, "pred")
    )
    original = next(r for r in slow.samples if r["content"] == copy["content"] and r is not copy)
    for asked, other in ((copy, original), (original, copy)):
        found = profiles.nearest(catalog, asked["sample_id"], k=5)
        assert found[0] == (other["sample_id"], pytest.approx(1.0, abs=1e-3))
        assert asked["sample_id"] not in [name for name, _ in found]
    # For anybody else the two are one neighbour.
    third = next(
        r for r in slow.samples if r["content"] not in (copy["content"],) and r["pred"] == copy["pred"]
    )
    names = [name for name, _ in profiles.nearest(catalog, third["sample_id"], "penultimate", k=300)]
    assert len({copy["sample_id"], original["sample_id"]} & set(names)) == 1
    assert len(names) == len(set(names)) == 257


def test_a_page_of_a_large_run_needs_few_row_groups(catalog: Catalog) -> None:
    assert len(profiles.thumbnails(catalog, queries.ids(catalog, Filter(), limit=48))) == 48
