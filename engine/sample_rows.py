"""Rows of `samples`: what the dataset says of an image beside what the model says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cache.schema import META_PREFIX, SAMPLE_COLUMNS, arrow_schema
from engine.image_statistics import IMAGE_STATISTICS
from engine.records import Records

TINY = float(np.finfo(np.float32).tiny)
"""Stands for a stored probability of zero, whose logarithm would not be finite."""


def sample_schema(records: Records) -> pa.Schema:
    """Return the schema of a dataset's rows of `samples`, its metadata included."""
    fixed = arrow_schema(SAMPLE_COLUMNS, IMAGE_STATISTICS)
    meta = [f for f in records.dataset.records.schema if f.name.startswith(META_PREFIX)]
    return pa.schema([*fixed, *(pa.field(f.name, f.type, True) for f in meta)])


def sample_rows(
    records: Records,
    indices: Sequence[int],
    predictions: dict[str, pa.Array],
    thumbnails: Sequence[tuple[str, int]],
    schema: pa.Schema,
) -> pa.Table:
    """Return the rows of newly explained records; `thumbnails` says in which part and row each one's lies."""
    columns = records.columns(indices) | predictions
    columns["thumbnail_part"] = pa.array([part for part, _ in thumbnails], pa.string())
    columns["thumbnail_row"] = pa.array([row for _, row in thumbnails], pa.int32())
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def copied_rows(
    records: Records, indices: Sequence[int], source: pa.Table, losses: Mapping[int, float], schema: pa.Schema
) -> pa.Table:
    """Return the rows of records whose images are known: the model's columns of `source`, the dataset's own.

    Args:
        records: The records.
        indices: Those that are copied.
        source: For each, a published row with the same content.
        losses: Cross-entropy of true classes that are not among the most probable ones which the source keeps.
        schema: Schema of the result.
    """
    columns = records.columns(indices)
    labels = columns["label"].to_pylist()
    predicted = source["pred"].to_pylist()
    tops = zip(source["top_classes"].to_pylist(), source["top_probabilities"].to_pylist(), strict=True)
    loss: list[float | None] = []
    for index, label, before, was, (classes, probabilities) in zip(
        indices, labels, source["loss"].to_pylist(), source["label"].to_pylist(), tops, strict=True
    ):
        if label is None or label == was:
            loss.append(None if label is None else before)
        elif label in classes:
            loss.append(float(-np.log(max(probabilities[classes.index(label)], TINY))))
        else:
            loss.append(losses[index])
    correct = [
        None if label is None else label == pred for label, pred in zip(labels, predicted, strict=True)
    ]
    columns["loss"] = pa.array(loss, pa.float32())
    columns["correct"] = pa.array(correct, pa.bool_())
    arrays = [columns[f.name] if f.name in columns else source[f.name].combine_chunks() for f in schema]
    return pa.Table.from_arrays(
        [array.cast(f.type) for array, f in zip(arrays, schema, strict=True)], schema=schema
    )
