"""The index is disposable: it answers as the parts do, and one that is not whole, or not of this run, is not used."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cache import attention, held, index, map_file, queries
from cache.catalog import Catalog
from cache.errors import RunBusyError, RunDamagedError, RunStorageError
from cache.fields import TARGETS, Source
from cache.filter_sql import RegionSource
from cache.filters import Filter, Range, RegionMass
from cache.grid_file import GridFile, summed, write_grid
from cache.index import INDEX_NAME, INDEX_VARIABLE, TABLES_NAME, find_index, index_folders, index_stamp
from cache.indexing import build_index, drop_index
from cache.map_file import map_name, record, write_maps
from cache.profiles import maps_by_method
from cache.regions import PRESETS, Region
from cache.run import Run
from cache.schema import CORNERS
from cache.writer import RunWriter
from tests.seeding import rng

EVERYTHING = Filter()
BOX = Region.box(0.11, 0.2, 0.63, 0.9)


@pytest.fixture
def path(indexed_path: Path, tmp_path: Path) -> Path:
    """A run of one's own with its index, as it was built."""
    ignored = shutil.ignore_patterns("grid-layercam-*", "*-true.f32")
    return shutil.copytree(indexed_path, tmp_path / "run", ignore=ignored)


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("region", [BOX, PRESETS["border"], Region.polygon([(0, 0), (1, 0.2), (0.3, 0.8)])])
def test_masses_are_the_parts(
    run_path: Path, indexed_path: Path, method: str, target: str, region: Region
) -> None:
    wanted = RegionSource(Source(method, "pred" if target == "pred" else "true"), region)
    over_parts, over_index = (Catalog(Run.open(p)).masses(wanted) for p in (run_path, indexed_path))
    assert over_index.equals(over_parts)
    assert over_index["mass"].null_count < over_index.num_rows


def test_tables_are_the_same_and_in_order(run_path: Path, indexed_path: Path) -> None:
    catalogs = [Catalog(Run.open(path)) for path in (run_path, indexed_path)]
    names = [catalogs[0].source_table(Source(m, t)) for m in ("gradcam", "layercam") for t in TARGETS]
    names += [catalogs[0].pairs_table(t) for t in TARGETS] + ["samples", catalogs[0].ranks_table()]
    for name in names:
        over_parts, over_index = (catalog.query(f"SELECT * FROM {name}") for catalog in catalogs)
        assert over_index.equals(over_parts), name
        assert over_index.num_rows == 260
        if "sample" in over_index.column_names:
            assert over_index["sample"].to_pylist() == list(range(260))


def test_grids_of_other_methods_are_copied_when_they_are_asked_for(path: Path) -> None:
    def files() -> set[str]:
        return {p.name for p in index_folder(path).glob("grid-*")}

    catalog = Catalog(Run.open(path))
    assert files() == {"grid-gradcam-pred.f32"}
    queries.count(catalog, Filter((RegionMass(BOX, 0.2, method="layercam", target="true"),)))
    assert files() == {"grid-gradcam-pred.f32", "grid-layercam-true.f32"}


