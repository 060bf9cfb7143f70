"""What the tests of the gradient family share: a network as the family sees it, batches, and maps of one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine.attribution.gradient import GradientExplainer
from engine.attribution.registry import MethodRequest, methods
from engine.attribution.subjects import Maps, Network, Subjects
from engine.layers import find_target_layer

BLACK = (-1.8, -2.1, -1.6)
FAMILY = [name for name, method in methods().items() if method.family == "gradient"]
FEW = {"integrated_gradients": {"steps": 7}, "smoothgrad": {"samples": 5}, "gradient_shap": {"samples": 7}}


def network_of(
    module: nn.Module, channels: int = 3, scores: Callable[[Tensor], Tensor] = lambda logits: logits
) -> Network:
    """Return a module as the family sees it, black being a different value in each channel."""
    return Network(module, scores, lambda logits: scores(logits).softmax(1), torch.tensor(BLACK[:channels]))


def subjects(
    inputs: Tensor, targets: Tensor, contents: Sequence[str] | None = None, budget: int = 64
) -> Subjects:
    """Return a batch; targets are (N,) or (N, T)."""
    count, channels, height, width = inputs.shape
    columns = targets if targets.ndim == 2 else targets[:, None]
    names = contents or [f"image {i}" for i in range(count)]
    pixels = np.zeros((count, height, width, channels), np.uint8)
    return Subjects(inputs, pixels, columns, names, budget)


def request(name: str, **parameters: object) -> MethodRequest:
    """Return a method with parameters."""
    method = methods()[name]
    return MethodRequest(method, method.resolve(parameters))


def few(name: str) -> MethodRequest:
    """Return a method with few steps or samples."""
    return request(name, **FEW.get(name, {}))


def explainer_of(
    module: nn.Module, inputs: Tensor, layered: bool = False, **options: object
) -> GradientExplainer:
    """Return the family's explainer of a network, with its target layer where asked for."""
    example = inputs[:1].clone()
    layer = find_target_layer(module, example.clone()) if layered else None
    return GradientExplainer(network_of(module, inputs.shape[1], **options), example, layer)


def explain(module: nn.Module, inputs: Tensor, targets: Tensor, name: str, **parameters: object) -> Maps:
    """Return one method's maps."""
    explainer = explainer_of(module, inputs, layered=name == "guided_gradcam")
    return explainer.explain(subjects(inputs, targets), [request(name, **parameters)])[name]


def maps_of(module: nn.Module, inputs: Tensor, targets: Tensor, name: str, **parameters: object) -> Tensor:
    """Return one method's maps of one class an image, (N, H, W)."""
    return explain(module, inputs, targets, name, **parameters).maps[:, 0]


def lively(module: nn.Module) -> nn.Module:
    """Give every weight a size that keeps activations alive through a deep network, and the head one as well."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return module.eval()


def refused(module: nn.Module, inputs: Tensor, name: str, **options: object) -> str:
    """Return the sentence with which a method is refused."""
    sentence = explainer_of(module, inputs, **options).refusal(request(name))
    assert sentence is not None
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def assert_close(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """Compare maps to a share of the largest value."""
    assert found.shape == expected.shape
    largest = expected.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=share * largest)
