"""Maps held in memory, for answers while a hand draws: the same as `cache.attention` gives, in milliseconds.

The summed-area columns of one method's maps are read once and kept; a region's mass is then a sum of a few of them.
Runs of more samples than are worth holding are asked through the database.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import attention
from cache.attention import MeanMap, RegionSplit
from cache.catalog import Catalog
from cache.conditions import AllOf, AnyOf, Condition, Not, RegionMass
from cache.contrasts import RegionContrast
from cache.fields import Source
from cache.filter_sql import MASS_DECIMALS
from cache.filters import Filter
from cache.grid_file import Flags, GridFile, summed
from cache.maps import grid_from_corners
from cache.regions import Region
from cache.schema import CORNERS, table_of_method
from cache.selections import Counts, compiled

MOST_SAMPLES = 250_000
"""Samples of a run whose maps are held: 196 columns of them are 200 MB."""
KEPT_SOURCES = 2
KEPT_ANSWERS = 32
AT_ONCE = 100_000
"""Samples whose maps are averaged in single precision."""


@dataclass(frozen=True)
class HeldMaps:
    """One source's maps, aligned with the samples.

    Attributes:
        corners: Summed-area columns, shape (196, samples), 0 where there is no defined map.
        defined: Which samples have a map with positive attribution.
        degenerate: Which have one without.
        file: The file that the corners are mapped from; None where they are in memory.
    """

    corners: NDArray[np.float32]
    defined: Flags
    degenerate: Flags

    file: GridFile | None = None

    def mass(self, region: Region) -> NDArray[np.float64]:
        """Return the region's mass for every sample, rounded as `Catalog.masses` rounds; meaningless where undefined."""
        mass = summed(self.corners, region.corner_weights())
        self.release()
        return mass

    def release(self) -> None:
        """Let go of what was read of a file: a sweep through all columns would stay in memory."""
        if self.file is not None:
            self.file.release()


@dataclass(frozen=True)
class Truth:
    """Of which samples a condition holds, and of which its opposite; of the rest nobody knows."""

    yes: Flags
    no: Flags


@dataclass
class _Shelf:
    """What is kept of one catalog; the least recently used goes first."""

    lock: Lock = field(default_factory=Lock)
    sources: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    answers: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)

    def get(self, kept: OrderedDict[Hashable, Any], most: int, key: Hashable, make: Callable[[], Any]) -> Any:
        # Made under the lock: two sessions that draw at once must not both read 80 MB.
        with self.lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
            while len(kept) >= most:
                kept.popitem(last=False)
            kept[key] = value = make()
            return value


def can_hold(catalog: Catalog) -> bool:
    """Tell whether a run's maps are few enough to hold."""
    return catalog.index is not None or catalog.samples <= MOST_SAMPLES


def held_maps(catalog: Catalog, source: Source) -> HeldMaps:
    """Return a source's maps, read when they are first asked for."""
    shelf = _shelf(catalog)
    made: HeldMaps = shelf.get(shelf.sources, KEPT_SOURCES, source, lambda: _read(catalog, source))
    return made


def split(catalog: Catalog, filter_: Filter, condition: Condition) -> RegionSplit:
    """Answer as `cache.attention.region_split` does."""
    if not can_hold(catalog):
        return attention.region_split(catalog, filter_, condition)
    chosen, truth = members(catalog, filter_), truth_of(catalog, condition)
    unknown = chosen & ~truth.yes & ~truth.no
    alone = catalog.compiler()
    alone.condition(condition)
    empty = np.zeros(len(chosen), dtype=bool)
    for source in dict.fromkeys([*(region.source for region in alone.regions), *alone.sources]):
        empty |= held_maps(catalog, source).degenerate
    degenerate = int((unknown & empty).sum())
    return RegionSplit(
        _counts(catalog, chosen & truth.yes),
        _counts(catalog, chosen & truth.no),
        degenerate,
        int(unknown.sum()) - degenerate,
    )


def mean_map(
    catalog: Catalog, filter_: Filter, method: str | None = None, target: str | None = None
) -> MeanMap:
    """Answer as `cache.attention.mean_map` does."""
    if not can_hold(catalog):
        return attention.mean_map(catalog, filter_, method, target)
    held, chosen = held_maps(catalog, catalog.source(method, target)), members(catalog, filter_)
    degenerate, n = int((chosen & held.degenerate).sum()), int((chosen & held.defined).sum())
    if not n:
        return MeanMap(None, 0, degenerate)
    # Undefined maps are held as zeros; a product with the chosen ones reads every column once and copies none.
    weights = (chosen & held.defined).astype(np.float32)
    means = np.array([_dot(column, weights) for column in held.corners]) / n
    held.release()
    p = np.clip(grid_from_corners(means), 0.0, None)
    return MeanMap(p / p.sum(), n, degenerate)