def test_only_so_many_grids_are_kept_and_the_default_one_always(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_GRIDS", 1)
    for number, source in enumerate((("layercam", "pred"), ("gradcam", "true"), ("layercam", "true"))):
        for grid in index_folder(path).glob("grid-*"):
            os.utime(grid, (number, number))
        held.mean_map(Catalog(Run.open(path)), EVERYTHING, *source)
    names = {p.name for p in index_folder(path).glob("grid-*")}
    assert "grid-gradcam-pred.f32" in names
    assert len(names) == 2


def test_without_room_for_grids_the_parts_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SPARE_BYTES", 1 << 60)
    catalog = Catalog(Run.open(path))
    assert catalog.grid(Source("gradcam", "pred")) is not None
    assert catalog.grid(Source("layercam", "pred")) is None
    asked = Filter((RegionMass(BOX, 0.2, method="layercam"),))
    plain = Catalog(Run.open(path), indexed=False)
    assert queries.ids(catalog, asked) == queries.ids(plain, asked)
    condition = RegionMass(BOX, 0.2, method="layercam")
    assert held.split(catalog, EVERYTHING, condition) == attention.region_split(plain, EVERYTHING, condition)


@pytest.mark.parametrize("target", TARGETS)
def test_maps_are_the_parts(run_path: Path, indexed_path: Path, target: str) -> None:
    over_parts, over_index = (Catalog(Run.open(p)) for p in (run_path, indexed_path))
    chosen = queries.ids(over_parts, EVERYTHING)
    found = [maps_by_method(c, chosen, ["gradcam", "layercam"], target) for c in (over_parts, over_index)]
    assert over_index.index is not None
    assert set(over_index.index.maps) == {"gradcam", "layercam"}
    assert 0 < len(found[0]["layercam"]) <= 260
    for method, expected in found[0].items():
        assert list(found[1][method]) == list(expected)
        for sample_id, values in expected.items():
            np.testing.assert_array_equal(found[1][method][sample_id], values)


def test_an_open_index_reads_maps_of_its_own_file(path: Path) -> None:
    catalog = Catalog(Run.open(path))
    chosen = queries.ids(catalog, EVERYTHING)[:9]
    file = index_folder(path) / map_name("gradcam")
    expected = maps_by_method(catalog, chosen, ["gradcam"])["gradcam"]
    rows = np.fromfile(file, record(98))
    rows["scale"] *= 2
    rows.tofile(file)
    doubled = maps_by_method(catalog, chosen, ["gradcam"])["gradcam"]
    for sample_id, values in expected.items():
        np.testing.assert_array_equal(doubled[sample_id], 2 * values)
    zeros = bytes(file.stat().st_size)
    for harm in (lambda: file.write_bytes(zeros), lambda: os.truncate(file, 10), file.unlink):
        harm()
        again = maps_by_method(catalog, chosen, ["gradcam"])["gradcam"]
        for sample_id, values in expected.items():
            np.testing.assert_array_equal(again[sample_id], values)


def test_maps_of_different_or_large_sizes_stay_in_the_parts(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(path)
    assert write_maps(run, "gradcam", tmp_path / "maps") == 98
    monkeypatch.setattr(map_file, "MOST_BYTES", 97)
    assert write_maps(run, "gradcam", tmp_path / "maps") is None
    assert not (tmp_path / "maps").exists()
    drop_index(run)
    built = build_index(run)
    assert not list(built.folder.glob("maps-*"))
    catalog = Catalog(Run.open(path))
    assert catalog.index is not None
    assert maps_by_method(catalog, queries.ids(catalog, EVERYTHING)[:5], ["gradcam"])["gradcam"]


def index_folder(path: Path) -> Path:
    found = find_index(Run.open(path))
    assert found is not None
    return found.folder


def publish_samples(path: Path) -> None:
    with RunWriter(path) as writer:
        rows = Catalog(Run.open(path), indexed=False).read("errors", ["sample_id"])
        assert rows.num_rows
        part = writer.manifest.parts["samples"][-1]
        writer.publish(drop=[("samples", part.name)])


HARM: dict[str, Callable[[Path], object]] = {
    "no index.json": lambda f: (f / INDEX_NAME).unlink(),
    "index.json cut short": lambda f: (f / INDEX_NAME).write_text('{"samples": 2'),
    "index.json of a list": lambda f: (f / INDEX_NAME).write_text("[1]"),
    "tables cut short": lambda f: os.truncate(f / TABLES_NAME, 5_000),
    "tables gone": lambda f: (f / TABLES_NAME).unlink(),
    "tables of the same size": lambda f: (f / TABLES_NAME).write_bytes(bytes((f / TABLES_NAME).stat().st_size)),
    "another name": lambda f: f.rename(f.with_name("00000000-0000")),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_an_index_that_is_not_whole_is_ignored_and_built_anew(path: Path, harm: str) -> None:
    expected = queries.ids(Catalog(Run.open(path)), EVERYTHING)
    HARM[harm](index_folder(path))
    catalog = Catalog(Run.open(path))
    assert catalog.index is None
    assert queries.ids(catalog, EVERYTHING) == expected
    build_index(Run.open(path))
    assert Catalog(Run.open(path)).index is not None


def test_grids_that_are_not_whole_are_copied_anew(path: Path) -> None:
    wanted = RegionSource(Source("gradcam", "pred"), BOX)
    expected = Catalog(Run.open(path)).masses(wanted)
    grid = index_folder(path) / "grid-gradcam-pred.f32"
    os.truncate(grid, 100)
    assert Catalog(Run.open(path)).masses(wanted).equals(expected)
    assert grid.stat().st_size == index.file_size(260)


def test_other_samples_make_an_index_stale_and_findings_do_not(path: Path) -> None:
    folder = index_folder(path)
    with RunWriter(path) as writer:
        writer.save()
    assert index_folder(path) == folder
    publish_samples(path)
    assert find_index(Run.open(path)) is None
    catalog = Catalog(Run.open(path))
    assert catalog.index is None
    built = build_index(Run.open(path))
    assert built.folder != folder
    assert not folder.exists(), "older ones are taken away"
    assert queries.count(Catalog(Run.open(path)), EVERYTHING) == queries.count(catalog, EVERYTHING)


def test_an_open_catalog_goes_on_while_the_next_index_is_built(path: Path) -> None:
    catalog = Catalog(Run.open(path))
    before = queries.ids(catalog, Filter((Range("border_mass", 0.1),)))
    publish_samples(path)
    build_index(Run.open(path))
    assert queries.ids(catalog, Filter((Range("border_mass", 0.1),))) == before
    assert held.mean_map(catalog, EVERYTHING).n > 0


def test_several_catalogs_read_one_index_at_once(path: Path) -> None:
    def ask(number: int) -> int:
        asked = Filter((RegionMass(BOX, 0.2, method=("gradcam", "layercam")[number % 2]),))
        return queries.count(Catalog(Run.open(path)), asked).n

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(18)))
    assert len(set(found[::2])) == len(set(found[1::2])) == 1


def test_a_second_builder_is_refused_and_an_index_is_not_built_twice(path: Path) -> None:
    import fcntl

    first = build_index(Run.open(path))
    assert first.seconds == 0
    drop_index(Run.open(path))
    with open(path / "index" / ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunBusyError, match="Another process"):
            build_index(Run.open(path))
    assert build_index(Run.open(path)).seconds > 0


def test_what_a_killed_builder_left_is_taken_away(path: Path) -> None:
    drop_index(Run.open(path))
    left = path / "index" / ".building-dead"
    left.mkdir()
    (left / INDEX_NAME).write_text("{}")
    assert index_stamp(path) == ()
    build_index(Run.open(path))
    assert not left.exists()
    assert len(index_stamp(path)) == 1


def test_a_run_that_cannot_be_written_is_indexed_elsewhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_index(Run.open(path))
    shutil.rmtree(path / "index")
    (path / "index").write_text("in the way")
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "elsewhere"))
    before = index_stamp(path)
    built = build_index(Run.open(path))
    assert built.folder.is_relative_to(tmp_path / "elsewhere")
    assert index_stamp(path) != before
    catalog = Catalog(Run.open(path))
    assert catalog.index is not None
    assert queries.count(catalog, EVERYTHING).n == 260
    assert [p.name for p in drop_index(Run.open(path))] == [built.folder.name]
    (tmp_path / "blocked").write_text("in the way")
    monkeypatch.setenv(INDEX_VARIABLE, str(tmp_path / "blocked"))
    with pytest.raises(RunStorageError, match=INDEX_VARIABLE):
        build_index(Run.open(path))


