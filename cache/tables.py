"""Makes the tables that queries read from the parts of a run: in memory, or in the file of an index."""

from __future__ import annotations

from itertools import combinations

import duckdb

from cache.evidence import same_evidence
from cache.fields import Source, Target, sample_fields
from cache.filter_sql import identifier
from cache.manifest import Manifest
from cache.part_sql import META_TYPES, SQL_TYPES, PartSql
from cache.schema import AGREEMENT, SAMPLE_COLUMNS, TARGET_PRED, pair_name, table_of_method

ON_DISK_ONLY = ("record", "mask", "boxes")
"""Columns of `samples` that are read for a single sample only, and stay out of the tables."""
SAMPLES_TABLE = "samples"
RANKS_TABLE = identifier("ranks")
IDS_TABLE = identifier("ids")
RANK = "rank"


def source_table_name(source: Source) -> str:
    """Return the quoted name of a source's table."""
    return identifier(f"maps {source.method}/{source.target}")


def keys_table_name(method: str) -> str:
    """Return the quoted name of the table of a method's keys."""
    return identifier(f"keys {method}")


def pairs_table_name(target: Target) -> str:
    """Return the quoted name of the table of rank correlations for a target."""
    return identifier(f"pairs {target}")


def create_samples(connection: duckdb.DuckDBPyConnection, manifest: Manifest, parts: PartSql) -> None:
    """Make the table ``samples``: every column but those of `ON_DISK_ONLY`, in the order of ``sample``, its position."""
    columns = {c.name: SQL_TYPES[c.type] for c in SAMPLE_COLUMNS if c.name not in ON_DISK_ONLY}
    columns |= {field.name: "FLOAT" for field in manifest.image_statistics}
    known = sample_fields(manifest)
    columns |= {name: META_TYPES[entry.kind] for name, entry in known.items() if name.startswith("meta.")}
    kept = ", ".join(identifier(name) for name in columns)
    rows = parts.select("samples", {**columns, "mask": "BLOB", "boxes": "FLOAT[]"}, "sample")
    connection.execute(
        f"CREATE TABLE {SAMPLES_TABLE} AS SELECT {kept}, sample, label IS NOT NULL AS labelled, "
        f"mask IS NOT NULL OR coalesce(len(boxes), 0) > 0 AS masked FROM ({rows})"
    )


