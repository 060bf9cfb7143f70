"""DeepLIFT's rescale rule (Shrikumar et al. 2017, arXiv:1704.02685), at every activation however it is written.

Captum's class hooks modules: it fails on one that is used twice, passes functional activations and ReLU6 by, and
loses what overlapping windows of a pooling share. Here the operations themselves are intercepted. The reference
runs first and leaves the input of every one of them behind; the image follows and meets them in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from engine.attribution.differentiation import run
from engine.attribution.rectifiers import NO_RULE, is_custom, kind
from engine.attribution.subjects import Network

Curve = Callable[[Tensor], Tensor]

_ELEMENTWISE = (
    *(
        "relu",
        "relu6",
        "hardtanh",
        "threshold",
        "clamp",
        "clamp_min",
        "clamp_max",
        "clip",
        "leaky_relu",
        "elu",
    ),
    *("selu", "celu", "gelu", "silu", "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus"),
    *("logsigmoid", "softsign", "tanhshrink", "softshrink", "hardshrink", "abs", "exp", "square", "erf"),
)
_NOT_LINEAR = {
    **NO_RULE,
    **dict.fromkeys(
        ("Relu", "Hardtanh", "Threshold", "Sigmoid", "Tanh"), "an activation within another operation"
    ),
    **dict.fromkeys(("MaxPool2DWithIndices", "AdaptiveMaxPool2D", "Amax", "Max"), "a maximum over positions"),
    **dict.fromkeys(("Maximum", "Minimum", "Where"), "a choice between values"),
    "Softmax": "a softmax",
    "NativeLayerNorm": "layer normalisation",
    "NativeGroupNorm": "group normalisation",
}
"""Operations left in the graph that the rescale rule does not cover, in words."""

_PRODUCTS = ("Mul", "Bmm", "Mm", "Div")


# PyTorch names one or the other of two spellings, depending on its version.
_POOLINGS: dict[Any, Any] = {
    torch.max_pool2d: functional.max_pool2d,
    functional.max_pool2d: functional.max_pool2d,
    functional.adaptive_max_pool2d: functional.adaptive_max_pool2d,
}


def _operations() -> dict[Any, tuple[Any, bool]]:
    """Return every spelling of the element-wise operations, with the one that does not work in place."""
    found: dict[Any, tuple[Any, bool]] = {}
    for name in _ELEMENTWISE:
        for holder in (torch, torch.Tensor, functional):
            plain = getattr(holder, name, None)
            if plain is not None:
                found[plain] = (plain, False)
        for holder in (torch, torch.Tensor, functional):
            spelled = getattr(holder, name + "_", None)
            if spelled is not None:
                found[spelled] = (getattr(holder, name, None) or getattr(functional, name), True)
    return found


class Rescaling(TorchFunctionMode):
    """A pass inside is the reference's; one inside `replayed` is the image's, differentiated by the rescale rule."""

    _known = _operations()

    def __init__(self) -> None:
        super().__init__()
        self._references: list[Tensor] = []
        self._waiting: Iterator[Tensor] | None = None

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Take the pass inside for the image's."""
        self._waiting = iter(self._references)
        try:
            with self:
                yield
        finally:
            self._waiting = None

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _POOLINGS and not given.pop("return_indices", False):
            pool = _POOLINGS[func]
            return self._meet(
                args[0],
                lambda x: pool(x, *args[1:], **given),
                lambda x: pool(x, *args[1:], **given, return_indices=True),
            )
        if func not in self._known or not _is_unary(args, given):
            return func(*args, **(kwargs or {}))
        plain, in_place = self._known[func]
        in_place = bool(given.pop("inplace", False)) or in_place
        x = args[0]
        found = self._meet(x.clone() if in_place else x, lambda v: plain(v, *args[1:], **given), None)
        return x.copy_(found) if in_place else found

    def _meet(self, x: Tensor, curve: Curve, pool: Any) -> Tensor:
        if self._waiting is None:
            self._references.append(x.detach().clone())
            return curve(x)
        reference = next(self._waiting)
        found: Tensor = (
            _Rescale.apply(x, reference, curve) if pool is None else _RescalePool.apply(x, reference, pool)
        )
        return found


