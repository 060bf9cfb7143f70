"""A worker: holds the model, takes prepared images in batches, returns rows for the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.maps import encode_maps
from cache.schema import (
    ATTRIBUTION_COLUMNS,
    CORNERS,
    MASK_SIZE,
    PROJECTION_SIZE,
    THUMBNAIL_COLUMNS,
    arrow_schema,
    attribution_schema,
    embedding_columns,
    table_of_method,
)
from engine.ledger import EMBEDDINGS, Ledger
from engine.preprocessing import View
from engine.targets import TOP_STORED, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.activation import ActivationExplainer, ActivationResult
    from engine.attribution.registry import MethodRequest
    from engine.models import LoadedModel

FLOAT16_MAX = 65_504.0


@dataclass(frozen=True)
class Prepared:
    """An image on its way to the model.

    Attributes:
        index: Position of its record in the dataset.
        content: Content key of its bytes.
        label: Index of its true class, None where unknown.
        view: What the model sees.
        thumbnail: WebP of the view; empty where the run has a row for the content.
        statistics: Image statistics by name; empty likewise.
        mask: Object mask over the view, bool (MASK_SIZE, MASK_SIZE), None where unknown.
        boxes: Object boxes over the view in fractions, float32 (n, 4), None where unknown.
        targets: Classes to explain besides the prediction, for a content that the run knows; None for a new one,
            whose classes depend on its prediction.
    """

    index: int
    content: str
    label: int | None
    view: View
    thumbnail: bytes
    statistics: dict[str, float]
    mask: NDArray[np.bool_] | None
    boxes: NDArray[np.float32] | None
    targets: list[int] | None

    @property
    def new(self) -> bool:
        """Whether the run has no row for the content yet."""
        return self.targets is None


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


class Worker:
    """Explains batches with one model; what it returns does not depend on how images were batched."""

    def __init__(
        self,
        model: LoadedModel,
        explainer: ActivationExplainer,
        requests: Sequence[MethodRequest],
        targets: Targets,
        default_method: str,
        keys: dict[str, str],
        statistics: Sequence[str],
        objects: bool,
    ) -> None:
        """Take over a model.

        Args:
            model: The loaded model.
            explainer: Explainer over its module.
            requests: Methods with their parameters.
            targets: Which classes to explain.
            default_method: Method whose map weighs the attended features.
            keys: By method, and for embeddings, the key of their parameters.
            statistics: Names of the statistics that go with every map.
            objects: Whether the dataset knows where objects are.
        """
        self.model = model
        self.explainer = explainer
        self.requests = tuple(requests)
        self.targets = targets
        self.default_method = default_method
        self.keys = keys
        self.statistics = tuple(statistics)
        self.objects = objects

    def explain(self, batch: Sequence[Prepared], ledger: Ledger) -> Rows:
        """Explain one batch; where the device has too little memory, half of it at a time.

        Args:
            batch: Images, each content once.
            ledger: What the run holds already; it is not written again.

        Raises:
            torch.OutOfMemoryError: Not even one image fits.
        """
        import torch

        try:
            return self._explain(batch, ledger)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return _joined(self.explain(batch[:half], ledger), self.explain(batch[half:], ledger))

    def _explain(self, batch: Sequence[Prepared], ledger: Ledger) -> Rows:
        import torch

        x = self.model.preprocessing.normalise(np.stack([p.view.pixels for p in batch]), self.model.device)
        asked: list[list[int]] = []

        def choose(scores: Tensor) -> Tensor:
            asked[:] = self._targets(batch, scores)
            width = max(len(targets) for targets in asked)
            return torch.tensor([[*targets, *[-1] * (width - len(targets))] for targets in asked])

        result = self.explainer.explain(x, choose, self.requests)
        log_probabilities = self.model.log_probabilities(result.logits).double().cpu().numpy()
        finite = np.isfinite(log_probabilities).all(axis=1)
        rows = np.flatnonzero(finite)
        keyed: dict[str, tuple[pa.Table, str]] = {}
        degenerate: dict[str, int] = {}
        for request in self.requests:
            table, empty = self._attributions(batch, rows, asked, request, result.maps[request.name], ledger)
            keyed[table_of_method(request.name)] = (table, self.keys[request.name])
            degenerate[request.name] = empty
        keyed[EMBEDDINGS] = (self._embeddings(batch, rows, result, ledger), self.keys[EMBEDDINGS])
        new = [i for i in rows.tolist() if batch[i].new]
        keyed["thumbnails"] = (_thumbnails([batch[i] for i in new]), "")
        return Rows(
            _predictions([batch[i] for i in new], log_probabilities[new]),
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

    def _targets(self, batch: Sequence[Prepared], scores: Tensor) -> list[list[int]]:
        """Return the classes to explain for each sample, its prediction first."""
        order: list[list[int]] = ranking(scores.double().cpu().numpy()).tolist()
        chosen = []
        for prepared, top in zip(batch, order, strict=True):
            wanted = self.targets.of(top, prepared.label) if prepared.targets is None else prepared.targets
            chosen.append(list(dict.fromkeys([top[0], *wanted])))
        return chosen

    def _attributions(
        self,
        batch: Sequence[Prepared],
        rows: NDArray[np.intp],
        asked: list[list[int]],
        request: MethodRequest,
        maps: Tensor,
        ledger: Ledger,
    ) -> tuple[pa.Table, int]:
        """Return one method's rows for a batch, and how many of its maps are degenerate."""
        import torch

        from engine.statistics import measure

        written = [
            (i, t, target)
            for i in rows.tolist()
            for t, target in enumerate(asked[i])
            if not ledger.holds(request.name, batch[i].content, target)
        ]
        schema = attribution_schema(self.statistics)
        if not written:
            return schema.empty_table(), 0
        samples, columns = [i for i, _, _ in written], [t for _, t, _ in written]
        chosen = maps[torch.tensor(samples, device=maps.device), torch.tensor(columns, device=maps.device)]
        mask = _masks([batch[i] for i in samples], chosen.device) if self.objects else None
        measures = measure(chosen, mask)
        values, scales = encode_maps(chosen.cpu().numpy())
        count, (height, width) = len(written), chosen.shape[1:]
        degenerate = measures.degenerate.cpu().numpy()
        fixed = {
            "content": pa.array([batch[i].content for i in samples], pa.string()),
            "target": pa.array([target for _, _, target in written], pa.int32()),
            "degenerate": pa.array(degenerate),
            "height": pa.array(np.full(count, height, np.int16)),
            "width": pa.array(np.full(count, width, np.int16)),
            "scale": pa.array(scales, pa.float32()),
            "map": pa.array(values, pa.binary()),
        }
        assert list(fixed) == [column.name for column in ATTRIBUTION_COLUMNS]
        statistics = [_floats(measures.columns[name].cpu().numpy()) for name in self.statistics]
        corners = measures.corners.float().cpu().numpy()
        grid = [_floats(corner) for corner in np.ascontiguousarray(corners.T)]
        assert len(grid) == len(CORNERS)
        table = pa.Table.from_arrays([*fixed.values(), *statistics, *grid], schema=schema)
        return table, int(degenerate.sum())

    def _embeddings(
        self, batch: Sequence[Prepared], rows: NDArray[np.intp], result: ActivationResult, ledger: Ledger
    ) -> pa.Table:
        """Return the embeddings of those samples that have none yet."""
        from engine.attribution.activation import attended_features

        wanted = [i for i in rows.tolist() if not ledger.holds(EMBEDDINGS, batch[i].content, -1)]
        penultimate = result.penultimate[wanted].float().cpu().numpy()
        maps = result.maps[self.default_method][:, 0]  # of the prediction
        attended = attended_features(result.activations, maps)[wanted].cpu().numpy()
        valid = np.isfinite(attended).all(axis=1)
        schema = arrow_schema(embedding_columns(penultimate.shape[1], attended.shape[1]))
        return pa.Table.from_arrays(
            [
                pa.array([batch[i].content for i in wanted], pa.string()),
                _vectors(penultimate),
                _vectors(attended, valid),
                _vectors(_project(penultimate)),
                _vectors(_project(attended), valid),
            ],
            schema=schema,
        )


