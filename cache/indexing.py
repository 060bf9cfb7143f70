"""Builds the index of a run: in one pass over the parts, elsewhere, and put in place as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from cache.catalog import Catalog
from cache.disk import sync_folder
from cache.errors import RunBusyError, RunStorageError
from cache.fields import TARGETS, Source, Target
from cache.index import (
    INDEX_NAME,
    INDEX_VARIABLE,
    TABLES_NAME,
    find_index,
    grid_name,
    grid_writer,
    index_folders,
    index_name,
    indexes,
)
from cache.manifest import now
from cache.map_file import map_name, write_maps
from cache.run import Run
from cache.schema import TARGET_TRUE

BUILD_MEMORY = "2GB"
"""What DuckDB may use while an index is built; what does not fit waits on the disk."""
LOCK_NAME = ".lock"
BUILDING = ".building-"
Progress = Callable[[float, str], None]
"""Told what share is done, and what is being done."""


@dataclass(frozen=True)
class BuiltIndex:
    """An index that was built, or was there already.

    Attributes:
        folder: Its folder.
        samples: Samples of the run.
        bytes: What it takes on the disk.
        seconds: How long building took; 0 where it was there.
    """

    folder: Path
    samples: int
    bytes: int
    seconds: float


def build_index(run: Run, grids: tuple[str, ...] = (), progress: Progress | None = None) -> BuiltIndex:
    """Build the index of a run's newest generation where it has none.

    Args:
        run: The run.
        grids: Methods whose grids are copied besides the default one's; the others follow when they are asked for.
        progress: Is told how far it has come.

    Raises:
        RunBusyError: Another process is building it.
        RunStorageError: No disk takes it.
        RunDamagedError: A part is missing or cannot be read.
    """
    found = find_index(run)
    if found is not None:
        return BuiltIndex(found.folder, found.samples, _bytes(found.folder), 0.0)
    parent = _writable(run)
    start = time.perf_counter()
    with _alone(parent, run):
        for left in parent.glob(f"{BUILDING}*"):
            shutil.rmtree(left, ignore_errors=True)
        building = parent / f"{BUILDING}{uuid4().hex[:8]}"
        folder = parent / index_name(run)
        try:
            building.mkdir()
            samples = _fill(building, run, grids, progress or (lambda *_: None))
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
            os.replace(building, folder)
            sync_folder(parent)
        except OSError as error:
            raise RunStorageError(
                f"The index of the run {run.path} cannot be written to {parent} ({error.strerror or error}): free some space, "
                f"or name another folder with the environment variable {INDEX_VARIABLE}."
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        _drop_older(parent, folder)
    return BuiltIndex(folder, samples, _bytes(folder), time.perf_counter() - start)


def drop_index(run: Run) -> list[Path]:
    """Delete every index of a run, of this generation and of others; return their folders."""
    dropped = []
    for parent in index_folders(run.path):
        for folder in indexes(parent):
            shutil.rmtree(folder, ignore_errors=True)
            dropped.append(folder)
    return dropped


def _fill(building: Path, run: Run, grids: tuple[str, ...], progress: Progress) -> int:
    """Make the tables, copy the grids, and name them in ``index.json``; return the number of samples."""
    methods, default = list(run.manifest.methods), run.manifest.default_method
    progress(0.0, "samples")
    catalog = Catalog(run, indexed=False, database=building / TABLES_NAME)
    try:
        catalog.limit(BUILD_MEMORY, building / "spill")
        copied = [Source(m, "pred") for m in dict.fromkeys([default, *grids]) if m in methods]
        done, steps = 1, 1 + len(methods) + len(copied)
        catalog.ranks_table()
        catalog.make_ids()
        # Grids and maps are copied while the tables of the next methods are made: neither keeps all cores busy.
        with ThreadPoolExecutor(1) as beside:
            copying: list[Future[object]] = []
            maps = {}
            for method in sorted(methods, key=lambda name: name != default):
                progress(done / steps, f"statistics of {method}")
                catalog.make_tables(method, _targets(run))
                if Source(method, "pred") in copied:
                    source = Source(method, "pred")
                    write = grid_writer(catalog, source)
                    copying.append(beside.submit(write, building / grid_name(source)))
                maps[method] = beside.submit(write_maps, run, method, building / map_name(method))
                done += 1
            for number, copy in enumerate(copying):
                progress((done + number) / steps, "grids")
                copy.result()
            sizes = {method: copy.result() for method, copy in maps.items()}
        samples = catalog.samples
    finally:
        catalog.close()
    shutil.rmtree(building / "spill", ignore_errors=True)
    known = {
        "run_id": run.manifest.run_id,
        "generation": run.manifest.generation,
        "made": now(),
        "samples": samples,
        "tables_bytes": os.stat(building / TABLES_NAME).st_size,
        "grids": [grid_name(source) for source in copied],
        "maps": {method: size for method, size in sizes.items() if size is not None},
    }
    (building / INDEX_NAME).write_text(json.dumps(known, indent=1), encoding="utf-8")
    for path in building.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    progress(1.0, "done")
    return samples


def _targets(run: Run) -> tuple[Target, ...]:
    return TARGETS if TARGET_TRUE in run.manifest.targets else ("pred",)


def _writable(run: Run) -> Path:
    """Return the first folder for indexes that can be written, made where it is not there."""
    refused: OSError | None = None
    for parent in index_folders(run.path):
        try:
            parent.mkdir(parents=True, exist_ok=True)
            probe = parent / f"{BUILDING}{uuid4().hex[:8]}"
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            refused = error
        else:
            return parent
    raise RunStorageError(
        f"No folder takes the index of the run {run.path} ({refused}): name one with the environment variable {INDEX_VARIABLE}."
    )


@contextmanager
def _alone(parent: Path, run: Run) -> Iterator[None]:
    with open(parent / LOCK_NAME, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunBusyError(
                f"Another process is building the index of the run {run.path}: wait until it has finished."
            ) from error
        except OSError:
            pass  # A disk without locks: two that build at once both put the same index in place.
        yield


def _drop_older(parent: Path, newest: Path) -> None:
    """Delete indexes of older generations; a dashboard that has one open keeps reading it until it lets go."""
    for folder in indexes(parent):
        if folder != newest:
            shutil.rmtree(folder, ignore_errors=True)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
