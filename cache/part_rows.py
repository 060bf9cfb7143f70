"""Reads rows of a run's parts by their position, and writes the SELECTs of whole tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.part_sql import SQL_TYPES, PartSql
from cache.reading import read_rows, reading_errors
from cache.run import Run
from cache.schema import Column, table_of_method


class PartRows(ABC):
    """What an open generation reads from Parquet whatever its tables lie in.

    Attributes:
        run: The run as it was opened.
        manifest: Its manifest.
    """

    def __init__(self, run: Run) -> None:
        """Name the run."""
        self.run = run
        self.manifest = run.manifest
        self._parts = PartSql(run, self.query)

    @abstractmethod
    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        tables: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """Run one SELECT."""

    def grid_sql(self, method: str, corners: Sequence[str]) -> str:
        """Return the SELECT of corner columns of a method's maps, with ``attribution``, their position."""
        columns = dict.fromkeys(corners, "FLOAT")
        return self._parts.select(table_of_method(method), columns, "attribution")

    def rows_of_maps(self, method: str, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Read rows of a method's attributions by position.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        return self.rows_at(table_of_method(method), positions, columns)

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Read columns of a whole table; without parts it has neither rows nor columns.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        with reading_errors(self.run):
            parts = []
            for path in self.run.part_paths(table):
                with pq.ParquetFile(path) as file:
                    parts.append(file.read(columns=list(columns)))
        return pa.concat_tables(parts) if parts else pa.table({})

    def rows_of_samples(self, positions: Sequence[int]) -> pa.Table:
        """Read rows of `samples` by position, with the columns that stay out of memory.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        return self.rows_at("samples", positions, None)

    def rows_at(self, table: str, positions: Sequence[int], columns: Sequence[str] | None) -> pa.Table:
        """Read rows by their position over all readable parts of a table.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        firsts = self.firsts(table)
        parts = np.searchsorted(firsts, positions, side="right") - 1
        wanted = [(int(part), int(at - firsts[part])) for part, at in zip(parts, positions, strict=True)]
        return self.rows_of(table, wanted, columns)

    def rows_of(
        self, table: str, wanted: Sequence[tuple[int, int]], columns: Sequence[str] | None
    ) -> pa.Table:
        """Read rows of any table by index of the part and row within it.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        with reading_errors(self.run):
            return read_rows(self.run.part_sources(table), wanted, columns)

    def table_sql(self, table: str, columns: Sequence[Column]) -> str:
        """Return the SELECT of a whole table's columns from its parts; without parts it has no rows."""
        return self._parts.select(table, {c.name: SQL_TYPES[c.type] for c in columns})

    def firsts(self, table: str) -> NDArray[np.int64]:
        """Return the position of the first row of each readable part of a table."""
        return self._parts.firsts(table)
