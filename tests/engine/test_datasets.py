"""Folders, and what all kinds of datasets promise."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from engine.dataset_kinds.folder import KIND as FOLDER
from engine.datasets import Dataset, ReadError, dataset_kinds, open_dataset
from engine.records import Records
from tests.engine.dataset_files import (
    column,
    fill,
    make_mnist,
    pixel_csv,
    png,
    sentence,
    write,
    write_embedded,
    write_shard,
)
from tests.seeding import rng


def test_folder_of_classes(tmp_path: Path) -> None:
    written = fill(tmp_path, "wolf/b.png", "wolf/a.JPG", "husky/deep/er/c.webp", "husky/z.tiff")
    fill(tmp_path, ".hidden/x.png", "wolf/.x.png", "wolf/._a.JPG", "__MACOSX/wolf/a.png")
    (tmp_path / "wolf" / "notes.txt").write_text("no image")
    (tmp_path / "fox").mkdir()
    dataset = open_dataset(str(tmp_path))
    assert column(dataset, "sample_id") == sorted(written) == column(dataset, "uri")
    assert column(dataset, "label") == ["husky", "husky", "wolf", "wolf"]
    assert dataset.classes == ["fox", "husky", "wolf"]
    assert dataset.labels() == ["husky", "wolf"]
    assert not dataset.labels_are_indices
    assert [dataset.read(i) for i in range(4)] == [written[name] for name in sorted(written)]
    assert dataset.root == str(tmp_path)
    assert any("fox" in notice for notice in dataset.notices)
    assert dataset.read_mask(0) is None
    assert dataset.boxes(0) is None


def test_columns_are_held_once(tmp_path: Path) -> None:
    fill(tmp_path, "wolf/b.png", "husky/c.png")
    dataset = open_dataset(str(tmp_path))
    records = Records(dataset, pa.array([0, 1], pa.int32()))
    for name in ("sample_id", "uri"):
        held = dataset.records[name].chunk(0).buffers()[2].address
        assert dataset.columns[name].buffers()[2].address == held
    assert records._columns is dataset.columns


def test_broken_files_of_a_folder_are_records_that_fail_when_read(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    (tmp_path / "a/1.png").write_bytes(b"")
    dataset = open_dataset(str(tmp_path))
    (tmp_path / "a/2.png").unlink()
    (tmp_path / "a/3.png").unlink()
    (tmp_path / "a/3.png").mkdir()
    kinds = []
    for i in range(3):
        with pytest.raises(ReadError) as caught:
            dataset.read(i)
        kinds.append((caught.value.stage, caught.value.kind))
    assert kinds == [("read", "empty"), ("read", "gone"), ("read", "unreadable")]


def test_forbidden_file_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's answer is imitated: root, who runs many builds, may read everything."""
    fill(tmp_path, "a/1.png")
    dataset = open_dataset(str(tmp_path))

    def refuse(path: object, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(ReadError, match="permission denied") as caught:
            dataset.read(0)
    assert caught.value.kind == "unreadable"
    monkeypatch.setattr("os.scandir", refuse)
    assert "permission denied" in sentence(tmp_path)


def test_folder_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path, "data/a/1.png", "elsewhere/2.png")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    assert column(open_dataset(str(tmp_path / "data")), "sample_id") == ["a/1.png", "b/2.png"]


def test_file_name_that_is_not_utf8_is_recorded_and_fails_alone(tmp_path: Path) -> None:
    fill(tmp_path, "a/good.png")
    with open(os.fsencode(tmp_path) + b"/a/caf\xe9.png", "wb") as file:
        file.write(png())
    dataset = open_dataset(str(tmp_path))
    assert column(dataset, "sample_id") == ["a/caf\\xe9.png", "a/good.png"]
    with pytest.raises(ReadError):
        dataset.read(0)


def test_images_outside_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    text = sentence(tmp_path)
    assert "class folders" in text
    assert "--unlabelled" in text
    free = open_dataset(str(tmp_path), unlabelled=True)
    assert column(free, "label") == [None, None]
    assert free.classes is None
    fill(tmp_path, "a/3.png")
    mixed = open_dataset(str(tmp_path))
    assert column(mixed, "sample_id") == ["a/3.png"]
    assert "2 image(s)" in mixed.notices[0]
    assert len(open_dataset(str(tmp_path), unlabelled=True)) == 3


def test_folder_of_splits_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "val/a/2.png", "val/b/3.png")
    assert "splits, not classes" in sentence(tmp_path)
    assert open_dataset(str(tmp_path / "val")).classes == ["a", "b"]
    fill(tmp_path, "other/a/1.png")
    assert open_dataset(str(tmp_path)).classes == ["other", "train", "val"]


