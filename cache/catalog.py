"""One generation of a run as tables that filters and pages ask: DuckDB in memory over the published parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from cache.connections import connect, is_broken, open_index
from cache.errors import RunDamagedError
from cache.fields import Kind, Source, Target, resolve_source, sample_fields, statistic_fields
from cache.filter_sql import (
    MASS_DECIMALS,
    RANKS,
    SAMPLES,
    Compiler,
    RegionSource,
    identifier,
    region_alias,
    source_alias,
)
from cache.grid_file import GridFile
from cache.groups import group_alias, read_groups
from cache.index import Index
from cache.locations import Location
from cache.lookups import Lookups
from cache.map_file import MAP_COLUMNS
from cache.part_sql import text_literal
from cache.projections import Places, area_alias, inside, read_places
from cache.reading import reading_errors
from cache.review_condition import Reviewed, reviewed_alias
from cache.reviewed_contents import ReviewedContents
from cache.reviews import reviews_path
from cache.run import Run
from cache.schema import Field
from cache.tables import (
    IDS_TABLE,
    ON_DISK_ONLY,
    RANKS_TABLE,
    SAMPLES_TABLE,
    create_ids,
    create_keys,
    create_pairs,
    create_ranks,
    create_samples,
    create_source,
    keys_table_name,
    method_rows,
    pairs_table_name,
    source_table_name,
)

__all__ = ["KEPT_REGIONS", "ON_DISK_ONLY", "Catalog"]

KEPT_REGIONS = 16
"""Regions whose masses are kept: a page asks for the same one several times, a drawing hand for many in a row."""


class Catalog(Lookups):
    """The tables of one generation; every method may be called by many threads at once.

    Every table has a row a sample, in the order of their position ``sample``, so that tables are joined by position:
    the samples, their ranks by id, and for each source, the maps of a method for the predicted or the true class, the
    statistics. They are made in memory when they are first asked for, or lie in the run's index (`cache.index`). The maps themselves
    stay in Parquet, and without an index the grids do too: a region reads the columns it needs.

    Everything goes through `select`, `masses`, `rows_of_maps` and `query`; the index stands behind the same four.

    Attributes:
        run: The run as it was opened.
        manifest: Its manifest.
        classes: Names of the model's outputs.
        reviewed: The images that conditions on reviews select.
        samples: How many samples there are.
        index: The run's index; None where it has none that is whole and up to date.
    """

    def __init__(
        self, run: Run, reviews: Location | None = None, indexed: bool = True, database: Path | None = None
    ) -> None:
        """Open a run's index, or load its samples.

        Args:
            run: The run.
            reviews: Where its reviews lie; None for the run's own directory.
            indexed: Whether an index is used where there is one.
            database: A new file to make the tables in instead of in memory: the index is built so.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
            RunNotFoundError: The run went away.
        """
        super().__init__(run)
        self.classes = run.manifest.classes
        self.reviewed = ReviewedContents(reviews or reviews_path(run.path))
        self.samples = self._parts.rows("samples")
        self._masses: OrderedDict[RegionSource, pa.Table] = OrderedDict()
        self._reviewed: OrderedDict[Reviewed, tuple[pa.Table, pa.Table]] = OrderedDict()
        self._memo: dict[str, Any] = {}
        self.index: Index | None = None
        opened = open_index(run) if indexed and database is None else None
        if opened is None:
            self._connection = connect(str(database or ":memory:"))
        else:
            self.index, self._connection = opened.index, opened.connection
            self._made |= opened.tables
        if self.index is None:
            self._make(
                SAMPLES_TABLE, lambda connection: create_samples(connection, self.manifest, self._parts)
            )

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
            with reading_errors(self.run) if "read_parquet(" in sql or self.index is None else nullcontext():
                return cursor.sql(sql, params=dict(params or {})).to_arrow_table()
        except duckdb.Error as error:
            if not is_broken(error) or self.index is None or "read_parquet(" in sql:
                raise
            self.index.set_aside()
            raise RunDamagedError(
                f"The index of the run {self.run.path} is damaged and is used no more: reload the page, and build it "
                "anew with `python -m dashboard index`."
            ) from error
        finally:
            cursor.close()

    def select(
        self,
        columns: str,
        compiler: Compiler,
        where: str = "TRUE",
        tail: str = "",
        tables: Mapping[str, pa.Table] | None = None,
        beside: Mapping[str, pa.Table | str] | None = None,
    ) -> pa.Table:
        """Run ``SELECT columns FROM samples (and what the compiler asked for) WHERE where tail``.

        Args:
            columns: What stands after SELECT.
            compiler: Has gathered what the statement reads.
            where: The condition.
            tail: What stands after it.
            tables: Arrow tables that the statement reads, by name.
            beside: Tables with a row a sample, in their order, or the names of such tables: joined under these names.
        """
        given = dict(tables or {})
        joined = {source_alias(source): self.source_table(source) for source in compiler.sources}
        for name, table in (beside or {}).items():
            joined[name] = table if isinstance(table, str) else name
            if not isinstance(table, str):
                given[name] = table
        for index, region in enumerate(compiler.regions):
            joined[region_alias(index)] = region_alias(index)
            given[region_alias(index)] = self.masses(region)
        for index, area in enumerate(compiler.areas):
            joined[area_alias(index)] = area_alias(index)
            given[area_alias(index)] = inside(self.places(area.version), area)
        if compiler.ranked:
            joined[RANKS] = self.ranks_table()
        for index, version in enumerate(compiler.groups):
            given[group_alias(index)] = self.groups(version)
        for index, condition in enumerate(compiler.reviewed):
            joined[reviewed_alias(index)] = reviewed_alias(index)
            given[reviewed_alias(index)] = self._reviewed_samples(condition)
        # By position: a hash join of a million rows takes a quarter of a second, and every table has them all.
        joins = " ".join(f"POSITIONAL JOIN {table} AS {alias}" for alias, table in joined.items())
        sql = f"SELECT {columns} FROM {SAMPLES_TABLE} AS {SAMPLES} {joins} WHERE {where} {tail}"
        return self.query(sql, compiler.params, given)

    def masses(self, wanted: RegionSource) -> pa.Table:
        """Return the mass of a region in every map of a source: columns sample and mass (NULL where there is none).

        It has a row a sample, in their order. Only the corner columns with a weight are read: for a box 16 at most.
        """
        with self._lock:
            if wanted in self._masses:
                self._masses.move_to_end(wanted)
                return self._masses[wanted]
        grid = self.grid(wanted.source)
        table = self._masses_from_parts(wanted) if grid is None else grid.masses(wanted.region)
        with self._lock:
            self._masses[wanted] = table
            while len(self._masses) > KEPT_REGIONS:
                self._masses.popitem(last=False)
        return table

    def _masses_from_parts(self, wanted: RegionSource) -> pa.Table:
        weights = wanted.region.corner_weights()
        total = " + ".join(f"({weight!r}) * g.{identifier(name)}::DOUBLE" for name, weight in weights.items())
        mass = f"CASE WHEN a.degenerate THEN NULL ELSE round({total or '0.0'}, {MASS_DECIMALS}) END"
        # Without any weight the mass is 0 where there is a map, and unknown where there is none.
        return self.query(
            f"SELECT a.sample, CASE WHEN g.attribution IS NOT NULL THEN {mass} END AS mass "
            f"FROM {self.source_table(wanted.source)} AS a "
            f"LEFT JOIN ({self.grid_sql(wanted.source.method, tuple(weights))}) AS g USING (attribution) ORDER BY a.sample"
        )

    def rows_of_maps(self, method: str, positions: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Read rows of a method's attributions by position: maps out of the index, where it has them.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        if self.index is not None and set(columns) <= set(MAP_COLUMNS):
            found = self.index.maps_at(method, positions)
            if found is not None:
                return found.select(list(columns))
        return super().rows_of_maps(method, positions, columns)

    def grid(self, source: Source) -> GridFile | None:
        """Return a source's grids as a file of columns beside the index, made when they are first asked for.

        None where the run has no index, or its disk does not take them.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        return None if self.index is None else self.index.grid(self, source)

    def _reviewed_samples(self, condition: Reviewed) -> pa.Table:
        """Return whether each sample's image is among those that a condition on reviews selects: column held."""
        contents = self.reviewed.table(condition)
        with self._lock:
            known = self._reviewed.get(condition)
            if known is not None and known[0] is contents:
                return known[1]
        held = np.zeros(self.samples, dtype=bool)
        found = self.query(
            "SELECT sample FROM samples SEMI JOIN reviewed_contents USING (content)",
            tables={"reviewed_contents": contents},
        )
        held[found["sample"].to_numpy()] = True
        table = pa.table({"held": held})
        with self._lock:
            self._reviewed[condition] = contents, table
            while len(self._reviewed) > KEPT_REGIONS:
                self._reviewed.popitem(last=False)
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

    def source_table(self, source: Source) -> str:
        """Return the name of a source's table: sample, attribution, degenerate and statistics, a row a sample in their order.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        name = source_table_name(source)
        if name not in self._made:
            pairs = self.pairs_table(source.target)
            rows = f"({method_rows(self.manifest, self._parts, source.method)})"
            self._make(name, lambda connection: create_source(connection, self.manifest, rows, source, pairs))
        return name

    def make_tables(self, method: str, targets: Sequence[Target]) -> None:
        """Make all tables of a method, reading its parts once.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        pairs = {target: self.pairs_table(target) for target in targets}

        def create(connection: duckdb.DuckDBPyConnection) -> None:
            rows = f"({method_rows(self.manifest, self._parts, method)})"
            connection.execute(f"CREATE TEMP TABLE method_rows AS SELECT * FROM {rows}")
            for target in targets:
                create_source(connection, self.manifest, "method_rows", Source(method, target), pairs[target])
            create_keys(connection, "method_rows", method)
            connection.execute("DROP TABLE method_rows")

        self._make(keys_table_name(method), create)
        self._made |= {source_table_name(Source(method, target)) for target in targets}

    def _make(self, name: str, create: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Make a table where it is not there yet; under the lock, so that two threads do not both."""
        with self._lock:
            if name not in self._made:
                cursor = self._connection.cursor()
                try:
                    with reading_errors(self.run):
                        create(cursor)
                finally:
                    cursor.close()
                self._made.add(name)

    def ranks_table(self) -> str:
        """Return the name of the table of the samples' ranks by id."""
        self._make(RANKS_TABLE, create_ranks)
        return RANKS_TABLE

    def make_ids(self) -> None:
        """Make the table that finds samples by their ids."""
        self._make(IDS_TABLE, create_ids)

    def pairs_table(self, target: Target) -> str:
        """Return the name of the table of rank correlations for a target: present, and a column a pair of methods."""
        name = pairs_table_name(target)
        self._make(name, lambda connection: create_pairs(connection, self.manifest, self._parts, target))
        return name

    def limit(self, memory: str, spill: Path) -> None:
        """Keep to so much memory, and put what does not fit into a folder."""
        with self._lock:
            self._connection.execute(f"SET memory_limit = {text_literal(memory)}")
            self._connection.execute(f"SET temp_directory = {text_literal(str(spill))}")

    def close(self) -> None:
        """Close the connection; the catalog answers no more."""
        self._connection.close()
