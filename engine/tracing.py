"""Watching a network run: the calls of its modules, one layer's output, and where gradients reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cache.errors import ModelError

Layout = Literal["nchw", "nhwc", "tokens"]


@dataclass(frozen=True)
class TargetLayer:
    """A module's output whose activations are explained.

    Attributes:
        name: Dotted name of the module.
        call: Which of its calls in one forward pass, counted from 0 (a module may be used several times).
        channels: Channels of the output.
        height: Rows of the output.
        width: Columns of the output.
        layout: How the output lies: (N, C, h, w), (N, h, w, C), or (N, prefix + h · w, C).
        prefix: Tokens before those of the patches: class, distillation and register tokens.
    """

    name: str
    call: int
    channels: int
    height: int
    width: int
    layout: Layout = "nchw"
    prefix: int = 0

    @property
    def identity(self) -> str:
        """Name and call in one text, for cache keys."""
        return self.name if self.call == 0 else f"{self.name}#{self.call}"

    def grid(self, output: Tensor) -> Tensor:
        """Return an output of the layer, or its gradient, as (N, C, h, w), without the prefix; a view."""
        if self.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            return output[:, self.prefix :].mT.reshape(len(output), -1, self.height, self.width)
        return output


@dataclass(frozen=True)
class Call:
    """One completed call of a module in a traced forward pass, in order of completion."""

    name: str
    module: nn.Module
    call: int
    shape: tuple[int, ...] | None
    """Shape of its output; None where that is no dense tensor of floating-point numbers."""

    @property
    def key(self) -> tuple[str, int]:
        """Name and number, which tell it from every other call."""
        return self.name, self.call

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


@contextmanager
def without_gradients(module: nn.Module) -> Iterator[None]:
    """Switch grad mode on while no parameter asks for a gradient; put back afterwards, after errors too."""
    asking = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def hooked(module: nn.Module, hook: Callable[[str, nn.Module, int, Any], Any]) -> Iterator[None]:
    """Give ``hook(name, module, call, output)`` every call of every submodule; what it returns replaces the output."""
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def inner(part: nn.Module, _inputs: Any, output: Any) -> Any:
            count = counts[name] = counts.get(name, -1) + 1
            return hook(name, part, count, output)

        return inner

    handles = []
    try:
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                handles.append(part.register_forward_hook(watch(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(module: nn.Module, example: Tensor) -> list[Call]:
    """Return every call of every submodule in one forward pass, the root's excluded, in order of completion.

    Raises:
        ModelError: The network's weights hold no numbers.
    """
    empty = next((name for name, p in module.named_parameters() if p.is_meta), None)
    if empty is not None and not example.is_meta:
        raise ModelError(
            f"the weights of {type(module).__name__} are on the meta device and hold no numbers ('{empty}'): "
            "load a checkpoint, or build the network on a device."
        )
    calls: list[Call] = []

    def note(name: str, part: nn.Module, count: int, output: Any) -> None:
        calls.append(Call(name, part, count, tuple(output.shape) if _is_dense(output) else None))

    with hooked(module, note), evaluating(module), torch.inference_mode(False), torch.no_grad():
        module(example)
    return calls


def reached(module: nn.Module, example: Tensor) -> dict[tuple[str, int], Tensor]:
    """Return which calls' outputs the scores' gradient reaches on an example, by the call's key.

    Every output of three or more dimensions is looked at in one forward and one backward pass. Calls that the scores
    do not depend on, such as those of a side branch, are missing. Outputs (N, T, C) have one truth for each of their
    tokens, whether its gradient is other than zero; others a single one, which does not look at values: the
    noise of an example may happen to leave every unit of a layer silent.

    A head of zeros, as torchvision's untrained transformers have, hides the tokens: then the gradient of the
    features before it is asked instead. Nothing at all is returned where no gradient can be had.
    """
    reach = _reached(module, example, features=False)
    tokens = [some for some in reach.values() if some.ndim]
    if tokens and not any(bool(some.any()) for some in tokens):
        return _reached(module, example, features=True) or reach
    return reach


def _reached(module: nn.Module, example: Tensor, features: bool) -> dict[tuple[str, int], Tensor]:
    found: dict[tuple[str, int], Tensor] = {}
    leaves: list[tuple[tuple[str, int] | None, Tensor]] = []
    inputs: list[Tensor] = []

    def note(key: tuple[str, int], gradient: Tensor) -> None:
        some = (gradient != 0).any(2).any(0).cpu() if gradient.ndim == 3 else torch.tensor(True)
        found[key] = found[key] | some if key in found else some

    def watch(name: str, part: nn.Module, count: int, output: Any) -> Any:
        tensor = output[0] if isinstance(part, nn.MultiheadAttention) else output
        if not _is_dense(tensor) or tensor.ndim < 3 or tensor.is_inference():
            return None
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: note((name, count), gradient))
            return None
        # Cut off from the input, by a no_grad block or a detach of the network's own: gradients start here.
        torch.set_grad_enabled(True)
        leaf = tensor.detach().clone().requires_grad_()
        leaves.append(((name, count), leaf))
        return (leaf.clone(), *output[1:]) if tensor is not output else leaf.clone()

    def keep(_part: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor) and given[0].ndim == 2:
            inputs.append(given[0])

    handles = []
    try:
        handles = [p.register_forward_pre_hook(keep) for p in module.modules() if isinstance(p, nn.Linear)]
        quiet = without_gradients(module)
        with hooked(module, watch), evaluating(module), torch.inference_mode(False), quiet:
            start = example.detach().clone().requires_grad_()
            leaves.append((None, start))
            output = module(start.clone())
            if features:
                output = inputs[-1] if inputs else None
            if not _is_dense(output) or not output.requires_grad:
                return {}
            generator = torch.Generator().manual_seed(1)
            mixture = torch.randn(output.shape, generator=generator).to(output)
            with torch.enable_grad():
                total = (output * mixture).sum()
            gradients = torch.autograd.grad(total, [leaf for _, leaf in leaves], allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # The forward pass ran before, in `trace`: what fails here is differentiating.
        return {}
    finally:
        for handle in handles:
            handle.remove()
    for (key, _), gradient in zip(leaves, gradients, strict=True):
        if key is not None and gradient is not None:
            note(key, gradient)
    return found


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
    layer: TargetLayer | None,
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
        layer: Where to look; None looks at no layer.
        linear: The linear layer whose input is wanted.
        gradients: Whether to make the activations a leaf that gradients can be asked of.
        frozen: Keep grad mode on throughout, with the parameters asking for no gradient, for networks that run
            their own `torch.no_grad()` around the layer and would otherwise switch it off behind it.
        replace: Stands in for the layer's output, to probe the head.
    """
    capture = Capture()
    counts = {"layer": -1, "linear": -1}

    def take(_part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        counts["layer"] += 1
        if layer is None or counts["layer"] != layer.call:
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

    handles = []
    try:
        if layer is not None:
            handles.append(module.get_submodule(layer.name).register_forward_hook(take))
        if linear is not None:
            handles.append(linear.module.register_forward_pre_hook(keep))
        quiet = without_gradients(module) if frozen else torch.no_grad()
        with evaluating(module), torch.inference_mode(False), quiet:
            yield capture
    finally:
        for handle in handles:
            handle.remove()


def _is_dense(output: Any) -> bool:
    return isinstance(output, Tensor) and output.is_floating_point() and output.layout == torch.strided
