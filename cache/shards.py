"""Writes a shard's parts: what a worker on another machine found, for the run's writer to adopt and publish."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from cache.locations import Url
from cache.manifest import Part
from cache.parts import PartWriter
from cache.schema import PART_ROWS
from cache.storage import storage_at

AT_ONCE = 12
"""Parts that are finished at the same time: about as many as a run has tables."""
SENT_BYTES = 16 << 20
"""Rows of more bytes are no little thing to hand over, however few they are."""


@dataclass(frozen=True)
class Sent:
    """Rows of a table that no part holds yet.

    Attributes:
        table: The table.
        key: Key of the parameters that they were computed with.
        name: What other rows that are sent along call the part in which they would have been.
        rows: They.
    """

    table: str
    key: str
    name: str
    rows: pa.Table

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as one buffer: pickling two hundred columns one by one takes ten times as long."""
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, self.rows.schema) as stream:
            stream.write_table(self.rows.combine_chunks())
        return _arrived, (self.table, self.key, self.name, out.getvalue().to_pybytes())


def _arrived(table: str, key: str, name: str, rows: bytes) -> Sent:
    return Sent(table, key, name, pa.ipc.open_stream(rows).read_all())


class PartsWriter:
    """Parts of several tables being written; nothing of them counts until a manifest names them."""

    def __init__(self, path: str | os.PathLike[str] | Url) -> None:
        self.storage = storage_at(path)
        self.path = self.storage.place
        self._open_parts: dict[str, PartWriter] = {}
        self._closed: list[tuple[str, Part]] = []

    def part(self, table: str, schema: pa.Schema, key: str = "") -> PartWriter:
        """Return the part of a table that rows now go to, opening one where needed.

        A part is finished when it is full and when its key or schema changes.
        """
        part = self._open_parts.get(table)
        if part is not None and (part.key != key or part.schema != schema or part.rows >= PART_ROWS):
            self._finish(table)
            part = None
        if part is None:
            part = self._open_parts[table] = PartWriter(self.storage, table, schema, key)
        return part

    def append(self, table: str, rows: pa.Table, key: str = "") -> tuple[str, int]:
        """Write rows to a table.

        Returns:
            The name of the part that they went to, and the position of the first of them within it.

        Raises:
            RunStorageError: The disk refuses them.
        """
        part = self.part(table, rows.schema, key)
        first = part.rows
        part.append(rows)
        return part.name, first

    def finish(self) -> list[tuple[str, Part]]:
        """Finish every part and let go of them: each with its table (raises RunStorageError)."""
        self._finish_all()
        closed, self._closed = self._closed, []
        return closed

    def discard(self) -> None:
        """Leave no trace of what was not let go of."""
        for writing in self._open_parts.values():
            writing.abort()
        self._open_parts.clear()
        for table, part in self._closed:
            self.storage.delete(table, part.name)
        self._closed.clear()

    def _finish_all(self) -> None:
        """Finish every part, together: the disk makes many files last in hardly more time than one, and so does an object store.

        Raises:
            RunStorageError: The disk refuses one of them.
        """
        writing = [part for part in self._open_parts.values() if part.rows]
        for part in self._open_parts.values():
            if not part.rows:
                part.abort()
        self._open_parts.clear()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            closing = [threads.submit(part.close) for part in writing]
        for part, closed in zip(writing, closing, strict=True):
            if closed.exception() is None:
                self._closed.append((part.table, closed.result()))
            else:
                part.abort()
        for closed in closing:
            closed.result()

    def _finish(self, table: str) -> None:
        part = self._open_parts.pop(table)
        try:
            if part.rows:
                self._closed.append((table, part.close()))
            else:
                part.abort()
        except BaseException:
            part.abort()
            raise


class ShardWriter(PartsWriter):
    """Writes parts beside the run's own writer, in any process that reaches the run's place."""

    def send(self, below: int) -> list[Sent]:
        """Let go of all rows where every table has fewer than so many, they are no burden and none is on disk; else return nothing."""
        sent = [
            Sent(part.table, part.key, part.name, rows)
            for part in self._open_parts.values()
            if (rows := part.unwritten()) is not None and rows.num_rows < below
        ]
        whole = len(sent) == len(self._open_parts) and not self._closed
        if not whole or sum(one.rows.nbytes for one in sent) > SENT_BYTES:
            return []
        self._open_parts.clear()
        return sent

    def redirect(self, rows: pa.Table) -> pa.Table:
        """Return rows of `samples` as they are: whoever adopts them knows where thumbnails went meanwhile."""
        return rows
