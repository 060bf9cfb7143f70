"""The records of a dataset beside the model's outputs: what of a sample's row comes from the dataset, not the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.schema import CONTENT_HEX, META_PREFIX
from engine.datasets import Dataset

RECORD_BYTES = 8


class Records:
    """A dataset whose labels have been matched to the model's outputs."""

    def __init__(self, dataset: Dataset, labels: pa.Array) -> None:
        """Take a dataset.

        Args:
            dataset: The dataset.
            labels: Output index of every record's label, int32, NULL where unknown.
        """
        self.dataset = dataset
        self.labels = labels
        self._meta = [name for name in dataset.records.column_names if name.startswith(META_PREFIX)]
        self._kept = [name for name in ("uri", "split", *self._meta) if name in dataset.records.column_names]
        self._columns = dataset.columns

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.dataset)

    def sample_id(self, i: int) -> str:
        """Return the i-th record's identity."""
        return str(self._columns["sample_id"][i].as_py())

    def uri(self, i: int) -> str:
        """Return where the i-th original lies."""
        return str(self._columns["uri"][i].as_py())

    def label(self, i: int) -> int | None:
        """Return the i-th true class, None where unknown."""
        value = self.labels[i].as_py()
        return None if value is None else int(value)

    def digest(self, i: int) -> str:
        """Return the digest of everything in the i-th row that the dataset decides."""
        values = [self._columns[name][i].as_py() for name in self._kept]
        text = json.dumps([self._kept, values, self.label(i)], default=str, ensure_ascii=False)
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=RECORD_BYTES).hexdigest()

    def columns(self, indices: Sequence[int]) -> dict[str, pa.Array]:
        """Return the columns of `samples` that the dataset decides, for some records."""
        rows = pa.array(indices, pa.int64())
        count = len(indices)
        split = self._columns["split"].take(rows).cast(pa.string()) if "split" in self._columns else None
        return {
            "sample_id": self._columns["sample_id"].take(rows).cast(pa.string()),
            "record": pa.array([self.digest(i) for i in indices], pa.string()),
            "uri": self._columns["uri"].take(rows).cast(pa.string()),
            "split": pa.nulls(count, pa.string()) if split is None else split,
            "label": self.labels.take(rows),
        } | {name: self._columns[name].take(rows) for name in self._meta}


def content_key(data: bytes, mask: bytes | None, boxes: NDArray[np.float64] | None) -> str:
    """Return the key under which everything about an image is kept: BLAKE2b-128 of its bytes.

    Attention inside the object is stored with the maps, so that a mask or boxes belong to the key.
    """
    key = blake2b(data, digest_size=CONTENT_HEX // 2)
    if mask is not None:
        key.update(b"\0mask\0" + mask)
    if boxes is not None:
        key.update(b"\0boxes\0" + np.ascontiguousarray(boxes, np.float64).tobytes())
    return key.hexdigest()
