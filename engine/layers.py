"""The target layer: where in a convolutional network the activation methods look, and how it is found."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cache.errors import LayerError

_ATTENTION_PARAMETERS = ("qkv", "query", "in_proj", "q_proj", "to_q", "q.weight", "kv.weight")


@dataclass(frozen=True)
class TargetLayer:
    """A module's output whose activations are explained.

    Attributes:
        name: Dotted name of the module.
        call: Which of its calls in one forward pass, counted from 0 (a module may be used several times).
        channels: Channels of the output.
        height: Rows of the output.
        width: Columns of the output.
    """

    name: str
    call: int
    channels: int
    height: int
    width: int

    @property
    def identity(self) -> str:
        """Name and call in one text, for cache keys."""
        return self.name if self.call == 0 else f"{self.name}#{self.call}"


@dataclass(frozen=True)
class Call:
    """One completed call of a module in a traced forward pass, in order of completion."""

    name: str
    module: nn.Module
    call: int
    shape: tuple[int, ...] | None
    """Shape of its output; None where that is no tensor."""

    @property
    def spatial(self) -> bool:
        """Whether the output is (batch, channels, height, width) with more than one position."""
        return self.shape is not None and len(self.shape) == 4 and self.shape[2] * self.shape[3] > 1

    @property
    def positions(self) -> tuple[int, ...]:
        """Height and width of a spatial output."""
        return (self.shape or ())[2:]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every submodule in evaluation mode, and each back to its own mode afterwards, after errors too."""
    training = [part for part in module.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


def trace(module: nn.Module, example: Tensor) -> list[Call]:
    """Return every call of every submodule in one forward pass, the root's excluded, in order of completion."""
    calls: list[Call] = []
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(part: nn.Module, _inputs: Any, output: Any) -> None:
            count = counts[name] = counts.get(name, -1) + 1
            shape = tuple(output.shape) if isinstance(output, Tensor) else None
            calls.append(Call(name, part, count, shape))

        return hook

    handles = []
    try:
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                handles.append(part.register_forward_hook(watch(name)))
        with evaluating(module), torch.inference_mode(False), torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@dataclass
class Capture:
    """What one forward pass left behind."""

    activations: Tensor | None = None
    """The target layer's output, detached, untouched by whatever the network does to it later."""
    features: Tensor | None = None
    """Input of the last linear layer."""


@contextmanager
def capturing(
    module: nn.Module,
    layer: TargetLayer,
    linear: Call | None = None,
    *,
    gradients: bool = True,
    frozen: bool = False,
    replace: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Capture]:
    """Run forward passes inside with the network in evaluation mode, and take the target layer's output.

    With gradients, that output becomes a leaf and grad mode is switched on from there: the graph holds the head
    only. The network goes on with a copy, so that operations in place (DenseNet's last ReLU) neither fail on the
    leaf nor change what was taken. Hooks, modes and grad mode are put back on leaving, after errors too.

    Args:
        module: The network.
        layer: Where to look.
        linear: The linear layer whose input is wanted.
        gradients: Whether to make the activations a leaf that gradients can be asked of.
        frozen: Keep grad mode on throughout, with the parameters asking for no gradient, for networks that run
            their own `torch.no_grad()` around the layer and would otherwise switch it off behind it.
        replace: Stands in for the layer's output, to probe the head.
    """
    capture = Capture()
    part = module.get_submodule(layer.name)
    counts = {"layer": -1, "linear": -1}

    def take(_part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        counts["layer"] += 1
        if counts["layer"] != layer.call:
            return None
        leaf = output.detach()
        if replace is not None:
            leaf = replace(leaf)
        elif any(isinstance(i, Tensor) and i.data_ptr() == leaf.data_ptr() for i in inputs):
            # The layer worked in place or passed its input through: somebody else may hold, and change, that.
            leaf = leaf.clone()
        capture.activations = leaf
        if gradients:
            leaf.requires_grad_()
            torch.set_grad_enabled(True)
        return leaf.clone()

    def keep(_part: nn.Module, inputs: tuple[Any, ...]) -> None:
        counts["linear"] += 1
        if linear is not None and counts["linear"] == linear.call:
            capture.features = inputs[0].detach()

    handles = [part.register_forward_hook(take)]
    try:
        if linear is not None:
            handles.append(linear.module.register_forward_pre_hook(keep))
        quiet = _without_gradients(module) if frozen else torch.no_grad()
        with evaluating(module), torch.inference_mode(False), quiet:
            yield capture
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def find_target_layer(module: nn.Module, example: Tensor) -> TargetLayer:
    """Find the last layer that still has positions.

    It is the last convolution with a spatial output, carried on to the last module that completes after it with
    the same height and width and either contains it or keeps its channels (a normalisation, an activation, the
    block and the stage around it); pooling ends the search.

    Args:
        module: The network.
        example: A batch of one or more inputs, (N, C, H, W), on the network's device.

    Raises:
        LayerError: Nothing in the network has a spatial output, or attention follows the last convolution.
    """
    calls = trace(module, example)
    convolutions = [i for i, c in enumerate(calls) if c.spatial and isinstance(c.module, nn.Conv2d)]
    spatial = convolutions or [i for i, c in enumerate(calls) if c.spatial and not _is_pooling(c.module)]
    if not spatial:
        raise LayerError(
            f"no layer of {type(module).__name__} has an output with height and width: "
            "the activation methods need a convolutional network."
        )
    start = spatial[-1]
    chosen = calls[start]
    origin = calls[start].name
    last = start
    for index in range(start + 1, len(calls)):
        call = calls[index]
        if not call.spatial or call.positions != chosen.positions or _is_pooling(call.module):
            continue
        if _contains(call.name, origin) or (call.shape or ())[1:] == (chosen.shape or ())[1:]:
            chosen, last = call, index
    attention = [c for c in calls[last + 1 :] if _is_attention(c.module) and not _contains(c.name, origin)]
    if attention:
        raise LayerError(
            f"{type(module).__name__} is a transformer: attention ('{attention[0].name}') follows its last "
            f"convolution ('{origin}'), where no class evidence lies yet; use a convolutional network, "
            "or name a layer with --target-layer."
        )
    return _target(chosen)


def resolve_target_layer(module: nn.Module, name: str, example: Tensor) -> TargetLayer:
    """Return the layer of that name, at its last call with a spatial output.

    Raises:
        LayerError: There is no such layer, it does not run, or its output is not spatial.
    """
    names = [known for known, _ in module.named_modules() if known]
    if name not in names:
        raise LayerError(_unknown(name, names, type(module).__name__))
    part = module.get_submodule(name)
    calls = [call for call in trace(module, example) if call.module is part]
    if not calls:
        raise LayerError(f"layer '{name}' does not run in a forward pass: name one that does.")
    spatial = [call for call in calls if call.spatial]
    if not spatial:
        shape = calls[-1].shape
        said = "is not a tensor" if shape is None else f"has shape {_shape_words(shape)}"
        raise LayerError(
            f"layer '{name}' is not spatial: its output {said}, and the activation methods need "
            "(batch, channels, height, width) with more than one position; name an earlier layer."
        )
    return _target(spatial[-1])


def last_linear(calls: list[Call], layer: TargetLayer) -> Call | None:
    """Return the last linear layer that runs after the target layer, None where there is none."""
    at = max(i for i, c in enumerate(calls) if (c.name, c.call) == (layer.name, layer.call))
    linear = [c for c in calls[at + 1 :] if isinstance(c.module, nn.Linear)]
    return linear[-1] if linear else None


def _target(call: Call) -> TargetLayer:
    _, channels, height, width = call.shape or (0, 0, 0, 0)
    return TargetLayer(call.name, call.call, channels, height, width)


def _contains(name: str, inner: str) -> bool:
    return inner.startswith(name + ".")


def _is_pooling(module: nn.Module) -> bool:
    return "pool" in type(module).__name__.lower()


def _is_attention(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        return True
    if "attention" not in type(module).__name__.lower() and "attn" not in type(module).__name__.lower():
        return False
    # Channel and spatial attention of convolutional networks (CBAM and its kin) asks no queries.
    return any(part in name for name, _ in module.named_parameters() for part in _ATTENTION_PARAMETERS)


def _shape_words(shape: tuple[int, ...]) -> str:
    return "(batch, " + ", ".join(map(str, shape[1:])) + ")" if len(shape) > 1 else f"({shape[0]},)"


def _unknown(name: str, names: list[str], architecture: str) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not close:
        close = [known for known in names if "." not in known]
        return f"{architecture} has no layer '{name}': it has {', '.join(close[:12])}."
    return f"{architecture} has no layer '{name}': did you mean {' or '.join(close)}?"
