"""Holds the Parquet files of a bundle from elsewhere against what a run holds, before anything reads them in earnest."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache.bundle_privacy import PLACE
from cache.bundle_rows import ORIGINAL_SCHEMA, OTHER_SUFFIX, SUFFIXES, content_keys
from cache.bundles import ORIGINALS
from cache.disk import storage_errors
from cache.errors import BundleError
from cache.manifest import Manifest
from cache.schema import (
    ATTRIBUTION_COLUMNS,
    CORNERS,
    ERROR_COLUMNS,
    PROJECTION_COLUMNS,
    SAMPLE_COLUMNS,
    THUMBNAIL_COLUMNS,
    Column,
    arrow_schema,
)

MAX_GROUP = 1 << 29
"""Bytes that a row group may take in memory: the engine writes 16 MB, but a single map may be large."""
COLUMNS: dict[str, tuple[Column, ...]] = {
    "samples": SAMPLE_COLUMNS,
    "thumbnails": THUMBNAIL_COLUMNS,
    "errors": ERROR_COLUMNS,
    "projections": PROJECTION_COLUMNS,
}
REMEDY = "ask for it to be made again"


def check_parts(folder: Path, manifest: Manifest, source: Path) -> None:
    """Refuse parts that are not what the manifest and the schema say.

    Args:
        folder: The run, out of its bundle.
        manifest: What the bundle says about it.
        source: The bundle, for the sentence.

    Raises:
        BundleError: A part has other rows or columns, could fill the memory, or samples that lie anywhere else.
    """
    for table, parts in manifest.parts.items():
        for part in parts:
            path = folder / table / part.name
            try:
                metadata = pq.read_metadata(path)
                held = metadata.schema.to_arrow_schema()
                fine = (
                    metadata.num_rows == part.rows and path.stat().st_size == part.bytes and _small(metadata)
                )
                fine = fine and _declared(table, held)
                if fine and table == "samples":
                    _check_samples(path, source)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise BundleError(
                    f"{source} holds a table that cannot be read ({table}): {REMEDY}."
                ) from error
            if not fine:
                raise BundleError(f"{source} holds another table than a run has ({table}): {REMEDY}.")


def unpack_originals(folder: Path, source: Path) -> int:
    """Turn the tables of originals into a file an image, named by its content; return how many there are.

    Raises:
        BundleError: They are not what a bundle holds.
        RunStorageError: The disk refuses.
    """
    count = 0
    place = folder / ORIGINALS
    for path in sorted(place.glob("part-*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                if file.schema_arrow.remove_metadata() != ORIGINAL_SCHEMA or not _small(file.metadata):
                    raise BundleError(f"{source} holds no originals where it says so: {REMEDY}.")
                for group in range(file.num_row_groups):
                    count += _unpack(file.read_row_group(group, use_threads=False), place, source)
        except (pa.ArrowException, OSError) as error:
            raise BundleError(f"{source} holds originals that cannot be read: {REMEDY}.") from error
        path.unlink()
    return count


def _unpack(rows: pa.Table, place: Path, source: Path) -> int:
    contents, suffixes = rows["content"].to_pylist(), rows["suffix"].to_pylist()
    if not content_keys(contents) or not set(suffixes) <= {*SUFFIXES.values(), OTHER_SUFFIX}:
        raise BundleError(f"{source} holds an original of an impossible name: {REMEDY}.")
    for content, suffix, image in zip(contents, suffixes, rows["image"], strict=True):
        target = place / f"{content}{suffix}"
        if target.exists():
            raise BundleError(f"{source} holds an original twice: {REMEDY}.")
        with storage_errors(place):
            target.write_bytes(image.as_py())
    return len(contents)


def _small(metadata: pq.FileMetaData) -> bool:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return all(0 <= group.total_byte_size <= MAX_GROUP for group in groups)


def _declared(table: str, held: pa.Schema) -> bool:
    columns = ATTRIBUTION_COLUMNS if table.startswith("attributions/") else COLUMNS.get(table, ())
    floats = CORNERS if table.startswith("attributions/") else ()
    wanted = arrow_schema(columns, floats)
    return all(f.name in held.names and held.field(f.name).type == f.type for f in wanted) and len(
        set(held.names)
    ) == len(held.names)


def _check_samples(path: Path, source: Path) -> None:
    with pq.ParquetFile(path) as file:
        rows = file.read(columns=["uri", "content"], use_threads=False)
    if pc.any(pc.match_substring_regex(rows["uri"], PLACE)).as_py():
        raise BundleError(f"{source} holds a sample whose original lies anywhere but in it: {REMEDY}.")
    if not content_keys(rows["content"].to_pylist()):
        raise BundleError(f"{source} holds a sample without a proper content key: {REMEDY}.")
