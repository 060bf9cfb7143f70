"""Reads chosen rows of published parts, and turns a disk's failures into sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.errors import RunDamagedError, RunNotFoundError
from cache.run import Run


@contextmanager
def reading_errors(run: Run) -> Iterator[None]:
    """Turn what goes wrong while parts are read into one sentence.

    Raises:
        RunNotFoundError: The run went away.
        RunDamagedError: A part went away or cannot be read.
    """
    try:
        yield
    except (OSError, duckdb.IOException, duckdb.InvalidInputException, pa.ArrowInvalid) as error:
        if not run.exists():
            raise RunNotFoundError(
                f"The run {run.path} went away while it was read: check the disk, then reload the page."
            ) from error
        if run.is_current():
            raise RunDamagedError(
                f"A file of the run {run.path} is missing or cannot be read: run the same `explain` command again to "
                "compute it anew."
            ) from error
        raise RunDamagedError(
            f"A newer generation of the run {run.path} has replaced the files being read: reload the page."
        ) from error


Footer = tuple[pq.FileMetaData, tuple[int, ...]]
"""The footer of a part, and the first row of each of its row groups."""
KEPT_FOOTERS = 64
"""A footer of 200 columns takes over a megabyte of memory."""


def read_footer(source: Any) -> Footer:
    """Return the footer of an immutable part."""
    metadata = pq.read_metadata(source)
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return metadata, tuple(np.cumsum([0, *rows]).tolist())


_kept_footer = lru_cache(maxsize=KEPT_FOOTERS)(read_footer)


def read_rows(
    sources: Sequence[Any],
    wanted: Sequence[tuple[int, int]],
    columns: Sequence[str] | None = None,
    footer: Callable[[Any], Footer] = _kept_footer,
) -> pa.Table:
    """Read rows from parts, touching only the row groups that hold them.

    Args:
        sources: The table's parts: paths, or what `Storage.source` returns.
        wanted: Index of the part and row within it, for each row.
        columns: Columns to read; None for all.
        footer: Reads the footer of a part; by default those read last are kept.

    Returns:
        The rows in the order wanted; columns that a part lacks are NULL.
    """
    by_part: dict[int, list[int]] = defaultdict(list)
    for at, (part, _) in enumerate(wanted):
        by_part[part].append(at)
    tables, order = [], []
    for part, places in by_part.items():
        metadata, firsts = footer(sources[part])
        rows = np.array([wanted[at][1] for at in places])
        groups = np.searchsorted(firsts, rows, side="right") - 1
        held = sorted(set(groups.tolist()))
        offset = dict(zip(held, np.cumsum([0, *(firsts[g + 1] - firsts[g] for g in held)]), strict=False))
        remote = not isinstance(sources[part], str)  # then one request fetches several columns
        with pq.ParquetFile(sources[part], metadata=metadata, pre_buffer=remote) as file:
            held_columns = set(file.schema_arrow.names)
            present = None if columns is None else [c for c in columns if c in held_columns]
            table = file.read_row_groups(held, columns=present, use_threads=False)
        take = [offset[g] + row - firsts[g] for g, row in zip(groups.tolist(), rows.tolist(), strict=True)]
        tables.append(table.take(pa.array(take, pa.int64())))
        order += places
    if not tables:
        return pa.table({})
    joined = pa.concat_tables(tables, promote_options="permissive")
    return joined.take(pa.array(np.argsort(order)))


def content_positions(own: pa.ChunkedArray, contents: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return where each text of one column stands in another, −1 where it does not."""
    # Texts of a million images as Python objects would take a gigabyte: Arrow hashes them where they are.
    found = pc.index_in(own, contents.combine_chunks()).fill_null(-1)
    positions: NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return positions
