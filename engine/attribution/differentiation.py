"""Passes through a network whose scores are differentiated with respect to its input.

The parameters ask for no gradient meanwhile, so that the graph holds only what leads from the input to the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from engine.attribution.rectifiers import guide
from engine.attribution.subjects import Network, chunks
from engine.tracing import evaluating, without_gradients


@contextmanager
def differentiating(module: nn.Module) -> Iterator[None]:
    """Run passes inside with grad mode on, in evaluation mode, the parameters asking for no gradient; all put back."""
    with evaluating(module), torch.inference_mode(False), without_gradients(module):
        yield


@contextmanager
def watching_grad_mode(module: nn.Module) -> Iterator[list[str]]:
    """Collect the names of the submodules that are run with grad mode off, by a `torch.no_grad()` of the network's own."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(_part: nn.Module, _inputs: Any) -> None:
            if not torch.is_grad_enabled():
                found.append(name)

        return hook

    handles = []
    try:
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                handles.append(part.register_forward_pre_hook(watch(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def run(network: Network, inputs: Tensor) -> Tensor:
    """Return the scores (N, classes) of one pass; the network gets a copy, which it may change in place."""
    scores: Tensor = network.scores(network.module(inputs.clone()))
    return scores


def gradient_of(scores: Callable[[Tensor], Tensor], inputs: Tensor, classes: Tensor) -> Tensor:
    """Return ∂S/∂x of each input's class, (N, C, H, W), through Captum.

    Args:
        scores: The forward pass, (N, C, H, W) to (N, classes).
        inputs: (N, C, H, W).
        classes: (N,) int64 on the inputs' device.
    """
    from captum.attr import Saliency

    leaf = inputs.detach().clone().requires_grad_()
    gradient: Tensor = Saliency(scores).attribute(leaf, target=classes, abs=False)
    return gradient.detach()


class Passes:
    """The images and classes to be explained, a pair a row, and the passes that a method may ask of the network.

    Args:
        network: The classifier.
        inputs: The image of each pair, (P, C, H, W).
        classes: The class of each pair, (P,) int64 on the inputs' device.
        contents: The content key of each pair's image.
        budget: Inputs that one pass may hold.
        cams: Returns the target layer's Grad-CAM of some inputs and their classes, (P, h, w).
    """

    def __init__(
        self,
        network: Network,
        inputs: Tensor,
        classes: Tensor,
        contents: Sequence[str],
        budget: int,
        cams: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.network = network
        self.inputs = inputs
        self.classes = classes
        self.contents = contents
        self.budget = budget
        self._cams = cams

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.contents)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the scores (N, classes) of one pass, for Captum."""
        return run(self.network, inputs)

    def scores(self, inputs: Tensor) -> Tensor:
        """Return the score of each pair's class when the network sees these inputs, (P,)."""
        with torch.no_grad():
            return torch.cat(
                [
                    self.forward(inputs[part]).gather(1, self.classes[part, None])[:, 0]
                    for part in chunks(len(inputs), self.budget)
                ]
            )

    def gradient(self, inputs: Tensor, classes: Tensor, guided: bool = False) -> Tensor:
        """Return ∂S/∂x at some inputs for their classes, (N, C, H, W); by the guided rule at rectifiers if asked."""

        def guided_scores(batch: Tensor) -> Tensor:
            scores = self.forward(batch)
            guide(scores, type(self.network.module).__name__)
            return scores

        forward = guided_scores if guided else self.forward
        return torch.cat(
            [gradient_of(forward, inputs[part], classes[part]) for part in chunks(len(inputs), self.budget)]
        )

    @cached_property
    def gradients(self) -> Tensor:
        """∂S/∂x at the images, (P, C, H, W); several methods share them."""
        return self.gradient(self.inputs, self.classes)

    @cached_property
    def guided(self) -> Tensor:
        """Gradients by the guided rule at the images, (P, C, H, W); two methods share them."""
        return self.gradient(self.inputs, self.classes, guided=True)

    @cached_property
    def own_scores(self) -> Tensor:
        """S(x) of each pair, (P,)."""
        return self.scores(self.inputs)

    @cached_property
    def cams(self) -> Tensor:
        """Grad-CAM of the target layer, (P, h, w), unscaled."""
        parts = chunks(len(self), self.budget)
        return torch.cat([self._cams(self.inputs[part], self.classes[part]) for part in parts])
