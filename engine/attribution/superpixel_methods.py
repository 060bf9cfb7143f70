"""Methods on superpixels: LIME and Kernel SHAP."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.schema import Column
from engine.attribution.designs import importance
from engine.attribution.fills import FILLS, fill_of
from engine.attribution.masking import Layout, Score
from engine.attribution.proposals import FAMILY, SEEDS, Estimate, Proposal, Scene, score_parameter
from engine.attribution.registry import Parameter, register
from engine.attribution.superpixels import ALGORITHMS
from engine.attribution.surrogates import (
    States,
    Surrogate,
    lime_fit,
    lime_states,
    shap_coalitions,
    shap_fit,
)

COLUMNS = (
    Column(
        "superpixels",
        pa.binary(),
        "superpixel of every pixel of the view: uint16 little-endian, row by row, zlib-compressed",
        nullable=True,
    ),
    Column("weights", pa.list_(pa.float32()), "signed weight of each superpixel", nullable=True),
    Column(
        "intercept",
        pa.float32(),
        "score with every superpixel hidden, as the surrogate has it",
        nullable=True,
    ),
)

_SUPERPIXELS = (
    Parameter("superpixels", "slic", "How the image is cut into superpixels.", choices=ALGORITHMS),
    Parameter("segments", 50, "About how many superpixels; quickshift decides for itself.", 1, 2000),
)
_FILL = Parameter(
    "fill",
    "mean",
    "What hidden superpixels become: their own mean colour, a blur, black, or noise.",
    choices=FILLS,
)


@dataclass(frozen=True)
class SuperpixelMasks:
    """The image with superpixels hidden; tensors of pixels lie in the order of the inputs' memory."""

    states: Tensor
    """Which superpixels each pass shows, (passes, superpixels) bool."""
    labels: Tensor
    """int32: it is gathered several times as fast as int64 on a CPU."""
    fill: Tensor
    difference: Tensor
    """Image minus fill."""
    layout: Layout

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.states)

    def write(self, rows: slice, out: Tensor) -> None:
        """Write these masked versions."""
        shown = self.states[rows].to(self.fill.dtype).index_select(1, self.labels)
        torch.addcmul(self.fill, self.difference, shown, out=self.layout.flat(out))


def _propose(
    scene: Scene,
    labels: NDArray[np.uint16],
    states: States,
    fill: str,
    draws: np.random.Generator,
    score: Score,
    fit: Callable[[NDArray[np.float64]], Surrogate],
    trust: str,
) -> Proposal:
    """Return the passes that show these superpixels, and paint each superpixel with the weight it is given."""
    device, layout = scene.image.device, scene.layout
    numbers = torch.from_numpy(labels.astype(np.int64)).to(device)
    hidden = fill_of(fill, scene.image, scene.black, draws, numbers)
    laid = layout.laid(hidden)
    masks = SuperpixelMasks(
        torch.from_numpy(states).to(device),
        layout.laid(numbers[None].int()).contiguous(),
        laid,
        layout.laid(scene.image) - laid,
        layout,
    )

    def finish(scores: Tensor) -> Estimate:
        surrogate = fit(scores.cpu().numpy().astype(np.float64))
        weights = torch.from_numpy(surrogate.weights).to(numbers.device, torch.float32)
        return Estimate(weights[:, numbers], {trust: surrogate.trust}, surrogate.weights, surrogate.intercept)

    return Proposal(masks, finish, score, zlib.compress(labels.astype("<u2").tobytes()))


@register(
    "lime",
    title="LIME",
    family=FAMILY,
    summary="Fits a linear model to the scores of the image with random superpixels hidden; shows its weights.",
    reference="Ribeiro et al. 2016, arXiv:1602.04938",
    parameters=(
        *_SUPERPIXELS,
        Parameter("samples", 1000, "Passes, the whole image's included.", 2, 100_000),
        _FILL,
        Parameter(
            "kernel_width", 0.25, "Width of the kernel that weighs passes by their nearness.", 0.01, 100.0
        ),
        Parameter(
            "sampling",
            "paired",
            "How superpixels are drawn: complementary, balanced pairs, or independently as in the lime package.",
            choices=("paired", "independent"),
        ),
        score_parameter("probability"),
        SEEDS,
    ),
    needs=("forward_only",),
    signed=True,
    passes="1,000 forward (samples)",
    presets=("thorough",),
    columns=COLUMNS,
    trust=("surrogate_r2",),
    version=2,
)
def lime(
    scene: Scene,
    draws: np.random.Generator,
    superpixels: str,
    segments: int,
    samples: int,
    fill: str,
    kernel_width: float,
    sampling: str,
    score: Score,
) -> Proposal:
    """Weights of the ridge regression that the lime package fits on which superpixels were shown."""
    labels = scene.superpixels(superpixels, segments)
    expected = importance(scene.pixels, labels)
    states = lime_states(len(expected), samples, sampling, draws, expected)
    return _propose(
        scene, labels, states, fill, draws, score,
        lambda scores: lime_fit(states, scores, kernel_width), "surrogate_r2",
    )  # fmt: skip


@register(
    "kernel_shap",
    title="Kernel SHAP",
    family=FAMILY,
    summary="Shares the score out among superpixels by their Shapley values, so that the shares add up to it.",
    reference="Lundberg and Lee 2017, arXiv:1705.07874",
    parameters=(
        *_SUPERPIXELS,
        Parameter(
            "samples",
            1000,
            "Passes, those with everything shown and hidden included; up to 10 superpixels every subset is asked.",
            4,
            100_000,
        ),
        _FILL,
        score_parameter("probability"),
        SEEDS,
    ),
    needs=("forward_only",),
    signed=True,
    passes="1,000 forward (samples)",
    presets=("thorough",),
    columns=COLUMNS,
    trust=("additivity_error",),
)
def kernel_shap(
    scene: Scene,
    draws: np.random.Generator,
    superpixels: str,
    segments: int,
    samples: int,
    fill: str,
    score: Score,
) -> Proposal:
    """φ of the weighted regression f(z) ≈ f(∅) + Σ φ z with Σφ = f(x) − f(∅)."""
    labels = scene.superpixels(superpixels, segments)
    coalitions = shap_coalitions(int(labels.max()) + 1, samples, draws)
    return _propose(
        scene, labels, coalitions.states, fill, draws, score,
        lambda scores: shap_fit(coalitions, scores), "additivity_error",
    )  # fmt: skip
