"""How far methods agree on where a model looked: rank correlations of their grids over a choice of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.filter_sql import identifier
from cache.filters import Filter
from cache.maps import grid_from_corners
from cache.queries import count, draw
from cache.ranks import standard_ranks
from cache.reading import reading_errors
from cache.schema import AGREEMENT, CORNERS, GRID, pair_name

AGREEMENT_SAMPLES = 500
"""Samples that a matrix rests on at most: the mean of 500 correlations is known to about ±0.02."""


@dataclass(frozen=True)
class AgreementMatrix:
    """Mean rank correlations between methods.

    Attributes:
        methods: The methods, in the order of rows and columns.
        mean: Shape (M, M), symmetric, −1 to 1: Spearman's rank correlation of two methods' 14×14 grids on the same
            image and class, averaged over the samples; NaN where no sample has both.
        pairs: Shape (M, M): samples that each mean rests on.
        samples: Samples that were drawn.
        total: Samples of the selection.
    """

    methods: tuple[str, ...]
    mean: NDArray[np.float64]
    pairs: NDArray[np.int64]
    samples: int
    total: int

    def with_the_others(self, groups: Sequence[Sequence[str]]) -> list[float | None]:
        """Return each method's mean agreement with the other kinds of evidence, every kind counted once.

        Args:
            groups: The methods that are the same evidence, from `same_evidence`.

        Returns:
            One mean a method; None where no other method has maps to compare.
        """
        place = {method: i for i, method in enumerate(self.methods)}
        found: list[float | None] = []
        for i, method in enumerate(self.methods):
            others = [place[group[0]] for group in groups if method not in group]
            values = self.mean[i, others]
            known = values[np.isfinite(values)]
            found.append(float(known.mean()) if known.size else None)
        return found


def agreement_matrix(
    catalog: Catalog,
    selection: Filter,
    methods: Sequence[str],
    target: str | None = None,
    limit: int = AGREEMENT_SAMPLES,
) -> AgreementMatrix:
    """Correlate the grids of methods on the samples of a selection.

    Args:
        catalog: The open generation.
        selection: Which samples; where there are more than ``limit``, an even choice that is always the same.
        methods: Methods of the run.
        target: The class whose maps are meant, ``pred`` or ``true``.
        limit: Samples to rest on at most, while the engine has not stored the correlations of all.

    Raises:
        FilterError: The run has no such method.
        RunDamagedError: A part is missing or cannot be read.
    """
    stored = _stored(catalog, selection, methods, target)
    if stored is not None:
        return stored
    drawn = draw(catalog, selection, limit)
    ranks = [standard_ranks(_grids(catalog, drawn, method, target)) for method in methods]
    size = len(methods)
    mean, pairs = np.full((size, size), np.nan), np.zeros((size, size), np.int64)
    for i, first in enumerate(ranks):
        for j, second in enumerate(ranks[: i + 1]):
            products = np.einsum("nk,nk->n", first, second)
            known = products[np.isfinite(products)].clip(-1, 1)
            pairs[i, j] = pairs[j, i] = known.size
            if known.size:
                mean[i, j] = mean[j, i] = known.mean()
    return AgreementMatrix(tuple(methods), mean, pairs, len(drawn), count(catalog, selection).n)


def _stored(
    catalog: Catalog, selection: Filter, methods: Sequence[str], target: str | None
) -> AgreementMatrix | None:
    """Average the correlations that the engine stored, over the whole selection; None where it has not yet."""
    held = _stored_pairs(catalog)
    pairs = [(a, b) for a, b in combinations(methods, 2)]
    if not pairs or not all(pair_name(a, b) in held for a, b in pairs):
        return None
    chosen = catalog.source(methods[0], target)
    compiler = catalog.compiler()
    where = compiler.all_of(selection.conditions)
    asked = "".join(
        f", avg(g.{name}) AS m{i}, count(g.{name}) AS n{i}"
        for i, name in enumerate(identifier(pair_name(a, b)) for a, b in pairs)
    )
    found = catalog.select(
        f"count(*) AS total, count(*) FILTER (g.present) AS rows{asked}",
        compiler,
        where,
        beside={"g": catalog.pairs_table(chosen.target)},
    ).to_pylist()[0]
    size = len(methods)
    mean, counts = np.full((size, size), np.nan), np.zeros((size, size), np.int64)
    for place, (a, b) in enumerate(combinations(range(size), 2)):
        value = found[f"m{place}"]
        mean[a, b] = mean[b, a] = np.nan if value is None else value
        counts[a, b] = counts[b, a] = found[f"n{place}"]
    np.fill_diagonal(mean, 1.0)
    np.fill_diagonal(counts, found["rows"])
    return AgreementMatrix(tuple(methods), mean, counts, found["rows"], found["total"])


def _stored_pairs(catalog: Catalog) -> set[str]:
    """Return the pairs of methods whose correlations every part of `agreement` holds."""
    known: set[str] | None = catalog.recall("pairs of agreement")
    if known is None:
        with reading_errors(catalog.run):
            held = [set(pq.read_schema(path).names) for path in catalog.run.part_paths(AGREEMENT)]
        known = catalog.remember("pairs of agreement", set.intersection(*held) if held else set())
    return set(known or ())


def _grids(
    catalog: Catalog, sample_ids: Sequence[str], method: str, target: str | None
) -> NDArray[np.float64]:
    """Return the grid of each sample, (n, 196); NaN where there is no map or it is degenerate."""
    grids = np.full((len(sample_ids), GRID * GRID), np.nan)
    wanted = pa.table({"sample_id": list(sample_ids), "place": pa.array(range(len(sample_ids)), pa.int64())})
    held = catalog.query(
        f"SELECT w.place, a.attribution FROM wanted AS w JOIN samples AS s USING (sample_id) "
        f"JOIN {catalog.source_table(catalog.source(method, target))} AS a ON a.sample = s.sample "
        "WHERE NOT a.degenerate",
        tables={"wanted": wanted},
    )
    if held.num_rows:
        rows = catalog.rows_of_maps(method, held["attribution"].to_pylist(), CORNERS)
        corners = np.stack([rows[name].to_numpy().astype(np.float64) for name in CORNERS], axis=1)
        grids[held["place"].to_numpy()] = grid_from_corners(corners).reshape(-1, GRID * GRID)
    return grids
