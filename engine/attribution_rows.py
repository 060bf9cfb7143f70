"""Rows of attributions: maps, what they measure, and their grids, for the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.schema import ATTRIBUTION_COLUMNS, CORNERS, MASK_SIZE, Column, attribution_schema
from engine.preprocessing import View
from engine.trust import trust_names

Objects = Literal["mask", "boxes"]
"""How a dataset says where objects are; a dataset with both is measured by its masks."""

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.registry import MethodRequest
    from engine.statistics import Measures


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
class Chosen:
    """One method's maps of a batch.

    Attributes:
        request: The method with its parameters.
        samples: The image that each map explains.
        targets: The class that it explains.
        maps: The maps, (n, height, width), on the device.
        trust: What the method knows about each map, by the name of a field of `engine.trust.TRUST`: (n,).
        extras: Values of the method's own columns, one a map.
    """

    request: MethodRequest
    samples: list[Prepared]
    targets: list[int]
    maps: Tensor
    trust: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    extras: dict[str, list[Any]] = field(default_factory=dict)

    def schema(self, statistics: Sequence[str]) -> pa.Schema:
        """Return the schema of the method's table."""
        return _schema((*statistics, *trust_names(self.request)), self.request.method.columns)


def attribution_tables(
    chosen: Sequence[Chosen], statistics: Sequence[str], objects: Objects | None
) -> dict[str, pa.Table]:
    """Measure the maps of several methods and return the rows of each.

    Maps of one resolution are measured together: on a small batch most of the time would go into starting
    operations otherwise.

    Args:
        chosen: The maps.
        statistics: Names of the statistics of every map, in the order of their columns.
        objects: How the dataset says where objects are, None where it does not.
    """
    tables = {one.request.name: one.schema(statistics).empty_table() for one in chosen if not one.samples}
    for some in _by_resolution(chosen):
        for one, (measures, halves, scales) in zip(some, _measured(some, objects), strict=True):
            tables[one.request.name] = _table(one, measures, halves, scales, statistics)
    return tables


def _by_resolution(chosen: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    groups: dict[tuple[int, ...], list[Chosen]] = {}
    for one in chosen:
        if one.samples:
            groups.setdefault(tuple(one.maps.shape[1:]), []).append(one)
    yield from groups.values()


def _measured(chosen: Sequence[Chosen], objects: Objects | None) -> list[tuple[Measures, Tensor, Tensor]]:
    """Measure maps of one resolution at once, where they are; return each method's share, on the host.

    Beside the measures that is the maps as they are stored, and their scales: nothing else is copied back.
    """
    import torch

    from engine.statistics import Measures, measure
    from engine.transfers import encode, to_host

    maps = torch.cat([one.maps for one in chosen])
    samples = [sample for one in chosen for sample in one.samples]
    mask = _masks(samples).to(maps.device) if objects == "mask" else None
    boxes = _boxes(samples).to(maps.device) if objects == "boxes" else None
    together = measure(maps, mask, boxes)
    counts = [len(one.samples) for one in chosen]
    columns = [together.values, together.corners, together.degenerate, *encode(maps)]
    shares = (torch.split(column, counts) for column in to_host(columns))
    return [
        (Measures(together.names, *measured), halves, scales)
        for *measured, halves, scales in zip(*shares, strict=True)
    ]


def _table(
    chosen: Chosen, measures: Measures, halves: Tensor, scales: Tensor, statistics: Sequence[str]
) -> pa.Table:
    count, (height, width) = len(chosen.samples), chosen.maps.shape[1:]
    fixed = {
        "content": pa.array([sample.content for sample in chosen.samples], pa.string()),
        "target": pa.array(chosen.targets, pa.int32()),
        "degenerate": pa.array(measures.degenerate.numpy()),
        "height": pa.array(np.full(count, height, np.int16)),
        "width": pa.array(np.full(count, width, np.int16)),
        "scale": pa.array(scales.numpy(), pa.float32()),
        "map": _binary(halves.numpy().astype("<f2", copy=False)),
    }
    columns = measures.columns
    measured = [floats(columns[name].numpy()) for name in statistics]
    extras = [pa.array(chosen.extras[c.name], c.type) for c in chosen.request.method.columns]
    unknown = np.full(count, np.nan, np.float32)
    known = [floats(chosen.trust.get(name, unknown)) for name in trust_names(chosen.request)]
    assert list(fixed) == [column.name for column in ATTRIBUTION_COLUMNS]
    grid = _corner_columns(measures)
    return pa.Table.from_arrays(
        [*fixed.values(), *extras, *measured, *known, *grid], schema=chosen.schema(statistics)
    )


def _binary(rows: NDArray[Any]) -> pa.Array:
    """Return the bytes of each row of an array, without a copy of each."""
    count = len(rows)
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(rows[0].nbytes)
    data = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), data])


def _corner_columns(measures: Measures) -> list[pa.Array]:
    """Return the 196 corners as columns, NULL where a map is degenerate.

    One bitmap says so for all of them: to build it anew for each took as long as measuring the maps.
    """
    corners = np.ascontiguousarray(measures.corners.float().numpy().T)
    valid = pa.array(~measures.degenerate.numpy()).buffers()[1]
    count = corners.shape[1]
    assert len(corners) == len(CORNERS)
    return [pa.Array.from_buffers(pa.float32(), count, [valid, pa.py_buffer(corner)]) for corner in corners]


@lru_cache(maxsize=64)
def _schema(names: tuple[str, ...], columns: tuple[Column, ...]) -> pa.Schema:
    return attribution_schema(names, columns)


def floats(values: NDArray[Any]) -> pa.Array:
    """Return float32 values, NULL where not finite."""
    narrow = np.asarray(values, np.float32)
    return pa.array(narrow, mask=~np.isfinite(narrow))


def _masks(samples: Sequence[Prepared]) -> Tensor:
    """Return object masks (n, MASK_SIZE, MASK_SIZE) from 0 to 1, zero where a sample has none."""
    import torch

    covered = np.zeros((len(samples), MASK_SIZE, MASK_SIZE), np.float32)
    for i, sample in enumerate(samples):
        if sample.mask is not None:
            covered[i] = sample.mask
    return torch.from_numpy(covered)


def _boxes(samples: Sequence[Prepared]) -> Tensor:
    """Return object boxes (n, most boxes of a sample, 4), NaN where a sample has fewer."""
    import torch

    most = max((len(sample.boxes) for sample in samples if sample.boxes is not None), default=0)
    padded = np.full((len(samples), max(most, 1), 4), np.nan, np.float32)
    for i, sample in enumerate(samples):
        if sample.boxes is not None:
            padded[i, : len(sample.boxes)] = sample.boxes
    return torch.from_numpy(padded)