def ranking(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the most probable classes of each row, at most TOP_STORED, ties in the order of the outputs."""
    order: NDArray[np.intp] = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")
    return order[:, :TOP_STORED]


def _predictions(batch: Sequence[Prepared], log_probabilities: NDArray[np.float64]) -> dict[str, pa.Array]:
    """Return the columns of `samples` that the model and the image decide; loss and correct come with the label."""
    count = log_probabilities.shape[1]
    order = ranking(log_probabilities)
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
        columns[name] = _floats(np.array([p.statistics[name] for p in batch]))
    return columns


def _thumbnails(batch: Sequence[Prepared]) -> pa.Table:
    arrays = [
        pa.array([p.content for p in batch], pa.string()),
        pa.array([p.thumbnail for p in batch], pa.binary()),
    ]
    return pa.Table.from_arrays(arrays, schema=arrow_schema(THUMBNAIL_COLUMNS))


def _masks(batch: Sequence[Prepared], device: Any) -> Tensor:
    """Return the object masks (n, MASK_SIZE, MASK_SIZE), zero where a sample has neither mask nor boxes."""
    import torch

    return torch.from_numpy(np.stack([_object(prepared) for prepared in batch])).to(device)


def _object(prepared: Prepared) -> NDArray[np.float32]:
    """Return where the object is, as shares of the mask's cells: from the mask, else from the boxes."""
    if prepared.mask is not None:
        return prepared.mask.astype(np.float32)
    covered = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    edges = np.arange(MASK_SIZE + 1) / MASK_SIZE
    for x0, y0, x1, y1 in () if prepared.boxes is None else prepared.boxes:
        across = np.clip(np.minimum(edges[1:], x1) - np.maximum(edges[:-1], x0), 0, None) * MASK_SIZE
        down = np.clip(np.minimum(edges[1:], y1) - np.maximum(edges[:-1], y0), 0, None) * MASK_SIZE
        covered = np.maximum(covered, np.outer(down, across))
    return covered


@lru_cache(maxsize=4)
def _projection(features: int) -> NDArray[np.float32]:
    """Return the fixed Gaussian matrix (features, PROJECTION_SIZE) of the Johnson–Lindenstrauss projection."""
    matrix = np.random.default_rng(features).standard_normal((features, PROJECTION_SIZE))
    scaled: NDArray[np.float32] = (matrix / np.sqrt(PROJECTION_SIZE)).astype(np.float32)
    return scaled


def _project(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return random projections (n, PROJECTION_SIZE) of vectors brought to unit length; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray((vectors / np.where(length > 0, length, 1)) @ _projection(vectors.shape[1]))


def _vectors(values: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return rows as fixed-size lists of float16, NULL where not valid."""
    flat = np.clip(np.nan_to_num(values), -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    mask = None if valid is None else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1], mask=mask)


def _floats(values: NDArray[Any]) -> pa.Array:
    """Return float32 values, NULL where not finite."""
    narrow = np.asarray(values, np.float32)
    return pa.array(narrow, mask=~np.isfinite(narrow))


def _joined(first: Rows, second: Rows) -> Rows:
    return Rows(
        {
            name: pa.concat_arrays([first.predictions[name], second.predictions[name]])
            for name in first.predictions
        }
        if first.indices and second.indices
        else (first.predictions if first.indices else second.predictions),
        first.indices + second.indices,
        {
            table: (pa.concat_tables([rows, second.keyed[table][0]]), key)
            for table, (rows, key) in first.keyed.items()
        },
        first.losses | second.losses,
        first.failed + second.failed,
        {name: count + second.degenerate[name] for name, count in first.degenerate.items()},
    )
