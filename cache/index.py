"""A run's index: its tables in a DuckDB file, its grids in files of columns, its maps in files of rows. It is disposable: never the truth.

An index lies in a folder named after everything that it was made from, below ``index/`` in the run, or in a folder of
this machine's user where the run cannot be written. It counts once ``index.json`` is in that folder, which is written
elsewhere and renamed as a whole: one that is half-built, stale, or of another version is simply not found.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.fields import Source
from cache.grid_file import DEFINED, DEGENERATE, MISSING, Block, GridFile, file_size, write_grid
from cache.locations import Location, Url
from cache.map_file import map_name, read_maps
from cache.reading import reading_errors
from cache.run import Run
from cache.schema import AGREEMENT, CORNERS, table_of_method

if TYPE_CHECKING:
    from cache.catalog import Catalog

INDEX_VERSION = 2
INDEX_VARIABLE = "GAZELAKE_INDEX"
"""Names the folder that indexes go to where a run cannot be written, instead of one below the user's cache."""
INDEX_FOLDER = "index"
INDEX_NAME = "index.json"
TABLES_NAME = "tables.duckdb"
LARGE_RUN = 250_000
"""From so many samples on a run is slow without an index."""
WORTH_INDEXING = 50_000
"""From so many on an index is felt, and built where nobody has to be asked."""
MOST_GRIDS = 6
"""Files of grids besides the default method's; the one that was not used for longest goes first."""
SPARE_BYTES = 1 << 30
"""Room that is left on the disk."""


