"""Methods that weigh the target layer's channels by what the score does without them, or with them alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.attribution.masking import Ablations, Layout, Score
from engine.attribution.occlusions import upsampling
from engine.attribution.proposals import FAMILY, Estimate, Proposal, Scene, score_parameter
from engine.attribution.registry import register

_CONSTANT = 1e-6
"""Share of its largest magnitude within which a channel counts as the same everywhere."""


@dataclass(frozen=True)
class ChannelMasks:
    """The image times channels, each enlarged and scaled to 0..1; a channel of zeros hides all of it."""

    channels: Tensor
    """(passes, h, w)."""
    down: Tensor
    """Enlarges rows, (matrix rows, h)."""
    across: Tensor
    """Enlarges columns, (matrix columns, w)."""
    image: Tensor
    """In the order of the inputs' memory."""
    layout: Layout

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.channels)

    def write(self, rows: slice, out: Tensor) -> None:
        """Write these masked versions."""
        masks = (self.down @ self.channels[rows] @ self.across.T).flatten(1)
        low, high = masks.aminmax(dim=1, keepdim=True)
        scale = torch.where(high > low, high - low, 1)
        masks = masks.sub_(low).div_(scale)
        torch.mul(masks.to(self.image.dtype), self.image, out=self.layout.flat(out))


@register(
    "scorecam",
    title="Score-CAM",
    family=FAMILY,
    summary="Weighs each channel of the target layer by the score of the image seen through that channel alone.",
    reference="Wang et al. 2020, arXiv:1910.01279",
    parameters=(score_parameter("logit"),),
    needs=("spatial_layer", "forward_only"),
    passes="1 forward a channel of the target layer (2,048 for ResNet-50)",
    presets=("thorough",),
)
def scorecam(scene: Scene, draws: np.random.Generator, score: Score) -> Proposal:
    """M = ReLU(Σ_k α_k A_k), α = softmax over k of f(x ⊙ H_k), H_k being A_k enlarged and scaled to 0..1.

    The paper subtracts the score of a baseline, which the softmax cancels. Channels that are the same everywhere
    make no mask: they stand for the image hidden altogether, and share one pass.
    """
    assert scene.activations is not None
    activations = scene.activations
    _, height, width = scene.image.shape
    flat = activations.flatten(1)
    varies = flat.amax(1) - flat.amin(1) > _CONSTANT * flat.abs().amax(1)
    numbers = varies.nonzero()[:, 0]
    empty = int(len(numbers) < len(flat))
    channels = torch.cat([activations[numbers], torch.zeros_like(activations[:empty])])
    down, across = (
        upsampling(cells, size).to(channels)
        for cells, size in zip(activations.shape[1:], (height, width), strict=True)
    )
    layout = scene.layout
    masks = ChannelMasks(
        channels, layout.rows(down), layout.columns(across), layout.laid(scene.image), layout
    )

    def finish(scores: Tensor) -> Estimate:
        every = (
            scores[-1:].expand(len(flat), -1).double().index_copy(0, numbers, scores[: len(numbers)].double())
        )
        return Estimate(_weighted(every.softmax(0), flat, activations))

    return Proposal(masks, finish, score)


@register(
    "ablationcam",
    title="Ablation-CAM",
    family=FAMILY,
    summary="Weighs each channel of the target layer by the share of the score that goes when it is zeroed.",
    reference="Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
    parameters=(score_parameter("logit"),),
    needs=("spatial_layer", "forward_only"),
    passes="1 pass through the head a channel of the target layer (2,048 for ResNet-50)",
    presets=("thorough",),
)
def ablationcam(scene: Scene, draws: np.random.Generator, score: Score) -> Proposal:
    """M = ReLU(Σ_k w_k A_k), w_k = (y − y_k) / |y| with y_k the score without channel k.

    The paper divides by y, which turns the map of a negative score around; the magnitude does not. Channels that are
    zero everywhere change nothing when zeroed, and are not asked.
    """
    assert scene.activations is not None
    activations = scene.activations
    flat = activations.flatten(1)
    numbers = (flat != 0).any(1).nonzero()[:, 0]
    whole = numbers.new_full((1,), -1)

    def finish(scores: Tensor) -> Estimate:
        exact = scores.double()
        scale = torch.where(exact[:1] == 0, 1, exact[:1].abs())
        weights = exact.new_zeros(len(flat), scores.shape[1])
        weights[numbers] = (exact[:1] - exact[1:]) / scale
        return Estimate(_weighted(weights, flat, activations))

    return Proposal(Ablations(torch.cat([whole, numbers])), finish, score)


def _weighted(weights: Tensor, flat: Tensor, activations: Tensor) -> Tensor:
    """Return ReLU(Σ_k w_k A_k) of every class, (T, h, w)."""
    maps = (weights.T @ flat.double()).relu().float()
    return maps.view(-1, *activations.shape[1:])
