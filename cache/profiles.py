"""What the pages ask about single samples: their values, maps, thumbnails, standing and nearest relatives."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.errors import RunDamagedError
from cache.features import aligned_features
from cache.map_file import MAP_COLUMNS
from cache.maps import decode_map
from cache.schema import MASK_SIZE, Field

SUPERPIXEL_COLUMNS = ("superpixels", "weights", "intercept")
"""Columns that methods which weigh superpixels keep beside their maps."""


@dataclass(frozen=True)
class Attribution:
    """One method's map of a sample for one class.

    Attributes:
        method: The method.
        target: Index of the class that is explained.
        degenerate: Whether the map has no positive mass or is not finite.
        map: Shape (height, width), unscaled, as the method defines it.
        statistics: Values by statistic; None where they are not defined.
    """

    method: str
    target: int
    degenerate: bool
    map: NDArray[np.float32]
    statistics: dict[str, float | None]


@dataclass(frozen=True)
class Superpixels:
    """What a method over superpixels says about a sample and a class.

    Attributes:
        labels: The superpixel of each pixel of the model's view, (height, width).
        weights: How much each superpixel speaks for the class (above 0) or against it.
        intercept: The score that is left without any superpixel; None where the method has none.
    """

    labels: NDArray[np.uint16]
    weights: NDArray[np.float32]
    intercept: float | None


@dataclass(frozen=True)
class Standing:
    """Where a sample's statistic stands among the samples that were predicted to be of its class.

    Attributes:
        field: The statistic.
        value: The sample's value; None where it is not defined.
        percentile: Share of the class's samples with a smaller value, ties counted half: 0 to 1.
        median: The class's median.
        n: Samples of the class that have a value.
    """

    field: Field
    value: float | None
    percentile: float | None
    median: float | None
    n: int


def sample(catalog: Catalog, sample_id: str) -> dict[str, Any] | None:
    """Return everything about a sample, or None where the run has none of that id.

    Every column of `samples` by name; ``mask`` is a (56, 56) boolean array or None, ``boxes`` a list of
    (x0, y0, x1, y1) or None; ``labelled`` and ``masked`` tell what is known.
    """
    found = catalog.rows_by_id([sample_id], "s.sample, s.labelled, s.masked")
    if not found:
        return None
    place, labelled, masked = (found[sample_id][name] for name in ("sample", "labelled", "masked"))
    row: dict[str, Any] = catalog.rows_of_samples([place]).to_pylist()[0]
    row |= {name: row.get(name) for name in catalog.kinds()} | {"labelled": labelled, "masked": masked}
    row["mask"] = _mask(row.get("mask"))
    boxes = row.get("boxes")
    row["boxes"] = [tuple(boxes[i : i + 4]) for i in range(0, len(boxes), 4)] if boxes else None
    return row


def values(
    catalog: Catalog, sample_ids: Sequence[str], fields: Sequence[tuple[str, str | None, str | None]]
) -> list[dict[int, Any]]:
    """Return values of samples, by the place of each field, in the order of the samples.

    Args:
        catalog: The run.
        sample_ids: Samples of the run.
        fields: Name, method and target of each; a method or target makes it a statistic of maps.

    Raises:
        FilterError: The run has no such field, method or target.
    """
    compiler = catalog.compiler()
    wanted = [f"{compiler.value(*field)} AS v{i}" for i, field in enumerate(fields)]
    samples = {place: name for name, place in catalog.positions(sample_ids).items()}
    bound = compiler.bind(list(samples))
    table = catalog.select(
        ", ".join(["s.sample AS sample", *wanted]), compiler, f"s.sample IN (SELECT unnest({bound}))"
    )
    found = {
        samples[row["sample"]]: {i: row[f"v{i}"] for i in range(len(fields))} for row in table.to_pylist()
    }
    return [found.get(sample_id, {}) for sample_id in sample_ids]


def attributions_of(catalog: Catalog, sample_id: str) -> list[Attribution]:
    """Return every map of a sample: by method as the manifest lists them, then by class."""
    found = catalog.rows_by_id([sample_id], "s.content")
    if not found:
        return []
    content = found[sample_id]["content"]
    names = [field.name for field in catalog.method_fields()]
    maps: list[Attribution] = []
    for method in catalog.manifest.methods:
        places = catalog.maps_of_content(method, content)
        columns = ("target", "degenerate", *names, *MAP_COLUMNS)
        for row in catalog.rows_of_maps(method, places, columns).to_pylist():
            statistics = {name: _defined(row.get(name)) for name in names}
            maps.append(Attribution(method, row["target"], row["degenerate"], _decoded(row), statistics))
    return maps


def superpixels(catalog: Catalog, content: str, method: str, target: int) -> Superpixels | None:
    """Return the superpixels that a method weighed for an image and a class; None where it keeps none.

    Raises:
        RunDamagedError: What is stored does not fit together.
    """
    places = catalog.maps_of_content(method, content)
    columns = ("target", "height", "width", *SUPERPIXEL_COLUMNS)
    for row in catalog.rows_of_maps(method, places, columns).to_pylist():
        if row["target"] == target and row.get("superpixels") is not None and row.get("weights") is not None:
            size = row["height"] * row["width"]
            weights = np.array(row["weights"], np.float32)
            try:
                # Never more than the map has cells, whatever the bytes would unfold to.
                data = zlib.decompressobj().decompress(row["superpixels"], 2 * size + 1)
                labels = np.frombuffer(data, "<u2").reshape(row["height"], row["width"])
            except (ValueError, zlib.error) as error:
                raise _unfitting(catalog, method) from error
            if labels.max(initial=0) >= len(weights):
                raise _unfitting(catalog, method)
            return Superpixels(labels.astype(np.uint16), weights, _defined(row.get("intercept")))
    return None


def _unfitting(catalog: Catalog, method: str) -> RunDamagedError:
    return RunDamagedError(
        f"The superpixels of {method} in the run {catalog.run.path} do not fit their map: run the same `explain` "
        "command again to compute them anew."
    )


def maps(
    catalog: Catalog, sample_ids: Sequence[str], method: str | None = None, target: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the map of each sample that has one, shape (height, width), unscaled."""
    source = catalog.source(method, target)
    return maps_by_method(catalog, sample_ids, [source.method], target)[source.method]


