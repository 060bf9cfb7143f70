"""One generation of a run as tables that filters and pages ask: DuckDB in memory over the published parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.evidence import same_evidence
from cache.fields import Kind, Source, resolve_source, sample_fields, statistic_fields
from cache.filter_sql import (
    SAMPLES,
    Compiler,
    RegionSource,
    identifier,
    region_alias,
    source_alias,
)
from cache.groups import group_alias, read_groups
from cache.locations import Location
from cache.projections import Places, area_alias, inside, read_places
from cache.reading import read_rows, reading_errors
from cache.review_condition import reviewed_alias
from cache.reviewed_contents import ReviewedContents
from cache.reviews import reviews_path
from cache.run import Run
from cache.schema import (
    AGREEMENT,
    SAMPLE_COLUMNS,
    TARGET_PRED,
    Column,
    Field,
    pair_name,
    table_of_method,
)

KEPT_REGIONS = 16
"""Regions whose masses are kept: a page asks for the same one several times, a drawing hand for many in a row."""
ON_DISK_ONLY = ("record", "mask", "boxes")
"""Columns of `samples` that are read for a single sample only, and stay out of memory."""
MASS_DECIMALS = 6
"""Masses are rounded to what single precision carries, so that "at least 50 %" holds for exactly a half."""
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


class Catalog:
    """The tables of one generation; every method may be called by many threads at once.

    Samples are in memory from the start. A method's statistics are loaded when they are first asked for, one table for
    the maps of the predicted class and one for those of the true class, aligned with the samples by their position
    ``sample``. The grid's corners and the maps themselves stay in Parquet: a region reads the columns it needs.

    Everything else goes through `select`, `masses`, `rows_of_maps` and `query`: a disposable index would stand
    behind the same four.

    Attributes:
        run: The run as it was opened.
        manifest: Its manifest.
        classes: Names of the model's outputs.
        reviewed: The images that conditions on reviews select.
    """

    def __init__(self, run: Run, reviews: Location | None = None) -> None:
        """Load the samples of an opened run.

        Args:
            run: The run.
            reviews: Where its reviews lie; None for the run's own directory.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
            RunNotFoundError: The run went away.
        """
        self.run = run
        self.manifest = run.manifest
        self.classes = run.manifest.classes
        self.reviewed = ReviewedContents(reviews or reviews_path(run.path))
        self._lock = RLock()
        self._tables: dict[Source, str] = {}
        self._masses: OrderedDict[RegionSource, pa.Table] = OrderedDict()
        self._memo: dict[str, Any] = {}
        # Extensions would come from the internet: a dashboard must not reach for it.
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._connection = duckdb.connect(":memory:", config=config)
        self._load_samples()

    def fields(self) -> list[Field]:
        """Return the numbers and times that every sample has: predictions, image statistics and metadata."""
        known = sample_fields(self.manifest).values()
        return [entry.field for entry in known if entry.kind in ("number", "time")]

    def method_fields(self) -> list[Field]:
        """Return the statistics that every map has."""
        return list(statistic_fields(self.manifest).values())

    def kinds(self) -> dict[str, Kind]:
        """Return what kind of values each filterable field of samples has: number, time, text, boolean or class."""
        return {name: entry.kind for name, entry in sample_fields(self.manifest).items()}

    def compiler(self) -> Compiler:
        """Return an empty gatherer for one query."""
        return Compiler(self.manifest)

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        tables: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """Run one SELECT on a cursor of its own.

        Args:
            sql: The statement; the table ``samples`` is always there.
            params: Values by name, bound as ``$name``.
            tables: Arrow tables that the statement reads, by name.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
            RunNotFoundError: The run went away.
        """
        with self._lock:
            cursor = self._connection.cursor()
        try:
            for name, table in (tables or {}).items():
                cursor.register(name, table)
            with reading_errors(self.run):
                return cursor.sql(sql, params=dict(params or {})).to_arrow_table()
        finally:
            cursor.close()

    def select(
        self,
        columns: str,
        compiler: Compiler,
        where: str = "TRUE",
        tail: str = "",
        tables: Mapping[str, pa.Table] | None = None,
    ) -> pa.Table:
        """Run ``SELECT columns FROM samples (and what the compiler asked for) WHERE where tail``."""
        joins = []
        for source in compiler.sources:
            alias = source_alias(source)
            joins.append(
                f"LEFT JOIN {self.source_table(source)} AS {alias} ON {alias}.sample = {SAMPLES}.sample"
            )
        given = dict(tables or {})
        for index, region in enumerate(compiler.regions):
            alias = region_alias(index)
            given[alias] = self.masses(region)
            joins.append(f"LEFT JOIN {alias} ON {alias}.sample = {SAMPLES}.sample")
        for index, version in enumerate(compiler.groups):
            given[group_alias(index)] = self.groups(version)
        for index, area in enumerate(compiler.areas):
            alias = area_alias(index)
            given[alias] = inside(self.places(area.version), area)
            joins.append(f"LEFT JOIN {alias} ON {alias}.sample = {SAMPLES}.sample")
        for index, condition in enumerate(compiler.reviewed):
            given[reviewed_alias(index)] = self.reviewed.table(condition)
        sql = f"SELECT {columns} FROM samples AS {SAMPLES} {' '.join(joins)} WHERE {where} {tail}"
        return self.query(sql, compiler.params, given)

    def masses(self, wanted: RegionSource) -> pa.Table:
        """Return the mass of a region in every map of a source: columns sample and mass (NULL where degenerate).

        Only the corner columns with a weight are read: for a box 16 at most.
        """
        with self._lock:
            if wanted in self._masses:
                self._masses.move_to_end(wanted)
                return self._masses[wanted]
        weights = wanted.region.corner_weights()
        total = " + ".join(f"({weight!r}) * g.{identifier(name)}::DOUBLE" for name, weight in weights.items())
        mass = f"CASE WHEN a.degenerate THEN NULL ELSE round({total or '0.0'}, {MASS_DECIMALS}) END"
        table = self.query(
            f"SELECT a.sample, {mass} AS mass FROM {self.source_table(wanted.source)} AS a "
            f"JOIN ({self.grid_sql(wanted.source.method, tuple(weights))}) AS g USING (attribution)"
        )
        with self._lock:
            self._masses[wanted] = table
            while len(self._masses) > KEPT_REGIONS:
                self._masses.popitem(last=False)
        return table

    def groups(self, version: str) -> pa.Table:
        """Return one version of the groups: columns content and group."""
        name = f"groups {version}"
        return self.recall(name) or self.remember(name, read_groups(self.run, version))

    def places(self, version: str) -> Places:
        """Return where the samples lie on one version of a 2-D map."""
        kept: Places | None = self.recall(f"places {version}")
        if kept is None:
            contents = self.query("SELECT content FROM samples ORDER BY sample")["content"]
            kept = self.remember(f"places {version}", read_places(self.run, version, contents))
        return kept

    def grid_sql(self, method: str, corners: Sequence[str]) -> str:
        """Return the SELECT of corner columns of a method's maps, with ``attribution``, their position."""
        columns = dict.fromkeys(corners, "FLOAT")
        return self._parts_sql(table_of_method(method), columns, position="attribution")

    def rows_of_maps(self, method: str, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Read rows of a method's attributions by position.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        return self.rows_at(table_of_method(method), positions, columns)

    def maps_of_content(self, method: str, content: str) -> list[int]:
        """Return the positions of a method's rows for one image, one for each class explained, by class.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        columns = {"content": "VARCHAR", "target": "INTEGER"}
        rows = self._parts_sql(table_of_method(method), columns, "attribution")
        found = self.query(
            f"SELECT max(attribution) AS attribution FROM ({rows}) WHERE content = $content "
            "GROUP BY target ORDER BY target",
            {"content": content},
        )
        return [int(place) for place in found["attribution"].to_pylist()]

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
        firsts = self._firsts(table)
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
        return self._parts_sql(table, {c.name: SQL_TYPES[c.type] for c in columns})

    def remember(self, key: str, value: Any) -> Any:
        """Keep something costly for as long as the catalog lives; the first value given under a key stays."""
        with self._lock:
            return self._memo.setdefault(key, value)

    def recall(self, key: str) -> Any:
        """Return what was kept under a key, or None."""
        with self._lock:
            return self._memo.get(key)

    def source(self, method: str | None = None, target: str | None = None) -> Source:
        """Return the map meant by a method (None for the default) and a target (None for the predicted class).

        Raises:
            FilterError: The run has no such method, or there is no such target.
        """
        return resolve_source(self.manifest, method, target)

    def _firsts(self, table: str) -> NDArray[np.int64]:
        """Return the position of the first row of each readable part of a table."""
        damaged = set(self.run.damaged)
        parts = self.manifest.parts.get(table, [])
        rows = [part.rows for part in parts if f"{table}/{part.name}" not in damaged]
        return np.cumsum([0, *rows], dtype=np.int64)[: len(rows)]

    def _parts_sql(self, table: str, columns: Mapping[str, str], position: str = "") -> str:
        """Return a SELECT over a table's parts that has the given columns whatever the parts lack.

        NaN becomes NULL, so that comparisons, sorting and averages pass it by.
        """
        paths = self.run.part_paths(table)
        if not paths:
            places = [f"NULL::BIGINT AS {position}"] if position else []
            empty = [f"NULL::{kind} AS {identifier(name)}" for name, kind in columns.items()]
            return f"SELECT {', '.join(empty + places)} WHERE FALSE"
        source = f"read_parquet([{', '.join(_path_literal(path) for path in paths)}], union_by_name = true, hive_partitioning = false)"
        held = self._held(table, source)
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
            firsts = ", ".join(str(first) for first in self._firsts(table))
            taken.append(f"([{firsts}]::BIGINT[])[file_index::BIGINT + 1] + file_row_number AS {position}")
        return f"SELECT {', '.join(taken)} FROM {source}"

    def _held(self, table: str, source: str) -> dict[str, str]:
        """Return the columns that a table's parts hold, with their SQL types."""
        held = self.recall(f"columns of {table}")
        if held is None:
            described = self.query(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {source})")
            names, kinds = (described[c].to_pylist() for c in ("column_name", "column_type"))
            held = self.remember(f"columns of {table}", dict(zip(names, kinds, strict=True)))
        return dict(held)

    def _load_samples(self) -> None:
        columns = {c.name: SQL_TYPES[c.type] for c in SAMPLE_COLUMNS if c.name not in ON_DISK_ONLY}
        columns |= {field.name: "FLOAT" for field in self.manifest.image_statistics}
        known = sample_fields(self.manifest)
        columns |= {name: META_TYPES[entry.kind] for name, entry in known.items() if name.startswith("meta.")}
        kept = ", ".join(identifier(name) for name in columns)
        rows = self._parts_sql("samples", {**columns, "mask": "BLOB", "boxes": "FLOAT[]"}, "sample")
        with reading_errors(self.run):
            self._connection.execute(
                f"CREATE TABLE samples AS SELECT {kept}, sample, label IS NOT NULL AS labelled, "
                f"mask IS NOT NULL OR coalesce(len(boxes), 0) > 0 AS masked FROM ({rows})"
            )

    def source_table(self, source: Source) -> str:
        """Return the name of a source's table, loaded on first use: sample, attribution, degenerate, statistics."""
        with self._lock:
            if source in self._tables:
                return self._tables[source]
            name = f"maps_{len(self._tables)}"
            statistics = [field.name for field in self.manifest.statistics if field.name != AGREEMENT]
            columns = {"content": "VARCHAR", "target": "INTEGER", "degenerate": "BOOLEAN"}
            columns |= dict.fromkeys(statistics, "FLOAT")
            kept = "".join(f", a.{identifier(statistic)}" for statistic in statistics)
            explained = "pred" if source.target == TARGET_PRED else "label"
            rows = self._parts_sql(table_of_method(source.method), columns, "attribution")
            cursor = self._connection.cursor()
            with reading_errors(self.run):
                cursor.execute(
                    f"CREATE TABLE {name} AS SELECT s.sample, a.attribution, a.degenerate{kept}, g.{AGREEMENT} "
                    f"FROM samples AS s JOIN ({rows}) AS a ON a.content = s.content AND a.target = s.{explained} "
                    f"LEFT JOIN ({self._agreement_sql(source.method)}) AS g "
                    "ON g.content = a.content AND g.target = a.target"
                )
            # A content and target have one row; were there ever two, a sample must still not be counted twice.
            cursor.execute(
                f"DELETE FROM {name} WHERE (SELECT count(*) > count(DISTINCT sample) FROM {name}) "
                f"AND attribution NOT IN (SELECT max(attribution) FROM {name} GROUP BY sample)"
            )
            cursor.close()
            self._tables[source] = name
            return name

    def _agreement_sql(self, method: str) -> str:
        """Return the SELECT of a method's mean rank correlation with the others: content, target and agreement.

        Of methods that coincide on this network only the first counts, and none that coincides with this one.
        """
        groups = same_evidence(self.manifest, list(self.manifest.methods))
        others = [pair_name(method, group[0]) for group in groups if method not in group]
        columns = {"content": "VARCHAR", "target": "INTEGER"} | dict.fromkeys(others, "FLOAT")
        listed = ", ".join(identifier(name) for name in others)
        mean = f"list_avg([{listed}]::FLOAT[])::FLOAT" if others else "NULL::FLOAT"
        rows = self._parts_sql(AGREEMENT, columns)
        return f"SELECT content, target, max({mean}) AS {AGREEMENT} FROM ({rows}) GROUP BY ALL"


def _path_literal(path: str) -> str:
    """Write a path as an SQL text, with the characters escaped that would be read as a pattern."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return "'" + escaped.replace("'", "''") + "'"