def index_name(run: Run) -> str:
    """Return what an index of a run is called: a digest of everything that it is made from.

    Publications that leave samples, maps and their declarations as they are (findings, 2-D maps) leave the index valid.
    """
    manifest, damaged = run.manifest, set(run.damaged)
    tables = ["samples", AGREEMENT, *(table_of_method(method) for method in manifest.methods)]
    made_from = {
        "version": [INDEX_VERSION, duckdb.__version__],
        "run": manifest.run_id,
        "classes": len(manifest.classes),
        "default": manifest.default_method,
        "methods": {name: entry.get("equivalent") for name, entry in manifest.methods.items()},
        "fields": [asdict(field) for field in (*manifest.statistics, *manifest.image_statistics)],
        "meta": manifest.meta,
        "parts": {
            table: [p.name for p in manifest.parts.get(table, []) if f"{table}/{p.name}" not in damaged]
            for table in tables
        },
    }
    text = json.dumps(made_from, sort_keys=True)
    return f"{manifest.run_id[:8]}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def index_folders(run: Location) -> list[Path]:
    """Return the folders that may hold indexes of the run at a place: in it where it is on a disk, and the user's."""
    place = str(run.absolute())
    named = os.environ.get(INDEX_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gazelake" / INDEX_FOLDER
    digest = hashlib.blake2b(place.encode(), digest_size=4).hexdigest()
    own = Path(named or base) / f"{run.absolute().name}-{digest}"
    return [own] if isinstance(run, Url) else [Path(place) / INDEX_FOLDER, own]


def indexes(parent: Path) -> list[Path]:
    """Return the indexes in a folder, of any generation; none where it cannot be read."""
    try:
        found = [path for path in parent.iterdir() if not path.name.startswith(".")]
        return sorted(path for path in found if (path / INDEX_NAME).is_file())
    except OSError:
        return []


def index_stamp(run: Location) -> tuple[str, ...]:
    """Return what changes whenever an index of a run is made or taken away, without opening the run."""
    return tuple(str(path) for parent in index_folders(run) for path in indexes(parent))


def find_index(run: Run) -> Index | None:
    """Return the index of this generation of a run, or None where there is none that is whole."""
    name = index_name(run)
    for parent in index_folders(run.path):
        folder = parent / name
        try:
            known = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
            if known["tables_bytes"] == os.stat(folder / TABLES_NAME).st_size:
                return Index(
                    folder, int(known["samples"]), {str(m): int(size) for m, size in known["maps"].items()}
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


class Index:
    """An index that was found.

    Attributes:
        folder: Its folder.
        samples: Samples of the run.
        maps: Bytes of each map, of the methods whose maps are beside the tables.
    """

    def __init__(self, folder: Path, samples: int, maps: Mapping[str, int]) -> None:
        self.folder = folder
        self.samples = samples
        self.maps = maps
        self._lock = Lock()
        self._grids: dict[Source, GridFile | None] = {}

    @property
    def tables(self) -> Path:
        """The DuckDB file."""
        return self.folder / TABLES_NAME

    def grid(self, catalog: Catalog, source: Source) -> GridFile | None:
        """Return a source's grids; copied out of the parts when they are first asked for, None where the disk refuses.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        with self._lock:
            known = self._grids.get(source)
            if known is None and source not in self._grids:
                known = self._grids[source] = self._open(catalog, source)
            return known

    def maps_at(self, method: str, positions: Sequence[int]) -> pa.Table | None:
        """Return rows of a method's table with the columns of `MAP_COLUMNS`; None where the index does not have them."""
        size = self.maps.get(method)
        return None if size is None else read_maps(self.folder / map_name(method), size, positions)

    def set_aside(self) -> None:
        """Let nobody find the index any more: it does not hold what it should."""
        with suppress(OSError):
            (self.folder / INDEX_NAME).unlink()

    def _open(self, catalog: Catalog, source: Source) -> GridFile | None:
        path = self.folder / grid_name(source)
        with suppress(OSError):
            grid = GridFile(path, self.samples)
            with suppress(OSError):
                os.utime(path)
            return grid
        try:
            self._make_room(path)
            copy_grid(catalog, source, path)
            return GridFile(path, self.samples)
        except OSError:
            return None

    def _make_room(self, path: Path) -> None:
        default = sorted(self.folder.glob("grid-*"), key=lambda p: (p.name in self._kept, p.stat().st_mtime))
        for old in default[: max(len(default) - MOST_GRIDS, 0)]:
            old.unlink(missing_ok=True)
        if shutil.disk_usage(path.parent).free < file_size(self.samples) + SPARE_BYTES:
            raise OSError(f"{path.parent} has no room for grids.")

    @property
    def _kept(self) -> set[str]:
        with suppress(OSError, ValueError, KeyError):
            return set(json.loads((self.folder / INDEX_NAME).read_text(encoding="utf-8"))["grids"])
        return set()


def grid_name(source: Source) -> str:
    """Return the name of the file of a source's grids."""
    return f"grid-{source.method}-{source.target}.f32"


def copy_grid(catalog: Catalog, source: Source, path: Path) -> None:
    """Copy a source's grids out of the parts into a file of columns.

    Raises:
        OSError: The disk does not take it.
        RunDamagedError: A part is missing or cannot be read.
    """
    grid_writer(catalog, source)(path)


def grid_writer(catalog: Catalog, source: Source) -> Callable[[Path], None]:
    """Return what copies a source's grids to a path, and asks nothing of the tables any more: fit for another thread."""
    rows = catalog.query(
        f"SELECT attribution, degenerate FROM {catalog.source_table(source)} ORDER BY sample"
    )
    at = rows["attribution"].to_numpy(zero_copy_only=False).astype(np.float64)
    empty = rows["degenerate"].fill_null(False).to_numpy()
    state = np.where(np.isnan(at), MISSING, np.where(empty, DEGENERATE, DEFINED)).astype(np.uint8)
    defined = np.flatnonzero(state == DEFINED)
    positions = at[defined].astype(np.int64)
    # In the order on disk; within a part in the order of the samples, whose maps then follow each other.
    firsts = catalog.firsts(table_of_method(source.method))
    part = np.searchsorted(firsts, positions, side="right") - 1
    order = np.argsort(part, kind="stable")
    samples, positions = defined[order], positions[order]

    def write(path: Path) -> None:
        write_grid(path, len(state), state, _blocks(catalog, source, samples, positions, firsts))

    return write


def _blocks(
    catalog: Catalog, source: Source, samples: np.ndarray, positions: np.ndarray, firsts: np.ndarray
) -> Iterator[Block]:
    paths = catalog.run.part_paths(table_of_method(source.method))
    bounds = np.searchsorted(np.searchsorted(firsts, positions, side="right") - 1, np.arange(len(paths) + 1))
    for number, path in enumerate(paths):
        some = slice(bounds[number], bounds[number + 1])
        if some.start == some.stop:
            continue
        with reading_errors(catalog.run), pq.ParquetFile(path) as file:
            held = set(file.schema_arrow.names)
            table = file.read(columns=[name for name in CORNERS if name in held])
        local = positions[some] - firsts[number]
        corners = np.zeros((len(CORNERS), len(local)), np.float32)
        for corner, name in zip(corners, CORNERS, strict=True):
            if name in held:
                corner[:] = table[name].to_numpy()[local]
        yield samples[some], np.nan_to_num(corners, copy=False)