def members(catalog: Catalog, filter_: Filter) -> Flags:
    """Return which samples a filter holds."""
    shelf = _shelf(catalog)

    def find() -> Flags:
        compiler, where = compiled(catalog, filter_)
        found = np.zeros(catalog.samples, dtype=bool)
        found[catalog.select("s.sample AS sample", compiler, where)["sample"].to_numpy()] = True
        return found

    chosen: Flags = shelf.get(shelf.answers, KEPT_ANSWERS, filter_, find)
    return chosen


def measured(catalog: Catalog, condition: RegionMass | RegionContrast) -> tuple[NDArray[np.float64], Flags]:
    """Return for every sample what a condition on a region bounds, and of which samples it is defined."""
    region = condition.region
    held = held_maps(catalog, catalog.source(condition.method, condition.target))
    if isinstance(condition, RegionMass):
        return held.mass(region), held.defined
    than = held_maps(catalog, catalog.source(condition.than_method, condition.than_target))
    return np.round(held.mass(region) - than.mass(region), MASS_DECIMALS), held.defined & than.defined


def truth_of(catalog: Catalog, condition: Condition) -> Truth:
    """Return of which samples a condition holds, in three values as the database has them."""
    match condition:
        case RegionMass(_, low, high):
            mass, defined = measured(catalog, condition)
            meets = (mass >= (0.0 if low is None else low)) & (mass <= (1.0 if high is None else high))
            return Truth(defined & meets, defined & ~meets)
        case RegionContrast():
            more, defined = measured(catalog, condition)
            return Truth(defined & (more >= condition.least), defined & ~(more >= condition.least))
        case AnyOf(inner):
            each = [truth_of(catalog, one) for one in inner]
            return Truth(
                np.logical_or.reduce([t.yes for t in each]), np.logical_and.reduce([t.no for t in each])
            )
        case AllOf(inner):
            each = [truth_of(catalog, one) for one in inner]
            return Truth(
                np.logical_and.reduce([t.yes for t in each]), np.logical_or.reduce([t.no for t in each])
            )
        case Not(inner_one):
            truth = truth_of(catalog, inner_one)
            return Truth(truth.no, truth.yes)
    return Truth(members(catalog, Filter((condition,))), members(catalog, Filter((Not(condition),))))


def _dot(column: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """Return a product in single precision, a hundred thousand samples at a time, so that sums of millions stay exact."""
    return sum(
        float(np.dot(column[first : first + AT_ONCE], weights[first : first + AT_ONCE]))
        for first in range(0, len(weights), AT_ONCE)
    )


def _counts(catalog: Catalog, chosen: Flags) -> Counts:
    shelf = _shelf(catalog)

    def read() -> tuple[Flags, Flags]:
        rows = catalog.query(
            "SELECT label IS NOT NULL AS labelled, coalesce(NOT correct, FALSE) AS wrong FROM samples ORDER BY sample"
        )
        labelled, wrong = (rows[name].to_numpy().astype(bool) for name in ("labelled", "wrong"))
        return labelled, wrong

    labelled, wrong = shelf.get(shelf.answers, KEPT_ANSWERS, "outcomes", read)
    return Counts(int(chosen.sum()), int((chosen & labelled).sum()), int((chosen & wrong).sum()))


def _read(catalog: Catalog, source: Source) -> HeldMaps:
    grid = catalog.grid(source)
    if grid is not None:
        return HeldMaps(grid.corners, grid.defined, grid.degenerate, grid)
    n = catalog.samples
    corners = np.zeros((len(CORNERS), n), np.float32)
    defined, degenerate = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    rows = catalog.query(
        f"SELECT sample, attribution, degenerate FROM {catalog.source_table(source)} WHERE attribution IS NOT NULL"
    )
    places, at = rows["sample"].to_numpy(), rows["attribution"].to_numpy()
    empty = rows["degenerate"].to_numpy().astype(bool)
    degenerate[places[empty]] = True
    defined[places[~empty]] = True
    # Straight from the parts: DuckDB takes four times as long to plan and join 196 columns.
    table = catalog.read(table_of_method(source.method), CORNERS) if len(places) else None
    into, of = places[~empty], at[~empty]
    for index, name in enumerate(CORNERS if table is not None else ()):
        corners[index, into] = table[name].to_numpy()[of]  # type: ignore[index]
    return HeldMaps(np.nan_to_num(corners, copy=False), defined, degenerate)


def _shelf(catalog: Catalog) -> _Shelf:
    shelf: _Shelf = catalog.remember("held maps", _Shelf())
    return shelf
