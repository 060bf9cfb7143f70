"""2-D maps of features: images that the model sees alike, or attends to alike, lie close together.

UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) on unit vectors, started from the principal components (Kobak and
Linderman 2021), always with the same seed: the same run gives the same map. It is fitted to a fixed random choice where
there are many images, and the others are placed by it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.errors import ConfigError, RunDamagedError
from cache.locations import Url
from cache.map_areas import FEATURES, Features
from cache.projections import append_projection, projection_version
from cache.reading import reading_errors
from cache.run import Run
from cache.schema import PROJECTIONS
from cache.writer import RunWriter

FITTED = 20_000
"""Images that a map is fitted to; the others are placed by it."""
BLOCK = 8_000
"""Images placed at a time."""
NEIGHBOURS = 15
MIN_DISTANCE = 0.1
SEED = 0
FEW = 10
"""Images below which there are no neighbourhoods to keep: their principal components are the map."""
MARGIN = 0.02
"""Free edge of a map, of its side."""
EMBEDDINGS = "embeddings"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Projected:
    """One map that was made, or was there already.

    Attributes:
        features: What it is made of.
        version: Its version.
        placed: Images on it.
        unplaced: Images of the run without these features.
        reused: Whether it was there already.
    """

    features: Features
    version: str
    placed: int
    unplaced: int
    reused: bool


def project(
    path: str | os.PathLike[str] | Url, features: Sequence[Features], progress: Progress | None = None
) -> list[Projected]:
    """Make the maps of a run that it does not hold yet, and publish each.

    Args:
        path: The run's directory.
        features: Which: ``penultimate``, ``attended``.
        progress: Called with the images placed, the images in all, and what is being done.

    Raises:
        ConfigError: There are no such features, or none in this run.
        RunNotFoundError: There is no run.
        RunBusyError: Another process is writing it.
        RunDamagedError: A part is missing or holds other bytes.
        RunStorageError: The disk refuses.
    """
    for name in features:
        if name not in FEATURES:
            raise ConfigError(f"--features {name!r} is not possible: choose {' or '.join(FEATURES)}.")
    with RunWriter(path) as writer:
        if any(part.startswith(f"{EMBEDDINGS}/") for part in writer.damaged):
            raise RunDamagedError(
                f"Features of the run {path} are missing or hold other bytes: run the same `explain` command again to "
                "compute them anew."
            )
        return [_project(writer, name, progress or _quiet) for name in features]


def available(path: str | os.PathLike[str] | Url) -> list[Features]:
    """Return the features that a run has any of."""
    run = Run.open(path)
    return [name for name in FEATURES if _contents(run, name)]


def _project(writer: RunWriter, features: Features, progress: Progress) -> Projected:
    run = Run.open(writer.path)
    progress(0, 0, f"Reading the features of {FEATURES[features]}")
    places = _contents(run, features)
    if not places:
        raise ConfigError(
            f"The run {run.path} holds no {features} features: its maps are empty, or the network has no layer with "
            "positions. Try the other features."
        )
    shown = _shown(run)
    contents = sorted(content for content in places if content in shown)
    keys = sorted({part.key for part in run.manifest.parts.get(EMBEDDINGS, [])})
    settings = f"umap-learn {installed('umap-learn')} {FITTED} {NEIGHBOURS} {MIN_DISTANCE} {SEED}"
    version = projection_version(features, [settings, *keys, *contents])
    held = [part for part in writer.manifest.parts.get(PROJECTIONS, []) if part.key == version]
    made = Projected(features, version, len(contents), len(shown) - len(contents), True)
    if held and sum(part.rows for part in held) == len(contents):
        return made
    # Content keys are as good as dice: the first ones are a random choice that is always the same.
    fitted = contents[:FITTED]
    progress(0, len(contents), f"Arranging {len(fitted):,} {FEATURES[features]}")
    mapper = _Mapper(_vectors(run, features, places, fitted))
    xy = [mapper.fitted]
    for first in range(FITTED, len(contents), BLOCK):
        progress(first, len(contents), f"Placing the other {FEATURES[features]}")
        xy.append(mapper.place(_vectors(run, features, places, contents[first : first + BLOCK])))
    append_projection(writer, version, contents, framed(np.concatenate(xy)))
    writer.publish(drop=[(PROJECTIONS, part.name) for part in held])
    return Projected(features, version, len(contents), made.unplaced, False)


class _Mapper:
    """UMAP fitted to some vectors; few are shown by their principal components."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._umap: Any = None
        if len(vectors) < FEW:
            self.fitted = _components(vectors)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that are not there, and of compiled code
            import umap

            self._umap = umap.UMAP(
                n_neighbors=min(NEIGHBOURS, len(vectors) - 1), min_dist=MIN_DISTANCE, init="pca",
                random_state=SEED, transform_seed=SEED, n_jobs=1,
            )  # fmt: skip
            self.fitted = np.asarray(self._umap.fit_transform(vectors), np.float32)

    def place(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where further vectors lie, (n, 2)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            placed: NDArray[np.float32] = np.asarray(self._umap.transform(vectors), np.float32)
            return placed


def _components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first two principal components, (n, 2); zeros where there are fewer."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(vectors), 2))
    kept = min(2, len(s))
    found[:, :kept] = (u * s)[:, :kept]
    return found.astype(np.float32)


def framed(xy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring places between 0 and 1, with one scale for both directions so that distances stay comparable.

    Args:
        xy: Finite places, (n, 2), n ≥ 1.
    """
    low, high = xy.min(axis=0).astype(np.float64), xy.max(axis=0).astype(np.float64)
    side = float((high - low).max()) or 1.0
    inner = 1 - 2 * MARGIN
    placed = 0.5 + (xy - (low + high) / 2) / side * inner
    return np.asarray(np.clip(placed, 0.0, 1.0), np.float32)


def _shown(run: Run) -> set[str]:
    """Return the content keys of the run's samples: features of images that went stay a while."""
    with reading_errors(run):
        return {
            content
            for path in run.part_paths("samples")
            for content in pq.read_table(path, columns=["content"])["content"].to_pylist()
        }


def _contents(run: Run, features: Features) -> dict[str, tuple[int, int]]:
    """Return the part and the row of every image that has the features."""
    found: dict[str, tuple[int, int]] = {}
    with reading_errors(run):
        for part, path in enumerate(run.part_paths(EMBEDDINGS)):
            table = pq.read_table(path, columns=["content", f"{features}_projection"])
            valid = table[f"{features}_projection"].combine_chunks().is_valid().to_pylist()
            for row, (content, here) in enumerate(zip(table["content"].to_pylist(), valid, strict=True)):
                if here:
                    found[content] = (part, row)
    return found


def _vectors(
    run: Run, features: Features, places: dict[str, tuple[int, int]], contents: Sequence[str]
) -> NDArray[np.float32]:
    """Return the features of images as unit vectors, (n, d), reading one part at a time."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for at, content in enumerate(contents):
        part, row = places[content]
        wanted.setdefault(part, []).append((row, at))
    paths = run.part_paths(EMBEDDINGS)
    vectors: NDArray[np.float32] | None = None
    with reading_errors(run):
        for part, rows in wanted.items():
            column = pq.read_table(paths[part], columns=[features])[features]
            taken = column.take(pa.array([row for row, _ in rows])).combine_chunks()
            size = taken.type.list_size
            values = taken.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, size)
            if vectors is None:
                vectors = np.zeros((len(contents), size), np.float32)
            vectors[[at for _, at in rows]] = values
    assert vectors is not None
    vectors = np.nan_to_num(vectors, copy=False, posinf=0.0, neginf=0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def _quiet(done: int, total: int, what: str) -> None:
    """Report to nobody."""
