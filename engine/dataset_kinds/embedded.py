"""Parquet with the images' bytes in it, as Hugging Face's datasets come: a struct of bytes and path, or a binary column."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.errors import DatasetError
from cache.schema import META_PREFIX
from engine import tables
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import ReadError, is_folder, is_url
from engine.shards import expand, file_size, listed, ranges

SUFFIXES = (".parquet", ".pq")
IMAGE_COLUMNS = (
    "image",
    "img",
    "picture",
    "photo",
    "image_bytes",
    "img_bytes",
    "bytes",
    "jpg",
    "jpeg",
    "png",
    "webp",
)
"""Binary columns that hold images; a struct with a binary field ``bytes`` does whatever it is called."""
KEPT_GROUPS = 4
"""Row groups whose images are kept: readers ask for images in order, several at a time."""
LARGE_GROUP = 1 << 30
_SPLIT = re.compile(r"(train|validation|valid|val|dev|test)\b", re.IGNORECASE)


@dataclass
class EmbeddedReader:
    """Reads the row group that holds an image and keeps the last few.

    Attributes:
        files: The Parquet files.
        column: Column of the images.
        firsts: Number of the first image of every row group of all files, and of the end.
        groups: File and row group within it, for each.
    """

    files: list[str]
    column: str
    firsts: NDArray[np.int64]
    groups: list[tuple[int, int]]
    _kept: OrderedDict[int, pa.ChunkedArray] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __call__(self, i: int) -> bytes:
        """Return the bytes of the i-th image (raises ReadError)."""
        group = int(np.searchsorted(self.firsts, i, side="right")) - 1
        file = self.files[self.groups[group][0]]
        # One at a time: several threads that need the same row group would each read all of it.
        with self._lock:
            images = self._kept.get(group)
            if images is None:
                images = self._read(file, self.groups[group][1])
                self._kept[group] = images
                while len(self._kept) > KEPT_GROUPS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
        data = images[int(i - self.firsts[group])].as_py()
        if not data:
            raise ReadError("empty", f"Row {i} of {file} holds no image.")
        return bytes(data)

    def _read(self, file: str, number: int) -> pa.ChunkedArray:
        try:
            with pq.ParquetFile(_source(file)) as opened:
                column = opened.read_row_group(number, columns=[self.column], use_threads=False)[self.column]
        except FileNotFoundError as error:
            raise ReadError("gone", f"There is no file at {file} any more.") from error
        except Exception as error:  # each remote filesystem has its own errors
            reason = (str(error) or type(error).__name__).splitlines()[0][:160].rstrip(".")
            raise ReadError("unreadable", f"The file {file} cannot be read: {reason}.") from error
        if pa.types.is_struct(column.type):
            return pa.chunked_array([chunk.field("bytes") for chunk in column.chunks], pa.binary())
        return column


def open_embedded(spec: str, options: DatasetOptions) -> Dataset:
    """Open Parquet files with images; the sample_id is an id column's value, or the file's name and the row."""
    if options.data_root is not None:
        raise DatasetError(
            f"--data-root says where a table's images lie, but {spec} holds its images itself: leave it out."
        )
    files = [file for file in _files(spec) if options.split is None or _split(file) in (None, options.split)]
    if not files:
        raise DatasetError(
            f"{spec} has no files of a split {options.split!r}: leave --split out, or name another."
        )
    opened = [_open(file) for file in files]
    column = _image_column(opened[0].schema_arrow)
    if column is None:
        raise DatasetError(
            f"{spec} has no column of image bytes: its columns are {', '.join(opened[0].schema_arrow.names[:8])}."
        )
    names = [name for name in opened[0].schema_arrow.names if name != column]
    read = []
    for file, parquet in zip(files, opened, strict=True):
        if not {column, *names} <= set(parquet.schema_arrow.names):
            raise DatasetError(f"{file} has other columns than {files[0]}: give files of one dataset.")
        read.append(_columns(file, parquet, names))
    table = pa.concat_tables(read, promote_options="permissive") if names else pa.table({})
    counts = [parquet.metadata.num_rows for parquet in opened]
    reader, notices = _reader(files, opened, column)
    for parquet in opened:
        parquet.close()
    records, are_indices, classes, more = _records(spec, options, files, counts, table, names)
    return Dataset(
        spec,
        os.path.dirname(files[0]),
        KIND.name,
        records,
        labels_are_indices=are_indices,
        classes=classes,
        notices=notices + more,
        reader=reader,
    )


def _records(
    spec: str, options: DatasetOptions, files: list[str], counts: list[int], table: pa.Table, names: list[str]
) -> tuple[pa.Table, bool, list[str] | None, list[str]]:
    label = tables.find_column(names, tables.LABEL_COLUMNS, options.label_column, "labels", spec)
    identity = tables.find_column(names, tables.ID_COLUMNS, options.id_column, "ids", spec)
    split = tables.find_column(names, tables.SPLIT_COLUMNS, None, "split", spec)
    total = sum(counts)
    places = [
        f"{os.path.basename(file).rsplit('.', 1)[0]}/{row:06d}"
        for file, count in zip(files, counts, strict=True)
        for row in range(count)
    ]
    ids = pa.array(places, pa.string()) if identity is None else tables.text_column(table, identity, spec)
    if ids.null_count or pc.count_distinct(ids).as_py() != total:
        raise DatasetError(
            f"The ids of {spec} in the column {identity!r} are not all there and different: mend them."
        )
    uris = [
        f"{os.path.basename(file)}#{row}"
        for file, count in zip(files, counts, strict=True)
        for row in range(count)
    ]
    notices, are_indices, classes = [], False, None
    labels: Any = pa.nulls(total, pa.string())
    if label is None:
        notices.append(f"{spec} has no label column: its images are unlabelled.")
    else:
        classes = _class_names(table.schema, label)
        column = table.column(label)
        if classes is not None and pa.types.is_integer(column.type):
            labels = _named(column, classes)
        else:
            labels, are_indices = tables.label_values(
                column, spec, label_names=options.label_names, typed=True
            )
            classes = None
    if split is None:
        told = [_split(file) for file in files]
        splits = pa.array(
            [one for one, count in zip(told, counts, strict=True) for _ in range(count)], pa.string()
        )
    else:
        splits = tables.text_column(table, split, spec)
    columns = {"sample_id": ids, "uri": pa.array(uris, pa.string()), "label": labels, "split": splits}
    for name in names:
        stored = None if name in (label, identity, split) else tables.meta_column(table.column(name))
        if stored is not None:
            columns[META_PREFIX + name] = stored
    return pa.table(columns), are_indices, classes, notices


def _named(column: Any, classes: list[str]) -> Any:
    """Return the names of label numbers; −1 is how the layout writes that there is none."""
    values = [None if v is None or not 0 <= v < len(classes) else classes[v] for v in column.to_pylist()]
    return pa.array(values, pa.string())


def _class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Return the names of the classes that Hugging Face's metadata give a column of numbers."""
    try:
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return [str(name) for name in told["names"]] if told.get("_type") == "ClassLabel" else None
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def _reader(files: list[str], opened: list[pq.ParquetFile], column: str) -> tuple[EmbeddedReader, list[str]]:
    groups, sizes, largest = [], [0], 0
    for number, parquet in enumerate(opened):
        for group in range(parquet.num_row_groups):
            told = parquet.metadata.row_group(group)
            groups.append((number, group))
            sizes.append(told.num_rows)
            largest = max(largest, told.total_byte_size)
    notices = []
    if largest > LARGE_GROUP:
        notices.append(
            f"A row group of {largest / 1e9:.1f} GB is read as a whole for each of its images: write the files with smaller "
            "ones (row_group_size) to save memory."
        )
    return EmbeddedReader(files, column, np.cumsum(sizes), groups), notices


