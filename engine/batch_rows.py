"""Rows of a batch: predictions, thumbnails, measured maps and embeddings, as the cache stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache.schema import PROJECTION_SIZE, THUMBNAIL_COLUMNS, arrow_schema, embedding_columns, table_of_method
from engine.attribution_rows import Chosen, Objects, Prepared, attribution_tables, floats
from engine.ledger import EMBEDDINGS, Ledger

if TYPE_CHECKING:
    from engine.attribution.registry import MethodRequest
    from engine.worker import Explained

FLOAT16_MAX = 65_504.0


@dataclass(frozen=True)
class Rows:
    """What a batch came to.

    Attributes:
        predictions: Columns of `samples` that the model and the image decide, one row for each of `indices`.
        indices: Records that the predictions belong to.
        keyed: Rows of the tables keyed by content, with the key of the parameters they were computed with.
        losses: Cross-entropy of the true class for records whose content was known, where they have a label.
        failed: Records whose scores are not finite.
        degenerate: Maps without positive mass, by method.
    """

    predictions: dict[str, pa.Array]
    indices: list[int]
    keyed: dict[str, tuple[pa.Table, str]]
    losses: dict[int, float]
    failed: list[int]
    degenerate: dict[str, int]


@dataclass(frozen=True)
class Recording:
    """What is recorded of a batch, and how.

    Attributes:
        requests: Methods with their parameters.
        default_method: Method whose map weighs the attended features.
        keys: By method, and for embeddings, the key of their parameters.
        statistics: Names of the statistics that go with every map.
        objects: How the dataset says where objects are, None where it does not.
    """

    requests: Sequence[MethodRequest]
    default_method: str
    keys: dict[str, str]
    statistics: Sequence[str]
    objects: Objects | None


def batch_rows(explained: Explained, recording: Recording, ledger: Ledger) -> Rows:
    """Measure what was found about a batch.

    Args:
        explained: The batch, its predictions and its maps.
        recording: What is recorded of it.
        ledger: What the run holds already; it is not written again.
    """
    batch, log_probabilities = explained.batch, explained.log_probabilities
    finite = explained.finite
    rows = np.flatnonzero(finite)
    keyed: dict[str, tuple[pa.Table, str]] = {}
    degenerate: dict[str, int] = {}
    chosen = _attributions(explained, rows, recording, ledger)
    for method, table in attribution_tables(chosen, recording.statistics, recording.objects).items():
        keyed[table_of_method(method)] = (table, recording.keys[method])
        degenerate[method] = pc.sum(table["degenerate"]).as_py() or 0
    keyed[EMBEDDINGS] = (_embeddings(explained, rows, recording, ledger), recording.keys[EMBEDDINGS])
    new = [i for i in rows.tolist() if batch[i].new]
    keyed["thumbnails"] = (_thumbnails([batch[i] for i in new]), "")
    return Rows(
        _predictions([batch[i] for i in new], log_probabilities[new], explained.order[new]),
        [batch[i].index for i in new],
        keyed,
        {
            p.index: float(-log_probabilities[i, p.label])
            for i, p in enumerate(batch)
            if finite[i] and not p.new and p.label is not None
        },
        [p.index for p, valid in zip(batch, finite, strict=True) if not valid],
        degenerate,
    )


def _attributions(
    explained: Explained, rows: NDArray[np.intp], recording: Recording, ledger: Ledger
) -> list[Chosen]:
    """Return, for every method, the maps of a batch that are to be written."""
    import torch

    batch, asked, maps = explained.batch, explained.asked, explained.maps
    found = []
    for request in recording.requests:
        if request.name not in maps:
            continue
        written = [
            (i, t, target)
            for i in rows.tolist()
            for t, target in enumerate(asked[i])
            if not ledger.holds(request.name, batch[i].content, target)
        ]
        of = maps[request.name]
        samples, columns = np.array([(i, t) for i, t, _ in written], np.int64).reshape(-1, 2).T
        device = of.maps.device
        chosen = of.maps[torch.from_numpy(samples).to(device), torch.from_numpy(columns).to(device)]
        found.append(
            Chosen(
                request,
                [batch[i] for i, _, _ in written],
                [target for *_, target in written],
                chosen,
                {name: values[samples, columns] for name, values in of.statistics.items()},
                {name: [values[i][t] for i, t, _ in written] for name, values in of.extras.items()},
            )
        )
    return found


def _embeddings(
    explained: Explained, rows: NDArray[np.intp], recording: Recording, ledger: Ledger
) -> pa.Table:
    """Return the embeddings of those samples that have none yet."""
    from engine.attribution.activation import attended_features
    from engine.transfers import to_host

    batch, result = explained.batch, explained.result
    wanted = [i for i in rows.tolist() if not ledger.holds(EMBEDDINGS, batch[i].content, -1)]
    features = [result.penultimate[wanted].float()]
    if result.activations is not None and wanted:
        of_prediction = explained.maps[recording.default_method].maps[:, 0]
        features.append(attended_features(result.activations, of_prediction)[wanted])
    penultimate, *attending = (one.numpy() for one in to_host(features))
    width = 1 if result.activations is None else result.activations.shape[1]
    attended = attending[0] if attending else np.full((len(wanted), width), np.nan, np.float32)
    valid: NDArray[np.bool_] = np.asarray(np.isfinite(attended).all(axis=1))
    schema = arrow_schema(embedding_columns(penultimate.shape[1], attended.shape[1]))
    return pa.Table.from_arrays(
        [
            pa.array([batch[i].content for i in wanted], pa.string()),
            _vectors(penultimate),
            _vectors(attended, valid),
            _vectors(_project(penultimate)),
            _vectors(_project(np.nan_to_num(attended)), valid),
        ],
        schema=schema,
    )


def _predictions(
    batch: Sequence[Prepared], log_probabilities: NDArray[np.float64], order: NDArray[np.intp]
) -> dict[str, pa.Array]:
    """Return the columns of `samples` that the model and the image decide; loss and correct come with the label."""
    count = log_probabilities.shape[1]
    probabilities = np.exp(log_probabilities)
    top = np.take_along_axis(probabilities, order, axis=1)
    runner_up = top[:, 1] if count > 1 else np.zeros(len(top))
    spread = -np.sum(probabilities * np.where(probabilities > 0, log_probabilities, 0), axis=1) / np.log(
        max(count, 2)
    )
    labels = [p.label for p in batch]
    loss = [None if label is None else -log_probabilities[i, label] for i, label in enumerate(labels)]
    columns: dict[str, pa.Array] = {
        "content": pa.array([p.content for p in batch], pa.string()),
        "pred": pa.array(order[:, 0], pa.int32()),
        "correct": pa.array(
            [None if label is None else bool(order[i, 0] == label) for i, label in enumerate(labels)],
            pa.bool_(),
        ),
        "confidence": pa.array(top[:, 0], pa.float32()),
        "margin": pa.array(top[:, 0] - runner_up, pa.float32()),
        "entropy": pa.array(np.clip(spread, 0, 1), pa.float32()),
        "loss": pa.array(loss, pa.float32()),
        "top_classes": pa.array(list(order), pa.list_(pa.int32())),
        "top_probabilities": pa.array(list(top.astype(np.float32)), pa.list_(pa.float32())),
        "width": pa.array([p.view.width for p in batch], pa.int32()),
        "height": pa.array([p.view.height for p in batch], pa.int32()),
    }
    for at, name in enumerate(("crop_x0", "crop_y0", "crop_x1", "crop_y1")):
        columns[name] = pa.array([p.view.crop[at] for p in batch], pa.float32())
    columns["mask"] = pa.array(
        [None if p.mask is None else np.packbits(p.mask).tobytes() for p in batch], pa.binary()
    )
    columns["boxes"] = pa.array(
        [None if p.boxes is None else p.boxes.ravel() for p in batch], pa.list_(pa.float32())
    )
    for name in batch[0].statistics if batch else ():
        columns[name] = floats(np.array([p.statistics[name] for p in batch]))
    return columns


def _thumbnails(batch: Sequence[Prepared]) -> pa.Table:
    arrays = [
        pa.array([p.content for p in batch], pa.string()),
        pa.array([p.thumbnail for p in batch], pa.binary()),
    ]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(THUMBNAIL_COLUMNS))


@lru_cache(maxsize=4)
def _projection(features: int) -> NDArray[np.float32]:
    """Return the fixed Gaussian matrix (features, PROJECTION_SIZE) of the Johnson–Lindenstrauss projection."""
    matrix = np.random.default_rng(features).standard_normal((features, PROJECTION_SIZE))
    scaled: NDArray[np.float32] = (matrix / np.sqrt(PROJECTION_SIZE)).astype(np.float32)
    return scaled


def _project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return random projections (n, PROJECTION_SIZE) of vectors brought to unit length; zero stays zero."""
    import torch

    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = torch.from_numpy(vectors / np.where(length > 0, length, 1))
    # NumPy's own threads would fight the readers' for the cores: 16 ms instead of a tenth of one.
    projected: NDArray[np.float32] = (units @ torch.from_numpy(_projection(vectors.shape[1]))).numpy()
    return projected


def _vectors(values: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return rows as fixed-size lists of float16, NULL where not valid."""
    flat = np.clip(np.nan_to_num(values), -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    mask = None if valid is None else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1], mask=mask)
