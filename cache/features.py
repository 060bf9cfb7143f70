"""The projections of features, aligned with the samples of a run and kept for search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.reading import content_positions
from cache.schema import PROJECTION_SIZE

CHUNK = 65_536


@dataclass(frozen=True)
class Features:
    """Unit-length projections aligned with the samples, (n, 64); those of samples without them are 0.

    Attributes:
        unit: The projections.
        rows: Row of each sample's image among all of `embeddings`; −1 where its features are unknown.
        firsts: Samples with features, of those that share an image the first only.
    """

    unit: NDArray[np.float16]
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]

    def cosines(self, own: int) -> NDArray[np.float32]:
        """Return the cosine of every sample's projection with that of one, NaN where it is unknown."""
        values = np.full(len(self.rows), np.nan, np.float32)
        if self.rows[own] >= 0:
            query = self.unit[own].astype(np.float32)
            for first in range(0, len(values), CHUNK):
                values[first : first + CHUNK] = self.unit[first : first + CHUNK].astype(np.float32) @ query
            values[self.rows < 0] = np.nan
        return values


def aligned_features(catalog: Catalog, column: str) -> Features:
    """Return the projections of one kind of features, ``attended`` or ``penultimate``; read once a catalog.

    Raises:
        RunDamagedError: A part is missing or cannot be read.
    """
    kept: Features | None = catalog.recall(f"features {column}")
    if kept is not None:
        return kept
    n = catalog.samples
    unit, rows = np.zeros((n, PROJECTION_SIZE), np.float16), np.full(n, -1, np.int64)
    table = catalog.read("embeddings", ["content", f"{column}_projection"])
    if table.num_rows:
        stored, sound = _normalised(table[f"{column}_projection"])
        rows = positions_of(catalog, table["content"])
        rows[rows >= 0] = np.where(sound[rows[rows >= 0]], rows[rows >= 0], -1)
        here = rows >= 0
        unit[here] = stored[rows[here]]
    known = np.flatnonzero(rows >= 0)
    firsts = np.sort(known[np.unique(rows[known], return_index=True)[1]])
    made: Features = catalog.remember(f"features {column}", Features(unit, rows, firsts))
    return made


def positions_of(catalog: Catalog, contents: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return where the content of each sample stands in a column, −1 where it does not.

    Raises:
        RunDamagedError: The samples cannot be read.
    """
    own = catalog.query("SELECT content FROM samples ORDER BY sample")["content"]
    return content_positions(own, contents)


def _normalised(column: pa.ChunkedArray) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Return vectors of unit length, 0 where there is none, and which of them are sound."""
    unit = np.zeros((len(column), PROJECTION_SIZE), np.float16)
    sound = np.zeros(len(column), dtype=bool)
    first = 0
    for chunk in column.chunks:
        present = chunk.is_valid().to_numpy(zero_copy_only=False)
        values = np.zeros((len(chunk), PROJECTION_SIZE), np.float32)
        flat = chunk.flatten().to_numpy(zero_copy_only=False)
        values[present] = flat.reshape(-1, PROJECTION_SIZE)
        length = np.linalg.norm(values, axis=1)
        known = np.isfinite(length) & (length > 0)
        some = slice(first, first + len(chunk))
        sound[some] = known
        unit[some] = np.where(known[:, None], values / np.where(known, length, 1.0)[:, None], 0.0)
        first += len(chunk)
    return unit, sound
