"""The grids of one source as a flat file of columns, mapped into memory: a box reads 4 to 16 of them.

The file is disposable. It holds the 196 summed-area corners, each a column of float32 with a value for every sample of the run
in their order (0 where there is no defined map), and after them a byte a sample: whether its map is missing,
degenerate or defined.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.filter_sql import MASS_DECIMALS
from cache.regions import Region
from cache.schema import CORNERS

COLUMN = {name: index for index, name in enumerate(CORNERS)}
MISSING, DEGENERATE, DEFINED = 0, 1, 2
BLOCK = 1 << 14
"""Samples summed at a time: their sums stay in the processor's cache."""
THREADS = min(os.cpu_count() or 1, 4)
FEWEST = 100_000
"""Samples below which one thread sums as fast as several."""
Flags = NDArray[np.bool_]
Block = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Positions of samples, and the corners of their maps, (196, samples)."""


def file_size(samples: int) -> int:
    """Return the bytes of the file of a run."""
    return samples * (4 * len(CORNERS) + 1)


def summed(columns: NDArray[np.float32], weights: dict[str, float]) -> NDArray[np.float64]:
    """Return the weighted sum of corner columns, (samples,), in double precision and rounded as `Catalog.masses` rounds.

    Args:
        columns: Corners, (196, samples).
        weights: By the corner's name.
    """
    total = np.zeros(columns.shape[1])
    chosen = [(columns[COLUMN[name]], weight) for name, weight in weights.items()]
    share = max(-(-len(total) // THREADS), FEWEST)
    starts = range(0, len(total), share)
    if len(starts) == 1:
        _sum(total, chosen, 0, len(total))
    elif starts:
        list(_threads().map(lambda first: _sum(total, chosen, first, min(first + share, len(total))), starts))
    return total


def _sum(
    total: NDArray[np.float64], chosen: list[tuple[NDArray[np.float32], float]], start: int, end: int
) -> None:
    """Sum one stretch of samples, a block at a time and the columns in their order, so that no sum depends on the stretch."""
    product = np.empty(min(BLOCK, end - start))
    for first in range(start, end, BLOCK):
        part = total[first : min(first + BLOCK, end)]
        some = product[: len(part)]
        for column, weight in chosen:
            np.multiply(column[first : first + len(part)], weight, out=some, dtype=np.float64)
            part += some
        np.round(part, MASS_DECIMALS, out=part)


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="sums")


class GridFile:
    """An open file of grids.

    Attributes:
        corners: The columns, (196, samples), read-only.
        defined: Which samples have a map with positive attribution.
        degenerate: Which have one without.
    """

    def __init__(self, path: Path, samples: int) -> None:
        """Map a file.

        Raises:
            OSError: It is not there, or not of the size that it should have.
        """
        if os.stat(path).st_size != file_size(samples):
            raise OSError(f"{path} is not whole.")
        self.corners: NDArray[np.float32] = np.zeros((len(CORNERS), 0), np.float32)
        if samples:  # nothing cannot be mapped
            self.corners = np.memmap(path, np.float32, "r", shape=(len(CORNERS), samples))
        state = np.fromfile(path, np.uint8, offset=4 * len(CORNERS) * samples)
        self.defined, self.degenerate = state == DEFINED, state == DEGENERATE

    def masses(self, region: Region) -> pa.Table:
        """Return a region's mass in every sample's map: columns sample and mass, NULL where it is not defined."""
        mass = summed(self.corners, region.corner_weights())
        self.release()
        return pa.table(
            {"sample": pa.array(np.arange(len(mass))), "mass": pa.array(mass, mask=~self.defined)}
        )

    def release(self) -> None:
        """Let go of the memory that reading took: the system keeps what it has room for."""
        mapped = getattr(self.corners, "_mmap", None)
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


def write_grid(path: Path, samples: int, state: NDArray[np.uint8], blocks: Iterable[Block]) -> None:
    """Write a file under another name and rename it; blocks are written as they come, so that memory stays flat.

    Args:
        path: Of the file.
        samples: How many there are.
        state: `MISSING`, `DEGENERATE` or `DEFINED` of each.
        blocks: The defined maps' corners; no sample twice.

    Raises:
        OSError: The disk does not take it.
    """
    temporary = path.with_name(f".{path.name}-{uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            # Room is taken beforehand: a full disk must be told here, and not by a signal while the map is written.
            os.posix_fallocate(file.fileno(), 0, max(file_size(samples), 1))
        if samples:
            corners = np.memmap(temporary, np.float32, "r+", shape=(len(CORNERS), samples))
            for positions, values in blocks:
                _put(corners, positions, values)
                corners._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
            corners.flush()
            with open(temporary, "r+b") as file:
                file.seek(4 * len(CORNERS) * samples)
                file.write(state.tobytes())
                file.flush()
                os.fsync(file.fileno())
        os.truncate(temporary, file_size(samples))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put(corners: NDArray[np.float32], positions: NDArray[np.int64], values: NDArray[np.float32]) -> None:
    """Write maps to their places; those of one part nearly follow each other."""
    if not len(positions):
        return
    first, last = int(positions[0]), int(positions[-1]) + 1
    together = last - first == len(positions) and bool((np.diff(positions) == 1).all())
    for column, wanted in zip(corners, values, strict=True):
        if together:
            column[first:last] = wanted
        else:
            column[positions] = wanted