def rescaled(network: Network, references: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Run the references, and return the forward pass whose gradients are DeepLIFT's multipliers.

    Args:
        network: The classifier.
        references: What each input is compared with, (N, C, H, W).

    Returns:
        A function of N inputs, (N, C, H, W) to (N, classes), and the scores of the references.
    """
    noted = Rescaling()
    with torch.no_grad(), noted:
        scores = run(network, references)

    def forward(inputs: Tensor) -> Tensor:
        with noted.replayed():
            return run(network, inputs)

    return forward, scores


def _is_unary(args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Tell whether an operation's only tensor is its first argument, of floating-point numbers."""
    if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return False
    return not any(isinstance(other, Tensor) for other in (*args[1:], *given.values()))


class _Rescale(torch.autograd.Function):
    """An element-wise curve whose multiplier is Δy / Δx instead of its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, reference: Tensor, curve: Curve) -> Tensor:
        ctx.save_for_backward(x, reference)
        ctx.curve = curve
        return curve(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, reference = ctx.saved_tensors
        (y, slope), (y0, slope0) = _with_slope(ctx.curve, x), _with_slope(ctx.curve, reference)
        difference = x - reference
        near = _is_near(x, reference)
        ratio = (y - y0) / torch.where(near, 1, difference)
        return gradient * torch.where(near, (slope + slope0) / 2, ratio), None, None


class _RescalePool(torch.autograd.Function):
    """A maximum over windows, which may overlap.

    Each window's difference is shared between the place where the image has its maximum, which answers for what it
    has above the reference, and the place of the reference's maximum, which answers for what the image lacks. Where
    the reference has its maximum in several places, as a plain one has, the image's is taken.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, reference: Tensor, pool: Any) -> Tensor:
        ctx.save_for_backward(x, reference)
        ctx.pool = pool
        found: Tensor = pool(x)[0]
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, reference = ctx.saved_tensors
        (y, at), (y0, at0) = ctx.pool(x), ctx.pool(reference)
        there = reference.flatten(2).gather(2, at.flatten(2)).view_as(y0)
        at0 = torch.where(y0 - there <= 100 * torch.finfo(y0.dtype).eps * y0.abs(), at, at0)
        top = torch.maximum(y, y0)
        empty = torch.zeros_like(x, memory_format=torch.contiguous_format).flatten(2)
        owed = empty.scatter_add(2, at.flatten(2), (gradient * (top - y0)).flatten(2))
        owed = owed.scatter_add(2, at0.flatten(2), (gradient * (y - top)).flatten(2)).view(x.shape)
        plain = empty.scatter_add(2, at.flatten(2), gradient.flatten(2)).view(x.shape)
        near = _is_near(x, reference)
        return torch.where(near, plain, owed / torch.where(near, 1, x - reference)), None, None


def _with_slope(curve: Curve, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = curve(leaf)
        slope: Tensor = torch.autograd.grad(y.sum(), leaf)[0]
    return y.detach(), slope


def _is_near(x: Tensor, reference: Tensor) -> Tensor:
    """Tell where a difference is so small that rounding would speak in the ratio, so that the slope stands in."""
    size = torch.maximum(x.abs(), reference.abs())
    near: Tensor = (x - reference).abs() <= torch.finfo(x.dtype).eps ** 0.5 * size
    return near


def obstacle(nodes: Sequence[Node]) -> str | None:
    """Return what in the graph of the image's pass the rescale rule does not cover, None where nothing was seen."""
    for node in nodes:
        name = kind(node)
        if is_custom(node):
            if name not in (_Rescale.__name__, _RescalePool.__name__):
                return f"its own operation {name}"
        elif name in _PRODUCTS and sum(following is not None for following, _ in node.next_functions) > 1:
            return "products of activations"
        elif name.startswith("ScaledDotProduct"):
            return "attention"
        elif name in _NOT_LINEAR:
            return _NOT_LINEAR[name]
    return None
