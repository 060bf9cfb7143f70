"""DuckDB connections: in memory, over a file, or over the tables of a run's index."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from cache.filter_sql import identifier
from cache.index import Index, find_index
from cache.part_sql import text_literal
from cache.run import Run

INDEX_MEMORY = "768MB"
"""What DuckDB may keep of an index in memory, and work with; the rest it reads again."""
BROKEN = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


@dataclass(frozen=True)
class OpenIndex:
    """A connection over an index.

    Attributes:
        index: The index.
        connection: The connection.
        tables: Quoted names of its tables.
    """

    index: Index
    connection: duckdb.DuckDBPyConnection
    tables: frozenset[str]


def connect(database: str, **config: str) -> duckdb.DuckDBPyConnection:
    """Open a database: a file, or ``:memory:``."""
    # Extensions would come from the internet: a dashboard must not reach for it.
    closed = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    options: dict[str, str | bool | int | float | list[str]] = {**closed, **config}
    return duckdb.connect(database, config=options)


def open_index(run: Run) -> OpenIndex | None:
    """Return a connection over the tables of a run's index; None where there is none that can be used."""
    index = find_index(run)
    if index is None:
        return None
    connection = connect(":memory:", memory_limit=INDEX_MEMORY)
    try:
        connection.execute(f"ATTACH {text_literal(str(index.tables))} AS run_index (READ_ONLY)")
        found = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'run_index'"
        ).fetchall()
        names = frozenset(identifier(name) for (name,) in found)
        # Views, because a cursor does not take over which database its connection uses.
        for name in names:
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM run_index.{name}")
    except duckdb.Error:
        connection.close()
        index.set_aside()
        return None
    return OpenIndex(index, connection, names)


def is_broken(error: duckdb.Error) -> bool:
    """Tell whether a file does not hold what it should; checksums that differ are told by the plain class."""
    return type(error) is duckdb.Error or isinstance(error, BROKEN)
