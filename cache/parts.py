"""Writes one immutable part: to a local file, row group by row group, which is then put under its final name."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from cache.disk import digest, storage_errors
from cache.manifest import Part
from cache.schema import THUMBNAIL_GROUP_ROWS
from cache.storage import LocalStorage, Storage

GROUP_ROWS = {"thumbnails": THUMBNAIL_GROUP_ROWS, "samples": 4_096, "errors": 4_096, "embeddings": 512}
"""Rows of a row group by table; attributions have `DEFAULT_GROUP_ROWS`."""
DEFAULT_GROUP_ROWS = 1_024
GROUP_BYTES = 16 << 20
"""A row group is written earlier where so much waits: maps of the input's own resolution are large."""


class PartWriter:
    """A part being written; rows are handed on to disk a row group at a time, so that memory stays flat.

    The part's name is known from the start, so that other tables may point into it. No lock is needed: a part counts
    only once the run's writer has named it in the manifest, whoever wrote it.
    """

    def __init__(self, run: Storage | Path, table: str, schema: pa.Schema, key: str = "") -> None:
        """Open a part.

        Args:
            run: Where the run is kept; a path for a directory.
            table: The table.
            schema: Of its rows.
            key: Key of the parameters that they were computed with.

        Raises:
            RunStorageError: The disk refuses.
        """
        self.table = table
        self.schema = schema
        self.key = key
        self.name = f"part-{uuid4().hex[:16]}.parquet"
        self.rows = 0
        self._storage = LocalStorage(run) if isinstance(run, Path) else run
        self._temporary = self._storage.spool(table, self.name)
        self._folder = self._temporary.parent
        self._group_rows = GROUP_ROWS.get(table, DEFAULT_GROUP_ROWS)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None

    def append(self, rows: pa.Table) -> None:
        """Add rows; they must have the part's schema.

        Raises:
            RunStorageError: The disk refuses them.
        """
        self._waiting.append(rows.cast(self.schema) if rows.schema != self.schema else rows)
        self._waiting_rows += rows.num_rows
        self.rows += rows.num_rows
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes >= GROUP_BYTES or self._waiting_rows >= self._group_rows:
            waiting = pa.concat_tables(self._waiting)
            large = self._waiting_bytes >= GROUP_BYTES
            whole = waiting.num_rows - (0 if large else waiting.num_rows % self._group_rows)
            self._write(waiting.slice(0, whole))
            rest = waiting.slice(whole)
            # A slice keeps its parent's buffers alive, so the few rows that wait are copied out of it.
            self._waiting = [rest.take(pa.array(range(rest.num_rows), pa.int64()))] if rest.num_rows else []
            self._waiting_rows, self._waiting_bytes = rest.num_rows, rest.nbytes

    def close(self) -> Part:
        """Finish the part: on disk for good, under its final name, but not yet published.

        Raises:
            RunStorageError: The disk refuses it.
        """
        if self._waiting_rows or self._writer is None:
            self._write(pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table())
            self._waiting = []
        assert self._writer is not None
        assert self._file is not None
        with storage_errors(self._folder):
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            size, sha256 = os.stat(self._temporary).st_size, digest(self._temporary)
        part = Part(self.name, self.rows, size, sha256, self.key)
        self._storage.put(self.table, part, self._temporary)
        return part

    def _write(self, rows: pa.Table) -> None:
        with storage_errors(self._folder):
            if self._writer is None:
                self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by close() and abort()
                self._writer = pq.ParquetWriter(self._file, self.schema, **_encoding(self.table, self.schema))
            self._writer.write_table(rows, row_group_size=self._group_rows)

    def unwritten(self) -> pa.Table | None:
        """Return the rows as long as none of them has been handed on to disk; None afterwards."""
        if self._writer is not None:
            return None
        return pa.concat_tables(self._waiting) if self._waiting else self.schema.empty_table()

    def abort(self) -> None:
        """Leave no trace of the part."""
        if self._file is None:
            return
        with suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)
        self._storage.delete(self.table, self.name)


def _encoding(table: str, schema: pa.Schema) -> dict[str, object]:
    """Choose how columns are stored: thumbnails are compressed already, floats split by byte compress best."""
    if table == "thumbnails":
        return {"compression": "none", "use_dictionary": False, "write_statistics": False}
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    repeated = [
        f.name
        for f in schema
        if f.name in ("thumbnail_part", "split", "kind", "stage")
        or (f.name.startswith("meta.") and pa.types.is_string(f.type))
    ]
    # Nothing is sorted by the two hundred numbers of a map: their least and largest would only swell the footers.
    bounded = [f.name for f in schema if not pa.types.is_floating(f.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "write_statistics": bounded or False,
        "use_dictionary": repeated or False,
        "use_byte_stream_split": floats or False,
    }
