"""Extent: does a property of the whole image show all over it, or in a part only?

A tint lies over everything. Snow is bright too, and shows beside the object only; a frame's colour shows along the edges. A
property that shows in a part only is no claim of its own: it is how the content there looks, measured over the whole image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.schema import GRID, MASK_SIZE
from engine.discovery.audited import Audited
from engine.discovery.candidates import Candidate
from engine.discovery.views import VIEW, Views
from engine.image_statistics import IMAGE_STATISTICS, image_statistics
from engine.verifying.subjects import body_of

PAIRS = 40
"""Images with the property that are compared with one without it each."""
ALL_OVER = 0.5
"""A property shows in a part where the images with it differ there by at least this share of what they differ by as a whole."""
COVERED = 0.8
"""Cells of which the object covers at least this share are on it; those that it does not touch are beside it."""
LEAST_PAIRS = 6
"""Fewer pairs say nothing."""
LEAST_CELLS = 8
"""A part of fewer of the 196 cells says nothing."""

FAINTEST = 1e-3
"""Contrast and sharpness below this are none."""

Cells = NDArray[np.bool_]
Measured = NDArray[np.float64]


class Extent:
    """Tells of one run's candidates about the whole image whether they are."""

    def __init__(self, catalog: Catalog, audited: Audited, views: Views) -> None:
        self._catalog, self._audited, self._views = catalog, audited, views
        self._bodies: dict[int, NDArray[np.float64] | None] = {}

    def shown(self, candidate: Candidate) -> tuple[float, float] | None:
        """Return how much of a property's difference shows in the part of the images with the least of it, and with the most.

        The parts are the object and what lies beside it; where no object is known, the half of the view that the model attends to
        and the other half, both as the map of the image with the property has them. 1 is as much as in the whole image, 0 is
        nothing; None where nobody can tell.

        Args:
            candidate: About a property of the whole image.
        """
        name = candidate.property or ""
        if name not in IMAGE_STATISTICS:
            return None
        whole: list[Measured] = []
        parts: tuple[list[Measured], list[Measured]] = ([], [])
        for one, other in self._pairs(candidate):
            view, against = self._views.of([one, other])
            whole.append(measured(name, view) - measured(name, against))
            for shown, (here, there) in zip(parts, self._parts(one, other), strict=True):
                if min(here.sum(), there.sum()) >= LEAST_CELLS:
                    shown.append(
                        measured(name, _gathered(view, here)) - measured(name, _gathered(against, there))
                    )
        if min(len(shown) for shown in (whole, *parts)) < LEAST_PAIRS:
            return None
        change = np.mean(whole, axis=0)
        length = float(change @ change)
        if not np.isfinite(length) or not length:
            return None
        shares = [float(np.mean(shown, axis=0) @ change) / length for shown in parts]
        return min(shares), max(shares)

    def _pairs(self, candidate: Candidate) -> list[tuple[int, int]]:
        """Return images with the property, wrongly called the class where there are such, and images of other classes without it."""
        audited = self._audited
        holds = candidate.members if candidate.holds is None else candidate.holds
        own = candidate.members & audited.known
        own = own & audited.wrong if (own & audited.wrong).any() else own
        rest = audited.known & ~holds & (audited.pred != candidate.class_index)
        rest &= audited.label != candidate.class_index
        dice = audited.rng("extent", candidate.class_index, candidate.property, candidate.outcome)
        with_it, without = (dice.permutation(np.flatnonzero(some))[:PAIRS].tolist() for some in (own, rest))
        with_it, without = self._views.load(with_it), self._views.load(without)
        return list(zip(with_it, without, strict=False))

    def _parts(self, one: int, other: int) -> tuple[tuple[Cells, Cells], tuple[Cells, Cells]]:
        """Return the two parts of an image with the property, each beside the same part of an image without it."""
        bodies = self._body(one), self._body(other)
        if bodies[0] is not None and bodies[1] is not None:
            return (
                (bodies[0] >= COVERED, bodies[1] >= COVERED),
                (bodies[0] == 0, bodies[1] == 0),
            )
        density = self._audited.p[one].reshape(GRID, GRID)
        attended = density > np.median(density)
        return (attended, attended), (~attended, ~attended)

    def _body(self, row: int) -> NDArray[np.float64] | None:
        """Return the share of each cell that the known object covers; None where none is known."""
        if row not in self._bodies:
            position = self._catalog.query(
                "SELECT s.sample FROM samples AS s WHERE s.sample_id = $id",
                {"id": str(self._audited.sample_ids[row])},
            )["sample"].to_pylist()
            body = body_of(self._catalog.rows_of_samples(position).to_pylist()[0])
            if body is not None:
                side = MASK_SIZE // GRID
                body = (body > 0).reshape(GRID, side, GRID, side).mean(axis=(1, 3))
            self._bodies[row] = body
        return self._bodies[row]


def _gathered(view: NDArray[np.uint8], cells: Cells) -> NDArray[np.uint8]:
    """Return some of the cells of a view, one below the other."""
    side = VIEW // GRID
    blocks = view.reshape(GRID, side, GRID, side, 3).transpose(0, 2, 1, 3, 4)
    return blocks[cells].reshape(-1, side, 3)


def measured(name: str, view: NDArray[np.uint8]) -> Measured:
    """Return what a property's difference is told by, as a vector.

    Of the colours and the brightness it is the mean colour: a tint moves it everywhere, and may leave the saturation of a part as it
    was. Of contrast and sharpness it is the logarithm: a tint lowers them by the same share everywhere.
    """
    if name in ("hue", "saturation", "brightness"):
        return np.asarray(view.reshape(-1, view.shape[2]).mean(axis=0, dtype=np.float64))
    value = image_statistics(view)[name]
    return np.array([np.log(max(value, FAINTEST)) if name in ("contrast", "sharpness") else value])
