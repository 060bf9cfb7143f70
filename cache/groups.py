"""Groups of images whose attended content is alike: stored under a version, so that a link means the same tomorrow."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.reading import reading_errors
from cache.run import Run
from cache.schema import GROUP_COLUMNS, GROUPS, arrow_schema

if TYPE_CHECKING:
    from cache.writer import RunWriter


def group_alias(index: int) -> str:
    """Return the name under which the nth version of the groups is a table of a query."""
    return f"groups_{index}"


def read_groups(run: Run, version: str) -> pa.Table:
    """Return one version of the groups: columns content and group; no rows where the run does not hold it.

    Raises:
        RunDamagedError: A part is missing or cannot be read.
    """
    keys = {part.name: part.key for part in run.manifest.parts.get(GROUPS, [])}
    with reading_errors(run):
        parts = [
            pq.read_table(path) for path in run.part_paths(GROUPS) if keys[path.rpartition("/")[2]] == version
        ]
    schema = arrow_schema(GROUP_COLUMNS)
    return pa.concat_tables(parts).select(schema.names) if parts else schema.empty_table()


def groups_version(contents: list[str], groups: NDArray[np.int32]) -> str:
    """Return the version of a grouping: a digest, so that the same grouping is stored once."""
    order = sorted(zip(contents, groups.tolist(), strict=True))
    text = "\n".join(f"{content} {group}" for content, group in order)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def append_groups(writer: RunWriter, contents: list[str], groups: NDArray[np.int32]) -> str:
    """Write a grouping, unless the run holds the same one; it counts once the writer has published.

    Args:
        writer: Of the run.
        contents: Content keys, each once.
        groups: The group of each, at least 0.

    Returns:
        Its version, which conditions name.
    """
    version = groups_version(contents, groups)
    if version not in {part.key for part in writer.manifest.parts.get(GROUPS, [])}:
        rows = {"content": contents, "group": groups}
        writer.append(GROUPS, pa.table(rows, schema=arrow_schema(GROUP_COLUMNS)), version)
    return version
