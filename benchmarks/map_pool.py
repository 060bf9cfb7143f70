"""Maps that synthetic runs draw from: measured once by the engine, so that every row's numbers belong to its map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.maps import encode_maps, grid_from_corners
from cache.ranks import standard_ranks
from cache.schema import CORNERS, GRID, attribution_schema
from tests.synthetic_methods import KINDS

LOOKS = ("object", "ground", "corner")
"""What a map lies on; the tag that some networks look at is in the lower left corner."""
PLACES = 16
"""Places of the object: four by four around the middle."""
ALIKE = 256
"""Maps of one place and kind of look: they differ in position, width and grain."""
POOL = PLACES * len(LOOKS) * ALIKE
EMPTY = POOL
"""Row of the map that is degenerate."""


def pool_rows(
    rng: np.random.Generator, places: NDArray[np.int64], looks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Choose a map of the pool for each of some places and looks."""
    return (places * len(LOOKS) + looks) * ALIKE + rng.integers(0, ALIKE, len(places))


def draw_pool(method: str, seed: int) -> NDArray[np.float32]:
    """Draw the maps of a method, (POOL + 1, size, size), at the resolution that the method has on a ResNet."""
    kind = KINDS[method]
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, list(KINDS).index(method)])
    row = np.arange(POOL)
    place, looks = row // (len(LOOKS) * ALIKE), row // ALIKE % len(LOOKS)
    # Methods look at the same objects, each with a grain of its own.
    jitter, width = shared.normal(0, 0.04, (2, POOL)), shared.uniform(0.1, 0.2, POOL) * kind.sharpness
    x, y = 0.35 + 0.1 * (place % 4) + jitter[0], 0.35 + 0.1 * (place // 4) + jitter[1]
    centre = (np.arange(kind.size) + 0.5) / kind.size

    def blob(
        at_x: NDArray[np.float64], at_y: NDArray[np.float64], wide: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        across = np.exp(-((centre[None] - at_x[:, None]) ** 2) / (2 * wide[:, None] ** 2))
        down = np.exp(-((centre[None] - at_y[:, None]) ** 2) / (2 * wide[:, None] ** 2))
        return down[:, :, None] * across[:, None, :]

    seen = blob(x, y, width)
    tag = blob(0.14 + jitter[0] / 3, 0.88 + jitter[1] / 3, np.full(POOL, 0.1)) + 0.15 * seen
    ground = np.clip(1 - 1.5 * seen, 0, None) * 0.7
    maps = np.choose(looks[:, None, None], [seen, ground, tag])
    maps = np.clip(maps * own.uniform(0.7, 1.3, maps.shape) + own.uniform(-0.02, 0.05, maps.shape), 0, None)
    return np.concatenate([maps, np.zeros((1, *maps.shape[1:]))]).astype(np.float32)


def measured_pool(method: str, statistics: Sequence[str], seed: int) -> pa.Table:
    """Return the rows of a pool as the engine would write them; ``content`` and ``target`` are left empty."""
    import torch

    from engine.attribution_rows import floats
    from engine.statistics import measure

    maps = draw_pool(method, seed)
    found = measure(torch.from_numpy(maps))
    values, scales = encode_maps(maps)
    corners = found.corners.float().numpy()
    columns = {
        "content": pa.nulls(len(maps), pa.string()),
        "target": pa.nulls(len(maps), pa.int32()),
        "degenerate": found.degenerate.numpy(),
        "height": pa.array(np.full(len(maps), maps.shape[1], np.int16)),
        "width": pa.array(np.full(len(maps), maps.shape[2], np.int16)),
        "scale": scales,
        "map": pa.array(values, pa.binary()),
        **{name: floats(found.columns[name].numpy()) for name in statistics},
        **{name: floats(corners[:, i]) for i, name in enumerate(CORNERS)},
    }
    schema = attribution_schema(statistics)
    return pa.table([pa.array(columns[name]) for name in schema.names], names=schema.names)


def pool_ranks(pool: pa.Table) -> NDArray[np.float64]:
    """Return each map's cells as standard ranks, (rows, 196): their products are rank correlations."""
    corners = np.column_stack([pool[name].to_numpy() for name in CORNERS])
    return standard_ranks(grid_from_corners(corners).reshape(-1, GRID * GRID))