def test_missing_empty_and_unknown(tmp_path: Path) -> None:
    assert "There is no dataset" in sentence(tmp_path / "nowhere")
    assert "no images" in sentence(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/readme.txt").write_text("x")
    assert "no images" in sentence(tmp_path)
    (tmp_path / "data.xyz").write_text("x")
    assert "unknown kind" in sentence(tmp_path / "data.xyz")
    assert "No dataset" in sentence("  ")
    fill(tmp_path, "a/1.png")
    assert "--data-root" in sentence(tmp_path, data_root=str(tmp_path))


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_folder_and_table_behind_a_url(tmp_path: Path, scheme: str) -> None:
    root = f"{scheme}://{tmp_path}/set"
    fs = fsspec.filesystem(scheme)
    written = {"b/1.png": png(), "a/2.png": png(), "a/deep/3.jpg": png(), "a/.x.png": png(), "a/t.txt": b"t"}
    for name, data in written.items():
        fs.makedirs(f"{tmp_path}/set/{Path(name).parent}", exist_ok=True)
        fs.pipe_file(f"{tmp_path}/set/{name}", data)
    dataset = open_dataset(root)
    assert column(dataset, "sample_id") == ["a/2.png", "a/deep/3.jpg", "b/1.png"]
    assert dataset.classes == ["a", "b"]
    assert [dataset.read(i) for i in range(3)] == [written[n] for n in column(dataset, "uri")]
    fs.rm(f"{tmp_path}/set/a/2.png")
    with pytest.raises(ReadError) as caught:
        dataset.read(0)
    assert caught.value.kind == "gone"
    fs.pipe_file(f"{tmp_path}/set/t.csv", f"path,label\nb/1.png,x\n{root}/a/deep/3.jpg,y\n".encode())
    table = open_dataset(f"{root}/t.csv")
    assert [table.read(i) for i in range(2)] == [written["b/1.png"], written["a/deep/3.jpg"]]
    assert "There is no table" in sentence(f"{root}/none.csv")
    assert "There is no dataset" in sentence(f"{root}/none")


def test_url_of_an_unknown_protocol() -> None:
    assert "begins with gopher99://, which is not known" in sentence("gopher99://bucket/x")


def every_kind(root: Path) -> list[Dataset]:
    fill(root / "folder", *(f"{c}/{i}.png" for c in "ab" for i in range(5)))
    text = "path\n" + "".join(f"folder/{c}/{i}.png\n" for c in "ab" for i in range(5))
    make_mnist(root, "test", 10)
    pixels = pixel_csv(root / "p.csv", rng.integers(0, 256, (10, 16)), list(range(10)))
    shards = [write_shard(root / f"s-{k}.tar", {f"{i}.png": png() for i in range(5)}) for k in range(2)]
    embedded = write_embedded(root / "e.parquet", [png() for _ in range(10)])
    specs = [str(root / "folder"), write(root / "t.csv", text), pixels, f"torchvision:MNIST@{root}"]
    specs += [shards[0].replace("s-0", "s-{0..1}"), embedded]
    datasets = [open_dataset(spec) for spec in specs]
    assert {d.kind for d in datasets} == {kind.name for kind in dataset_kinds()}
    return datasets


def test_every_kind_keeps_the_same_promises(tmp_path: Path) -> None:
    for dataset in every_kind(tmp_path):
        assert dataset.records.column_names[:4] == ["sample_id", "uri", "label", "split"]
        assert [dataset.records.schema.field(n).type for n in ("sample_id", "uri", "label", "split")] == [
            pa.string()
        ] * 4
        assert len(set(column(dataset, "sample_id"))) == len(dataset) == 10
        assert column(open_dataset(dataset.source), "sample_id") == column(dataset, "sample_id")
        expected = [dataset.read(i) for i in range(10)]
        assert len(set(expected)) == 10
        some = dataset.take([7, 2]).take(np.array([1]))
        assert column(some, "sample_id") == [column(dataset, "sample_id")[2]]
        assert some.read(0) == expected[2]
        wrong: list[int] = []

        def work(
            dataset: Dataset = dataset, expected: list[bytes] = expected, wrong: list[int] = wrong
        ) -> None:
            order = rng.permutation(10).tolist()
            wrong.extend(i for _ in range(20) for i in order if dataset.read(i) != expected[i])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_the_folder_is_asked_last() -> None:
    assert dataset_kinds()[-1] is FOLDER


def test_records_stay_compact(tmp_path: Path) -> None:
    """50,000 rows of pixels and 50,000 of a table cost a few megabytes, not the size of their images."""
    row = ",".join(["7"] * 785)
    with open(tmp_path / "p.csv", "w") as file:
        file.write(",".join(["label", *(f"pixel{i}" for i in range(784))]) + "\n")
        file.writelines(f"{row}\n" for _ in range(20_000))
    with open(tmp_path / "t.csv", "w") as file:
        file.write("path,label,age\n")
        file.writelines(f"some/folder/image_{i:06d}.jpg,class {i % 10},{i}\n" for i in range(50_000))
    for name in ("p.csv", "t.csv"):
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        dataset = open_dataset(str(tmp_path / name))
        held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
        tracemalloc.stop()
        assert len(dataset) in (20_000, 50_000)
        assert held < 12e6, (name, held)
