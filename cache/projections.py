"""2-D maps of features: stored under a version, so that a link means the same tomorrow, and asked by areas of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.manifest import Manifest
from cache.map_areas import Features, InProjection
from cache.reading import content_positions, reading_errors
from cache.run import Run
from cache.schema import PROJECTION_COLUMNS, PROJECTIONS, arrow_schema

if TYPE_CHECKING:
    from cache.writer import RunWriter


@dataclass(frozen=True)
class Places:
    """Where samples lie on a 2-D map, aligned with them; NaN where they have no place.

    Attributes:
        x: Across, 0 to 1, shape (samples,).
        y: Upwards, 0 to 1, shape (samples,).
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which samples have a place."""
        return np.isfinite(self.x) & np.isfinite(self.y)


def area_alias(index: int) -> str:
    """Return the name under which the nth area of a map is a table of a query: columns sample and inside."""
    return f"area_{index}"


def latest_version(manifest: Manifest, features: Features) -> str | None:
    """Return the version of the last map made of some features; None where there is none."""
    parts = manifest.parts.get(PROJECTIONS, [])
    return next((part.key for part in reversed(parts) if part.key.startswith(f"{features}-")), None)


def projection_version(features: Features, made_from: Iterable[str]) -> str:
    """Return the version of a map: its features, and a digest of what it is made from.

    Args:
        features: ``penultimate`` or ``attended``.
        made_from: Content keys and settings, in an order that depends on nothing else.
    """
    digest = hashlib.blake2b("\n".join(made_from).encode(), digest_size=8).hexdigest()
    return f"{features}-{digest}"


def append_projection(
    writer: RunWriter, version: str, contents: list[str], xy: NDArray[np.float32], part_rows: int = 8_000
) -> None:
    """Write a map; it counts once the writer has published.

    Args:
        writer: Of the run.
        version: From `projection_version`.
        contents: Content keys, each once.
        xy: The place of each, (n, 2), 0 to 1.
        part_rows: Rows written at a time.
    """
    for first in range(0, len(contents), part_rows):
        some = slice(first, first + part_rows)
        rows = {"content": contents[some], "x": xy[some, 0], "y": xy[some, 1]}
        writer.append(PROJECTIONS, pa.table(rows, schema=arrow_schema(PROJECTION_COLUMNS)), version)


def read_places(run: Run, version: str, contents: pa.ChunkedArray) -> Places:
    """Return where samples lie on one version of a map.

    Args:
        run: The run.
        version: Of the map; nobody has a place on one that the run does not hold.
        contents: The content key of each sample.

    Raises:
        RunDamagedError: A part is missing or cannot be read.
    """
    keys = {part.name: part.key for part in run.manifest.parts.get(PROJECTIONS, [])}
    with reading_errors(run):
        parts = [
            pq.read_table(path, columns=["content", "x", "y"])
            for path in run.part_paths(PROJECTIONS)
            if keys[path.rpartition("/")[2]] == version
        ]
    x, y = (np.full(len(contents), np.nan, np.float32) for _ in range(2))
    if parts:
        table = pa.concat_tables(parts)
        at = content_positions(contents, table["content"])
        here = at >= 0
        x[here], y[here] = (table[name].to_numpy().astype(np.float32)[at[here]] for name in ("x", "y"))
    return Places(x, y)


def inside(places: Places, area: InProjection) -> pa.Table:
    """Return of every sample whether it lies within an area, NULL where it has no place: columns sample and inside."""
    known = np.flatnonzero(places.known)
    held = np.zeros(len(places.x), dtype=bool)
    held[known] = within(places.x[known].astype(np.float64), places.y[known].astype(np.float64), area)
    return pa.table(
        {"sample": pa.array(np.arange(len(held))), "inside": pa.array(held, pa.bool_(), mask=~places.known)}
    )


def within(x: NDArray[np.float64], y: NDArray[np.float64], area: InProjection) -> NDArray[np.bool_]:
    """Tell which points lie within an area, by the even-odd rule: a ray to the right crosses an odd number of edges.

    Args:
        x: Across, (n,).
        y: Upwards, (n,).
        area: The polygon.
    """
    corners = np.asarray(area.polygon, np.float64)
    odd = np.zeros(len(x), dtype=bool)
    # Only what lies in the polygon's box can be within it: a lasso is small, and a run large.
    near = np.flatnonzero(
        (x >= corners[:, 0].min()) & (x <= corners[:, 0].max())
        & (y >= corners[:, 1].min()) & (y <= corners[:, 1].max())
    )  # fmt: skip
    px, py = x[near], y[near]
    crossed = np.zeros(len(near), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        spans = (y0 > py) != (y1 > py)
        crossed ^= spans & (px < x0 + (py - y0) / (y1 - y0) * (x1 - x0))
    odd[near] = crossed
    return odd
