"""The writer: what it publishes, what it refuses, and what survives it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import disk
from cache.compaction import MANY_SMALL
from cache.errors import RunBusyError, RunDamagedError, RunNotFoundError, RunSchemaError, RunStorageError
from cache.manifest import Manifest
from cache.parts import PartWriter
from cache.run import Run, find_runs
from cache.schema import PART_ROWS, SAMPLE_COLUMNS, THUMBNAIL_COLUMNS, THUMBNAIL_GROUP_ROWS, arrow_schema
from cache.writer import RunWriter

SAMPLES = arrow_schema(SAMPLE_COLUMNS)
THUMBNAILS = arrow_schema(THUMBNAIL_COLUMNS)
FILLERS = {pa.string(): "x", pa.int32(): 1, pa.float32(): 0.5, pa.bool_(): True, pa.binary(): b"x"}


def sample_rows(numbers: range, thumbnails: str, first: int = 0) -> pa.Table:
    columns = {f.name: [FILLERS.get(f.type, []) for _ in numbers] for f in SAMPLES}
    columns["sample_id"] = [f"s{i}" for i in numbers]
    columns["content"] = [f"{i:032x}" for i in numbers]
    columns["thumbnail_part"] = [thumbnails] * len(numbers)
    columns["thumbnail_row"] = [first + i for i in range(len(numbers))]
    return pa.table(columns, schema=SAMPLES)


def thumbnail_rows(numbers: range) -> pa.Table:
    return pa.table(
        {"content": [f"{i:032x}" for i in numbers], "image": [b"%d" % i for i in numbers]}, schema=THUMBNAILS
    )


def write(writer: RunWriter, numbers: range) -> None:
    part, first = writer.append("thumbnails", thumbnail_rows(numbers))
    writer.append("samples", sample_rows(numbers, part, first))


def ids(run: Run) -> list[str]:
    return [i for path in run.part_paths("samples") for i in pq.read_table(path)["sample_id"].to_pylist()]


def assert_thumbnails_found(run: Run) -> None:
    thumbnails = {Path(p).name: pq.read_table(p)["content"].to_pylist() for p in run.part_paths("thumbnails")}
    for path in run.part_paths("samples"):
        rows = pq.read_table(path).select(["content", "thumbnail_part", "thumbnail_row"]).to_pylist()
        assert all(thumbnails[r["thumbnail_part"]][r["thumbnail_row"]] == r["content"] for r in rows)


def test_nothing_counts_before_it_is_published(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        writer.save()
        write(writer, range(10))
        assert ids(Run.open(tmp_path / "run")) == []
        writer.publish()
        assert ids(Run.open(tmp_path / "run")) == [f"s{i}" for i in range(10)]
        write(writer, range(10, 20))
    # What was never published leaves no trace once the writer is closed.
    run = Run.open(tmp_path / "run")
    assert ids(run) == [f"s{i}" for i in range(10)]
    files = {p.name for p in (tmp_path / "run").rglob("*part-*")}
    assert files == {part.name for named in run.manifest.parts.values() for part in named}


def test_a_new_generation_is_noticed(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        writer.save()
        run = Run.open(tmp_path / "run")
        assert run.is_current()
        assert run.is_being_written()
        write(writer, range(3))
        writer.publish()
        assert not run.is_current()
    newer = Run.open(tmp_path / "run")
    assert newer.manifest.generation == run.manifest.generation + 1
    assert not newer.is_being_written()


def test_superseded_rows_are_replaced_never_doubled(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        write(writer, range(10))
        writer.publish()
        part, first = writer.append("thumbnails", thumbnail_rows(range(2, 5)))
        writer.append("samples", sample_rows(range(2, 5), part, first))
        writer.publish(retire={"samples": {"s2", "s3", "s4"}})
    run = Run.open(tmp_path / "run")
    assert sorted(ids(run)) == sorted(f"s{i}" for i in range(10))
    assert_thumbnails_found(run)


def test_compaction_keeps_every_row_and_its_thumbnail(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        for k in range(MANY_SMALL + 2):
            write(writer, range(k * 70, k * 70 + 70))
            writer.publish()
        before = writer.manifest.generation
        merged = writer.compact()
        assert merged == 2 * (MANY_SMALL + 2)
        assert writer.manifest.generation == before + 1
        assert writer.compact() == 0
    run = Run.open(tmp_path / "run")
    assert len(run.part_paths("samples")) == len(run.part_paths("thumbnails")) == 1
    assert ids(run) == [f"s{i}" for i in range((MANY_SMALL + 2) * 70)]
    assert_thumbnails_found(run)


def test_compaction_points_large_parts_of_samples_anew(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        for k in range(MANY_SMALL):
            part, first = writer.append("thumbnails", thumbnail_rows(range(k * 600, k * 600 + 600)))
            writer.append("samples", sample_rows(range(k * 600, k * 600 + 600), part, first))
            writer._finish("thumbnails")  # the samples go on in one large part
        writer.publish()
        assert len(writer.manifest.parts["samples"]) == 1
        writer.compact()
    run = Run.open(tmp_path / "run")
    assert len(run.part_paths("thumbnails")) == 1
    assert_thumbnails_found(run)


def test_parts_are_cut_at_their_size_and_thumbnails_in_small_groups(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("a run")) as writer:
        for k in range(20):
            write(writer, range(k * 1000, k * 1000 + 1000))
        writer.publish()
        sizes = [part.rows for part in writer.manifest.parts["thumbnails"]]
    assert sizes == [PART_ROWS, PART_ROWS, 20_000 - 2 * PART_ROWS]
    run = Run.open(tmp_path / "run")
    meta = pq.ParquetFile(run.part_paths("thumbnails")[0]).metadata
    assert {meta.row_group(i).num_rows for i in range(meta.num_row_groups - 1)} == {THUMBNAIL_GROUP_ROWS}
    assert_thumbnails_found(run)


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = (
        "import sys, time\nfrom cache.manifest import Manifest\nfrom cache.writer import RunWriter\n"
        "writer = RunWriter(sys.argv[1], Manifest('x'))\nwriter.save()\nprint('locked', flush=True)\ntime.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunBusyError, match="Another process is writing"):
            RunWriter(run)
        assert Run.open(run).is_being_written()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunWriter(run) as writer:
        assert writer.manifest.name == "x"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
    orphan = run / "samples" / "part-0123456789abcdef.parquet"
    temporary = run / "attributions" / "gradcam" / ".part-0123456789abcdef.parquet.tmp"
    temporary.parent.mkdir(parents=True)
    orphan.write_bytes(b"half")
    temporary.write_bytes(b"half")
    with RunWriter(run):
        assert not orphan.exists()
        assert not temporary.exists()
    assert ids(Run.open(run)) == ["s0", "s1", "s2", "s3"]


def test_superseded_files_stay_for_readers_of_the_old_generation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
        old = Run.open(run)
        write(writer, range(1))
        writer.publish(retire={"samples": {"s0"}})
    with RunWriter(run):
        assert ids(old) == ["s0", "s1", "s2", "s3"]


def test_nothing_but_its_own_parts_is_ever_deleted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for where in (run, run / "nested"):
        with RunWriter(where, Manifest("x")) as writer:
            write(writer, range(4))
            writer.publish()
    foreign = [run / "samples" / "part-00000-spark.parquet", run / ".git" / ".x.tmp", run / "notes.txt"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    with RunWriter(run) as writer:
        write(writer, range(4, 6))
        writer.publish()
    assert ids(Run.open(run / "nested")) == ["s0", "s1", "s2", "s3"]
    assert all(path.read_bytes() == b"mine" for path in foreign)
    mine = tmp_path / "mine" / "samples" / "part-00000.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(RunStorageError, match="not empty and holds no run"):
        RunWriter(tmp_path / "mine", Manifest("x"))


@pytest.mark.parametrize(
    "path", ["../victim.txt", "samples/../../victim.txt", "notes/part-0123456789abcdef.parquet"]
)
def test_a_manifest_from_elsewhere_deletes_nothing(tmp_path: Path, path: str) -> None:
    run, victim = tmp_path / "run", tmp_path / "victim.txt"
    victim.write_text("mine")
    (run / "notes").mkdir(parents=True)
    (run / "notes" / "part-0123456789abcdef.parquet").write_text("mine")
    manifest = Manifest("x")
    manifest.retired = [{"path": path, "at": "2020-01-01T00:00:00+00:00"}]
    (run / "run.json").write_text(manifest.to_json())
    with RunWriter(run) as writer:
        writer.save()
    assert victim.read_text() == "mine"
    assert (run / "notes" / "part-0123456789abcdef.parquet").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("history", {}),
        ("retired", [{"path": "x", "at": "y"}]),
        ("methods", []),
        ("targets", None),
        ("targets", [1]),
        ("generation", -1),
        ("generation", True),
        ("generation", 10**30),
        ("state", ["running"]),
        ("retired", [{"path": "samples/x", "at": "2020-01-01"}]),
        ("retired", ["samples/x"]),
        ("methods", {"cam": None}),
        ("methods", {"cam": {"title": 3}}),
        ("methods", {"cam": {"equivalent": [[]]}}),
        ("methods", {"../cam": {}}),
        ("statistics", [3]),
        ("statistics", [{"name": "x"}]),
        ("meta", [{"type": "text"}]),
        ("history", [{"command": 1}]),
        ("parts", {"samples": ["x"]}),
        ("parts", {"samples": [{"name": "part-x.parquet", "rows": -1, "bytes": 1, "sha256": ""}]}),
        ("parts", {"../samples": [{"name": "part-x.parquet", "rows": 1, "bytes": 1, "sha256": ""}]}),
        ("progress", {"done": "x"}),
        ("versions", {"numpy": 2}),
    ],
)
def test_a_manifest_of_nonsense_is_refused(tmp_path: Path, key: str, value: object) -> None:
    data = json.loads(Manifest("x").to_json()) | {key: value}
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(RunDamagedError, match="does not hold what a manifest holds"):
        Run.open(tmp_path)


def test_parts_that_point_out_of_the_run_are_refused(tmp_path: Path) -> None:
    data = json.loads(Manifest("x").to_json())
    data["parts"] = {"samples": [{"name": "../../secret.parquet", "rows": 1, "bytes": 1, "sha256": ""}]}
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(RunDamagedError, match="secret"):
        Run.open(tmp_path)


def test_a_lost_manifest_does_not_cost_the_parts(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(RunStorageError, match="holds no run"):
        RunWriter(tmp_path / "run", Manifest("x"))
    assert list((tmp_path / "run" / "samples").iterdir())


def test_an_interruption_after_publishing_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer, monkeypatch.context() as patch:
        write(writer, range(4))
        replaced = disk.replace_file

        def interrupted(path: Path, data: bytes) -> None:
            replaced(path, data)
            raise KeyboardInterrupt

        patch.setattr("cache.storage.replace_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
    assert ids(Run.open(run)) == ["s0", "s1", "s2", "s3"]


def test_superseded_files_go_once_no_reader_can_want_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        monkeypatch.setattr("cache.writer.GRACE", timedelta(0))
        for k in range(MANY_SMALL + 1):
            write(writer, range(k, k + 1))
            writer.publish()
        writer.compact()
        named = {part.name for part in writer.manifest.parts["thumbnails"]}
        assert {path.name for path in (run / "thumbnails").iterdir()} == named
    with RunWriter(run) as writer:
        writer.save()
        assert {path.name for path in (run / "samples").iterdir()} == {
            part.name for part in writer.manifest.parts["samples"]
        }
        assert writer.manifest.retired == []


def test_metadata_that_changed_its_type_becomes_text(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("x")) as writer:
        for k in range(MANY_SMALL):
            part, first = writer.append("thumbnails", thumbnail_rows(range(k, k + 1)))
            site = pa.array([7] if k % 2 else ["unknown"])
            writer.append(
                "samples", sample_rows(range(k, k + 1), part, first).append_column("meta.site", site)
            )
            writer.publish()
        writer.compact()
    run = Run.open(tmp_path / "run")
    sites = pq.read_table(run.part_paths("samples")[0])["meta.site"].to_pylist()
    assert sites == ["unknown", "7"] * (MANY_SMALL // 2)


def test_other_bytes_of_the_same_size_are_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
    victim = Path(Run.open(run).part_paths("thumbnails")[0])
    victim.write_bytes(bytes(victim.stat().st_size))
    assert Run.open(run).damaged == []
    assert Run.open(run).verify() == [f"thumbnails/{victim.name}"]
    with RunWriter(run) as writer:
        assert writer.damaged == [f"thumbnails/{victim.name}"]
        assert "thumbnails" not in writer.manifest.parts or not writer.manifest.parts["thumbnails"]


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_part_is_named_and_left_out(tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
        write(writer, range(4, 8))
        writer.publish()
    victim = Path(Run.open(run).part_paths("samples")[0])
    victim.unlink() if damage == "missing" else victim.write_bytes(victim.read_bytes()[:-7])
    opened = Run.open(run)
    assert opened.damaged == [f"samples/{victim.name}"]
    assert ids(opened) == ["s4", "s5", "s6", "s7"]
    with RunWriter(run) as writer:
        assert writer.damaged == [f"samples/{victim.name}"]
        assert len(writer.manifest.parts["samples"]) == 1


def test_a_full_disk_is_said_and_nothing_published_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write(writer, range(4, 8))
        with monkeypatch.context() as patch:
            patch.setattr(disk.os, "fsync", full)
            with pytest.raises(RunStorageError, match="is full: free some space"):
                writer.publish()
    assert ids(Run.open(run)) == ["s0", "s1", "s2", "s3"]
    assert not list(run.rglob("*.tmp"))


def test_a_refused_manifest_leaves_the_generation_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with RunWriter(run, Manifest("x")) as writer:
        write(writer, range(4))
        writer.publish()
        before = writer.manifest.generation
        with monkeypatch.context() as patch:
            patch.setattr(
                "cache.disk.os.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only"))
            )
            with pytest.raises(RunStorageError, match="read-only"):
                writer.save()
        assert writer.manifest.generation == before == Run.open(run).manifest.generation


def test_columns_that_appear_later_are_null_before(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("x")) as writer:
        for k in range(MANY_SMALL):
            part, first = writer.append("thumbnails", thumbnail_rows(range(k, k + 1)))
            rows = sample_rows(range(k, k + 1), part, first)
            writer.append("samples", rows if k % 2 else rows.append_column("meta.camera", pa.array(["A"])))
            writer.publish()
        writer.compact()
    run = Run.open(tmp_path / "run")
    assert len(run.part_paths("samples")) == 1
    assert pq.read_table(run.part_paths("samples")[0])["meta.camera"].to_pylist() == ["A", None] * (
        MANY_SMALL // 2
    )


def test_an_empty_part_is_never_written(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("x")) as writer:
        writer.append("samples", sample_rows(range(0), "p"))
        writer.publish()
        assert writer.manifest.parts == {}


@pytest.mark.parametrize("count", [20, 200])
def test_all_columns_are_compressed(tmp_path: Path, count: int) -> None:
    values = pa.array(np.zeros(4 * count), pa.float32())
    rows = pa.table({
        "name": [f"{i}" for i in range(count)], "value": values[:count],
        "list": pa.FixedSizeListArray.from_arrays(values, 4),
    })  # fmt: skip
    writer = PartWriter(tmp_path, "embeddings", rows.schema)
    writer.append(rows)
    group = pq.read_metadata(tmp_path / "embeddings" / writer.close().name).row_group(0)
    assert [group.column(i).compression for i in range(3)] == ["ZSTD"] * 3


def test_a_part_that_is_given_up_before_anything_was_written_leaves_nothing(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, "thumbnails", THUMBNAILS)
    writer.append(thumbnail_rows(range(3)))
    rows = writer.unwritten()
    assert rows is not None
    assert rows["image"].to_pylist() == [b"0", b"1", b"2"]
    writer.abort()
    assert not list(tmp_path.rglob("*part-*"))
    full = PartWriter(tmp_path, "thumbnails", THUMBNAILS)
    full.append(thumbnail_rows(range(500)))
    assert full.unwritten() is None
    full.abort()
    assert not list(tmp_path.rglob("*part-*"))


def test_part_writer_hands_rows_on_and_keeps_the_rest(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, "thumbnails", THUMBNAILS)
    for k in range(5):
        writer.append(thumbnail_rows(range(k * 100, k * 100 + 100)))
    part = writer.close()
    table = pq.read_table(tmp_path / "thumbnails" / part.name)
    assert table["image"].to_pylist() == [b"%d" % i for i in range(500)]
    assert (part.rows, part.bytes) == (500, os.path.getsize(tmp_path / "thumbnails" / part.name))
    assert disk.digest(tmp_path / "thumbnails" / part.name) == part.sha256


def test_runs_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="does not exist: start one with"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunNotFoundError, match="holds no run"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunDamagedError, match="not valid JSON"):
        Run.open(tmp_path)
    for unreadable in ("[" * 100_000, '{"schema_version": ' + "1" * 5_000 + "}"):
        (tmp_path / "run.json").write_text(unreadable)
        with pytest.raises(RunDamagedError, match="not valid JSON"):
            Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": "other"}')
    with pytest.raises(RunDamagedError, match="not a Gazelake manifest"):
        Run.open(tmp_path)
    manifest = Manifest("x")
    manifest.schema_version += 1
    (tmp_path / "run.json").write_text(manifest.to_json())
    with pytest.raises(RunSchemaError, match="upgrade Gazelake"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(Manifest("x").to_json().replace('"progress"', '"progress": 1, "p"'))
    with pytest.raises(RunDamagedError, match="does not hold what a manifest holds"):
        Run.open(tmp_path)


def test_a_folder_of_other_things_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunStorageError, match="not empty and holds no run"):
        RunWriter(tmp_path, Manifest("x"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunStorageError, match="is a file"):
        RunWriter(tmp_path / "thesis.tex", Manifest("x"))


def test_runs_are_found_at_below_and_one_deeper(tmp_path: Path) -> None:
    for where in ("a", "b/c", "b/d/e"):
        with RunWriter(tmp_path / where, Manifest(where)) as writer:
            writer.save()
    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b" / "c"]
    assert find_runs(tmp_path / "a") == [tmp_path / "a"]
    assert find_runs(tmp_path / "missing") == []


def test_a_manifest_survives_the_round_trip(tmp_path: Path) -> None:
    manifest = Manifest("ünïcode 🐺", classes=["a", "b"], meta=[{"name": "meta.x", "type": "text"}])
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
