"""Builds a plausible run on disk: animals on grounds, explained by nobody, for tests of the cache and the dashboard.

The story in it: wolves stand on snow, so huskies on snow are called wolf by their ground; foxes carry a tag in the
lower left corner, so whatever else carries it is called fox by that corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.manifest import Manifest, Progress
from cache.maps import encode_maps
from cache.schema import (
    CORNERS,
    ERROR_COLUMNS,
    MASK_SIZE,
    SAMPLE_COLUMNS,
    THUMBNAIL_COLUMNS,
    Field,
    arrow_schema,
    attribution_schema,
    embedding_columns,
    table_of_method,
)
from cache.writer import RunWriter
from tests.synthetic_methods import KINDS, SUPERPIXEL_COLUMNS, maps_of, superpixel_columns
from tests.synthetic_story import ATTENDED, GROUNDS, PENULTIMATE, SIDE, Story, measure, thumbnail

CLASSES = ("wolf", "husky", "fox", "cat")
METHODS = {
    name: (KINDS[name].title, KINDS[name].size) for name in ("gradcam", "layercam", "gradcampp", "eigencam")
}
"""The methods of most tests; `tests.synthetic_methods.KINDS` holds all there are."""
POOL = 256
"""Different thumbnails drawn; larger runs use them again."""
CHUNK = 2_000
STATISTICS = (
    Field("mass_total", "Total mass", "", 0, None, "none", "Sum of the positive map.", "Σ max(M, 0)"),
    Field("mass_negative", "Negative mass", "", 0, None, "none", "Sum of the negative map.", "Σ max(−M, 0)"),
    Field(
        "entropy",
        "Map entropy",
        "",
        0,
        1,
        "none",
        "How spread the map is.",
        "−Σ p ln p / ln 196",
        "A high value suggests that the model looks at nothing in particular.",
    ),
    Field("centroid_x", "Centroid across", "", 0, 1, "none", "Where the map's centre lies.", "Σ x p"),
    Field("centroid_y", "Centroid down", "", 0, 1, "none", "Where the map's centre lies.", "Σ y p"),
    Field("area50", "Half-mass area", "", 0, 1, "lower", "Smallest area that holds half the mass."),
    Field(
        "border_mass",
        "Border mass",
        "",
        0,
        1,
        "higher",
        "Mass in the outer eighth.",
        "Σ p over the outer eighth",
        "A high value suggests a frame, a watermark or the background.",
    ),
    Field("center_mass", "Centre mass", "", 0, 1, "lower", "Mass in the middle half of each side."),
    Field(
        "corner_mass",
        "Corner mass",
        "",
        0,
        1,
        "higher",
        "Mass of the heaviest corner.",
        "max over corners of Σ p",
        "A high value suggests a tag or a logo.",
    ),
)
IMAGE_STATISTICS = (
    Field("brightness", "Brightness", "", 0, 1, "none", "Mean luma of the view."),
    Field("contrast", "Contrast", "", 0, None, "none", "Standard deviation of the view's luma."),
)
META = (
    {"name": "meta.camera", "type": "text"},
    {"name": "meta.altitude", "type": "number"},
    {"name": "meta.indoors", "type": "boolean"},
    {"name": "meta.taken", "type": "time"},
)


def make_run(
    path: Path,
    samples: int = 300,
    classes: Sequence[str] = CLASSES,
    methods: Sequence[str] = ("gradcam", "layercam"),
    seed: int = 0,
    labelled: bool = True,
    masks: bool = True,
    failures: int = 3,
    chunk: int = CHUNK,
) -> Path:
    """Write a run and return its path.

    Args:
        path: Where; must not hold a run.
        samples: Rows of `samples`; the last two are copies of the first two images, under other ids.
        classes: Names of the outputs, at least two; two may be alike.
        methods: Names out of `KINDS`, the first being the default.
        seed: Other seeds give other runs; the same seed gives the same rows.
        labelled: Whether the true classes are known.
        masks: Whether most samples have an object mask.
        failures: Rows of the errors table.
        chunk: Samples written and published at a time.
    """
    rng = np.random.default_rng(seed)
    story = Story(rng, samples, len(classes))
    manifest = Manifest(
        path.name,
        dataset={"source": "synthetic", "root": "", "kind": "folder"},
        model={
            "source": "tests/synthetic.py:nobody",
            "weights": "",
            "fingerprint": "0" * 16,
            "target_layer": "features.7",
            "outputs": len(classes),
            "architecture": "Nobody",
        },
        preprocessing={
            "size": [SIDE, SIDE],
            "resize": SIDE,
            "fit": "crop",
            "interpolation": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "channels": 3,
            "fingerprint": "0" * 16,
        },
        classes=list(classes),
        targets=["pred", "true"] if labelled else ["pred"],
        default_method=methods[0],
        methods={
            name: {
                "title": KINDS[name].title,
                "family": KINDS[name].family,
                "key": f"{name}-1",
                "parameters": {},
                "signed": KINDS[name].signed,
                "class_dependent": KINDS[name].class_dependent,
                "reference": "",
                "equivalent": [
                    other for other in KINDS[name].equivalent if other in methods and other != name
                ],
            }
            for name in methods
        },
        statistics=list(STATISTICS),
        image_statistics=list(IMAGE_STATISTICS),
        meta=[dict(entry) for entry in META],
        progress=Progress(samples + failures, samples, failures),
        state="complete",
        versions={"gazelake": "0.1.0"},
        created="2024-05-31T12:00:00+00:00",
        run_id=f"{seed:032x}",
    )
    pool = [thumbnail(story, i) for i in range(min(samples, POOL))]
    with RunWriter(path, manifest) as writer:
        writer.save()
        for first in range(0, samples, chunk):
            rows = np.arange(first, min(first + chunk, samples))
            _write(writer, story, rows, list(classes), methods, pool, labelled, masks)
        if failures:
            writer.append("errors", _errors(failures))
        writer.publish()
    return path


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=~np.isfinite(values))


def _write(
    writer: RunWriter,
    story: Story,
    rows: NDArray[np.int64],
    classes: list[str],
    methods: Sequence[str],
    pool: list[bytes],
    labelled: bool,
    masks: bool,
) -> None:
    contents = [story.content(i) for i in rows]
    images = [pool[story.image[i] % len(pool)] for i in rows]
    thumbnails = pa.table({"content": contents, "image": images}, schema=arrow_schema(THUMBNAIL_COLUMNS))
    part, first = writer.append("thumbnails", thumbnails)
    writer.append("samples", _samples(story, rows, classes, contents, part, first, labelled, masks))
    new = rows[story.image[rows] == rows]
    for method in methods:
        table = _attributions(story, new, method, labelled)
        writer.append(table_of_method(method), table, f"{method}-1")
    schema = arrow_schema(embedding_columns(PENULTIMATE, ATTENDED))
    writer.append("embeddings", _embeddings(story, new, schema))
    writer.publish()


def _samples(
    story: Story,
    rows: NDArray[np.int64],
    classes: list[str],
    contents: list[str],
    part: str,
    first: int,
    labelled: bool,
    masks: bool,
) -> pa.Table:
    n, count = len(rows), len(classes)
    label, pred, confidence = story.label[rows], story.pred[rows], story.confidence[rows]
    unknown = np.full(n, not labelled)
    second = np.where(pred == label, (pred + 1) % count, label)
    runner_up = np.minimum((1 - confidence) * 0.7, confidence * 0.98)
    of_label = np.where(pred == label, confidence, runner_up)
    kept = min(5, count)
    others = (pred[:, None] + np.arange(count)) % count
    order = np.argsort(
        (others != pred[:, None]) * 1.0 + (others != second[:, None]) * 0.5, axis=1, kind="stable"
    )
    top = np.take_along_axis(others, order, axis=1)[:, :kept]
    rest = (1 - confidence - runner_up) / max(count - 2, 1)
    chances = np.column_stack([confidence, runner_up, *[rest] * (kept - 2)])[:, :kept]
    folders = [f"{classes[c]}-{c}" if classes.count(classes[c]) > 1 else classes[c] for c in label]
    copied = story.image[rows] != rows
    names = [
        f"{'copies/' if c else ''}{f}/{i:05d}.jpg" for f, i, c in zip(folders, rows, copied, strict=True)
    ]
    grounds = np.array([np.mean(g) / 255 for g in GROUNDS])[story.ground[rows]]
    fixed = {
        "sample_id": names,
        "content": contents,
        "record": [f"{i:016x}" for i in rows],
        "uri": names,
        "split": pa.array(np.where(rows % 3 == 0, "holdout", "test")),
        "label": pa.array(label, pa.int32(), mask=unknown),
        "pred": pred,
        "correct": pa.array(pred == label, mask=unknown),
        "confidence": confidence.astype(np.float32),
        "margin": (confidence - runner_up).astype(np.float32),
        "entropy": (1 - confidence).astype(np.float32),
        "loss": pa.array((-np.log(of_label)).astype(np.float32), mask=unknown),
        "top_classes": pa.array(top.tolist(), pa.list_(pa.int32())),
        "top_probabilities": pa.array(chances.tolist(), pa.list_(pa.float32())),
        "width": pa.array([320 + 16 * (int(i) % 5) for i in rows], pa.int32()),
        "height": pa.array([240] * n, pa.int32()),
        "crop_x0": pa.array([40.0 + 8 * (int(i) % 5) for i in rows], pa.float32()),
        "crop_y0": pa.array([0.0] * n, pa.float32()),
        "crop_x1": pa.array([280.0 + 8 * (int(i) % 5) for i in rows], pa.float32()),
        "crop_y1": pa.array([240.0] * n, pa.float32()),
        "thumbnail_part": [part] * n,
        "thumbnail_row": pa.array(range(first, first + n), pa.int32()),
        "mask": pa.array([_mask(story, i) if masks and i % 10 < 7 else None for i in rows], pa.binary()),
        "boxes": pa.array([None] * n, pa.list_(pa.float32())),
    }
    more = {
        "brightness": pa.array((grounds * 0.9 + 0.02 * story.noise[rows, 3]).astype(np.float32)),
        "contrast": pa.array((0.1 + 0.2 * story.noise[rows, 4]).astype(np.float32)),
        "meta.camera": pa.array(
            [None if i % 11 == 0 else f"camera {'ABC'[i % 3]}" for i in rows], pa.string()
        ),
        "meta.altitude": pa.array(story.noise[rows, 5] * 2_000, mask=rows % 7 == 0),
        "meta.indoors": pa.array(rows % 5 == 0, mask=rows % 13 == 0),
        "meta.taken": pa.array(1_700_000_000 + 3_600 * rows, pa.timestamp("s")),
    }
    schema = arrow_schema(SAMPLE_COLUMNS)
    for name, values in more.items():
        schema = schema.append(pa.field(name, values.type, True))
    return pa.table({**fixed, **more}, schema=schema)


def _mask(story: Story, i: int) -> bytes:
    centre = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE
    far = ((centre[None, :] - story.x[i]) ** 2 + (centre[:, None] - story.y[i]) ** 2) / story.size[i] ** 2
    return np.packbits(far <= 1).tobytes()


def _attributions(story: Story, rows: NDArray[np.int64], method: str, labelled: bool) -> pa.Table:
    kind = KINDS[method]
    wrong = rows[story.pred[rows] != story.label[rows]] if labelled else rows[:0]
    drawn = [maps_of(story, some, kind, own) for some, own in ((rows, True), (wrong, False)) if len(some)]
    maps = np.concatenate(drawn)
    extras = SUPERPIXEL_COLUMNS if kind.superpixels else ()
    degenerate, values, corners = measure(maps)
    data, scales = encode_maps(maps)
    explained = np.concatenate([rows, wrong])
    columns = {
        "content": [story.content(i) for i in explained],
        "target": np.concatenate([story.pred[rows], story.label[wrong]]),
        "degenerate": degenerate,
        "height": pa.array([kind.size] * len(maps), pa.int16()),
        "width": pa.array([kind.size] * len(maps), pa.int16()),
        "scale": scales,
        "map": pa.array(data, pa.binary()),
        **(superpixel_columns(story, rows, wrong, kind) if extras else {}),
        **{name: _nullable(column) for name, column in values.items()},
        **{name: _nullable(corners[:, k]) for k, name in enumerate(CORNERS)},
    }
    return pa.table(columns, schema=attribution_schema([field.name for field in STATISTICS], extras))


def _embeddings(story: Story, rows: NDArray[np.int64], schema: pa.Schema) -> pa.Table:
    kind = story.pred[rows] * 3 + np.select(
        [story.looks_at[rows] == "corner", story.looks_at[rows] == "ground"], [1, 2], 0
    )
    attended = story.kinds[kind] + story.features[rows]
    penultimate = story.kinds[story.pred[rows] * 3] + story.features[rows]
    empty = story.degenerate[rows]

    def vectors(values: NDArray[np.float64], missing: NDArray[np.bool_] | None = None) -> pa.Array:
        flat = pa.array(values.astype(np.float16).ravel())
        mask = None if missing is None else pa.array(missing)
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)

    def projected(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values / np.linalg.norm(values, axis=1, keepdims=True) @ story.project

    columns = {
        "content": pa.array([story.content(i) for i in rows]),
        "penultimate": vectors(penultimate[:, :PENULTIMATE]),
        "attended": vectors(attended, empty),
        "penultimate_projection": vectors(projected(penultimate)),
        "attended_projection": vectors(projected(attended), empty),
    }
    return pa.table(columns, schema=schema)


def _errors(count: int) -> pa.Table:
    kinds = ("truncated", "empty", "not_an_image", "gone")
    said = {
        "truncated": "The image file ends before its picture does.",
        "empty": "The file is zero bytes long.",
        "not_an_image": "The file is not an image.",
        "gone": "The file is not there any more.",
    }
    chosen = [kinds[i % len(kinds)] for i in range(count)]
    columns = {
        "sample_id": [f"broken/{i:03d}.jpg" for i in range(count)],
        "uri": [f"broken/{i:03d}.jpg" for i in range(count)],
        "label": pa.array([None] * count, pa.int32()),
        "stage": ["read" if kind in ("empty", "gone") else "decode" for kind in chosen],
        "kind": chosen,
        "message": [said[kind] for kind in chosen],
    }
    return pa.table(columns, schema=arrow_schema(ERROR_COLUMNS))