def maps_by_method(
    catalog: Catalog, sample_ids: Sequence[str], methods: Sequence[str], target: str | None = None
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return what `maps` returns for each of several methods."""
    samples = catalog.positions(sample_ids)
    places = np.fromiter(samples.values(), np.int64, len(samples))
    found = {}
    for method in methods:
        source = catalog.source(method, target)
        rows = catalog.attributions(source)[places]
        held = [name for name, row in zip(samples, rows, strict=True) if row >= 0]
        table = catalog.rows_of_maps(source.method, rows[rows >= 0].tolist(), MAP_COLUMNS)
        found[method] = dict(zip(held, map(_decoded, table.to_pylist()), strict=True))
    return found


def thumbnails(catalog: Catalog, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the WebP of each sample's model view; samples without one are left out."""
    found = catalog.rows_by_id(sample_ids, "s.thumbnail_part, s.thumbnail_row")
    return thumbnails_at(
        catalog,
        [(name, row["thumbnail_part"], row["thumbnail_row"]) for name, row in found.items()],
    )


def thumbnails_at(catalog: Catalog, places: Sequence[tuple[str, str | None, int | None]]) -> dict[str, bytes]:
    """Return what `thumbnails` returns, where each sample's id, ``thumbnail_part`` and ``thumbnail_row`` are known."""
    index = {part.name: i for i, part in enumerate(catalog.run.readable("thumbnails"))}
    wanted = {name: (index[part], row) for name, part, row in places if part in index and row is not None}
    if not wanted:
        return {}
    table = catalog.rows_of("thumbnails", list(wanted.values()), ["image"])
    return dict(zip(wanted, table["image"].to_pylist(), strict=True))


def standing(
    catalog: Catalog, sample_id: str, method: str | None = None, target: str | None = None
) -> list[Standing]:
    """Tell where each statistic of a sample's map stands among the samples of its predicted class."""
    found = catalog.rows_by_id([sample_id], "s.sample, s.pred")
    if not found:
        return []
    table = catalog.query(
        f"SELECT a.* FROM samples AS s JOIN {catalog.source_table(catalog.source(method, target))} AS a USING (sample) "
        "WHERE s.pred = $pred",
        {"pred": found[sample_id]["pred"]},
    )
    own = table.filter(pc.equal(table["sample"], found[sample_id]["sample"])).to_pylist()
    standings = []
    for field in catalog.method_fields():
        values = table[field.name].drop_null().to_numpy()
        value = own[0][field.name] if own else None
        percentile = None
        if value is not None:
            percentile = float((np.sum(values < value) + np.sum(values <= value)) / (2 * values.size))
        median = float(np.median(values)) if values.size else None
        standings.append(Standing(field, value, percentile, median, int(values.size)))
    return standings


def nearest(
    catalog: Catalog, sample_id: str, by: Literal["attended", "penultimate"] = "attended", k: int = 12
) -> list[tuple[str, float]]:
    """Return the samples whose features are most alike, with the cosine similarity of their projections.

    The sample itself is left out. Copies of one image are one neighbour, under the first of their ids; a copy of the
    sample's own image counts as one too.
    """
    own = catalog.positions([sample_id]).get(sample_id)
    if own is None:
        return []
    features = aligned_features(catalog, by)
    if features.rows[own] < 0:
        return []
    similarity = features.cosines(own)[features.firsts]
    # One more than asked for, since the sample itself comes first unless a copy of its image stands in for it.
    most = min(k + 1, len(similarity))
    likely = np.flatnonzero(similarity >= np.partition(similarity, len(similarity) - most)[-most])
    candidates = likely[np.argsort(-similarity[likely], kind="stable")][:most]
    places = features.firsts[candidates].tolist()
    table = catalog.query(
        "SELECT o.sample AS sample, min(s.sample_id) AS sample_id FROM samples AS o JOIN samples AS s USING (content) "
        "WHERE o.sample IN (SELECT unnest($places)) AND s.sample_id <> $own GROUP BY o.sample",
        {"places": places, "own": sample_id},
    )
    ids = dict(zip(table["sample"].to_pylist(), table["sample_id"].to_pylist(), strict=True))
    named = [
        (ids.get(place), float(np.clip(similarity[i], -1.0, 1.0)))
        for place, i in zip(places, candidates.tolist(), strict=True)
    ]
    return [(name, value) for name, value in named if name is not None][:k]


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _decoded(row: dict[str, Any]) -> NDArray[np.float32]:
    return decode_map(row["map"], row["scale"], row["height"], row["width"])


def _mask(data: bytes | None) -> NDArray[np.bool_] | None:
    if data is None:
        return None
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=MASK_SIZE * MASK_SIZE)
    return bits.reshape(MASK_SIZE, MASK_SIZE).astype(bool)
