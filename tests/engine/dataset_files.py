"""Datasets on disk for tests, of every kind, and the sentence of one that cannot be opened."""

from __future__ import annotations

import csv
import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cache.errors import DatasetError
from engine.datasets import Dataset, open_dataset
from tests.seeding import rng


def png(width: int = 5, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, *names: str) -> dict[str, bytes]:
    """Write a picture under every name and return their bytes."""
    written = {}
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written[name] = png()
        path.write_bytes(written[name])
    return written


def column(dataset: Dataset, name: str) -> list[Any]:
    return list(dataset.records.column(name).to_pylist())


def sentence(spec: object, **options: Any) -> str:
    """Return the error of opening a dataset: one line that ends in a full stop."""
    with pytest.raises(DatasetError) as caught:
        open_dataset(str(spec), **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def pixel_csv(path: Path, values: np.ndarray, labels: list[object] | None, last: bool = False) -> str:
    names = [f"pixel{i + 1}" for i in range(values.shape[1])]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names if labels is None else [*names, "label"] if last else ["label", *names])
        for i, row in enumerate(values.tolist()):
            writer.writerow(row if labels is None else [*row, labels[i]] if last else [labels[i], *row])
    return str(path)


def make_mnist(root: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the two files that torchvision's MNIST reads."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    stem = "t10k" if split == "test" else "train"
    for other in ("t10k", "train"):
        for part, data in (
            ("images-idx3", struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes()),
            ("labels-idx1", struct.pack(">II", 2049, count) + labels.tobytes()),
        ):
            path = raw / f"{other}-{part}-ubyte"
            if other == stem or not path.exists():
                path.write_bytes(data)
    return images, labels


def write_shard(path: Path, files: dict[str, bytes]) -> str:
    """Write a tar file of some files, in their order."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def write_embedded(
    path: Path,
    images: list[bytes | None],
    group: int = 3,
    metadata: dict[str, Any] | None = None,
    **columns: Any,
) -> str:
    """Write a Parquet file with images in it, in the layout of Hugging Face's datasets."""
    structs = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(structs, kind), **columns})
    if metadata is not None:
        told = json.dumps({"info": {"features": metadata}})
        table = table.replace_schema_metadata({"huggingface": told})
    pq.write_table(table, path, row_group_size=group)
    return str(path)
