"""A case: one finding under test, with the images that take part in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.conditions import Range
from cache.fields import class_title
from cache.filters import Filter
from cache.findings import Finding
from cache.queries import ids
from cache.schema import PROJECTION_SIZE
from engine.interventions import IMPOSE
from engine.verifying.deletion import deletions, share_by_fill
from engine.verifying.imposition import changes, impositions
from engine.verifying.intervals import rate_of
from engine.verifying.subjects import Loader, Stock
from engine.verifying.transplant import (
    FEWEST_OTHERS,
    PILOT,
    PILOT_SHARE,
    choose_shape,
    shapes_of,
    transplants,
)
from engine.verifying.trials import LOOKS, conduct
from engine.verifying.verdicts import judge, makes_the_class, near_identical

ON_OBJECT = 0.5
"""Share of the attention from which on an image attends to its object."""
ALIKE_SHARE = 0.05
"""Quantile at which the finding's own images and the rest of the class are least alike to it; the limit is halfway."""


def dice(loader: Loader, *what: str) -> np.random.Generator:
    """Return a generator that depends on what is audited and on what it is for, and on nothing else."""
    text = "\0".join((loader.catalog.manifest.identity, *what))
    return np.random.default_rng(list(blake2b(text.encode(), digest_size=16).digest()))


