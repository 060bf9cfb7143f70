"""CSVs of pixels and torchvision's datasets."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest

from engine.datasets import ReadError, open_dataset
from engine.images import decode
from tests.engine.dataset_files import column, make_mnist, pixel_csv, sentence
from tests.seeding import rng


@pytest.mark.parametrize(("side", "channels"), [(4, 1), (28, 1), (7, 3), (28, 3)])
@pytest.mark.parametrize("last", [False, True])
def test_csv_of_pixels(tmp_path: Path, side: int, channels: int, last: bool) -> None:
    values = rng.integers(0, 256, (6, side * side * channels))
    dataset = open_dataset(pixel_csv(tmp_path / "p.csv", values, [3, 0, 24, 1, 1, 2], last))
    assert dataset.kind == "pixels"
    assert dataset.native_size == (side, side)
    assert column(dataset, "sample_id") == [f"{i:06d}" for i in range(6)]
    assert column(dataset, "label") == ["3", "0", "24", "1", "1", "2"]
    assert dataset.labels_are_indices
    assert dataset.labels() == ["0", "1", "2", "3", "24"]
    for i in (5, 0, 3):
        pixels = np.asarray(decode(dataset.read(i)))
        expected = values[i].reshape(side, side, channels)
        assert (pixels == expected).all()


def test_csv_of_pixels_without_labels_compressed_remote_and_with_blank_lines(tmp_path: Path) -> None:
    values = rng.integers(0, 256, (5, 16))
    plain = Path(pixel_csv(tmp_path / "p.csv", values, None)).read_bytes().replace(b"\r\n", b"\n")
    text = b"\n".join([*plain.split(b"\n")[:3], b"", *plain.split(b"\n")[3:]]) + b"\n\n"
    (tmp_path / "p.csv").write_bytes(text)
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(text))
    fsspec.filesystem("memory").pipe_file("/gl-pixels/p.csv", text)
    for spec in (tmp_path / "p.csv", tmp_path / "p.csv.gz", "memory://gl-pixels/p.csv"):
        dataset = open_dataset(str(spec))
        assert column(dataset, "label") == [None] * 5
        for i in range(5):
            assert (np.asarray(decode(dataset.read(i)))[..., 0].ravel() == values[i]).all()


def test_csv_of_pixels_with_names_for_labels(tmp_path: Path) -> None:
    values = rng.integers(0, 256, (3, 16))
    dataset = open_dataset(pixel_csv(tmp_path / "p.csv", values, ["a", "b", ""]))
    assert column(dataset, "label") == ["a", "b", None]
    assert not dataset.labels_are_indices
    spec = pixel_csv(tmp_path / "q.csv", values, [1, 2, 3])
    assert not open_dataset(spec, label_names=True).labels_are_indices


def test_wrong_csv_of_pixels(tmp_path: Path) -> None:
    values = rng.integers(0, 256, (3, 16))
    spec = Path(pixel_csv(tmp_path / "p.csv", values, [0, 1, 2]))
    text = spec.read_text()
    dataset = open_dataset(str(spec))
    lines = text.splitlines()
    spec.write_text("\n".join([*lines[:2], "9,9,9", *lines[2:]]))
    assert "Line 3" in sentence(spec)
    for bad in ("300", "-1", "1.5", "x", ""):
        cells = lines[2].split(",")
        cells[4] = bad
        spec.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
        again = open_dataset(str(spec))
        again.read(0)
        with pytest.raises(ReadError, match="Row 1 "):
            again.read(1)
    spec.unlink()
    with pytest.raises(ReadError) as caught:
        dataset.read(0)
    assert caught.value.kind == "gone"
    assert "17 pixel columns" in sentence(pixel_csv(tmp_path / "q.csv", values[:, [*range(16), 0]], None))
    spec.write_text(text.replace("label", "other", 1))
    assert "'other'" in sentence(spec)
    spec.write_text(lines[0] + "\n")
    assert "no images" in sentence(spec)


def test_torchvision_mnist(tmp_path: Path) -> None:
    train, test = make_mnist(tmp_path, "train", 7), make_mnist(tmp_path, "test", 5)
    for spec, (images, labels), split in (
        (f"torchvision:MNIST@{tmp_path}", test, "test"),
        (f"torchvision:MNIST:train@{tmp_path}", train, "train"),
    ):
        dataset = open_dataset(spec)
        assert column(dataset, "sample_id") == [f"{split}/{i:05d}" for i in range(len(labels))]
        assert column(dataset, "label") == [str(label) for label in labels]
        assert dataset.classes == [str(i) for i in range(10)]
        assert dataset.native_size == (28, 28)
        for i in range(len(labels)):
            assert (np.asarray(decode(dataset.read(i)))[..., 0] == images[i]).all()
    assert len(open_dataset(f"torchvision:MNIST@{tmp_path}", split="train")) == 7


def test_torchvision_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    data = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    with open(folder / "test_batch", "wb") as file:
        pickle.dump({"data": data.reshape(4, -1), "labels": [3, 0, 9, 3]}, file)
    names = [*"abcdefghij"]
    with open(folder / "batches.meta", "wb") as file:
        pickle.dump({"label_names": names}, file)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    dataset = open_dataset(f"torchvision:CIFAR10@{tmp_path}")
    assert column(dataset, "label") == ["d", "a", "j", "d"]
    assert dataset.classes == names
    for i in range(4):
        assert (np.asarray(decode(dataset.read(i))) == data[i].transpose(1, 2, 0)).all()


def test_wrong_torchvision_datasets(tmp_path: Path) -> None:
    assert "ROOT" in sentence("torchvision:MNIST")
    assert "There is no folder" in sentence(f"torchvision:MNIST@{tmp_path}/none")
    assert "close: " in sentence(f"torchvision:MNST@{tmp_path}")
    assert "download=True" in sentence(f"torchvision:MNIST@{tmp_path}")
    assert "no split 'val'" in sentence(f"torchvision:MNIST:val@{tmp_path}")
    assert "torchvision has no dataset" in sentence(f"torchvision:VisionDataset2@{tmp_path}")
    make_mnist(tmp_path, "test", 3)
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"\x00")
    assert "cannot be opened" in sentence(f"torchvision:MNIST@{tmp_path}")


def test_a_damaged_csv_of_pixels_is_one_sentence(tmp_path: Path) -> None:
    values = rng.integers(0, 256, (40, 784))
    packed = gzip.compress(Path(pixel_csv(tmp_path / "p.csv", values, None)).read_bytes())
    spec = tmp_path / "p.csv.gz"
    spec.write_bytes(packed[:-2_000])
    assert f"The CSV of pixels {spec} cannot be read: Compressed file ended" in sentence(spec)
    spec.write_bytes(packed[:-8] + b"12345678")
    assert f"The CSV of pixels {spec} cannot be read: CRC check failed" in sentence(spec)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is not a file" in sentence(tmp_path / "pipe.csv")


def test_a_csv_of_pixels_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = rng.integers(0, 256, (3, 16))
    text = Path(pixel_csv(tmp_path / "p.csv", values, [0, 1, 2])).read_bytes()
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(text))
    for spec in ("~/p.csv", "~/p.csv.gz"):
        dataset = open_dataset(spec)
        assert dataset.kind == "pixels"
        assert dataset.root == str(tmp_path)
        assert (np.asarray(decode(dataset.read(2))) == values[2].reshape(4, 4, 1)).all()
