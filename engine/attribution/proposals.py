"""What a method of the perturbation family is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.attribution.masking import Ablations, Layout, Masks, Score
from engine.attribution.registry import Family, Parameter
from engine.attribution.subjects import Subjects
from engine.attribution.superpixels import segment

FAMILY: Family = "perturbation"

SEEDS = Parameter(
    "seeds", 1, "Repetitions with draws of their own; maps are averaged, seed_spread is stored.", 1, 100
)


def score_parameter(default: Score) -> Parameter:
    """Return the parameter that says which score of the class is explained."""
    return Parameter(
        "score", default, "Which score of the class is explained.", choices=("probability", "logit")
    )


@dataclass
class Estimate:
    """What the scores of one image came to, for each of its T classes.

    Attributes:
        maps: (T, h, w).
        statistics: Trust in each map: (T,) each.
        weights: (T, superpixels), of methods on superpixels.
        intercept: (T,), likewise.
    """

    maps: Tensor
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    weights: NDArray[np.float64] | None = None
    intercept: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Proposal:
    """The passes that a method asks for.

    Attributes:
        masks: What each pass hides.
        finish: Turns the scores (passes, T) into maps.
        score: Which score it works on.
        labels: Compressed superpixels, where it works on those.
    """

    masks: Masks | Ablations
    finish: Callable[[Tensor], Estimate]
    score: Score
    labels: bytes | None = None


class Scene:
    """One image of a batch, and what methods share about it."""

    def __init__(self, subjects: Subjects, row: int, layout: Layout, black: Tensor) -> None:
        self.image = subjects.inputs[row]
        """The input, (C, H, W)."""
        self.pixels = subjects.pixels[row]
        self.layout = layout
        self.black = black
        self.activations: Tensor | None = None
        """The target layer's output, (K, h, w), where a method needs it."""
        self._superpixels: dict[tuple[str, int], NDArray[np.uint16]] = {}

    def superpixels(self, algorithm: str, segments: int) -> NDArray[np.uint16]:
        """Return the labels of the pixels, (H, W); computed once for all methods that ask for the same."""
        key = (algorithm, segments)
        if key not in self._superpixels:
            self._superpixels[key] = segment(self.pixels, algorithm, segments)
        return self._superpixels[key]
