"""The maps of one method as a flat file beside the index: a page of a gallery opens hundreds of them, each in another part.

A record a row of the method's table, in the order of the parts: height, width and scale, and the map's bytes as the table has
them. Only methods whose maps are all of one size, and small, have such a file. It is disposable.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache.reading import reading_errors
from cache.run import Run
from cache.schema import table_of_method

MAP_COLUMNS = ("height", "width", "scale", "map")
MOST_BYTES = 2 * 16 * 16
"""Larger maps stay in Parquet: a million of these are half a gigabyte."""


def map_name(method: str) -> str:
    """Return the name of the file of a method's maps."""
    return f"maps-{method}.rows"


def record(size: int) -> np.dtype[np.void]:
    """Return what a row is, for maps of so many bytes."""
    return np.dtype([("height", "<i2"), ("width", "<i2"), ("scale", "<f4"), ("map", f"V{size}")])


def write_maps(run: Run, method: str, path: Path) -> int | None:
    """Copy a method's maps out of the parts; return the bytes of each, or None, and no file, where they do not fit one.

    Raises:
        OSError: The disk does not take it.
        RunDamagedError: A part is missing or cannot be read.
    """
    size = None
    with open(path, "wb") as file:
        for part in run.part_paths(table_of_method(method)):
            with reading_errors(run), pq.ParquetFile(part) as source:
                table = source.read(columns=list(MAP_COLUMNS)).combine_chunks()
            lengths = pc.unique(pc.binary_length(table["map"])).to_pylist()
            size = lengths[0] if size is None and len(lengths) == 1 else size
            if lengths != [size] or size is None or size > MOST_BYTES:
                size = None
                break
            file.write(_records(table, size).tobytes())
    if size is None:
        path.unlink()
    return size


def _records(table: pa.Table, size: int) -> np.ndarray:
    rows = np.empty(table.num_rows, record(size))
    for name in MAP_COLUMNS[:3]:
        rows[name] = table[name].to_numpy()
    maps = table["map"].combine_chunks() if table.num_rows else pa.array([], pa.binary())
    if isinstance(maps, pa.ChunkedArray):
        maps = pa.concat_arrays(maps.chunks)
    rows["map"] = np.frombuffer(b"".join(maps.to_pylist()), f"V{size}")
    return rows


def read_maps(path: Path, size: int, positions: Sequence[int]) -> pa.Table | None:
    """Return rows by their position, with the columns of `MAP_COLUMNS`; None where the file does not have them."""
    kind = record(size)
    rows = np.empty(len(positions), kind)
    with suppress(OSError), open(path, "rb") as file:
        # Read, not mapped: pages that were touched once would count as memory of the dashboard for ever.
        for at, position in enumerate(positions):
            found = os.pread(file.fileno(), kind.itemsize, position * kind.itemsize)
            if len(found) != kind.itemsize:
                return None
            rows[at] = np.frombuffer(found, kind)[0]
        if (2 * rows["height"].astype(int) * rows["width"] != size).any():
            return None
        columns = [rows["height"], rows["width"], rows["scale"], [bytes(one) for one in rows["map"]]]
        types = (pa.int16(), pa.int16(), pa.float32(), pa.binary())
        return pa.table(
            [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)],
            names=list(MAP_COLUMNS),
        )
    return None