def _columns(file: str, parquet: pq.ParquetFile, names: list[str]) -> pa.Table:
    try:
        return parquet.read(columns=names, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, error) from error


def _open(file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(_source(file))
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file at {file}: check the path or the pattern.") from error
    except Exception as error:  # each remote filesystem has its own errors
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: Exception) -> DatasetError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:160].rstrip(".")
    return DatasetError(f"The file {file} cannot be read: {reason}; fetch or export it again.")


def _source(file: str) -> Any:
    """Return what PyArrow opens: a path, or a file of ranges."""
    if not is_url(file):
        return file
    size = file_size(file)
    if size < 0:
        raise FileNotFoundError(file)
    return ranges(file, size)


def _image_column(schema: pa.Schema) -> str | None:
    for declared in schema:
        kind = declared.type
        if (
            pa.types.is_struct(kind)
            and kind.get_field_index("bytes") >= 0
            and _is_binary(kind.field("bytes").type)
        ):
            return str(declared.name)
    by_lower = {f.name.lower(): f.name for f in schema if _is_binary(f.type)}
    return next((by_lower[name] for name in IMAGE_COLUMNS if name in by_lower), None)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _split(file: str) -> str | None:
    """Return the split that a file's name begins with, as ``train-00000-of-00005.parquet`` does."""
    found = _SPLIT.match(os.path.basename(file))
    return found[1].lower() if found else None


def _files(spec: str) -> list[str]:
    """Return the files that a spec means: one, a pattern's, or those of a folder or of its folder ``data``."""
    places = [
        place if is_url(place) else os.path.abspath(os.path.expanduser(place)) for place in expand(spec)
    ]
    if len(places) == 1 and is_folder(places[0]):
        return listed(places[0], SUFFIXES[0]) or listed(f"{places[0]}/data", SUFFIXES[0])
    return places


def _matches(spec: str) -> bool:
    """Tell whether the first file of a spec has a column of images."""
    if not spec.lower().endswith(SUFFIXES) and not is_folder(os.path.expanduser(spec)):
        return False
    files = _files(spec)
    if not files:
        return False
    if len(files) > 1:
        return True
    try:
        with pq.ParquetFile(_source(files[0])) as opened:
            return _image_column(opened.schema_arrow) is not None
    except Exception:  # the table's kind says what is wrong with it
        return False


KIND = DatasetKind("embedded", _matches, open_embedded, order=25)
