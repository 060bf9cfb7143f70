"""A CSV of pixels, as Sign-Language MNIST comes: a label and pixel1, pixel2, … in every row."""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa

from cache.errors import DatasetError
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import ReadError, is_folder, is_url
from engine.images import encode_raw
from engine.tables import LABEL_COLUMNS, find_column, label_values

_PIXEL = re.compile(r"pixel[ _]?\d+", re.IGNORECASE)
_FEWEST = 16
"""Pixel columns that make a table a CSV of pixels."""


@dataclass
class PixelRows:
    """Reads one row of the file at a time: memory holds an offset a row, never the pixels."""

    path: str
    offsets: array[int]
    pixel_columns: slice | list[int]
    side: int
    channels: int
    copy: Any = field(default=None, repr=False)

    def __call__(self, i: int) -> bytes:
        """Return the i-th image as a PGM or PPM file (raises ReadError)."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offsets[i])
                line = file.read(self.offsets[i + 1] - self.offsets[i])
        except FileNotFoundError as error:
            raise ReadError("gone", f"There is no file at {self.path} any more.") from error
        except OSError as error:
            raise ReadError(
                "unreadable", f"The file {self.path} cannot be read: {error.strerror}."
            ) from error
        try:
            cells = line.replace(b'"', b"").strip().split(b",")
            chosen = (
                cells[self.pixel_columns]
                if isinstance(self.pixel_columns, slice)
                else [cells[c] for c in self.pixel_columns]
            )
            values = np.array(chosen, dtype="S").astype(np.float64)
        except (ValueError, IndexError) as error:
            raise ReadError("unreadable", f"Row {i} of {self.path} has a pixel that is no number.") from error
        pixels = values.astype(np.int64)
        if (
            pixels.size != self.side**2 * self.channels
            or (pixels != values).any()
            or pixels.min() < 0
            or pixels.max() > 255
        ):
            raise ReadError("unreadable", f"Row {i} of {self.path} has pixels that are not whole 0 to 255.")
        shape = (self.side, self.side, 3) if self.channels == 3 else (self.side, self.side)
        return encode_raw(pixels.astype(np.uint8).reshape(shape))


def open_pixels(spec: str, options: DatasetOptions) -> Dataset:
    """Open a CSV of pixels; the sample_id is the row's number, counted from 0."""
    location = _location(spec)
    with _reading(spec):
        header = _header(location)
    pixel_columns = [i for i, name in enumerate(header) if _PIXEL.fullmatch(name)]
    others = [name for name in header if not _PIXEL.fullmatch(name)]
    side, channels = _shape(spec, len(pixel_columns))
    label = find_column(others, LABEL_COLUMNS, options.label_column, "label", spec)
    strangers = [name for name in others if name != label]
    if strangers:
        raise DatasetError(
            f"The CSV of pixels {spec} has the column {strangers[0]!r} besides its label and pixels: remove it, "
            "or save the images as files and give a table with their paths."
        )
    with _reading(spec), ExitStack() as unfinished:
        path, copy = _local_copy(location, unfinished)
        offsets, labels = _scan(path, spec, len(header), None if label is None else header.index(label))
        unfinished.pop_all()
    rows = len(offsets) - 1
    names = pa.array((f"{i:06d}" for i in range(rows)), pa.string(), size=rows)
    uri = pa.array((f"{os.path.basename(spec)}#{i}" for i in range(rows)), pa.string(), size=rows)
    values, are_indices = label_values(
        pa.array(labels, pa.string()), spec, label_names=options.label_names, typed=False
    )
    records = pa.table(
        {"sample_id": names, "uri": uri, "label": values, "split": pa.nulls(rows, pa.string())}
    )
    consecutive = pixel_columns == list(range(pixel_columns[0], pixel_columns[-1] + 1))
    columns = slice(pixel_columns[0], pixel_columns[-1] + 1) if consecutive else pixel_columns
    return Dataset(
        spec,
        spec if is_url(spec) else os.path.dirname(location),
        "pixels",
        records,
        labels_are_indices=are_indices,
        native_size=(side, side),
        notices=[] if label else [f"{spec} has no label column: its images are unlabelled."],
        reader=PixelRows(path, offsets, columns, side, channels, copy),
    )


def _shape(spec: str, pixels: int) -> tuple[int, int]:
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side * side * channels == pixels:
            return side, channels
    raise DatasetError(
        f"The CSV of pixels {spec} has {pixels} pixel columns: give n × n for grey or 3 × n × n for colour images."
    )


def _location(spec: str) -> str:
    return spec if is_url(spec) else os.path.abspath(os.path.expanduser(spec))


@contextmanager
def _reading(spec: str) -> Iterator[None]:
    """Say in one sentence that a file cannot be read to its end (raises DatasetError)."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # each compression and each remote filesystem has its own errors
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
        raise DatasetError(
            f"The CSV of pixels {spec} cannot be read: {reason}; mend it or copy it again."
        ) from error


def _open(spec: str) -> IO[bytes]:
    import fsspec

    stream: IO[bytes] = fsspec.open(spec, "rb", compression="infer").open()
    return stream


def _header(spec: str) -> list[str]:
    with _open(spec) as file:
        line = file.readline().decode("utf-8-sig", "replace")
    return [cell.strip() for cell in next(csv.reader([line.strip()]), [])]


def _local_copy(location: str, unfinished: ExitStack) -> tuple[str, Any]:
    """Return a path whose rows can be sought, and what keeps it alive.

    Remote and compressed files are unpacked to a temporary one, which lives as long as the dataset, or until the stack
    closes it.
    """
    if not is_url(location) and not location.lower().endswith(".gz"):
        return location, None
    copy = unfinished.enter_context(tempfile.NamedTemporaryFile(suffix=".csv"))  # noqa: SIM115
    with _open(location) as source:
        shutil.copyfileobj(source, copy, 1 << 20)
    copy.flush()
    return copy.name, copy


def _scan(
    path: str, spec: str, columns: int, label_column: int | None
) -> tuple[array[int], list[str | None]]:
    """Return where every row begins (and the last ends) and the labels; blank lines are part of the row before."""
    offsets, known = array("q"), dict[str, str]()
    labels: list[str | None] = []
    with open(path, "rb") as file:
        position = len(file.readline())
        for number, line in enumerate(file, start=2):
            if line.strip():
                if line.count(b",") != columns - 1:
                    raise DatasetError(
                        f"Line {number} of the CSV of pixels {spec} has {line.count(b',') + 1} fields instead of "
                        f"{columns}: mend or remove it."
                    )
                offsets.append(position)
                if label_column is None:
                    labels.append(None)
                else:
                    text = line.split(b",", label_column + 1)[label_column].decode("utf-8", "replace")
                    text = text.strip().strip('"')
                    labels.append(known.setdefault(text, text) or None)
            position += len(line)
    offsets.append(position)
    return offsets, labels


def _matches(spec: str) -> bool:
    location = _location(spec)
    if not spec.lower().endswith((".csv", ".csv.gz")) or is_folder(location):
        return False
    if not is_url(location) and not os.path.isfile(
        location
    ):  # a pipe would wait for somebody to write into it
        return False
    try:
        return sum(bool(_PIXEL.fullmatch(name)) for name in _header(location)) >= _FEWEST
    except Exception:  # whatever is wrong with the file, the table kind says it
        return False


KIND = DatasetKind("pixels", _matches, open_pixels, order=20)
