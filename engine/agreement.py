"""Agreement between methods: the rank correlation of every two methods' grids on the same image and class.

It is computed from what is published, after the maps: a method that was added later agrees or disagrees with all
the others at once.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.maps import grid_from_corners
from cache.ranks import standard_ranks
from cache.reading import read_footer, read_rows
from cache.run import Run
from cache.schema import AGREEMENT, CORNERS, GRID, agreement_schema, pair_name, table_of_method
from cache.writer import RunWriter
from engine.coverage import map_keys, table_keys

ROWS_AT_ONCE = 512
"""Maps whose grids are in memory at a time, of every method."""


def complete_agreement(writer: RunWriter, default_method: str) -> int:
    """Compute and publish the rank correlations that a run lacks.

    Args:
        writer: Writer of the run; what it has published is read.
        default_method: The method that says which images and classes there are.

    Returns:
        Rows written.
    """
    manifest = writer.manifest
    methods = sorted(name for name in manifest.methods if manifest.parts.get(table_of_method(name)))
    if len(methods) < 2 or default_method not in methods:
        return 0
    key = _key({name: str(manifest.methods[name]["key"]) for name in methods})
    published = manifest.parts.get(AGREEMENT, [])
    stale = [(AGREEMENT, part.name) for part in published if part.key != key]
    run = Run.open(writer.path)
    places = {name: _Places(run, name) for name in methods}
    known = table_keys(run, AGREEMENT) if published and not stale else np.array([], np.uint64)
    written = 0
    for rows in places[default_method].rows_without(known):
        table = _correlations(rows, places)
        writer.append(AGREEMENT, table, key)
        written += table.num_rows
    if written or stale:
        writer.publish(drop=stale)
    return written


def _key(keys: dict[str, str]) -> str:
    """Return the key under which correlations hold: they change with any of the methods."""
    return blake2b(repr(sorted(keys.items())).encode(), digest_size=8).hexdigest()


class _Places:
    """Where a method's maps lie: by image and class, the part and the row."""

    def __init__(self, run: Run, method: str) -> None:
        table = table_of_method(method)
        self.paths = run.part_paths(table)
        keys = [map_keys(pq.read_table(path, columns=["content", "target"])) for path in self.paths]
        self._counts = [len(some) for some in keys]
        joined = np.concatenate(keys) if keys else np.array([], np.uint64)
        self._order = np.argsort(joined, kind="stable")
        self._sorted = joined[self._order]
        self._firsts = np.cumsum([0, *self._counts])

    def rows_without(self, known: NDArray[np.uint64]) -> list[pa.Table]:
        """Return content and target of every map that is not known, some at a time."""
        found = []
        for path in self.paths:
            rows = pq.read_table(path, columns=["content", "target"])
            lacking = rows.filter(pa.array(~np.isin(map_keys(rows), known)))
            found += [lacking.slice(at, ROWS_AT_ONCE) for at in range(0, lacking.num_rows, ROWS_AT_ONCE)]
        return found

    def grids(self, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return the grids (n, 196) of images and classes, NaN where there is no map or it is degenerate."""
        grids = np.full((len(keys), GRID * GRID), np.nan)
        if not len(self._sorted):
            return grids
        at = np.searchsorted(self._sorted, keys).clip(max=len(self._sorted) - 1)
        held = np.flatnonzero(self._sorted[at] == keys)
        positions = self._order[at[held]]
        parts = np.searchsorted(self._firsts, positions, side="right") - 1
        wanted = list(zip(parts.tolist(), (positions - self._firsts[parts]).tolist(), strict=True))
        if wanted:
            rows = read_rows(self.paths, wanted, CORNERS, read_footer)
            corners = np.stack([rows[name].to_numpy().astype(np.float64) for name in CORNERS], 1)
            grids[held] = grid_from_corners(corners).reshape(len(held), -1)
        return grids


def _correlations(rows: pa.Table, places: dict[str, _Places]) -> pa.Table:
    """Return the rows of `agreement` for some images and classes."""
    keys = map_keys(rows)
    ranks = {name: standard_ranks(place.grids(keys)) for name, place in places.items()}
    schema = agreement_schema(ranks)
    columns = {"content": rows["content"], "target": rows["target"]}
    for a, b in combinations(ranks, 2):
        columns[pair_name(a, b)] = _nullable(np.einsum("nk,nk->n", ranks[a], ranks[b]))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.clip(-1, 1).astype(np.float32), mask=np.isnan(values))
