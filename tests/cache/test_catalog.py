"""The catalog: empty runs, parts that differ, threads, vanished files, and how little of a run is read."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import profiles, queries
from cache.catalog import KEPT_REGIONS, Catalog
from cache.errors import RunDamagedError, RunNotFoundError
from cache.fields import Source
from cache.filter_sql import RegionSource
from cache.filters import Filter, Is, Not, OneOf, Range, RegionMass
from cache.manifest import Manifest
from cache.reading import read_rows
from cache.regions import PRESETS, Region
from cache.run import Run
from cache.schema import SAMPLE_COLUMNS, arrow_schema
from cache.writer import RunWriter
from tests.synthetic import make_run

EVERYTHING = Filter()
GRADCAM = Source("gradcam", "pred")


def test_a_run_without_parts_is_an_empty_catalog(tmp_path: Path) -> None:
    manifest = Manifest(
        "empty",
        classes=["wolf", "fox"],
        default_method="gradcam",
        methods={"gradcam": {"title": "Grad-CAM"}},
        meta=[{"name": "meta.camera", "type": "text"}],
    )
    with RunWriter(tmp_path / "run", manifest) as writer:
        writer.save()
    catalog = Catalog(Run.open(tmp_path / "run"))
    assert queries.count(catalog, EVERYTHING) == queries.Counts(0, 0, 0, 0)
    page = queries.page(catalog, EVERYTHING)
    assert page.num_rows == 0
    assert {c.name for c in SAMPLE_COLUMNS} - {"mask", "boxes", "record"} <= set(page.column_names)
    assert (
        queries.ids(catalog, Filter((RegionMass(PRESETS["border"], 0.1), OneOf("meta.camera", ("A",))))) == []
    )
    assert queries.confusion(catalog, EVERYTHING).num_rows == 0
    assert queries.per_class(catalog, EVERYTHING).num_rows == 0
    assert queries.expected_calibration_error(queries.reliability(catalog, EVERYTHING)) is None
    assert queries.mean_map(catalog, EVERYTHING) == queries.MeanMap(None, 0, 0)
    assert queries.field_range(catalog, "confidence") is None
    assert queries.histogram(catalog, EVERYTHING, "confidence").counts.sum() == 0
    assert queries.statistic_by_outcome(catalog, EVERYTHING, "confidence").right_median is None
    split = queries.region_split(catalog, EVERYTHING, RegionMass(PRESETS["border"], 0.1))
    assert (split.inside.n, split.outside.n, split.degenerate, split.missing) == (0, 0, 0, 0)
    assert queries.errors(catalog).column_names == ["sample_id", "uri", "label", "stage", "kind", "message"]
    assert queries.position(catalog, EVERYTHING, None, "x") == queries.Position(None, 0, None, None)
    assert profiles.sample(catalog, "x") is None
    assert profiles.attributions_of(catalog, "x") == []
    assert profiles.thumbnails(catalog, ["x"]) == {}
    assert profiles.maps(catalog, ["x"]) == {}
    assert profiles.nearest(catalog, "x") == []
    assert profiles.standing(catalog, "x") == []


def test_parts_may_have_other_metadata(tmp_path: Path) -> None:
    def rows(number: int, **meta: pa.Array) -> pa.Table:
        fillers = {pa.string(): "x", pa.int32(): 0, pa.float32(): 0.5, pa.bool_(): True}
        values = {c.name: [None if c.nullable else fillers.get(c.type, [])] for c in SAMPLE_COLUMNS}
        values["sample_id"] = [f"s{number}"]
        table = pa.table(values, schema=arrow_schema(SAMPLE_COLUMNS))
        for name, column in meta.items():
            table = table.append_column(f"meta.{name}", column)
        return table

    manifest = Manifest(
        "run",
        classes=["wolf"],
        meta=[
            {"name": "meta.site", "type": "text"},
            {"name": "meta.depth", "type": "number"},
            {"name": "meta.later", "type": "number"},
        ],
    )
    with RunWriter(tmp_path / "run", manifest) as writer:
        writer.append("samples", rows(0, site=pa.array(["north"]), depth=pa.array([3])))
        writer.append("samples", rows(1, depth=pa.array([2.5])))
        writer.append("samples", rows(2, site=pa.array([7])))
        writer.append("samples", rows(3, depth=pa.array([float("nan")])))
        writer.publish()
    catalog = Catalog(Run.open(tmp_path / "run"))
    page = queries.page(catalog, EVERYTHING, queries.Sort("meta.depth", descending=True))
    assert page["sample_id"].to_pylist() == ["s0", "s1", "s2", "s3"], "NULL and NaN come last"
    assert page["meta.site"].to_pylist() == ["north", None, "7", None]
    assert page["meta.depth"].to_pylist() == [3.0, 2.5, None, None]
    assert page["meta.later"].to_pylist() == [None] * 4
    assert queries.ids(catalog, Filter((Not(Range("meta.depth", None, 1)),))) == ["s0", "s1"]


@pytest.mark.parametrize("name", ["it's [a] run*?", "label=7", "{a,b} 💥"])
def test_folders_with_odd_names(tmp_path: Path, name: str) -> None:
    path = make_run(tmp_path / name, 12)
    decoy = tmp_path / "it's a run*?"
    shutil.copytree(path, decoy)
    catalog = Catalog(Run.open(path))
    assert queries.count(catalog, Filter((RegionMass(Region.box(0, 0, 1, 1), 0),))).n > 0
    assert queries.count(catalog, EVERYTHING).n == 12


def test_many_threads_ask_at_once(run_path: Path) -> None:
    catalog = Catalog(Run.open(run_path))
    filters = [
        Filter((RegionMass(Region.box(i / 40, 0, 0.6, 0.9), 0.3, method=("gradcam", "layercam")[i % 2]),))
        for i in range(20)
    ]

    def ask(i: int) -> tuple[list[str], int, int]:
        filter_ = filters[i % len(filters)]
        some = queries.ids(catalog, filter_)
        return some, queries.count(catalog, filter_).n, len(profiles.thumbnails(catalog, some[:5]))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(80)))
    alone = Catalog(Run.open(run_path))
    for i, (found, n, shown) in enumerate(answers):
        assert found == queries.ids(alone, filters[i % len(filters)])
        assert (n, shown) == (len(found), min(5, len(found)))
    assert len(catalog._masses) <= KEPT_REGIONS


def test_a_box_reads_its_sixteen_corners_and_no_others(run_path: Path, tmp_path: Path) -> None:
    box = Region.box(0.11, 0.2, 0.63, 0.9)
    needed = list(box.corner_weights())
    assert len(needed) == 16
    reference = Catalog(Run.open(run_path)).masses(RegionSource(GRADCAM, box))

    def answer(kept: list[str]) -> pa.Table:
        path = tmp_path / f"run{len(kept)}"
        shutil.copytree(run_path, path)
        table = "attributions/gradcam"
        parts = Run.open(path).part_paths(table)
        with RunWriter(path) as writer:
            fixed = ["content", "target", "degenerate"]
            statistics = [field.name for field in writer.manifest.statistics]
            for part in parts:
                writer.append(table, pq.read_table(part).select([*fixed, *statistics, *kept]))
            writer.publish(drop=[(table, Path(part).name) for part in parts])
        return Catalog(Run.open(path)).masses(RegionSource(GRADCAM, box))

    assert answer(needed).sort_by("sample").equals(reference.sort_by("sample"))
    assert answer(needed[1:])["mass"].null_count == reference.num_rows


def test_duplicate_rows_of_a_map_do_not_double_a_sample(run_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_path, path)
    part = Run.open(path).part_paths("attributions/gradcam")[0]
    again = pq.read_table(part)
    with RunWriter(path) as writer:
        writer.append("attributions/gradcam", again)
        writer.publish()
    catalog, before = Catalog(Run.open(path)), Catalog(Run.open(run_path))
    filter_ = Filter((Range("border_mass", 0.0),))
    assert queries.count(catalog, filter_) == queries.count(before, filter_)
    some = queries.ids(catalog, EVERYTHING)[0]
    assert len(profiles.attributions_of(catalog, some)) == len(profiles.attributions_of(before, some))


def test_a_run_that_went_away_is_one_sentence(run_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_path, path)
    catalog = Catalog(Run.open(path))
    some = queries.ids(catalog, EVERYTHING)[:3]
    shutil.rmtree(path)
    # What is in memory still answers; what lies on the disk says that it is gone.
    assert len(queries.ids(catalog, Filter((Is("correct", True),)))) > 0
    for ask in (
        lambda: queries.ids(catalog, Filter((RegionMass(PRESETS["border"], 0.1),))),
        lambda: profiles.thumbnails(catalog, some),
        lambda: profiles.sample(catalog, some[0]),
        lambda: profiles.attributions_of(catalog, some[0]),
        lambda: profiles.nearest(catalog, some[0]),
        lambda: queries.errors(catalog),
        lambda: queries.mean_map(catalog, EVERYTHING),
    ):
        with pytest.raises(RunNotFoundError, match="went away"):
            ask()


@pytest.mark.parametrize("harm", ["missing", "emptied", "scrambled"])
def test_a_part_that_is_damaged_meanwhile_is_one_sentence(run_path: Path, tmp_path: Path, harm: str) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_path, path)
    catalog = Catalog(Run.open(path))
    some = queries.ids(catalog, EVERYTHING)
    for table in ("attributions/gradcam", "thumbnails"):
        for part in Run.open(path).part_paths(table):
            if harm == "missing":
                Path(part).unlink()
            else:
                Path(part).write_bytes(b"" if harm == "emptied" else np.random.default_rng(0).bytes(20_000))
    for ask in (
        lambda: queries.ids(catalog, Filter((RegionMass(PRESETS["border"], 0.1),))),
        lambda: profiles.thumbnails(catalog, some),
    ):
        with pytest.raises(RunDamagedError, match="explain"):
            ask()
    # A catalog opened now leaves the damaged parts out and answers about the rest.
    reopened = Catalog(Run.open(path))
    assert reopened.run.damaged
    assert len(queries.ids(reopened, EVERYTHING)) == len(some)
    assert profiles.thumbnails(reopened, some) == {}


def test_files_replaced_by_a_newer_generation_are_told_apart(run_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(run_path, path)
    catalog = Catalog(Run.open(path))
    some = queries.ids(catalog, EVERYTHING)[:2]
    for part in Run.open(path).part_paths("thumbnails"):
        Path(part).unlink()
    with RunWriter(path) as writer:
        writer.save()
    with pytest.raises(RunDamagedError, match="newer generation"):
        profiles.thumbnails(catalog, some)


def test_rows_are_read_from_the_groups_that_hold_them(tmp_path: Path) -> None:
    paths = []
    for part in range(3):
        paths.append(str(tmp_path / f"{part}.parquet"))
        table = pa.table({"n": pa.array(range(part * 100, part * 100 + 50 + part))})
        pq.write_table(table, paths[-1], row_group_size=7)
    rng = np.random.default_rng(0)
    wanted = [(int(p), int(rng.integers(0, 50 + p))) for p in rng.integers(0, 3, 64)]
    got = read_rows(paths, wanted, ["n"])
    assert got["n"].to_pylist() == [part * 100 + row for part, row in wanted]
    assert read_rows(paths, [], ["n"]).num_rows == 0


def test_fields_of_a_catalog(catalog: Catalog) -> None:
    names = [field.name for field in catalog.fields()]
    assert names[:4] == ["confidence", "margin", "entropy", "loss"]
    assert {"brightness", "contrast", "meta.altitude", "meta.taken"} <= set(names)
    assert "meta.camera" not in names
    kinds = catalog.kinds()
    assert (kinds["pred"], kinds["correct"], kinds["meta.camera"], kinds["meta.taken"]) == (
        "class",
        "boolean",
        "text",
        "time",
    )
    assert "border_mass" in [field.name for field in catalog.method_fields()]
