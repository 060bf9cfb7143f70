"""Batches for the perturbation family's tests, and networks whose scores depend on the image enough to be compared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from engine.attribution.perturbation import PerturbationExplainer
from engine.attribution.registry import MethodRequest, methods
from engine.attribution.subjects import Maps, Network, Subjects
from engine.layers import TargetLayer, find_target_layer
from tests.engine.pictures import photo
from tests.engine.small_networks import two_scores

FEW = {"samples": 60, "masks": 60, "segments": 30}


def network_of(module: nn.Module, channels: int = 3) -> Network:
    """The network as families see it; a single logit becomes two scores."""

    def scores(logits: Tensor) -> Tensor:
        return two_scores(logits) if logits.shape[1] == 1 else logits

    def probabilities(logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return two_scores(logits).float().sigmoid()
        return logits.float().softmax(1)

    return Network(module, scores, probabilities, torch.full((channels,), -2.0))


def sensitive(module: nn.Module) -> nn.Module:
    """Raise the weights until probabilities move: random networks hardly look at the image."""
    torch.nn.init.normal_([p for p in module.parameters() if p.ndim > 1][-1], std=5.0)
    return module.eval()


def pictures(count: int, size: int | tuple[int, int] = 40, channels: int = 3) -> np.ndarray:
    """Views, (count, H, W, C) uint8."""
    height, width = (size, size) if isinstance(size, int) else size
    views = np.stack([np.asarray(photo(width, height)) for _ in range(count)])
    return views[..., :channels]


def subjects_of(
    pixels: np.ndarray,
    targets: Tensor,
    budget: int = 16,
    layout: torch.memory_format = torch.contiguous_format,
    contents: list[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Subjects:
    inputs = (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    inputs = inputs.to(dtype).contiguous(memory_format=layout)
    return Subjects(inputs, pixels, targets, contents or [f"image {i}" for i in range(len(pixels))], budget)


def ask(name: str, **given: object) -> MethodRequest:
    """A request with few passes, unless it says otherwise."""
    method = methods()[name]
    known = {p.name for p in method.parameters}
    few = {k: v for k, v in FEW.items() if k in known}
    return MethodRequest(method, method.resolve({**few, **given}))


def explain(
    module: nn.Module, subjects: Subjects, *requests: MethodRequest, layer: TargetLayer | None = None
) -> dict[str, Maps]:
    needs = any("spatial_layer" in request.method.needs for request in requests)
    found = layer or (find_target_layer(module, subjects.inputs[:1]) if needs else None)
    network = network_of(module, subjects.inputs.shape[1])
    return PerturbationExplainer(network, subjects.inputs[:1], found).explain(subjects, requests)
