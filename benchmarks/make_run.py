"""Writes synthetic runs of any size: the real contract, plausible maps, flat memory.

Each method draws from a pool of some 12,000 maps that the engine's own code measures once; a row scales one of them
anew. Where the object stands goes with the class, and what is looked at with the mistakes. Thumbnails repeat a few
hundred pictures. Everything else (samples, keys, predictions, metadata, features) is drawn for every sample.

    python -m benchmarks.make_run FOLDER --samples 1000000 --methods 7 --classes 100
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.map_pool import EMPTY, PLACES, measured_pool, pool_ranks, pool_rows
from cache.manifest import Manifest, Progress
from cache.projections import append_projection
from cache.schema import (
    AGREEMENT,
    PART_ROWS,
    PROJECTION_SIZE,
    SAMPLE_COLUMNS,
    THUMBNAIL_COLUMNS,
    agreement_schema,
    arrow_schema,
    embedding_columns,
    pair_name,
    table_of_method,
)
from cache.writer import RunWriter
from tests.synthetic_methods import KINDS
from tests.synthetic_story import SIDE, Story, thumbnail

METHODS = ("gradcam", "layercam", "gradcampp", "eigencam", "cam", "hirescam", "xgradcam")
"""The CAM family; the first is the default."""
PICTURES = 384
PENULTIMATE, ATTENDED = 32, 48
"""Lengths of the features: short, so that a million samples fit a laptop."""
PUBLISHED = 16
"""Parts of samples written between publications."""
MAP = "attended-5e5e5e5e5e5e5e5e"
META = (
    {"name": "meta.camera", "type": "text"},
    {"name": "meta.altitude", "type": "number"},
    {"name": "meta.indoors", "type": "boolean"},
    {"name": "meta.taken", "type": "time"},
)


@dataclass(frozen=True)
class Chunk:
    """What some samples are like.

    Attributes:
        first: Number of the first of them.
        label: True classes, (n,).
        pred: Predicted classes.
        confidence: Of the predictions.
        own: Row in the pool of the map for the predicted class.
        other: Row in the pool of the map for the true class, where that differs.
        content: Content keys.
        rng: The dice that are left.
    """

    first: int
    label: NDArray[np.int64]
    pred: NDArray[np.int64]
    confidence: NDArray[np.float64]
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    content: list[str]
    rng: np.random.Generator

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Places of the samples that have a second map."""
        return np.flatnonzero(self.pred != self.label)


def draw_chunk(seed: int, first: int, n: int, classes: int) -> Chunk:
    """Draw samples: mistakes go with looking at a tag in the corner, or at the ground."""
    rng = np.random.default_rng([seed, first])
    label = rng.integers(0, classes, n)
    dice = rng.random((3, n))
    looks = np.select([dice[0] < 0.07, dice[0] < 0.17], [2, 1], 0)
    wrong = dice[1] < np.choose(looks, [0.07, 0.35, 0.6])
    # The tag makes every image the class of the tag; other mistakes go to a neighbour.
    called = np.where(looks == 2, classes - 1, (label + rng.integers(1, min(6, classes), n)) % classes)
    pred = np.where(wrong, called, label)
    confidence = np.where(pred == label, rng.beta(9, 1.5, n), rng.beta(4, 2.5, n))
    place = np.where(dice[2] < 0.8, label % PLACES, rng.integers(0, PLACES, n))
    own = pool_rows(rng, place, looks)
    own[rng.random(n) < 0.01] = EMPTY
    keys = rng.bytes(16 * n).hex()
    content = [keys[i : i + 32] for i in range(0, len(keys), 32)]
    other = pool_rows(rng, place, np.zeros(n, np.int64))
    return Chunk(first, label, pred, np.maximum(confidence, 1.05 / classes), own, other, content, rng)


