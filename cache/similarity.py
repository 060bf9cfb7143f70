"""How much the images of a run are like one of them: by what the model attended to, by where, or as a whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache import held
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.features import aligned_features
from cache.fields import quote
from cache.schema import GRID

Kind = Literal["attended", "where", "whole"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMN = {"attended": "attended", "whole": "penultimate"}
RERANKED = 128
"""The most alike by their 64-dimensional projections are compared anew by their whole features."""
BLOCK = 4_096
"""Samples whose cells are compared at a time."""
KEPT = 8
DECIMALS = 5


@dataclass(frozen=True)
class Likeness:
    """What samples are compared with, and by what.

    Attributes:
        sample_id: The sample.
        kind: ``attended``, the content that was attended to (cosine of attended features, −1 to 1); ``where``, the areas that
            were (attention in common, 0 to 1); ``whole``, the image as a whole (cosine of penultimate features).
    """

    sample_id: str
    kind: Kind

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FilterError(f"Images are alike by {', '.join(KINDS)}, not by {quote(self.kind)}.")


def likeness(catalog: Catalog, to: Likeness) -> pa.Table:
    """Return how much every sample is like one: columns sample and value; unknown ones, and itself, have no row.

    Kept as long as the catalog for the few that were asked last.

    Raises:
        FilterError: The run has no such sample.
        RunDamagedError: A part is missing or cannot be read.
    """
    kept: _Kept = catalog.recall("likeness") or catalog.remember("likeness", _Kept())
    return kept.get(to, lambda: _compared(catalog, to))


def aligned_likeness(catalog: Catalog, to: Likeness) -> pa.Table:
    """Return what `likeness` returns with a row for every sample, in their order, NULL where it has none."""
    rows = likeness(catalog, to)
    values = np.full(catalog.samples, np.nan)
    values[rows["sample"].to_numpy()] = rows["value"].to_numpy()
    return pa.table({"value": pa.array(values, mask=np.isnan(values))})


class _Kept:
    """The answers that were asked last: pages of one order are turned one after the other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._answers: OrderedDict[Likeness, pa.Table] = OrderedDict()

    def get(self, to: Likeness, make: Callable[[], pa.Table]) -> pa.Table:
        with self._lock:
            if to in self._answers:
                self._answers.move_to_end(to)
                return self._answers[to]
        made = make()
        with self._lock:
            self._answers[to] = made
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return made


def _compared(catalog: Catalog, to: Likeness) -> pa.Table:
    own = catalog.positions([to.sample_id]).get(to.sample_id)
    if own is None:
        raise FilterError(
            f"This run has no image {quote(to.sample_id)}: it may have been renamed or removed since the link was made."
        )
    values = (
        _shared_attention(catalog, own) if to.kind == "where" else _cosines(catalog, own, COLUMN[to.kind])
    )
    values[own] = np.nan
    known = np.flatnonzero(np.isfinite(values))
    rounded = np.round(values[known].astype(np.float64), DECIMALS)
    return pa.table({"sample": pa.array(known, pa.int64()), "value": pa.array(rounded, pa.float64())})


def _shared_attention(catalog: Catalog, own: int) -> NDArray[np.float32]:
    """Return the attention in common with one sample's map, Σ min(p, q) over the 14×14 cells; NaN where undefined."""
    n = catalog.samples
    values = np.full(n, np.nan, np.float32)
    if not catalog.manifest.methods:
        return values
    maps = held.held_maps(catalog, catalog.source())
    if not maps.defined[own]:
        return values
    mine = np.clip(_cells(maps.corners[:, own : own + 1]), 0.0, None)
    shared = np.zeros(n, np.float32)
    for first in range(0, n, BLOCK):
        # Differences of sums in single precision leave empty cells a hair beside 0.
        cells = _cells(maps.corners[:, first : first + BLOCK])
        shared[first : first + BLOCK] = np.clip(cells, 0.0, mine, out=cells).sum(axis=(0, 1))
    maps.release()
    values[maps.defined] = np.clip(shared[maps.defined], 0, 1)
    return values


def _cells(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cells whose summed-area tables are given, (14, 14, n), from corners (196, n)."""
    cells = corners.reshape(GRID, GRID, -1).copy()
    cells[1:] -= corners.reshape(GRID, GRID, -1)[:-1]
    cells[:, 1:] -= cells[:, :-1].copy()
    return cells


def _cosines(catalog: Catalog, own: int, column: str) -> NDArray[np.float32]:
    """Return the cosine of features with those of one sample; exact for the most alike, never above those for the rest."""
    features = aligned_features(catalog, column)
    values = features.cosines(own)
    if features.rows[own] < 0:
        return values
    ranked = np.where(np.isfinite(values), values, -np.inf)
    ranked[own] = np.inf
    count = min(RERANKED + 1, int((features.rows >= 0).sum()))
    top = np.argpartition(-ranked, count - 1)[:count]
    exact = _exact(catalog, column, features.rows[own], features.rows[top])
    values = np.minimum(values, np.float32(exact.min())).astype(np.float32)
    values[top] = exact
    return np.asarray(values, np.float32)


def _exact(catalog: Catalog, column: str, own: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosines of the whole features of some rows of `embeddings` with those of one."""
    wanted = np.unique(np.append(rows, own))
    vectors = _vectors(catalog.rows_at("embeddings", wanted.tolist(), [column])[column])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit[np.searchsorted(wanted, own)]
    exact: NDArray[np.float32] = np.asarray(np.clip(cosines, -1, 1), np.float32)[
        np.searchsorted(wanted, rows)
    ]
    return exact


def _vectors(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return a column of vectors without NULLs as a matrix."""
    joined = column.combine_chunks()
    values = joined.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors: NDArray[np.float32] = np.nan_to_num(values.reshape(-1, joined.type.list_size))
    return vectors
