"""Subjects: the images of a run that the causal tests work on, each checked to be what the run says it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.maps import grid_of
from cache.profiles import maps
from cache.schema import MASK_SIZE
from engine.images import SampleError, decode
from engine.interventions import Mask, Pixels
from engine.verifying.patches import Density, Patch, attended_window, mass_by_place, mass_in
from engine.verifying.reopening import Predictor, Reader

CHUNK = 40
"""Images that are read together: as many as the first look at a test needs."""
LEAST_AROUND = 0.1
"""Least share of the view that lies beside an object: of an object that fills the view there are no surroundings."""
IN_THE_WAY = 0.25
"""Largest share of a receiving image's object (where none is known, of its attended mass) that a patch may cover."""


@dataclass(frozen=True)
class Subject:
    """One image, as the model sees it.

    Attributes:
        sample_id: Whose it is.
        content: Key of the image.
        pred: Its predicted class, which the model has just given it again.
        view: What the model sees.
        attention: Shares of the default method's map for that class on the grid; None where it is degenerate.
        body: The known object as a density; None where no mask or box is known.
    """

    sample_id: str
    content: str
    pred: int
    view: Pixels
    attention: Density | None
    body: Density | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the view."""
        return self.view.shape[0], self.view.shape[1]

    def has_room_for(self, patch: Patch) -> bool:
        """Tell whether a patch leaves the object in view, or what the model attends to where no object is known."""
        density = self.attention if self.body is None else self.body
        return density is None or mass_in(density, patch) <= IN_THE_WAY + 1e-9

    def places_for(self, patch: Patch) -> NDArray[np.int64]:
        """Return the places (as `place_at` counts them) at which a patch leaves the object in view."""
        density = self.attention if self.body is None else self.body
        if density is None:
            density = np.zeros((1, 1))
        return np.flatnonzero(mass_by_place(density, patch).ravel() <= IN_THE_WAY + 1e-9)

    def surroundings(self) -> Mask | None:
        """Return the pixels beside the known object; None where they cannot be told, and the whole view must do.

        Where no object is known they are the half of the view that the model attends to least.
        """
        density = self.attention if self.body is None else self.body
        if density is None:
            return None
        free = density <= (0.0 if self.body is not None else np.median(density))
        height, width = self.size
        rows, columns = (np.arange(n) * density.shape[0] // n for n in (height, width))
        beside: Mask = free[np.ix_(rows, columns)]
        return beside if beside.mean() >= LEAST_AROUND else None

    def window(self) -> Patch | None:
        """Return the box around the component that the model attends to most; None without a map."""
        return None if self.attention is None else attended_window(self.attention)


@dataclass
class Tally:
    """What became of the images that were asked for.

    Attributes:
        read: Images whose original was read.
        gone: Images whose original is not there or cannot be read.
        changed: Images for which the model predicts another class than the run says.
        example: What was wrong with the last one that could not be read.
    """

    read: int = 0
    gone: int = 0
    changed: int = 0
    example: str = ""


@dataclass
class Loader:
    """Loads subjects; every image is read, decoded and predicted once a run of `verify`.

    Attributes:
        catalog: The run.
        predict: Its model.
        read: Its originals.
        tally: What became of the images.
    """

    catalog: Catalog
    predict: Predictor
    read: Reader
    tally: Tally = field(default_factory=Tally)

    def load(self, sample_ids: Sequence[str]) -> list[Subject]:
        """Return the subjects of some samples, in their order, without those that are gone or have changed."""
        found = self.catalog.query(
            "SELECT s.sample_id, s.sample FROM samples AS s WHERE s.sample_id IN (SELECT unnest($ids))",
            {"ids": list(sample_ids)},
        )
        positions = dict(zip(found["sample_id"].to_pylist(), found["sample"].to_pylist(), strict=True))
        known = [sample_id for sample_id in sample_ids if sample_id in positions]
        if not known:
            return []
        names = [positions[sample_id] for sample_id in known]
        rows = self.catalog.rows_of_samples(names).to_pylist()
        attention = maps(self.catalog, known)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            views = list(pool.map(self._view, known, [row["uri"] for row in rows]))
        there: dict[int, Pixels] = {}
        for at, view in enumerate(views):
            if isinstance(view, SampleError):
                self.tally.gone += 1
                self.tally.example = view.message
            else:
                there[at] = view
        self.tally.read += len(there)
        predicted = self.predict(list(there.values()))
        subjects = []
        for at, pred in zip(there, predicted.tolist(), strict=True):
            row, values = rows[at], attention.get(known[at])
            if pred != row["pred"]:
                self.tally.changed += 1
                continue
            share = None if values is None else grid_of(values)
            subjects.append(Subject(known[at], row["content"], pred, there[at], share, body_of(row)))
        return subjects

    def _view(self, sample_id: str, uri: str) -> Pixels | SampleError:
        try:
            return self.predict.preprocessing.view(decode(self.read(sample_id, uri))).pixels
        except SampleError as error:
            return error


class Stock:
    """Subjects in a random order, loaded as they are needed; copies of one image count once."""

    def __init__(self, loader: Loader, sample_ids: Iterable[str], rng: np.random.Generator) -> None:
        """Take the samples.

        Args:
            loader: Loads them.
            sample_ids: All there are.
            rng: Draws their order.
        """
        ordered = sorted(sample_ids)
        self._waiting = [ordered[i] for i in rng.permutation(len(ordered))]
        self._loader = loader
        self._ready: list[Subject] = []
        self._contents: set[str] = set()

    @property
    def available(self) -> int:
        """How many samples there are, those included that have not been looked at yet."""
        return len(self._ready) + len(self._waiting)

    def get(self, i: int) -> Subject | None:
        """Return the i-th subject, None where there are fewer."""
        while len(self._ready) <= i and self._waiting:
            chunk, self._waiting = self._waiting[:CHUNK], self._waiting[CHUNK:]
            for subject in self._loader.load(chunk):
                if subject.content not in self._contents:
                    self._contents.add(subject.content)
                    self._ready.append(subject)
        return self._ready[i] if i < len(self._ready) else None

    def turn(self, i: int) -> Subject | None:
        """Return the i-th subject, beginning again where there are fewer; None where there are none."""
        subject = self.get(i)
        return subject if subject is not None or not self._ready else self._ready[i % len(self._ready)]

    def first(self, count: int) -> list[Subject]:
        """Return the first so many subjects, or all there are."""
        self.get(count - 1)
        return self._ready[:count]


def body_of(row: dict[str, object]) -> Density | None:
    """Return the object of a row of `samples` as a density over the view."""
    mask, boxes = row.get("mask"), row.get("boxes")
    covered: NDArray[np.float64]
    if isinstance(mask, bytes):
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=MASK_SIZE * MASK_SIZE)
        covered = bits.reshape(MASK_SIZE, MASK_SIZE).astype(np.float64)
    elif isinstance(boxes, list) and boxes:
        covered = np.zeros((MASK_SIZE, MASK_SIZE))
        for at in range(0, len(boxes), 4):
            x0, y0, x1, y1 = boxes[at : at + 4]
            covered = np.maximum(covered, Patch((x0, y0, x1, y1)).mask(MASK_SIZE, MASK_SIZE))
    else:
        return None
    total = covered.sum()
    return covered / total if total else None
