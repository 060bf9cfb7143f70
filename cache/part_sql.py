"""SELECTs over the published parts of a run, which have the columns asked for whatever the parts lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.fields import Kind
from cache.filter_sql import identifier
from cache.run import Run

SQL_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.bool_(): "BOOLEAN",
    pa.float32(): "FLOAT",
    pa.binary(): "BLOB",
    pa.list_(pa.int32()): "INTEGER[]",
    pa.list_(pa.float32()): "FLOAT[]",
}
META_TYPES: dict[Kind, str] = {
    "number": "DOUBLE",
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMP",
}


class PartSql:
    """Writes the SELECTs of one generation; safe between threads."""

    def __init__(self, run: Run, query: Callable[[str], pa.Table]) -> None:
        """Name the run, and what runs a statement."""
        self._run, self._query = run, query
        self._lock = Lock()
        self._held: dict[str, dict[str, str]] = {}

    def firsts(self, table: str) -> NDArray[np.int64]:
        """Return the position of the first row of each readable part of a table."""
        rows = self._rows(table)
        return np.cumsum([0, *rows], dtype=np.int64)[: len(rows)]

    def rows(self, table: str) -> int:
        """Return how many rows the readable parts of a table hold."""
        return sum(self._rows(table))

    def _rows(self, table: str) -> list[int]:
        damaged = set(self._run.damaged)
        parts = self._run.manifest.parts.get(table, [])
        return [part.rows for part in parts if f"{table}/{part.name}" not in damaged]

    def select(self, table: str, columns: Mapping[str, str], position: str = "") -> str:
        """Return a SELECT over a table's parts.

        NaN becomes NULL, so that comparisons, sorting and averages pass it by.

        Args:
            table: The table.
            columns: SQL type of each column wanted, by name; one that the parts lack is NULL.
            position: Name of a column that counts the rows of all readable parts; empty for none.
        """
        paths = self._run.part_paths(table)
        if not paths:
            places = [f"NULL::BIGINT AS {position}"] if position else []
            empty = [f"NULL::{kind} AS {identifier(name)}" for name, kind in columns.items()]
            return f"SELECT {', '.join(empty + places)} WHERE FALSE"
        source = f"read_parquet([{', '.join(path_literal(path) for path in paths)}], union_by_name = true, hive_partitioning = false)"
        held = self._columns(table, source)
        taken = []
        for name, kind in columns.items():
            quoted = identifier(name)
            value = f"TRY_CAST({quoted} AS {kind})" if held.get(name, kind) != kind else quoted
            if name not in held:
                value = f"NULL::{kind}"
            elif kind in ("FLOAT", "DOUBLE"):
                value = f"nullif({value}, 'NaN'::{kind})"
            taken.append(f"{value} AS {quoted}")
        if position:
            firsts = ", ".join(str(first) for first in self.firsts(table))
            taken.append(f"([{firsts}]::BIGINT[])[file_index::BIGINT + 1] + file_row_number AS {position}")
        return f"SELECT {', '.join(taken)} FROM {source}"

    def _columns(self, table: str, source: str) -> dict[str, str]:
        """Return the columns that a table's parts hold, with their SQL types."""
        with self._lock:
            held = self._held.get(table)
        if held is None:
            described = self._query(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {source})")
            names, kinds = (described[c].to_pylist() for c in ("column_name", "column_type"))
            held = dict(zip(names, kinds, strict=True))
            with self._lock:
                self._held[table] = held
        return held


def path_literal(path: str) -> str:
    """Write a path as an SQL text, with the characters escaped that would be read as a pattern."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return text_literal(escaped)


def text_literal(text: str) -> str:
    """Write a text into a statement that cannot bind it."""
    return "'" + text.replace("'", "''") + "'"
