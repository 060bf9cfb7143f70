"""Tables of images: columns, labels, types, boxes, and a sentence for what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.datasets import DatasetOptions, open_dataset
from tests.engine.dataset_files import column, fill, sentence, write


def test_csv_with_everything(tmp_path: Path) -> None:
    written = fill(tmp_path, "img/1.png", "img/2.png", "m/1.png")
    mask = np.zeros((4, 5), np.uint8)
    mask[1:3, 2:] = 255
    Image.fromarray(mask).save(tmp_path / "m/1.png")
    spec = write(
        tmp_path / "t.csv",
        "Path,Label,sample_id,split,mask,x0,y0,x1,y1,age,site,flag,seen,empty\n"
        "img/1.png,wolf,001,test,m/1.png,1,2,3.5,4,3,north,true,2024-03-01 10:00:00,\n"
        "img\\2.png,,002,train,,,,,,4.5,NA,false,2024-03-02,\n",
    )
    dataset = open_dataset(spec)
    assert column(dataset, "sample_id") == ["001", "002"]
    assert column(dataset, "uri") == ["img/1.png", "img/2.png"]
    assert column(dataset, "label") == ["wolf", None]
    assert column(dataset, "split") == ["test", "train"]
    assert [dataset.read(0), dataset.read(1)] == [written["img/1.png"], written["img/2.png"]]
    read = dataset.read_mask(0)
    assert read is not None
    assert (read == (mask > 0)).all()
    assert dataset.read_mask(1) is None
    boxes = dataset.boxes(0)
    assert boxes is not None
    assert boxes.tolist() == [[1, 2, 3.5, 4]]
    assert dataset.boxes(1) is None
    assert dataset.meta() == [
        {"name": "meta.age", "type": "number"},
        {"name": "meta.site", "type": "text"},
        {"name": "meta.flag", "type": "boolean"},
        {"name": "meta.seen", "type": "time"},
        {"name": "meta.empty", "type": "text"},
    ]
    assert column(dataset, "meta.age") == [3, 4.5]
    assert column(dataset, "meta.site") == ["north", None]
    assert [str(v) for v in column(dataset, "meta.seen")] == ["2024-03-01 10:00:00", "2024-03-02 00:00:00"]


@pytest.mark.parametrize("name", ["path", "filename", "IMAGE", "img_path", "url", "File"])
@pytest.mark.parametrize("label", ["label", "class", "Category", "target"])
def test_usual_column_names(tmp_path: Path, name: str, label: str) -> None:
    dataset = open_dataset(write(tmp_path / "t.csv", f"{label},{name}\ncat,1.png\ndog,2.png\n"))
    assert column(dataset, "uri") == ["1.png", "2.png"]
    assert column(dataset, "label") == ["cat", "dog"]


def test_columns_by_option(tmp_path: Path) -> None:
    spec = write(tmp_path / "t.csv", "path,label,class_index,where,key\na,cat,5,x.png,k1\nb,dog,7,y.png,k2\n")
    dataset = open_dataset(spec, path_column="where", label_column="class_index", id_column="key")
    assert column(dataset, "uri") == ["x.png", "y.png"]
    assert column(dataset, "label") == ["5", "7"]
    assert dataset.labels_are_indices
    assert column(dataset, "sample_id") == ["k1", "k2"]
    assert [m["name"] for m in dataset.meta()] == ["meta.path", "meta.label"]
    assert "no column 'nope'" in sentence(spec, label_column="nope")
    assert open_dataset(spec, options=DatasetOptions(id_column="key")).labels() == ["cat", "dog"]


@pytest.mark.parametrize(
    ("values", "expected", "indices"),
    [
        (["3", "10", "0"], ["3", "10", "0"], True),
        (["3.0", "", "1.0"], ["3", None, "1"], True),
        (["-1", "2", "2"], ["-1", "2", "2"], True),
        (["03", "10", "11"], ["03", "10", "11"], False),
        (["3", "cat", "4"], ["3", "cat", "4"], False),
        (["null", "NA", "None"], ["null", "NA", "None"], False),
        (["true", "false", "true"], ["true", "false", "true"], False),
        (["0.5", "1.0", "2"], ["0.5", "1.0", "2"], False),
    ],
)
def test_labels_of_a_csv(
    tmp_path: Path, values: list[str], expected: list[str | None], indices: bool
) -> None:
    text = "path,label\n" + "".join(f"{i}.png,{value}\n" for i, value in enumerate(values))
    spec = write(tmp_path / "t.csv", text)
    dataset = open_dataset(spec)
    assert column(dataset, "label") == expected
    assert dataset.labels_are_indices == indices
    named = open_dataset(spec, label_names=True)
    assert not named.labels_are_indices
    assert column(named, "label") == [value or None for value in values]


def test_labels_of_a_parquet_table_have_the_type_that_it_says(tmp_path: Path) -> None:
    for labels, indices in (
        (pa.array([3, None, 1]), True),
        (pa.array([3.0, None, 1.0]), True),
        (pa.array(["3", None, "1"]), False),
        (pa.array(["3", None, "1"]).dictionary_encode(), False),
    ):
        pq.write_table(pa.table({"path": ["a", "b", "c"], "label": labels}), tmp_path / "t.parquet")
        dataset = open_dataset(str(tmp_path / "t.parquet"))
        assert column(dataset, "label") == ["3", None, "1"]
        assert dataset.labels_are_indices == indices
    pq.write_table(pa.table({"path": ["a"], "label": [0.5]}), tmp_path / "t.parquet")
    assert "fraction 0.5" in sentence(tmp_path / "t.parquet")


def test_parquet_types_boxes_and_what_has_no_form(tmp_path: Path) -> None:
    table = pa.table(
        {
            "file_path": pa.array(["a.png", "b.png"]).dictionary_encode(),
            "id": [7, 8],
            "boxes": pa.array([[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 9.0, 9.0], None], pa.list_(pa.float64())),
            "day": pa.array([1, 2], pa.date32()),
            "cost": pa.array([1, 2], pa.decimal128(5, 2)),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "when": pa.array([0, 1], pa.timestamp("ns", "UTC")),
            "big": pa.array([1, 2], pa.uint64()),
            "nested": [{"a": 1}, {"a": 2}],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    dataset = open_dataset(str(tmp_path / "t.parquet"))
    assert column(dataset, "sample_id") == ["7", "8"]
    boxes = dataset.boxes(0)
    assert boxes is not None
    assert boxes.shape == (2, 4)
    assert {m["name"]: m["type"] for m in dataset.meta()} == {
        "meta.day": "time",
        "meta.cost": "number",
        "meta.kind": "text",
        "meta.when": "time",
        "meta.big": "number",
    }
    assert any("nested" in notice for notice in dataset.notices)
    assert any("no label column" in notice for notice in dataset.notices)


def test_boxes_as_text_and_as_corners_of_other_names(tmp_path: Path) -> None:
    dataset = open_dataset(
        write(tmp_path / "a.csv", 'path,boxes\n1,"1 2 3 4; 5,6,7,8"\n2,\n3,"[[0, 0, 1, 1]]"\n')
    )
    assert column(dataset, "boxes") == [[1, 2, 3, 4, 5, 6, 7, 8], None, [0, 0, 1, 1]]
    for names in ("xmin,ymin,xmax,ymax", "left,top,right,bottom", "X0,Y0,X1,Y1"):
        dataset = open_dataset(write(tmp_path / "b.csv", f"path,{names}\n1,1,2,3,4\n"))
        assert column(dataset, "boxes") == [[1, 2, 3, 4]]
    assert "box without area" in sentence(write(tmp_path / "c.csv", "path,x0,y0,x1,y1\n1,3,2,1,4\n"))
    assert "must hold numbers" in sentence(write(tmp_path / "d.csv", "path,x0,y0,x1,y1\n1,a,b,c,d\n"))
    assert "x0 y0 x1 y1" in sentence(write(tmp_path / "e.csv", "path,boxes\n1,1 2 3\n"))


@pytest.mark.parametrize(
    ("delimiter", "suffix"), [(";", "csv"), ("\t", "tsv"), ("\t", "csv"), (",", "csv.gz")]
)
def test_delimiters_compression_byte_order_mark_and_line_ends(
    tmp_path: Path, delimiter: str, suffix: str
) -> None:
    rows = [["path", "label", "note"], ["a/1.png", "wolf", "first\nsecond"], ["a/2.png", "fox", 'a "b"']]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    data = b"\xef\xbb\xbf" + buffer.getvalue().encode()
    (tmp_path / f"t.{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    dataset = open_dataset(str(tmp_path / f"t.{suffix}"))
    assert column(dataset, "label") == ["wolf", "fox"]
    assert column(dataset, "meta.note") == ["first\nsecond", 'a "b"']


def test_paths_start_from_the_table_or_from_the_data_root(tmp_path: Path) -> None:
    here, there = fill(tmp_path / "t", "1.png"), fill(tmp_path / "moved", "1.png")
    outside = tmp_path / "moved/1.png"
    spec = write(tmp_path / "t/t.csv", f"path\n1.png\n{outside}\nmemory://gl-root/x.png\n")
    fsspec.filesystem("memory").pipe_file("/gl-root/x.png", b"bytes")
    dataset = open_dataset(spec)
    assert [dataset.read(i) for i in range(3)] == [here["1.png"], there["1.png"], b"bytes"]
    moved = open_dataset(spec, data_root=str(tmp_path / "moved"))
    assert moved.read(0) == there["1.png"]
    assert moved.root == str(tmp_path / "moved")
    assert "--data-root" in sentence(spec, data_root=str(tmp_path / "none"))


def test_wrong_tables_are_one_sentence(tmp_path: Path) -> None:
    def said(text: str, **options: Any) -> str:
        return sentence(write(tmp_path / "t.csv", text), **options)

    assert "no column of paths" in said("name,label\na,b\n")
    assert "--path-column" in said("name,label\na,b\n")
    assert "duplicate paths ('a', 'b')" in said("path\na\nb\na\nb\nc\n")
    assert "duplicate ids ('1')" in said("path,id\na,1\nb,1\n")
    assert "and 2 more" in said("path\n" + "".join(f"{v}\n" * 2 for v in "abcde"))
    assert "Row 1" in said("path,label\na,b\n,c\n")
    assert "id column" in said("path,id\na,1\nb,\n")
    assert "no rows" in said("path,label\n")
    assert "two columns called 'a'" in said("path,a,a\n1,2,3\n")
    assert "differ at most in case" in said("path,a,A\n1,2,3\n")
    assert "cannot be read" in said("path,label\na,b\nc,d,e\n")
    assert "has no bytes" in said("")
    assert "There is no table" in sentence(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes("path,label\na,caf\xe9\n".encode("latin-1"))
    assert "UTF-8" in sentence(tmp_path / "t.csv").replace("UTF8", "UTF-8")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 this is no table")
    assert "cannot be read" in sentence(tmp_path / "t.parquet")
    (tmp_path / "t.csv.gz").write_bytes(b"not compressed")
    assert "cannot be read" in sentence(tmp_path / "t.csv.gz")
    packed = bytearray(gzip.compress(b"path,label\n" + b"a,b\n" * 99))
    packed[12] ^= 255
    for damaged in (packed, packed[:20]):
        (tmp_path / "t.csv.gz").write_bytes(damaged)
        assert "cannot be read" in sentence(tmp_path / "t.csv.gz")
