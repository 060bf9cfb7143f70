"""The gradient family's methods, each a few lines on the same passes.

A method is given the `Passes` of a batch's pairs of image and class, and its parameters by name, and returns their
maps, (P, H, W). One with a parameter `seeds` is sampled: it is called once a seed, without that parameter, with
`generators`, one source of draws a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from engine.attribution.baselines import BASELINES, baseline
from engine.attribution.differentiation import Passes, gradient_of
from engine.attribution.registry import Family, Parameter, register
from engine.attribution.rescale import rescaled
from engine.attribution.subjects import chunks

FAMILY: Family = "gradient"
_PRESETS = ("standard", "thorough")
_SHAP_BASELINES = ("black", "blur", "noise")

_BASELINE = Parameter(
    "baseline",
    "black",
    "What stands for an image without evidence: black, the image's mean colour, or the image blurred.",
    choices=BASELINES,
)
_SEEDS = Parameter("seeds", 1, "Repetitions with other draws, whose maps are averaged.", low=1, high=100)


@dataclass(frozen=True)
class Found:
    """Maps with what the method knows about them.

    Attributes:
        maps: (P, H, W).
        statistics: By the name of a field of `engine.trust.TRUST`: (P,).
    """

    maps: Tensor
    statistics: dict[str, Tensor]


@register(
    "saliency",
    title="Saliency",
    family=FAMILY,
    summary="How much the score changes with each pixel: the gradient's magnitude, largest over the channels.",
    reference="Simonyan et al. 2013, arXiv:1312.6034",
    needs=("gradients",),
    passes="1 forward and backward, shared with input × gradient",
    presets=_PRESETS,
)
def saliency(passes: Passes) -> Tensor:
    """M = max_c |∂S/∂x_c|."""
    return _magnitude(passes.gradients)


@register(
    "input_x_gradient",
    title="Input × gradient",
    family=FAMILY,
    summary="The gradient times the input, summed over the channels: a first-order share of the score.",
    reference="Shrikumar et al. 2016, arXiv:1605.01713",
    needs=("gradients",),
    signed=True,
    passes="1 forward and backward, shared with saliency",
    presets=_PRESETS,
)
def input_x_gradient(passes: Passes) -> Tensor:
    """M = Σ_c x_c ∂S/∂x_c."""
    return (passes.inputs * passes.gradients).sum(1)


@register(
    "guided_backprop",
    title="Guided backpropagation",
    family=FAMILY,
    summary="The gradient that only positive gradients of active rectifiers reach; only for networks of rectifiers.",
    reference="Springenberg et al. 2014, arXiv:1412.6806",
    needs=("gradients",),
    passes="1 forward and backward, shared with guided Grad-CAM",
    presets=_PRESETS,
)
def guided_backprop(passes: Passes) -> Tensor:
    """M = max_c |∂S/∂x_c|, with max(g, 0) in the place of g behind every rectifier."""
    return _magnitude(passes.guided)


@register(
    "guided_gradcam",
    title="Guided Grad-CAM",
    family=FAMILY,
    summary="Guided backpropagation where Grad-CAM of the target layer finds the class.",
    reference="Selvaraju et al. 2017, arXiv:1610.02391",
    needs=("gradients", "spatial_layer"),
    passes="1 forward and backward, shared with guided backpropagation; 1 forward, 1 backward through the head",
    presets=_PRESETS,
)
def guided_gradcam(passes: Passes) -> Tensor:
    """M = guided backpropagation ⊙ Grad-CAM, the latter enlarged bilinearly."""
    size = passes.inputs.shape[2:]
    enlarged = interpolate(passes.cams[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return _magnitude(passes.guided) * enlarged


@register(
    "integrated_gradients",
    title="Integrated gradients",
    family=FAMILY,
    summary="Gradients averaged on the way from a baseline to the image, times the way: shares that add up to the score's difference.",
    reference="Sundararajan et al. 2017, arXiv:1703.01365",
    parameters=(
        Parameter("steps", 50, "Points on the way (Gauss–Legendre).", low=1, high=2000),
        _BASELINE,
    ),
    needs=("gradients",),
    signed=True,
    passes="steps (50) forward and backward, 2 forward",
    presets=_PRESETS,
    trust=("additivity_error",),
)
def integrated_gradients(passes: Passes, steps: int, baseline: str) -> Found:
    """M = Σ_c (x − x')_c ∫₀¹ ∂S/∂x_c (x' + α (x − x')) dα; ΣM = S(x) − S(x')."""
    from captum.attr import IntegratedGradients

    references = _references(passes, baseline)
    captum = IntegratedGradients(passes.forward)
    parts = [
        captum.attribute(
            passes.inputs[part],
            baselines=references[part],
            target=passes.classes[part],
            n_steps=steps,
            internal_batch_size=passes.budget,
        )
        for part in chunks(len(passes), passes.budget)
    ]
    return _additive(passes, torch.cat(parts).detach().sum(1), references)


@register(
    "smoothgrad",
    title="SmoothGrad",
    family=FAMILY,
    summary="Saliency of the mean gradient over noisy copies of the image.",
    reference="Smilkov et al. 2017, arXiv:1706.03825",
    parameters=(
        Parameter("samples", 50, "Noisy copies.", low=1, high=10_000),
        Parameter(
            "noise", 0.15, "Standard deviation of the noise, in shares of the image's range.", low=0, high=2
        ),
        _SEEDS,
    ),
    needs=("gradients",),
    passes="samples (50) × seeds (1) forward and backward",
    presets=_PRESETS,
)
def smoothgrad(
    passes: Passes, samples: int, noise: float, generators: Sequence[np.random.Generator]
) -> Tensor:
    """M = max_c |mean_k ∂S/∂x_c (x + ε_k)|, ε ~ N(0, σ²), σ = noise · (max x − min x)."""
    inputs = passes.inputs
    deviation = noise * (inputs.amax((1, 2, 3), True) - inputs.amin((1, 2, 3), True))
    total = torch.zeros_like(inputs)
    for owners, _ in _samples(passes, samples):
        drawn = np.stack([generators[o].standard_normal(inputs.shape[1:], np.float32) for o in owners])
        at = torch.tensor(owners, device=inputs.device)
        noisy = inputs[at] + deviation[at] * _on(inputs, drawn)
        _add(total, owners, passes.gradient(noisy, passes.classes[at]))
    return _magnitude(total / samples)


@register(
    "deeplift",
    title="DeepLIFT",
    family=FAMILY,
    summary="Differences of activations from a baseline's, passed back by the rescale rule: shares that add up to the score's difference.",
    reference="Shrikumar et al. 2017, arXiv:1704.02685",
    parameters=(_BASELINE,),
    needs=("gradients",),
    signed=True,
    passes="1 forward and backward, 3 forward",
    presets=_PRESETS,
    trust=("additivity_error",),
)
def deeplift(passes: Passes, baseline: str) -> Found:
    """M = Σ_c (x − x')_c m_c, with multipliers m = Δy / Δx at every activation; ΣM = S(x) − S(x')."""
    references = _references(passes, baseline)
    # The reference's activations are kept beside the image's: half the inputs need a full pass's memory.
    parts = chunks(len(passes), max(1, passes.budget // 2))
    multipliers = torch.cat([_multipliers(passes, part, references[part]) for part in parts])
    maps = ((passes.inputs - references) * multipliers).sum(1)
    return _additive(passes, maps, references)


@register(
    "gradient_shap",
    title="Gradient SHAP",
    family=FAMILY,
    summary="Expected gradients: integrated gradients averaged over several baselines, one random point on the way to each.",
    reference="Erion et al. 2021, arXiv:1906.10670",
    parameters=(
        Parameter("samples", 50, "Points, each on the way from one baseline.", low=1, high=10_000),
        Parameter(
            "baselines",
            "mixed",
            "Where the ways begin: black, the image blurred, uniform noise of the image's range, or the three in turn.",
            choices=("mixed", *_SHAP_BASELINES),
        ),
        _SEEDS,
    ),
    needs=("gradients",),
    signed=True,
    passes="samples (50) × seeds (1) forward and backward",
    presets=_PRESETS,
)
def gradient_shap(
    passes: Passes, samples: int, baselines: str, generators: Sequence[np.random.Generator]
) -> Tensor:
    """M = Σ_c mean_k (x − b_k)_c ∂S/∂x_c (b_k + α_k (x − b_k)), α ~ U(0, 1)."""
    inputs = passes.inputs
    kinds = _SHAP_BASELINES if baselines == "mixed" else (baselines,)
    fixed = {name: _references(passes, name) for name in kinds if name != "noise"}
    low, range_ = inputs.amin((2, 3), True), inputs.amax((2, 3), True) - inputs.amin((2, 3), True)
    total = torch.zeros_like(inputs)
    for owners, indices in _samples(passes, samples):
        starts, shares = [], []
        for owner, index in zip(owners, indices, strict=True):
            name = kinds[index % len(kinds)]
            shares.append(generators[owner].random(dtype=np.float32))
            if name == "noise":
                drawn = _on(inputs, generators[owner].random(inputs.shape[1:], np.float32))
                starts.append(low[owner] + range_[owner] * drawn)
            else:
                starts.append(fixed[name][owner])
        start, at = torch.stack(starts), torch.tensor(owners, device=inputs.device)
        way = inputs[at] - start
        share = _on(inputs, np.array(shares, np.float32))[:, None, None, None]
        _add(total, owners, way * passes.gradient(start + share * way, passes.classes[at]))
    return (total / samples).sum(1)


def _multipliers(passes: Passes, part: slice, references: Tensor) -> Tensor:
    forward, _ = rescaled(passes.network, references)
    return gradient_of(forward, passes.inputs[part], passes.classes[part])


def _magnitude(gradients: Tensor) -> Tensor:
    return gradients.abs().amax(1)


def _references(passes: Passes, kind: str) -> Tensor:
    return baseline(kind, passes.inputs, passes.network.black)


def _additive(passes: Passes, maps: Tensor, references: Tensor) -> Found:
    """Return maps with how far their sums are from the difference of the scores."""
    difference = passes.own_scores - passes.scores(references)
    return Found(maps, {"additivity_error": (maps.sum((1, 2)) - difference).abs()})


def _samples(passes: Passes, samples: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield, a full pass at a time, the pairs that the samples belong to and the number of each within its pair."""
    for part in chunks(len(passes) * samples, passes.budget):
        at = range(part.start, part.stop)
        yield [i // samples for i in at], [i % samples for i in at]


def _add(total: Tensor, owners: Sequence[int], values: Tensor) -> None:
    """Add the values of a pass to their pairs, whose samples follow each other."""
    for owner in dict.fromkeys(owners):
        start = owners.index(owner)
        total[owner] += values[start : start + owners.count(owner)].sum(0)


def _on(inputs: Tensor, drawn: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(drawn).to(inputs)