def test_two_runs_of_one_name_have_indexes_of_their_own(tmp_path: Path) -> None:
    first, second = (index_folders(tmp_path / folder / "run") for folder in ("a", "b"))
    assert not set(first) & set(second)


def test_an_index_that_breaks_while_it_is_open_is_one_sentence_and_set_aside(path: Path) -> None:
    catalog = Catalog(Run.open(path))
    tables = index_folder(path) / TABLES_NAME
    with open(tables, "r+b") as file:
        file.seek(12_288)
        file.write(rng.bytes(tables.stat().st_size - 12_288))
    with pytest.raises(RunDamagedError, match="reload the page"):
        catalog.query("SELECT * FROM samples")
    assert Catalog(Run.open(path)).index is None


def test_a_run_without_samples_can_be_indexed(tmp_path: Path) -> None:
    from cache.manifest import Manifest

    manifest = Manifest("empty", classes=["a"], default_method="gradcam", methods={"gradcam": {"title": "x"}})
    with RunWriter(tmp_path / "run", manifest) as writer:
        writer.save()
    assert build_index(Run.open(tmp_path / "run")).samples == 0
    catalog = Catalog(Run.open(tmp_path / "run"))
    assert catalog.index is not None
    assert queries.ids(catalog, Filter((RegionMass(BOX, 0.1),))) == []
    assert held.mean_map(catalog, EVERYTHING).p is None


def test_progress_goes_from_nothing_to_all(path: Path) -> None:
    drop_index(Run.open(path))
    told: list[float] = []
    build_index(Run.open(path), ("layercam",), lambda share, _: told.append(share))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    known = json.loads((index_folder(path) / INDEX_NAME).read_text())
    assert known["grids"] == ["grid-gradcam-pred.f32", "grid-layercam-pred.f32"]


def test_sums_of_columns_are_sums_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.grid_file.BLOCK", 7)
    monkeypatch.setattr("cache.grid_file.FEWEST", 11)
    n = 50
    corners = rng.random((len(CORNERS), n)).astype(np.float32)
    state = rng.integers(0, 3, n).astype(np.uint8)
    order = rng.permutation(n)
    blocks = [(some, corners[:, some]) for some in (order[:20], np.sort(order[20:35]), order[35:])]
    write_grid(tmp_path / "grid", n, state, blocks)
    grid = GridFile(tmp_path / "grid", n)
    np.testing.assert_array_equal(grid.corners, corners)
    np.testing.assert_array_equal(grid.defined, state == 2)
    weights = BOX.corner_weights()
    expected = sum(w * corners[CORNERS.index(name)].astype(np.float64) for name, w in weights.items())
    np.testing.assert_allclose(summed(grid.corners, weights), expected, atol=1e-6)
    masses = grid.masses(BOX)
    assert masses["mass"].is_null().equals(pa.chunked_array([pa.array(state != 2)]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid"]