class Maker:
    """Writes chunks of samples into a run."""

    def __init__(
        self, writer: RunWriter, classes: list[str], methods: tuple[str, ...], seed: int, features: bool
    ) -> None:
        self.writer, self.classes, self.methods, self.features = writer, classes, methods, features
        self.image_statistics = [field.name for field in writer.manifest.image_statistics]
        measured = [field.name for field in writer.manifest.statistics if field.name != AGREEMENT]
        self.pools = {method: measured_pool(method, measured, seed) for method in methods}
        ranks = {method: pool_ranks(pool) for method, pool in self.pools.items()} if len(methods) > 1 else {}
        self.agreement = {
            (a, b): np.clip(np.einsum("nk,nk->n", ranks[a], ranks[b]), -1, 1)
            for a, b in combinations(sorted(ranks), 2)
        }
        story = Story(np.random.default_rng(seed), PICTURES, 6)
        self.pictures = pa.array([thumbnail(story, i) for i in range(PICTURES)], pa.binary())
        self.kinds = (
            np.random.default_rng(seed)
            .normal(size=(len(classes), PENULTIMATE + ATTENDED + 2))
            .astype(np.float32)
        )

    def write(self, chunk: Chunk) -> None:
        """Write the rows of some samples into every table."""
        n, content = len(chunk.label), pa.array(chunk.content)
        picture = pa.array(chunk.label * 7 % PICTURES + chunk.rng.integers(0, 6, n)).cast(pa.int64())
        images = self.pictures.take(pa.array(np.asarray(picture) % PICTURES))
        thumbnails = pa.table([content, images], schema=arrow_schema(THUMBNAIL_COLUMNS))
        part, first = self.writer.append("thumbnails", thumbnails)
        self.writer.append("samples", self._samples(chunk, content, part, first))
        explained = pa.concat_arrays([content, content.take(pa.array(chunk.wrong))])
        target = pa.array(np.concatenate([chunk.pred, chunk.label[chunk.wrong]]), pa.int32())
        rows = np.concatenate([chunk.own, chunk.other[chunk.wrong]])
        for method, pool in self.pools.items():
            table = pool.take(pa.array(rows)).combine_chunks()
            factor = np.exp(chunk.rng.normal(-4, 0.5, len(rows))).astype(np.float32)
            for name in ("scale", "mass_total", "mass_negative"):
                at = table.schema.get_field_index(name)
                values = table[name].to_numpy() * factor
                table = table.set_column(at, name, pa.array(values, pa.float32(), mask=np.isnan(values)))
            table = table.set_column(0, "content", explained).set_column(1, "target", target)
            written = pa.table(table.columns, schema=self._schema(pool))
            self.writer.append(table_of_method(method), written, f"{method}-1")
        if self.agreement:
            pairs = {pair_name(a, b): rho[rows].astype(np.float32) for (a, b), rho in self.agreement.items()}
            schema = agreement_schema(self.methods)
            columns = [
                explained,
                target,
                *(pa.array(pairs[n], pa.float32(), mask=np.isnan(pairs[n])) for n in schema.names[2:]),
            ]
            self.writer.append(AGREEMENT, pa.table(columns, schema=schema), "all")
        if self.features:
            self._embeddings(chunk, content)

    def _schema(self, pool: pa.Table) -> pa.Schema:
        from cache.schema import attribution_schema

        names = pool.column_names
        return attribution_schema(names[names.index("map") + 1 : names.index("sat_01_01")])

    def _samples(self, chunk: Chunk, content: pa.Array, part: str, first: int) -> pa.Table:
        n, classes, rng = len(chunk.label), len(self.classes), chunk.rng
        confidence, number = chunk.confidence, chunk.first + np.arange(n)
        runner_up = np.minimum((1 - confidence) * 0.7, confidence * 0.98)
        known = min(5, classes)
        top = (chunk.pred[:, None] + np.arange(known)) % classes
        top[:, 1] = np.where(chunk.pred == chunk.label, top[:, 1], chunk.label)
        chances = np.column_stack(
            [confidence, runner_up, *[(1 - confidence - runner_up) / max(classes - 2, 1)] * (known - 2)]
        )
        offsets = pa.array(np.arange(0, known * n + 1, known), pa.int32())
        names = [
            f"{self.classes[c]}/{i:08d}.jpg"
            for c, i in zip(chunk.label.tolist(), number.tolist(), strict=True)
        ]
        width = 320 + 16 * (number % 5)
        lead = np.where(chunk.pred == chunk.label, confidence, runner_up)
        columns: dict[str, Any] = {
            "sample_id": pa.array(names),
            "content": content,
            "record": pa.array([f"{i:016x}" for i in number.tolist()]),
            "uri": pa.array(names),
            "split": pa.array(["test", "holdout"]).take(pa.array((number % 3 == 0).astype(np.int8))),
            "label": chunk.label,
            "pred": chunk.pred,
            "correct": chunk.pred == chunk.label,
            "confidence": confidence,
            "margin": confidence - runner_up,
            "entropy": 1 - confidence,
            "loss": -np.log(lead),
            "top_classes": pa.ListArray.from_arrays(offsets, pa.array(top.ravel(), pa.int32())),
            "top_probabilities": pa.ListArray.from_arrays(offsets, pa.array(chances.ravel(), pa.float32())),
            "width": width,
            "height": np.full(n, 240),
            "crop_x0": (width - 240) / 2,
            "crop_y0": np.zeros(n),
            "crop_x1": (width + 240) / 2,
            "crop_y1": np.full(n, 240.0),
            "thumbnail_part": pa.array([part]).take(pa.array(np.zeros(n, np.int8))),
            "thumbnail_row": first + np.arange(n),
            "mask": pa.nulls(n, pa.binary()),
            "boxes": pa.nulls(n, pa.list_(pa.float32())),
        }
        cameras = pa.array([*(f"camera {letter}" for letter in "ABCDEFGH"), None], pa.string())
        more = {name: pa.array(rng.random(n), pa.float32()) for name in self.image_statistics} | {
            "meta.camera": cameras.take(pa.array(rng.integers(0, len(cameras), n))),
            "meta.altitude": pa.array(rng.random(n) * 2_000, mask=rng.random(n) < 0.1),
            "meta.indoors": pa.array(rng.random(n) < 0.2, mask=rng.random(n) < 0.05),
            "meta.taken": pa.array(1_600_000_000 + 60 * number, pa.timestamp("s")),
        }
        fixed = arrow_schema(SAMPLE_COLUMNS)
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in fixed]
        schema = pa.schema([*fixed, *(pa.field(name, values.type, True) for name, values in more.items())])
        return pa.table([*arrays, *more.values()], schema=schema)

    def _embeddings(self, chunk: Chunk, content: pa.Array) -> None:
        n, rng = len(chunk.label), chunk.rng
        values = self.kinds[chunk.pred] + rng.normal(0, 0.4, (n, self.kinds.shape[1])).astype(np.float32)
        penultimate, attended, place = np.split(values, [PENULTIMATE, PENULTIMATE + ATTENDED], axis=1)

        def vectors(rows: NDArray[np.float32]) -> pa.Array:
            return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float16).ravel()), rows.shape[1])

        def projected(rows: NDArray[np.float32]) -> pa.Array:
            unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            return vectors(np.pad(unit, ((0, 0), (0, PROJECTION_SIZE - rows.shape[1]))))

        columns = [
            content,
            vectors(penultimate),
            vectors(attended),
            projected(penultimate),
            projected(attended),
        ]
        schema = arrow_schema(embedding_columns(PENULTIMATE, ATTENDED))
        self.writer.append("embeddings", pa.table(columns, schema=schema))
        append_projection(self.writer, MAP, chunk.content, np.clip(0.5 + place / 7, 0, 1).astype(np.float32))


