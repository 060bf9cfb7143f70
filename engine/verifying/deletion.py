"""Deletion: does the prediction leave the class when the attended content is covered?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.interventions import FILLS
from engine.verifying.intervals import Outcome
from engine.verifying.patches import elsewhere
from engine.verifying.subjects import Stock
from engine.verifying.transplant import Shape
from engine.verifying.trials import Trial


def deletions(shape: Shape, donors: Stock, class_index: int, rng: np.random.Generator) -> Iterator[Trial]:
    """Yield a trial for each of the finding's images: its patch covered with every fill, and an equal area elsewhere.

    Args:
        shape: How patches are cut.
        donors: The finding's images, each used once.
        class_index: The class that their predictions should leave.
        rng: Draws the controls.
    """

    def left(predicted: NDArray[np.int64]) -> Outcome:
        gone = predicted != class_index
        covered, control = gone[: len(FILLS)], gone[len(FILLS) :]
        # Most of the fills must agree: one that happens to look like another class proves nothing.
        return Outcome(_most(covered), _most(control), parts=tuple(covered.tolist()))

    for at in count():
        donor = donors.get(at)
        if donor is None:
            return
        patch = shape.cut(donor)
        if patch is None:
            continue
        other = elsewhere(patch, rng)
        height, width = donor.size
        views = [
            fill(donor.view, area.mask(height, width)) for area in (patch, other) for fill in FILLS.values()
        ]
        yield Trial(views, left)


def _most(votes: NDArray[np.bool_]) -> bool:
    return bool(2 * votes.sum() > len(votes))


def share_by_fill(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the share of the images that each fill took out of the class; empty without images."""
    if not outcomes:
        return {}
    shares = np.mean([outcome.parts for outcome in outcomes], axis=0)
    return {f"deletion_{name}": float(share) for name, share in zip(FILLS, shares, strict=True)}