class Case:
    """One finding under test."""

    def __init__(self, loader: Loader, finding: Finding, classes: Sequence[str]) -> None:
        self.loader = loader
        self.finding = finding
        self.name = class_title(classes, finding.class_index)
        self.donors = self._stock(
            self._ids("s.pred = $class AND s.sample_id IN (SELECT unnest($ids))"), "donors"
        )
        labelled = self._ids("s.correct = TRUE AND s.pred <> $class")
        self.receivers = self._stock(labelled or self._ids("s.pred <> $class"), "receivers")
        self.others = self._others()
        self.notes: list[str] = []

    def tested(self) -> Finding:
        """Return the finding with its results and verdict; without results where no original is there."""
        if self.donors.get(0) is None:
            reason = "Its original images are gone, so that it could not be tested."
            return replace(self.finding, reasons=(reason,))
        finding = self.finding
        found = self._whole() if finding.property is not None else self._local()
        verdict, reasons = judge(found, self.name)
        return replace(found, verdict=verdict, reasons=(*reasons, *self.notes))

    def _whole(self) -> Finding:
        """Test a property of the whole image: change it, and impose it."""
        finding, predict = self.finding, self.loader.predict
        name, index = str(finding.property), finding.class_index
        if name not in IMPOSE:
            self.notes.append(f"No test knows how to change the {name} of an image.")
            return finding
        removed = conduct(changes(name, self.donors, self.receivers, index), predict)
        imposed = conduct(impositions(name, self.donors, self.receivers, self.others, index), predict)
        return replace(finding, deletion=rate_of(removed), imposed=rate_of(imposed))

    def _local(self) -> Finding:
        """Test content that lies somewhere: cover it, and paste it."""
        finding, predict, index = self.finding, self.loader.predict, self.finding.class_index
        shapes = shapes_of(finding, self.donors.first(LOOKS[0]))
        if not shapes:
            self.notes.append("No map of its images says where the model looked.")
            return finding
        shape, first = shapes[0], 0
        if len(shapes) > 1:
            first = min(PILOT, self.receivers.available // PILOT_SHARE)
            shape = choose_shape(
                shapes, self.donors, self.receivers, self.others, first, index, predict, self._rng("pilot")
            )
        pasted = conduct(
            transplants(shape, self.donors, self.receivers, self.others, index, self._rng("paste"), first),
            predict,
        )
        # What moves about is covered where each map says, whatever shape of it makes the strongest patch.
        window = shapes[0] if shape.moves else shape
        covered = conduct(deletions(window, self.donors, index, self._rng("cover")), predict)
        evidence = finding.evidence | share_by_fill(covered)
        self.notes.append(
            f"What was pasted is {shape.name} of each image"
            + (
                "; its controls are from images of other classes, since it lies all over its own."
                * shape.spread
                or "."
            )
        )
        if self.others is None:
            self.notes.append(
                f"Too few other images are called {self.name} to compare with: the second thing that its own images attend "
                "to stands in for them, and what images of other classes attend to, which may make them their own class."
            )
        found = replace(finding, deletion=rate_of(covered), transplant=rate_of(pasted), evidence=evidence)
        for name in [name for name in finding.shows_as if name in IMPOSE]:
            if makes_the_class(found.transfer):
                break
            # A patch is a quarter of the view at most; a background lies all around, and shows in the whole image.
            looks = impositions(name, self.donors, self.receivers, self.others, index)
            rest = tuple(other for other in finding.shows_as if other != name)
            found = replace(found, imposed=rate_of(conduct(looks, predict)), shows_as=(name, *rest))
        return found

    def _rng(self, what: str) -> np.random.Generator:
        return dice(self.loader, str(self.finding.class_index), self.finding.filter.to_param(), what)

    def _stock(self, sample_ids: list[str], what: str) -> Stock:
        return Stock(self.loader, sample_ids, self._rng(what))

    def _ids(self, where: str) -> list[str]:
        params = {"class": self.finding.class_index, "ids": list(self.finding.sample_ids)}
        used = {name: value for name, value in params.items() if f"${name}" in where}
        table = self.loader.catalog.query(f"SELECT s.sample_id FROM samples AS s WHERE {where}", used)
        return [str(sample_id) for sample_id in table["sample_id"].to_pylist()]

    def _others(self) -> Stock | None:
        """Return the rest of the class, None where it has too few images to compare with.

        They stand for what the class's real features do. Where objects are known they are therefore the images that
        attend to the object: a background that most of a class stands on would be compared with itself. Where none is
        known and the finding is near-identical from image to image, images that attend to the same although its filter
        missed them are not the rest.
        """
        rest = self._ids(
            "s.pred = $class AND s.correct IS DISTINCT FROM FALSE AND s.sample_id NOT IN (SELECT unnest($ids))"
        )
        on_object = self._attending_to_object() if self.finding.property is None else set()
        if len(on_object.intersection(rest)) >= FEWEST_OTHERS:
            rest = [sample_id for sample_id in rest if sample_id in on_object]
        elif near_identical(self.finding) and rest:
            rest = self._unlike(rest)
        return self._stock(rest, "others") if len(rest) >= FEWEST_OTHERS else None

    def _attending_to_object(self) -> set[str]:
        """Return the images with most of the default method's mass on the known object; none where none is known."""
        manifest = self.loader.catalog.manifest
        if "mass_inside" not in {statistic.name for statistic in manifest.statistics}:
            return set()
        inside = Range("mass_inside", ON_OBJECT, None, manifest.default_method)
        return set(ids(self.loader.catalog, Filter((inside,))))

    def _unlike(self, rest: list[str]) -> list[str]:
        """Return the images whose attended content is nearer to the least alike of them than to the finding's own."""
        vectors = self._attended([*rest, *self.finding.sample_ids])
        own = [vectors[i] for i in self.finding.sample_ids if i in vectors]
        if not own:
            return rest
        middle = np.mean(own, axis=0)
        alike = {i: float(vectors[i] @ middle) for i in rest if i in vectors}
        edges = [
            np.quantile(values, ALIKE_SHARE)
            for values in ([v @ middle for v in own], [*alike.values()])
            if values
        ]
        return [i for i in rest if i not in alike or alike[i] < np.mean(edges)]

    def _attended(self, sample_ids: list[str]) -> dict[str, NDArray[np.float64]]:
        """Return the unit-length projections of what samples attend to; those without one are left out."""
        catalog = self.loader.catalog
        found = catalog.query(
            "SELECT s.sample_id, s.content FROM samples AS s WHERE s.sample_id IN (SELECT unnest($ids))",
            {"ids": sample_ids},
        )
        contents, values = _projections(catalog)
        vectors = {}
        for name, content in zip(found["sample_id"].to_pylist(), found["content"].to_pylist(), strict=True):
            vector = values[contents[content]].astype(np.float64) if content in contents else np.zeros(1)
            length = float(np.linalg.norm(vector))
            if length > 0 and np.isfinite(length):
                vectors[name] = vector / length
        return vectors


def _projections(catalog: Catalog) -> tuple[dict[str, int], NDArray[np.float16]]:
    """Return the projections of the attended features, one a row, and each content's row; read once a run."""
    kept: tuple[dict[str, int], NDArray[np.float16]] | None = catalog.recall("attended projections")
    if kept is None:
        table = catalog.read("embeddings", ["content", "attended_projection"])
        table = table.drop_null() if table.num_rows else pa.table({"content": [], "attended_projection": []})
        column = table["attended_projection"].combine_chunks()
        values = np.zeros((0, PROJECTION_SIZE), np.float16)
        if len(column):
            values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, PROJECTION_SIZE)
        index = {content: at for at, content in enumerate(table["content"].to_pylist())}
        kept = catalog.remember("attended projections", (index, values))
    return kept
