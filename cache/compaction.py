"""How small parts become few: which of them are merged, and how their rows come to one schema."""

from __future__ import annotations

import pyarrow as pa

from cache.manifest import Part
from cache.schema import PART_ROWS

MANY_SMALL = 8
"""So many small parts are merged even where they do not fill one."""
SMALL_ROWS = PART_ROWS // 2
"""Parts below this many rows are small: they are merged as soon as together they fill a whole one."""


def unify(schemas: list[pa.Schema]) -> pa.Schema:
    """Return one schema for several parts; a column of metadata that changed its type becomes text."""
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError:
        names = dict.fromkeys(name for schema in schemas for name in schema.names)
        return pa.schema(
            [_common_field([s.field(name) for s in schemas if name in s.names]) for name in names]
        )


def _common_field(fields: list[pa.Field]) -> pa.Field:
    try:
        return pa.unify_schemas([pa.schema([f]) for f in fields], promote_options="permissive").field(0)
    except pa.ArrowTypeError:
        return pa.field(fields[0].name, pa.string(), True)


def mergeable(parts: list[Part]) -> list[list[Part]]:
    """Return groups of small parts of one key: each group fills a part, or the small ones have become many."""
    groups: list[list[Part]] = []
    for key in sorted({part.key for part in parts}):
        small = [part for part in parts if part.key == key and part.rows < SMALL_ROWS]
        if len(small) > 1 and (sum(part.rows for part in small) >= PART_ROWS or len(small) >= MANY_SMALL):
            groups.append(small)
    return groups


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows the schema of several parts together: columns that they lack become NULL."""
    if rows.schema.equals(schema):
        return rows
    held = set(rows.column_names)
    columns = [
        rows[f.name].cast(f.type) if f.name in held else pa.nulls(rows.num_rows, f.type) for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def point_anew(rows: pa.Table, moved: dict[str, tuple[str, int]]) -> pa.Table:
    """Let rows of `samples` point to where their thumbnails went."""
    names, positions = rows["thumbnail_part"].to_pylist(), rows["thumbnail_row"].to_pylist()
    placed = [
        (moved[n][0], moved[n][1] + p) if n in moved else (n, p)
        for n, p in zip(names, positions, strict=True)
    ]
    for column, values in (
        ("thumbnail_part", [n for n, _ in placed]),
        ("thumbnail_row", [p for _, p in placed]),
    ):
        at = rows.schema.get_field_index(column)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type))
    return rows
