"""A worker: holds the model, takes prepared images in batches, returns rows for the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache.errors import ModelError
from cache.schema import PROJECTION_SIZE, THUMBNAIL_COLUMNS, arrow_schema, embedding_columns, table_of_method
from engine.attribution_rows import Chosen, Objects, Prepared, attribution_tables, floats
from engine.ledger import EMBEDDINGS, Ledger
from engine.targets import TOP_STORED, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.activation import ActivationExplainer, ActivationResult
    from engine.attribution.registry import MethodRequest
    from engine.models import LoadedModel

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
        objects: Objects | None,
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
            objects: How the dataset says where objects are, None where it does not.
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
            ModelError: The network fails, or not even one image fits.
        """
        import torch

        try:
            return self._explain(batch, ledger)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise ModelError(
                    f"One image does not fit the memory of {self.model.device}: say --device cpu or a smaller --image-size."
                ) from None
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"The model failed on a batch of {len(batch)} images ({reason}): what was published is kept."
            ) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(batch) // 2
        return _joined(self.explain(batch[:half], ledger), self.explain(batch[half:], ledger))

    def _explain(self, batch: Sequence[Prepared], ledger: Ledger) -> Rows:
        import torch

        x = self.model.preprocessing.normalise(np.stack([p.view.pixels for p in batch]), self.model.device)
        asked: list[list[int]] = []

        def choose(scores: Tensor) -> Tensor:
            asked[:] = self._targets(batch, ranking(scores).tolist())
            width = max(len(targets) for targets in asked)
            return torch.tensor([[*targets, *[-1] * (width - len(targets))] for targets in asked])

        result = self.explainer.explain(x, choose, self.requests)
        order = ranking(result.scores)
        log_probabilities = self.model.log_probabilities(result.logits).double().cpu().numpy()
        finite = np.isfinite(log_probabilities).all(axis=1)
        rows = np.flatnonzero(finite)
        keyed: dict[str, tuple[pa.Table, str]] = {}
        degenerate: dict[str, int] = {}
        chosen = self._attributions(batch, rows, asked, result, ledger)
        for method, table in attribution_tables(chosen, self.statistics, self.objects).items():
            keyed[table_of_method(method)] = (table, self.keys[method])
            degenerate[method] = pc.sum(table["degenerate"]).as_py() or 0
        keyed[EMBEDDINGS] = (self._embeddings(batch, rows, result, ledger), self.keys[EMBEDDINGS])
        new = [i for i in rows.tolist() if batch[i].new]
        keyed["thumbnails"] = (_thumbnails([batch[i] for i in new]), "")
        return Rows(
            _predictions([batch[i] for i in new], log_probabilities[new], order[new]),
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

    def _targets(self, batch: Sequence[Prepared], order: list[list[int]]) -> list[list[int]]:
        """Return the classes to explain for each sample, its prediction first."""
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
        result: ActivationResult,
        ledger: Ledger,
    ) -> list[Chosen]:
        """Return, for every method, the maps of a batch that are to be written."""
        import torch

        found = []
        for request in self.requests:
            written = [
                (i, t, target)
                for i in rows.tolist()
                for t, target in enumerate(asked[i])
                if not ledger.holds(request.name, batch[i].content, target)
            ]
            maps = result.maps[request.name]
            samples = torch.tensor([i for i, _, _ in written], dtype=torch.int64, device=maps.device)
            columns = torch.tensor([t for _, t, _ in written], dtype=torch.int64, device=maps.device)
            chosen = [batch[i] for i, _, _ in written]
            found.append(
                Chosen(request.name, chosen, [target for *_, target in written], maps[samples, columns])
            )
        return found

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


def ranking(scores: Tensor) -> NDArray[np.intp]:
    """Return the best classes of each row of scores, at most TOP_STORED, ties in the order of the outputs."""
    values = np.nan_to_num(scores.double().cpu().numpy(), nan=-np.inf)
    order: NDArray[np.intp] = np.argsort(-values, axis=1, kind="stable")
    return order[:, :TOP_STORED]


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
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray((vectors / np.where(length > 0, length, 1)) @ _projection(vectors.shape[1]))


def _vectors(values: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return rows as fixed-size lists of float16, NULL where not valid."""
    flat = np.clip(np.nan_to_num(values), -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
    mask = None if valid is None else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1], mask=mask)


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
