"""The samples of a filter as one table for other programs: CSV or Parquet, written some rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from cache.catalog import Catalog
from cache.disk import storage_errors
from cache.fields import class_titles
from cache.filter_sql import SAMPLES, identifier
from cache.filters import Filter
from cache.progress import Progress
from cache.queries import Sort, order_by, sort_key, sort_tables
from cache.schema import SAMPLE_COLUMNS
from cache.selections import compiled
from cache.tables import ON_DISK_ONLY

Format = Literal["csv", "parquet"]
AT_ONCE = 20_000
"""Rows in memory at a time."""
POINTERS = ("thumbnail_part", "thumbnail_row")
"""Columns that mean something inside the run only."""
BETWEEN = "|"
"""What parts the values of a list in a CSV."""


def export_columns(catalog: Catalog, maps: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return the names of an export's columns, in order.

    Args:
        catalog: The run.
        maps: Methods with the target whose statistics are wanted; columns are named ``METHOD.STATISTIC``, or
            ``METHOD:true.STATISTIC`` for the maps of the true class.
    """
    return [*_sample_columns(catalog), *_map_columns(catalog, maps)]


def write_table(
    catalog: Catalog,
    filter_: Filter,
    target: str | os.PathLike[str],
    form: Format,
    *,
    sort: Sort | None = None,
    maps: Sequence[tuple[str, str]] = (),
    progress: Progress | None = None,
) -> int:
    """Write the samples of a filter, in order, with all that is known of each; return how many there are.

    Class names stand beside the indices (``label_name``, ``pred_name``). Lists become texts in a CSV.

    Args:
        catalog: The run.
        filter_: Which samples.
        target: The file to write; one that is there is replaced in one step, at the end.
        form: ``csv`` or ``parquet``.
        sort: In which order.
        maps: Statistics of which maps, as in `export_columns`.
        progress: Told how many rows of how many are written; raising in it cancels, and leaves nothing.

    Raises:
        FilterError: The filter, the order or a map names something that the run does not have.
        RunDamagedError: A part of the run cannot be read.
        RunStorageError: The disk refuses.
    """
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.writing")
    chosen = _positions(catalog, filter_, sort)
    total = len(chosen)
    try:
        with storage_errors(path.parent), open(temporary, "wb") as file:
            writer: pa_csv.CSVWriter | pq.ParquetWriter | None = None
            for done, rows in _chunks(catalog, chosen, form, maps):
                if writer is None:
                    writer = (
                        pa_csv.CSVWriter(file, rows.schema)
                        if form == "csv"
                        else pq.ParquetWriter(file, rows.schema)
                    )
                writer.write_table(rows)
                if progress is not None:
                    progress(done, total)
            if writer is not None:
                writer.close()
        with storage_errors(path.parent):
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return total


def _positions(catalog: Catalog, filter_: Filter, sort: Sort | None) -> pa.ChunkedArray:
    """Return the positions of a filter's samples, in order."""
    order = sort or Sort()
    compiler, where = compiled(catalog, filter_)
    tail = f"ORDER BY {order_by(compiler, sort_key(compiler, order), order)}"
    beside = sort_tables(catalog, order)
    return catalog.select(f"{SAMPLES}.sample AS sample", compiler, where, tail, beside=beside)["sample"]


def _chunks(
    catalog: Catalog, chosen: pa.ChunkedArray, form: Format, maps: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows some at a time, with how many have been given; one empty table where there is none."""
    compiler = catalog.compiler()
    columns = [f"{SAMPLES}.sample AS sample"]
    for name, kind in _sample_columns(catalog).items():
        value = kind or f"{SAMPLES}.{identifier(name)}"
        if form == "csv" and name in _LISTS:
            value = f"array_to_string({value}, '{BETWEEN}')"
        columns.append(f"{value} AS {identifier(name)}")
    for name, (statistic, method, target) in _map_columns(catalog, maps).items():
        columns.append(f"{compiler.value(statistic, method, target)} AS {identifier(name)}")
    titles = class_titles(catalog.classes)
    named = pa.table(
        {"class": pa.array(range(len(titles)), pa.int32()), "name": pa.array(titles, pa.string())}
    )
    for first in range(0, max(len(chosen), 1), AT_ONCE):
        some = chosen.slice(first, AT_ONCE).combine_chunks()
        rows = catalog.select(
            ", ".join(columns),
            compiler,
            f"{SAMPLES}.sample IN (SELECT sample FROM chosen)",
            tables={"chosen": pa.table({"sample": some}), "named": named},
        )
        ordered = rows.take(pc.index_in(some, rows["sample"].combine_chunks())).drop_columns(["sample"])
        yield min(first + AT_ONCE, len(chosen)), ordered


_LISTS = ("top_classes", "top_probabilities")


def _sample_columns(catalog: Catalog) -> dict[str, str]:
    """Return the columns of samples, with the SQL of those that are not simply there."""
    left_out = (*ON_DISK_ONLY, *POINTERS)
    fixed = [column.name for column in SAMPLE_COLUMNS if column.name not in left_out]
    found: dict[str, str] = {}
    for name in [*fixed, *(name for name in catalog.kinds() if name not in fixed)]:
        found[name] = ""
        if name in ("label", "pred"):
            found[f"{name}_name"] = f"(SELECT name FROM named WHERE class = {SAMPLES}.{name})"
    return found


def _map_columns(
    catalog: Catalog, maps: Sequence[tuple[str, str]]
) -> dict[str, tuple[str, str | None, str | None]]:
    """Return the columns of statistics: statistic, method and target by name."""
    found: dict[str, tuple[str, str | None, str | None]] = {}
    for method, target in maps:
        of = method if target == "pred" else f"{method}:{target}"
        for name in ("degenerate", *(field.name for field in catalog.method_fields())):
            found[f"{of}.{name}"] = (name, method, target)
    return found