def create_ranks(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``ranks``: the place of each sample in the order of the ids, in the order of ``sample``.

    A tie between two samples is then broken by a number and not by a text.
    """
    connection.execute(
        f"CREATE TABLE {RANKS_TABLE} AS SELECT {RANK} FROM (SELECT sample, row_number() "
        f"OVER (ORDER BY sample_id, sample)::INTEGER - 1 AS {RANK} FROM {SAMPLES_TABLE}) ORDER BY sample"
    )


def create_ids(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table ``ids``: key (a hash of the id) and sample, sorted by key, to find samples by their ids."""
    connection.execute(
        f"CREATE TABLE {IDS_TABLE} AS SELECT hash(sample_id) AS key, sample FROM {SAMPLES_TABLE} ORDER BY key"
    )


def method_rows(manifest: Manifest, parts: PartSql, method: str) -> str:
    """Return the SELECT of a method's rows: content, target, degenerate, the statistics, and attribution, their position."""
    columns = {"content": "VARCHAR", "target": "INTEGER", "degenerate": "BOOLEAN"}
    columns |= dict.fromkeys(_statistics(manifest), "FLOAT")
    return parts.select(table_of_method(method), columns, "attribution")


def create_source(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, rows: str, source: Source, pairs: str
) -> None:
    """Make a source's table: sample, attribution (its row in Parquet), degenerate and the statistics.

    It has a row for every sample, in their order, NULL where there is no map, so that it is joined by position.

    Args:
        connection: Where it is made.
        manifest: Of the run.
        rows: What `method_rows` selects: in parentheses, or the name of a table.
        source: The source.
        pairs: Name of the table of rank correlations.
    """
    kept = "".join(f", a.{identifier(statistic)}" for statistic in _statistics(manifest))
    name, made = source_table_name(source), identifier(f"new {source.method}/{source.target}")
    connection.execute(
        f"CREATE TEMP TABLE {made} AS SELECT s.sample, a.attribution, a.degenerate{kept} FROM {SAMPLES_TABLE} AS s "
        f"LEFT JOIN {rows} AS a ON a.content = s.content AND a.target = s.{_explained(source.target)}"
    )
    # A content and target have one row; were there ever two, a sample must still not be counted twice.
    single = _single(connection, made, "attribution DESC")
    connection.execute(
        f"CREATE TABLE {name} AS SELECT m.*, CASE WHEN m.attribution IS NOT NULL THEN {_agreement(manifest, source.method)} "
        f"END AS {AGREEMENT} FROM (SELECT * FROM {made} {single} ORDER BY sample) AS m POSITIONAL JOIN {pairs} AS g"
    )
    connection.execute(f"DROP TABLE {made}")


def create_keys(connection: duckdb.DuckDBPyConnection, rows: str, method: str) -> None:
    """Make the table of a method's keys: key (a hash of the image's content), target and attribution, sorted by key.

    The rows of one image are then found without reading those of a million others.
    """
    connection.execute(
        f"CREATE TABLE {keys_table_name(method)} AS SELECT hash(content) AS key, target, attribution FROM {rows} ORDER BY key"
    )


def create_pairs(
    connection: duckdb.DuckDBPyConnection, manifest: Manifest, parts: PartSql, target: Target
) -> None:
    """Make the table of rank correlations between methods: sample, present, and a column a pair.

    It has a row for every sample, in their order: of its map for the target; ``present`` says whether there is one.
    """
    pairs = [pair_name(a, b) for a, b in combinations(sorted(manifest.methods), 2)]
    columns = {"content": "VARCHAR", "target": "INTEGER"} | dict.fromkeys(pairs, "FLOAT")
    kept = "".join(f", g.{identifier(pair)}" for pair in pairs)
    made = identifier(f"new pairs {target}")
    connection.execute(
        f"CREATE TEMP TABLE {made} AS SELECT s.sample, g.content IS NOT NULL AS present{kept} FROM {SAMPLES_TABLE} AS s "
        f"LEFT JOIN ({parts.select(AGREEMENT, columns)}) AS g ON g.content = s.content AND g.target = s.{_explained(target)}"
    )
    single = _single(connection, made, "ALL")
    connection.execute(
        f"CREATE TABLE {pairs_table_name(target)} AS SELECT * FROM {made} {single} ORDER BY sample"
    )
    connection.execute(f"DROP TABLE {made}")


def _statistics(manifest: Manifest) -> list[str]:
    return [field.name for field in manifest.statistics if field.name != AGREEMENT]


def _explained(target: Target) -> str:
    return "pred" if target == TARGET_PRED else "label"


def _single(connection: duckdb.DuckDBPyConnection, table: str, order: str) -> str:
    """Return the clause that leaves one row a sample; nothing where there are no more."""
    counted = connection.execute(
        f"SELECT (SELECT count(*) FROM {table}) > (SELECT count(*) FROM {SAMPLES_TABLE})"
    ).fetchone()
    doubled = counted is not None and counted[0]
    return f"QUALIFY row_number() OVER (PARTITION BY sample ORDER BY {order}) = 1" if doubled else ""


def _agreement(manifest: Manifest, method: str) -> str:
    """Return the expression of a method's mean rank correlation with the others.

    Of methods that coincide on this network only the first counts, and none that coincides with this one.
    """
    groups = same_evidence(manifest, list(manifest.methods))
    others = [pair_name(method, group[0]) for group in groups if method not in group]
    listed = ", ".join(f"g.{identifier(name)}" for name in others)
    return f"list_avg([{listed}]::FLOAT[])::FLOAT" if others else "NULL::FLOAT"
