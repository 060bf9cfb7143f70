"""The rule of guided backpropagation, at every rectifier of a network however it is written.

Captum's class hooks `nn.ReLU` modules. With ReLU6 and functional rectifiers it finds nothing and returns the plain
gradient. Here the rule is applied to the graph that the forward pass recorded: a rectifier leaves the same node there
as a module, as a function, in place or as one module used many times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from cache.errors import MethodError

NO_RULE = {
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Hardswish": "Hardswish",
    "Mish": "Mish",
    "Elu": "ELU",
    "Celu": "CELU",
    "LeakyRelu": "LeakyReLU",
    "PreluKernel": "PReLU",
    "RreluWithNoise": "RReLU",
    "Softplus": "Softplus",
    "LogSigmoid": "LogSigmoid",
    "LogSigmoidForward": "LogSigmoid",
    "Glu": "GLU",
    "Hardshrink": "Hardshrink",
    "Softshrink": "Softshrink",
    "Erf": "GELU (by the error function)",
}
"""Activations that take a rectifier's place and that the paper has no rule for, by the name of their node."""


def kind(node: Node) -> str:
    """Return a node's operation: ``Relu`` of ``ReluBackward0``, whichever overload and version of PyTorch."""
    return re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])


def graph(scores: Tensor) -> list[Node]:
    """Return every node of the graph behind some scores."""
    found: dict[Node, None] = {}
    waiting = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting.extend(following for following, _ in node.next_functions)
    return list(found)


def guide(scores: Tensor, architecture: str) -> None:
    """Make the backward pass of a graph follow the guided rule.

    A rectifier then passes the gradient on where its input is positive and the gradient itself is positive
    (Springenberg et al. 2014, arXiv:1412.6806): g_in = 1[x > 0] · max(g_out, 0). ReLU6 and its kin clip above as
    well, where their derivative is 0 already.

    Raises:
        MethodError: The rule is not defined for this network, or would change nothing.
    """
    nodes = graph(scores)
    if reason := obstacle(nodes):
        raise MethodError(f"Guided backpropagation cannot be had of {architecture}: {reason}.")
    for node in nodes:
        if is_rectifier(node):
            node.register_hook(_keep_positive)


def obstacle(nodes: Sequence[Node]) -> str | None:
    """Return why the guided rule cannot be applied to a graph, None where it can."""
    for node in nodes:
        name = kind(node)
        if is_custom(node):
            return f"what its own operation {name} does to gradients cannot be read"
        if name == "CopySlices":
            return "it works in place on a part of a tensor, where a rectifier cannot be seen"
        if name == "Where" and sum(following is None for following, _ in node.next_functions) == 1:
            return "it chooses with torch.where, which may be a rectifier; write that as torch.relu"
        activation = "SiLU, as x · sigmoid(x)" if _is_swish(node) else NO_RULE.get(name)
        if activation:
            return f"it uses {activation}, and the method is defined for rectifiers (ReLU, ReLU6) only"
    if not any(is_rectifier(node) for node in nodes):
        return "it has no rectifier (ReLU, ReLU6), so that the map would silently be the plain gradient's"
    return None


def is_custom(node: object) -> bool:
    """Tell whether a node is a `torch.autograd.Function` written in Python."""
    return isinstance(node, BackwardCFunction)


def is_rectifier(node: Node) -> bool:
    """Tell whether a node is max(x, 0), with or without an upper limit.

    A clamp at another value is arithmetic, such as the guard of a denominator, and keeps its own gradient.
    """
    name, saved = kind(node), _saved(node)
    if name in ("Relu", "Hardtanh"):
        return True
    if name in ("Clamp", "ClampMin"):
        return _is_zero(saved("min"))
    if name == "Threshold":
        return _is_zero(saved("threshold"))
    if name == "Maximum":
        return _is_zero(saved("self")) or _is_zero(saved("other"))
    return False


def _saved(node: Any) -> Any:
    return lambda name: getattr(node, f"_saved_{name}", None)


def _is_zero(value: Any) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else value is not None and value == 0


def _is_swish(node: Node) -> bool:
    """Tell whether a node multiplies something by the sigmoid of itself."""
    if kind(node) != "Mul":
        return False
    one, other = node.next_functions
    return _is_sigmoid_of(one[0], other) or _is_sigmoid_of(other[0], one)


def _is_sigmoid_of(node: Node | None, source: tuple[Node | None, int]) -> bool:
    return node is not None and kind(node) == "Sigmoid" and node.next_functions[0] == source


def _keep_positive(to_inputs: tuple[Any, ...], _from_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if gradient is None else torch.relu(gradient) for gradient in to_inputs)
