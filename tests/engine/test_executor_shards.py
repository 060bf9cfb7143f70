"""What a shard is, who does how much, and what is claimed; without a cluster."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import shards
from cache.errors import RunStorageError
from cache.manifest import Manifest, Part
from cache.run import Run
from cache.schema import SAMPLE_COLUMNS, THUMBNAIL_COLUMNS, arrow_schema
from cache.shards import Sent, ShardWriter
from cache.writer import RunWriter
from engine.datasets import open_dataset
from engine.executors.actors import Board
from engine.executors.crews import Post, crew
from engine.executors.pipeline import Recorded
from engine.executors.shards import Shard, add_up, moved, positions
from engine.preparation import Copied, Failed, Kept
from engine.records import Records
from tests.engine.audits import write_images


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "posts"),
    [
        ([{"CPU": 16, "GPU": 2}, {"CPU": 8}], "auto", None, [Post(8, 1)] * 2),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 8, "GPU": 1}], "cuda", 2, [Post(8, 1)] * 2),
        ([{"CPU": 16, "GPU": 2}], "cpu", None, [Post(4, 0)] * 4),
        ([{"CPU": 2}, {"CPU": 6}, {}], "auto", None, [Post(2, 0), Post(3, 0), Post(3, 0)]),
        ([{"CPU": 1}, {"CPU": 1}], "auto", 2, [Post(1, 0)] * 2),
        ([{"CPU": 8}, {"CPU": 4}], "auto", 3, [Post(4, 0)] * 3),
        ([{"CPU": 2}], "auto", 5, [Post(1, 0)] * 2),
        ([{}], "auto", None, []),
        ([], "auto", 3, []),
    ],
)
def test_posts(nodes: list[dict[str, float]], device: str, workers: int | None, posts: list[Post]) -> None:
    assert crew(nodes, device, workers) == posts


def test_a_content_has_one_owner_until_it_is_released() -> None:
    board, (a, b, c) = Board(), ("00" * 16, "01" * 16, "02" * 16)
    assert board.claim(1, [a, b], (0, 0, 0)) == [True, True]
    assert board.claim(2, [b, c], (1, 0, 0)) == [False, True]
    assert board.claim(1, [a], (2, 1, 0)) == [True]
    assert board.tallies() == {1: (2, 1, 0), 2: (1, 0, 0)}
    board.release(1)
    assert board.tallies() == {2: (1, 0, 0)}
    assert board.claim(1, [a], (9, 9, 9)) == [False], "a worker that was given up must not go on"
    assert board.claim(3, [a, c], (0, 0, 0)) == [True, False]
    board.settle(2)
    assert board.claim(3, [c], (0, 0, 0)) == [False], "what a finished shard explained stays its own"
    board.clear()
    assert board.claim(3, [c], (0, 0, 0)) == [True]


def test_events_speak_of_the_audit_s_records() -> None:
    indices = np.array([7, 3, 9])
    recorded = Recorded(
        [0], [1], [Copied(1, "c")], [Failed(2, "predict", "not_finite", "")], {1: 0.5}, {"cam": 1}, True
    )
    there = moved(recorded, indices)
    assert there == Recorded(
        [7], [3], [Copied(3, "c")], [Failed(9, "predict", "not_finite", "")], {3: 0.5}, {"cam": 1}, True
    )
    assert sorted(positions(there)) == [3, 7, 9]
    assert moved(Kept(2), indices) == Kept(9)
    tally = [0, 0, 0]
    for event in (recorded, Kept(0), Copied(0, "c"), Failed(0, "read", "gone", "")):
        add_up(tally, event)
    assert tally == [2, 2, 2]


def test_a_shard_travels_with_its_records_alone(tmp_path: Path) -> None:
    data = write_images(tmp_path, 30)
    dataset = open_dataset(str(data))
    records = Records(dataset, pa.array(range(30), pa.int32()))
    indices = np.array([4, 20, 21])
    packed = pickle.dumps(Shard.of(records, indices))
    assert len(packed) < 4_000
    shard = pickle.loads(packed)
    there = Records(shard.dataset, shard.labels)
    assert len(there) == 3
    for here, i in enumerate(indices.tolist()):
        assert there.sample_id(here) == records.sample_id(i)
        assert there.digest(here) == records.digest(i)
        assert there.label(here) == i
        assert there.dataset.read(here) == dataset.read(i)


def thumbnails(*contents: str) -> pa.Table:
    rows = {"content": list(contents), "image": [content.encode() for content in contents]}
    return pa.table(rows, schema=arrow_schema(THUMBNAIL_COLUMNS))


def samples(ids: list[str], places: list[tuple[str, int]]) -> pa.Table:
    schema = arrow_schema(SAMPLE_COLUMNS)
    given = {
        "sample_id": ids,
        "content": ids,
        "thumbnail_part": [part for part, _ in places],
        "thumbnail_row": [row for _, row in places],
    }
    columns = [
        pa.array(given[f.name], f.type) if f.name in given else pa.array([_some(f.type)] * len(ids), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _some(type_: pa.DataType) -> object:
    if pa.types.is_list(type_):
        return []
    if pa.types.is_boolean(type_):
        return False
    return "" if pa.types.is_string(type_) else b"" if pa.types.is_binary(type_) else 0


def test_parts_of_a_shard_count_once_they_are_adopted_and_published(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("run")) as writer:
        writer.save()
        shard = ShardWriter(tmp_path / "run")
        place = shard.append("thumbnails", thumbnails("a", "b"))
        shard.append("samples", samples(["a", "b"], [place, (place[0], 1)]))
        parts = shard.finish()
        assert [table for table, _ in parts] == ["thumbnails", "samples"]
        assert not Run.open(tmp_path / "run").manifest.parts
        for table, part in parts:
            writer.adopt(table, part)
        assert not Run.open(tmp_path / "run").manifest.parts
        writer.publish()
    run = Run.open(tmp_path / "run")
    assert not run.verify()
    assert run.manifest.rows("samples") == run.manifest.rows("thumbnails") == 2


def test_what_is_discarded_or_not_published_leaves_no_trace(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("run")) as writer:
        writer.save()
        given_up, adopted = ShardWriter(tmp_path / "run"), ShardWriter(tmp_path / "run")
        for shard in (given_up, adopted):
            shard.append("thumbnails", thumbnails("a"))
        given_up.discard()
        [(table, part)] = adopted.finish()
        writer.adopt(table, part)
    assert not list((tmp_path / "run").rglob("*part-*"))


def test_a_small_shard_is_sent_as_rows_that_find_their_thumbnails_again(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("run")) as writer:
        writer.save()
        for contents in ("ab", "cd"):
            shard = ShardWriter(tmp_path / "elsewhere")
            name, first = shard.append("thumbnails", thumbnails(*contents))
            shard.append("samples", samples(list(contents), [(name, first), (name, first + 1)]))
            sent = shard.send(3)
            assert [one.table for one in sent] == ["thumbnails", "samples"]
            assert shard.finish() == []
            writer.adopt_rows(sent[::-1])
        assert not Run.open(tmp_path / "run").manifest.parts
        writer.publish()
    assert not list((tmp_path / "elsewhere").rglob("*part-*"))
    run = Run.open(tmp_path / "run")
    assert not run.verify()
    [images], [found] = run.part_paths("thumbnails"), run.part_paths("samples")
    there = pq.read_table(images).to_pylist()
    rows = pq.read_table(found).to_pylist()
    assert [row["content"] for row in rows] == list("abcd")
    assert {row["thumbnail_part"] for row in rows} == {Path(images).name}
    assert [there[row["thumbnail_row"]]["content"] for row in rows] == list("abcd")


def test_few_rows_of_many_bytes_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SENT_BYTES", 3)
    shard = ShardWriter(tmp_path / "run")
    shard.append("thumbnails", thumbnails("a", "b"))
    assert shard.send(128) == []
    assert [part.rows for _, part in shard.finish()] == [2]


def test_sent_rows_arrive_as_they_were() -> None:
    sent = Sent("samples", "key", "part", samples(["a", "b"], [("x", 0), ("y", 1)]).slice(1))
    there = pickle.loads(pickle.dumps(sent))
    assert (there.table, there.key, there.name) == ("samples", "key", "part")
    assert there.rows.equals(sent.rows)


def test_a_shard_of_many_rows_is_not_sent(tmp_path: Path) -> None:
    shard = ShardWriter(tmp_path / "run")
    shard.append("thumbnails", thumbnails("a"))
    shard.append("samples", samples(["a", "b", "c"], [("part", 0)] * 3))
    assert shard.send(3) == []
    assert [(table, part.rows) for table, part in shard.finish()] == [
        ("thumbnails", 1),
        ("samples", 3),
    ]


def test_a_part_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    shard = ShardWriter(tmp_path / "elsewhere")
    shard.append("thumbnails", thumbnails("a"))
    [(table, part)] = shard.finish()
    with RunWriter(tmp_path / "run", Manifest("run")) as writer:
        writer.save()
        with pytest.raises(RunStorageError, match="give --out a place that all of them share"):
            writer.adopt(table, part)
        with pytest.raises(RunStorageError):
            writer.adopt("samples", Part("part-0000000000000000.parquet", 1, 1, ""))


def test_adopted_rows_point_to_where_thumbnails_went_meanwhile(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run", Manifest("run")) as writer:
        writer.save()
        places = []
        for content in "abcdefgh":
            places.append(writer.append("thumbnails", thumbnails(content)))
            writer.publish()
        # A worker read the run before its small parts were merged.
        shard = ShardWriter(tmp_path / "run")
        shard.append("samples", samples(["c", "h"], [places[2], places[7]]))
        writer.compact()
        for table, part in shard.finish():
            writer.adopt(table, part)
        writer.publish()
    run = Run.open(tmp_path / "run")
    assert len(run.part_paths("thumbnails")) == 1
    there = pq.read_table(run.part_paths("thumbnails")[0]).to_pylist()
    rows = pq.read_table(run.part_paths("samples")[0]).to_pylist()
    name = Path(run.part_paths("thumbnails")[0]).name
    assert [row["thumbnail_part"] for row in rows] == [name, name]
    assert [there[row["thumbnail_row"]]["content"] for row in rows] == ["c", "h"]