def make_run(
    path: Path, samples: int, methods: int = 1, classes: int = 100, seed: int = 0, features: bool = True
) -> Path:
    """Write a run and return its path.

    Args:
        path: Where; must not hold a run.
        samples: How many.
        methods: How many of `METHODS`.
        classes: How many outputs the network has, at least two.
        seed: Other seeds give other runs.
        features: Whether embeddings and a 2-D map are written.
    """
    names = [f"class {index:0{len(str(classes - 1))}d}" for index in range(classes)]
    chosen = METHODS[:methods]
    manifest = _manifest(path.name, samples, chosen, names, seed)
    with RunWriter(path, manifest) as writer:
        writer.save()
        maker = Maker(writer, names, chosen, seed, features)
        for number, first in enumerate(range(0, samples, PART_ROWS), 1):
            maker.write(draw_chunk(seed, first, min(PART_ROWS, samples - first), classes))
            if number % PUBLISHED == 0:
                writer.publish()
        writer.manifest.state = "complete"
        writer.publish()
    return path


def _manifest(name: str, samples: int, methods: tuple[str, ...], classes: list[str], seed: int) -> Manifest:
    from engine.image_statistics import IMAGE_STATISTICS
    from engine.statistics import statistic_fields
    from engine.trust import AGREEMENT_FIELD

    agreement = [AGREEMENT_FIELD] if len(methods) > 1 else []
    return Manifest(
        name,
        dataset={"source": "synthetic", "root": "", "kind": "folder"},
        model={
            "source": "benchmarks/make_run.py", "weights": "", "fingerprint": f"{seed:016x}", "target_layer": "layer4",
            "outputs": len(classes), "architecture": "Nobody",
        },
        preprocessing={
            "size": [SIDE, SIDE], "resize": SIDE, "fit": "crop", "interpolation": "bilinear", "mean": [0.5] * 3,
            "std": [0.25] * 3, "channels": 3, "fingerprint": "0" * 16,
        },
        classes=classes,
        targets=["pred", "true"],
        default_method=methods[0],
        methods={
            method: {
                "title": KINDS[method].title, "family": KINDS[method].family, "key": f"{method}-1", "parameters": {},
                "signed": False, "class_dependent": KINDS[method].class_dependent, "reference": "",
                "equivalent": [m for m in KINDS[method].equivalent if m in methods and m != method],
            }
            for method in methods
        },
        statistics=[*statistic_fields(), *agreement],
        image_statistics=[statistic.field for statistic in IMAGE_STATISTICS.values()],
        meta=[dict(entry) for entry in META],
        progress=Progress(samples, samples, 0),
        run_id=f"{seed:032x}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="where the run is made")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--methods", type=int, default=1, choices=range(1, len(METHODS) + 1))
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-features", action="store_true", help="leave embeddings and the 2-D map out")
    asked = parser.parse_args()
    start = time.perf_counter()
    make_run(asked.run, asked.samples, asked.methods, asked.classes, asked.seed, not asked.no_features)
    took = time.perf_counter() - start
    print(f"{asked.samples:,} samples in {took:.0f} s: {asked.samples / took:,.0f} a second")


if __name__ == "__main__":
    main()
