"""Datasets: what is explained, one record an image, whatever form it comes in.

Each kind of dataset is one module of `engine.dataset_kinds` that defines ``KIND``; adding a kind is adding a file there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.errors import DatasetError
from cache.schema import META_PREFIX
from engine.files import ReadError, is_url, join, look_at, read_bytes
from engine.images import decode_mask

__all__ = ["Dataset", "DatasetKind", "DatasetOptions", "ReadError", "open_dataset"]


_MOST_DIGITS = 18


@dataclass(frozen=True)
class DatasetOptions:
    """What a person may say about a dataset besides where it is; None means to find out.

    Attributes:
        data_root: Folder or URL that a table's relative paths start from.
        path_column: Column that holds paths or URLs.
        label_column: Column that holds labels.
        id_column: Column that holds sample ids.
        label_names: Read labels of whole numbers as class names instead of output indices.
        unlabelled: Take every image below a folder, without labels.
        split: Split of a torchvision dataset.
    """

    data_root: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    label_names: bool = False
    unlabelled: bool = False
    split: str | None = None


@dataclass(frozen=True)
class DatasetKind:
    """A form that datasets come in.

    Attributes:
        name: Short name, stored in the manifest.
        matches: Whether a spec has this form; asked kind by kind, in ascending order.
        open: Reads a dataset of this form.
        order: Position among the kinds; the folder comes last and matches everything.
    """

    name: str
    matches: Callable[[str], bool]
    open: Callable[[str, DatasetOptions], Dataset]
    order: int = 50


@dataclass
class Dataset:
    """The records of a dataset and how to read them; safe to read from several threads.

    Attributes:
        source: The spec it was opened from.
        root: Folder or URL that relative uris start from.
        kind: Name of its kind.
        records: One row an image: sample_id, uri, label (nullable), split (nullable), then where the dataset has them
            mask (uri, nullable), boxes (list of x0, y0, x1, y1 in pixels of the upright original, nullable), meta.*.
        labels_are_indices: Labels are whole numbers, the model's output indices; else they are class names.
        classes: Class names in the dataset's own order (sorted folders, torchvision's classes), None for tables.
        native_size: Height and width that all images share by construction, None otherwise.
        notices: Sentences that a person should read.
        reader: Returns the bytes of an image by its row in the source; None where uri is a file.
        rows: Row in the source of every record, where `take` chose among them.
    """

    source: str
    root: str
    kind: str
    records: pa.Table = field(repr=False)
    labels_are_indices: bool = False
    classes: list[str] | None = None
    native_size: tuple[int, int] | None = None
    notices: list[str] = field(default_factory=list)
    reader: Callable[[int], bytes] | None = field(default=None, repr=False)
    rows: NDArray[np.int64] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of records."""
        return int(self.records.num_rows)

    def read(self, i: int) -> bytes:
        """Return the bytes of the i-th image: its file, or a lossless raw form where the dataset holds pixels.

        Raises:
            ReadError: kinds gone, unreadable, empty.
        """
        if self.reader is not None:
            return self.reader(i if self.rows is None else int(self.rows[i]))
        return read_bytes(join(self.root, self.columns["uri"][i].as_py()))

    def read_mask_bytes(self, i: int) -> bytes | None:
        """Return the bytes of the i-th image's mask file, None where it has none (raises ReadError)."""
        mask = self._value("mask", i)
        return None if mask is None else read_bytes(join(self.root, mask))

    def read_mask(self, i: int) -> NDArray[np.bool_] | None:
        """Return the i-th object mask (height, width), None where there is none (raises ReadError, ImageError)."""
        data = self.read_mask_bytes(i)
        return None if data is None else decode_mask(data)

    def boxes(self, i: int) -> NDArray[np.float64] | None:
        """Return the i-th image's object boxes (n, 4) in pixels of the upright original, None where there are none."""
        boxes = self._value("boxes", i)
        return None if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)

    def labels(self) -> list[str]:
        """Return the distinct labels, sorted; integers by value."""
        distinct = [label for label in self.columns["label"].unique().to_pylist() if label is not None]
        if self.labels_are_indices:
            return sorted(distinct, key=lambda label: (output_index(label), label))
        return sorted(distinct)

    def meta(self) -> list[dict[str, str]]:
        """Return the manifest's description of the metadata columns: name and type (number, text, boolean, time)."""
        schema = self.records.schema
        return [{"name": f.name, "type": meta_type(f.type)} for f in schema if f.name.startswith(META_PREFIX)]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Return the dataset of some of its records, in the given order."""
        chosen = np.asarray(rows, np.int64)
        original = chosen if self.rows is None else self.rows[chosen]
        return replace(self, records=self.records.take(pa.array(chosen)), rows=original)

    @cached_property
    def columns(self) -> dict[str, pa.Array]:
        """The columns of the records, each in one piece: those of the table where it is in one already."""
        return {
            name: column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            for name, column in zip(self.records.column_names, self.records.columns, strict=True)
        }

    def _value(self, name: str, i: int) -> Any:
        return self.columns[name][i].as_py() if name in self.columns else None


def output_index(text: str) -> int:
    """Return a whole number; one with more digits than any output has may be too long to read, and is beyond them."""
    return int(text) if len(text) <= _MOST_DIGITS else -1


def meta_type(arrow_type: pa.DataType) -> str:
    """Return what kind of metadata an Arrow type holds: number, text, boolean or time."""
    if pa.types.is_boolean(arrow_type):
        return "boolean"
    if pa.types.is_temporal(arrow_type):
        return "time"
    if pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type):
        return "number"
    return "text"


def open_dataset(spec: str, options: DatasetOptions | None = None, **keywords: Any) -> Dataset:
    """Open a dataset by its spec: a folder, a table, shards, a CSV of pixels, ``torchvision:NAME@ROOT``, or a URL of these.

    Args:
        spec: Path, URL or torchvision name.
        options: What is known about it; or the same as keywords.
        keywords: Fields of `DatasetOptions`.

    Raises:
        DatasetError: it is missing, empty or malformed.
    """
    chosen = options or DatasetOptions(**keywords)
    if not spec.strip():
        raise DatasetError("No dataset was named: give --data a folder, a table or torchvision:NAME@ROOT.")
    if is_url(spec):
        look_at(spec)
    kind = next(kind for kind in dataset_kinds() if kind.matches(spec))
    dataset = kind.open(spec, chosen)
    pa.default_memory_pool().release_unused()  # what parsing a large table needed is not needed again
    if not len(dataset):
        raise DatasetError(f"The dataset {spec} has no images: give one with at least one record.")
    return dataset


@lru_cache(maxsize=1)
def dataset_kinds() -> tuple[DatasetKind, ...]:
    """Return every kind of dataset, in the order in which they are asked whether a spec is theirs."""
    package = importlib.import_module("engine.dataset_kinds")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    kinds = [importlib.import_module(f"engine.dataset_kinds.{name}").KIND for name in names]
    return tuple(sorted(kinds, key=lambda kind: kind.order))
