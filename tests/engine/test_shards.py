"""Datasets in large files: WebDataset's tar shards, and Parquet with the images in it."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from cache.run import Run
from engine.datasets import ReadError, open_dataset
from engine.explain import explain
from engine.shards import expand
from engine.verifying.reopening import open_originals
from tests.engine.audits import config, write_factory, write_images
from tests.engine.dataset_files import column, png, sentence, write_embedded, write_shard
from tests.seeding import rng


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{9..11}.tar", ["a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("s3://b/{x}.tar", ["s3://b/{x}.tar"]),
    ],
)
def test_patterns(pattern: str, files: list[str]) -> None:
    assert expand(pattern) == files


def test_a_pattern_of_too_many_files(tmp_path: Path) -> None:
    assert "more than 100,000 files" in sentence(tmp_path / "a-{0..200000}.tar")
    assert "more than 100,000 files" in sentence(tmp_path / "{0..999}-{0..999}.tar")


def test_samples_are_the_files_of_a_stem(tmp_path: Path) -> None:
    pictures = [png() for _ in range(4)]
    first = {
        "deep/one.jpg": pictures[0], "deep/one.cls": b"wolf\n", "deep/one.json": json.dumps({"age": 3, "from": "north", "box": [1, 2]}).encode(),
        "two.seg.png": png(), "two.PNG": pictures[1], "two.cls": b"husky", "two.json": b'{"age": 4}',
        "notes.txt": b"no image", "./.hidden.png": png(), "plain": b"x",
    }  # fmt: skip
    write_shard(tmp_path / "s-000.tar", first)
    write_shard(
        tmp_path / "s-001.tar", {"two.png": pictures[2], "two.cls": b"wolf", "three.png": pictures[3]}
    )
    for spec in (tmp_path, tmp_path / "s-{000..001}.tar"):
        dataset = open_dataset(str(spec))
        assert dataset.kind == "webdataset"
        assert column(dataset, "sample_id") == ["s-000/deep/one", "s-000/two", "s-001/two", "s-001/three"]
        assert column(dataset, "uri")[:2] == ["s-000.tar#deep/one.jpg", "s-000.tar#two.PNG"]
        assert column(dataset, "label") == ["wolf", "husky", "wolf", None]
        assert column(dataset, "meta.age") == [3, 4, None, None]
        assert column(dataset, "meta.from") == ["north", None, None, None]
        assert "meta.box" not in dataset.records.column_names
        assert [dataset.read(i) for i in range(4)] == pictures
        assert not dataset.labels_are_indices
        assert dataset.notices == [
            f"1 sample(s) of {spec} hold no image and were left out, such as s-000.tar#notes.",
            f"1 sample(s) of {spec} have no label and are unlabelled.",
        ]


def test_labels_of_shards(tmp_path: Path) -> None:
    numbers = write_shard(
        tmp_path / "n.tar", {"a.png": png(), "a.cls": b"3\n", "b.png": png(), "b.cls": b"12"}
    )
    assert (column(open_dataset(numbers), "label"), open_dataset(numbers).labels_are_indices) == (
        ["3", "12"],
        True,
    )
    assert not open_dataset(numbers, label_names=True).labels_are_indices
    spoken = write_shard(tmp_path / "t.tar", {"a.png": png(), "a.txt": b"a grey\nwolf "})
    assert column(open_dataset(spoken), "label") == ["a grey wolf"]
    told = write_shard(
        tmp_path / "j.tar", {"a.png": png(), "a.json": b'{"class": "fox", "kind": "red", "n": 1}'}
    )
    assert column(open_dataset(told), "label") == ["fox"]
    other = open_dataset(told, label_column="kind")
    assert column(other, "label") == ["red"]
    assert "meta.class" in other.records.column_names
    assert "have the key 'breed' for a label: choose another" in sentence(told, label_column="breed")
    bare = open_dataset(write_shard(tmp_path / "b.tar", {"a.png": png()}))
    assert column(bare, "label") == [None]
    assert "has no labels" in bare.notices[0]


def test_bad_shards_are_one_sentence(tmp_path: Path) -> None:
    good = write_shard(tmp_path / "a.tar", {f"{i}.png": rng.bytes(3000) for i in range(4)})
    whole = Path(good).read_bytes()
    cut = tmp_path / "cut.tar"
    for length in (5000, 2000, 100):
        cut.write_bytes(whole[:length])
        assert "is damaged or cut short" in sentence(cut)
    (tmp_path / "none.tar").write_bytes(b"")
    assert "is damaged or cut short" in sentence(tmp_path / "none.tar")
    (tmp_path / "text.tar").write_bytes(b"this is no archive at all " * 100)
    assert "is damaged or cut short" in sentence(tmp_path / "text.tar")
    assert "There is no shard at" in sentence(tmp_path / "b-{0..1}.tar")
    (tmp_path / "c.tar.gz").write_bytes(b"x")
    assert "is compressed, and images in it cannot be reached" in sentence(tmp_path / "c.tar.gz")
    broken = write_shard(tmp_path / "j.tar", {"a.png": png(), "a.json": b"{no"})
    assert "a.json of" in sentence(broken)
    assert "leave it out" in sentence(good, data_root=str(tmp_path))
    twice = tmp_path / "twice"
    twice.mkdir()
    write_shard(twice / "a.tar", {"a.png": png()})
    write_shard(tmp_path / "twice-a.tar", {"a.png": png()})
    assert "has no images" in sentence(write_shard(tmp_path / "empty.tar", {"a.cls": b"1"}))
    assert "are called alike" in sentence(f"{tmp_path}/{{twice/a,twice/a}}.tar")


def test_a_shard_that_shrinks_or_goes_fails_alone(tmp_path: Path) -> None:
    path = Path(
        write_shard(tmp_path / "a.tar", {"a.png": rng.bytes(900), "b.png": rng.bytes(900), "c.png": b""})
    )
    dataset = open_dataset(str(path))
    with pytest.raises(ReadError, match="has no bytes"):
        dataset.read(2)
    path.write_bytes(path.read_bytes()[:2000])
    assert len(dataset.read(0)) == 900
    with pytest.raises(ReadError, match="has become shorter"):
        dataset.read(1)
    path.unlink()
    with pytest.raises(ReadError) as caught:
        dataset.read(0)
    assert caught.value.kind == "gone"


NAMES = {"label": {"names": ["wolf", "husky"], "_type": "ClassLabel"}}


def test_images_in_parquet(tmp_path: Path) -> None:
    pictures = [png() for _ in range(8)]
    path = write_embedded(
        tmp_path / "train-0.parquet", pictures, label=pa.array([0, 1] * 4), age=pa.array(range(8))
    )
    dataset = open_dataset(path)
    assert dataset.kind == "embedded"
    assert (column(dataset, "label"), dataset.labels_are_indices) == (["0", "1"] * 4, True)
    assert column(dataset, "sample_id")[7] == "train-0/000007"
    assert column(dataset, "uri")[7] == "train-0.parquet#7"
    assert set(column(dataset, "split")) == {"train"}
    assert column(dataset, "meta.age") == list(range(8))
    assert [dataset.read(i) for i in range(8)] == pictures
    assert dataset.take([6, 1]).read(0) == pictures[6]
    named = open_dataset(
        write_embedded(tmp_path / "n.parquet", pictures, metadata=NAMES, label=pa.array([0, 1, -1, 1] * 2))
    )
    assert column(named, "label")[:4] == ["wolf", "husky", None, "husky"]
    assert (named.labels_are_indices, named.classes) == (False, ["wolf", "husky"])
    ids = open_dataset(
        write_embedded(tmp_path / "i.parquet", pictures, image_id=pa.array([f"x{i}" for i in range(8)]))
    )
    assert column(ids, "sample_id") == [f"x{i}" for i in range(8)]
    assert "has no label column" in ids.notices[0]


def test_a_folder_of_parquet_and_its_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pictures = {
        name: [png() for _ in range(4)]
        for name in ("test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002")
    }
    for name, some in pictures.items():
        write_embedded(tmp_path / "data" / f"{name}.parquet", some, label=pa.array([0, 1, 0, 1]))
    every = [picture for some in pictures.values() for picture in some]
    dataset = open_dataset(str(tmp_path))
    assert [dataset.read(i) for i in range(12)] == every
    assert column(dataset, "split") == ["test"] * 4 + ["train"] * 8
    train = open_dataset(str(tmp_path), split="train")
    assert [train.read(i) for i in range(8)] == every[4:]
    assert "has no files of a split 'val'" in sentence(tmp_path, split="val")
    pattern = f"{tmp_path}/data/train-0000{{0..1}}-of-00002.parquet"
    assert [open_dataset(pattern).read(i) for i in range(8)] == every[4:]


def test_bad_parquet_is_one_sentence_or_fails_alone(tmp_path: Path) -> None:
    path = Path(
        write_embedded(tmp_path / "a.parquet", [png(), None, b""], group=1, label=pa.array([0, 1, 1]))
    )
    dataset = open_dataset(str(path))
    for i in (1, 2):
        with pytest.raises(ReadError, match=f"Row {i} of .* holds no image"):
            dataset.read(i)
    write_embedded(tmp_path / "b.parquet", [png()])
    assert "has other columns than" in sentence(f"{tmp_path}/{{a,b}}.parquet")
    assert "There is no file at" in sentence(f"{tmp_path}/{{a,c}}.parquet")
    (tmp_path / "d.parquet").write_bytes(path.read_bytes()[:200])
    assert "cannot be read" in sentence(f"{tmp_path}/{{a,d}}.parquet")
    write_embedded(tmp_path / "e.parquet", [png(), png()], image_id=pa.array(["x", "x"]))
    assert "are not all there and different" in sentence(tmp_path / "e.parquet")
    path.unlink()
    with pytest.raises(ReadError) as caught:
        open_dataset(str(tmp_path / "b.parquet")) and dataset.read(0)
    assert caught.value.kind == "gone"


def test_a_binary_column_is_images_and_a_column_of_paths_is_a_table(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pictures = [png(), png()]
    pq.write_table(pa.table({"JPG": pa.array(pictures), "label": ["a", "b"]}), tmp_path / "a.parquet")
    dataset = open_dataset(str(tmp_path / "a.parquet"))
    assert (dataset.kind, [dataset.read(i) for i in range(2)]) == ("embedded", pictures)
    (tmp_path / "x.png").write_bytes(pictures[0])
    pq.write_table(pa.table({"image": ["x.png"], "label": ["a"]}), tmp_path / "t.parquet")
    assert open_dataset(str(tmp_path / "t.parquet")).kind == "table"


@pytest.fixture
def forms(tmp_path: Path) -> dict[str, str]:
    """The same images as a folder, as shards and as Parquet."""
    folder = write_images(tmp_path / "images", 18, seed=3)
    files = sorted(folder.rglob("*.png"))
    labels = [file.parent.name for file in files]
    for k in range(2):
        members: dict[str, bytes] = {}
        for file, label in list(zip(files, labels, strict=True))[k::2]:
            members |= {
                f"{label}/{file.stem}.png": file.read_bytes(),
                f"{label}/{file.stem}.cls": label.encode(),
            }
        if not k:
            members |= {"no/picture.png": b"this is no picture", "no/picture.cls": b"red"}
        write_shard(tmp_path / f"s-{k}.tar", members)
    embedded = write_embedded(
        tmp_path / "train-0.parquet", [file.read_bytes() for file in files], label=pa.array(labels)
    )
    return {"folder": str(folder), "shards": f"{tmp_path}/s-{{0..1}}.tar", "embedded": embedded}


def test_the_same_maps_whatever_holds_the_images(forms: dict[str, str], tmp_path: Path) -> None:
    model = write_factory(tmp_path)
    for name, spec in forms.items():
        explain(config(spec, tmp_path / f"run-{name}", model, methods="gradcam"))
    runs = {name: Run.open(tmp_path / f"run-{name}") for name in forms}
    import pyarrow.parquet as pq

    def maps(run: Run) -> dict[tuple[str, int], bytes]:
        rows = [
            row for path in run.part_paths("attributions/gradcam") for row in pq.read_table(path).to_pylist()
        ]
        return {(row["content"], row["target"]): row["map"] for row in rows}

    assert maps(runs["folder"]) == maps(runs["shards"]) == maps(runs["embedded"])
    errors = [row for path in runs["shards"].part_paths("errors") for row in pq.read_table(path).to_pylist()]
    assert [(row["sample_id"], row["stage"]) for row in errors] == [("s-0/no/picture", "decode")]
    read = open_originals(runs["shards"].manifest)
    row = pq.read_table(runs["shards"].part_paths("samples")[0]).slice(0, 1).to_pylist()[0]
    name = row["uri"].partition("#")[2]
    assert read(row["sample_id"], row["uri"]) == (Path(forms["folder"]) / name).read_bytes()


def test_behind_a_url(forms: dict[str, str], tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    for path in (*tmp_path.glob("*.tar"), *tmp_path.glob("*.parquet")):
        fs.pipe_file(f"/shards-{tmp_path.name}/{path.name}", path.read_bytes())
    root = f"memory://shards-{tmp_path.name}"
    for there, here in (
        (f"{root}/s-{{0..1}}.tar", forms["shards"]),
        (f"{root}/train-0.parquet", forms["embedded"]),
        (root, forms["shards"]),
    ):
        remote, local = open_dataset(there), open_dataset(here)
        assert column(remote, "sample_id") == column(local, "sample_id")
        assert column(remote, "label") == column(local, "label")
        assert [remote.read(i) for i in range(len(remote))] == [local.read(i) for i in range(len(local))]
