"""Tables of a selection: the same values as the run holds, in order, however many rows are written at a time."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from cache import exports, queries
from cache.catalog import Catalog
from cache.errors import FilterError, RunStorageError
from cache.exports import export_columns, write_table
from cache.filters import Filter, Is
from cache.queries import Sort
from cache.run import Run
from tests.seeding import rng
from tests.synthetic import make_run

MAPS = [("gradcam", "pred"), ("layercam", "true")]
AWKWARD = ('a,"b"\n;', "=1+1", "🦊 مرحبا", "c")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog(Run.open(make_run(tmp_path_factory.mktemp("runs") / "a", 230, classes=AWKWARD, seed=8)))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_sample_has_its_row_in_order(
    catalog: Catalog, form: exports.Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "AT_ONCE", int(rng.integers(7, 60)))
    chosen, order = Filter((Is("correct", False),)), Sort("confidence", descending=True)
    path, steps = tmp_path / f"a.{form}", list[tuple[int, int]]()
    n = write_table(catalog, chosen, path, form, sort=order, maps=MAPS, progress=lambda *at: steps.append(at))
    table = read(path)
    rows = queries.page(catalog, chosen, order, limit=1000).to_pylist()
    assert n == table.num_rows == len(rows) == steps[-1][0] == steps[-1][1]
    assert table.column_names == export_columns(catalog, MAPS)
    assert table["sample_id"].to_pylist() == [row["sample_id"] for row in rows]
    assert table["pred_name"].to_pylist() == [AWKWARD[row["pred"]] for row in rows]
    assert table["label_name"].to_pylist() == [AWKWARD[row["label"]] for row in rows]
    for name in ("confidence", "brightness", "meta.altitude"):
        for got, row in zip(table[name].to_pylist(), rows, strict=True):
            assert (got is None and row[name] is None) or math.isclose(got, row[name], rel_tol=1e-6)
    expected = [row["top_classes"] for row in rows]
    got = table["top_classes"].to_pylist()
    assert (got if form == "parquet" else [[int(v) for v in text.split("|")] for text in got]) == expected


def test_statistics_are_those_of_the_map_asked_for(catalog: Catalog, tmp_path: Path) -> None:
    write_table(catalog, Filter(), tmp_path / "a.parquet", "parquet", maps=MAPS)
    table = read(tmp_path / "a.parquet")
    for method, target, name in (
        ("gradcam", "pred", "gradcam.entropy"),
        ("layercam", "true", "layercam:true.entropy"),
    ):
        rows = queries.page(catalog, Filter(), Sort("entropy", method=method, target=target), limit=1000)
        expected = dict(zip(rows["sample_id"].to_pylist(), rows["sort_value"].to_pylist(), strict=True))
        assert dict(zip(table["sample_id"].to_pylist(), table[name].to_pylist(), strict=True)) == expected
    assert pc.sum(pc.is_valid(table["gradcam.entropy"])).as_py() > 100


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_no_samples_are_a_table_without_rows(catalog: Catalog, form: exports.Format, tmp_path: Path) -> None:
    none = Filter((Is("correct", False), Is("correct", None)))
    assert write_table(catalog, none, tmp_path / f"a.{form}", form) == 0
    assert (tmp_path / f"a.{form}").stat().st_size
    if form == "parquet":
        assert read(tmp_path / "a.parquet").column_names == export_columns(catalog)


def test_what_goes_wrong_leaves_nothing(catalog: Catalog, tmp_path: Path) -> None:
    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(catalog, Filter(), tmp_path / "a.csv", "csv", progress=stop)
    with pytest.raises(FilterError, match="no method"):
        write_table(catalog, Filter(), tmp_path / "a.csv", "csv", maps=[("nope", "pred")])
    with pytest.raises(RunStorageError, match="cannot be written"):
        write_table(catalog, Filter(), tmp_path / "nowhere" / "a.csv", "csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_hundred_thousand_samples_take_a_few_seconds(tmp_path: Path) -> None:
    catalog = Catalog(Run.open(make_run(tmp_path / "a", 100_000, methods=("gradcam",))))
    for form in ("csv", "parquet"):
        start = time.perf_counter()
        assert (
            write_table(catalog, Filter(), tmp_path / f"a.{form}", form, maps=[("gradcam", "pred")])
            == 100_000
        )
        taken = time.perf_counter() - start
        print(f"{form}: {taken:.1f} s, {(tmp_path / f'a.{form}').stat().st_size / 1e6:.0f} MB")
        assert taken < 20  # a few seconds where nobody else works


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(newlines_in_values=True))
