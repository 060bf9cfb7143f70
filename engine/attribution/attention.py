"""Attention rollout: which tokens the read-out token drew on, through the attention of all layers.

The attention weights are taken in a forward pass of their own, so that what the other methods see, and the logits,
are the same to the last bit with rollout and without. The network is not changed: `nn.MultiheadAttention` is asked for
its weights by a hook, attention in timm's manner computes step by step for the pass, and everything is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.attribution.cams import FAMILY, at_least_float32
from engine.attribution.registry import Parameter, register
from engine.layers import Call, evaluating, trace
from engine.token_layers import attention_cells, contains, is_attention, read_layouts
from engine.tracing import reached

_ARGUMENTS = (
    "query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal",
)  # fmt: skip


@dataclass(frozen=True)
class Readout:
    """How a transformer's tokens lie, and which of them its head reads.

    Attributes:
        tokens: Number of tokens.
        prefix: Tokens before those of the patches.
        height: Rows of the grid of patches.
        width: Columns of the grid of patches.
        row: Share of each token in what the head reads, (tokens,): 1 for a class token, equal shares where it
            averages several.
    """

    tokens: int
    prefix: int
    height: int
    width: int
    row: Tensor


class Attention:
    """A batch and the network whose attention on it is asked for; each question costs one forward pass.

    Args:
        module: The network.
        batch: Inputs, (N, C, H, W), on its device.
        readout: What `read_attention` found out about it.
    """

    def __init__(self, module: nn.Module, batch: Tensor, readout: Readout) -> None:
        self.module = module
        self.batch = batch
        self.readout = readout

    def layers(self, fuse: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return the attention (N, tokens, tokens) of every layer in order, its heads (N, heads, …) fused at once."""
        found: list[Tensor] = []
        with capturing_attention(
            self.module, lambda _, weights: found.append(fuse(at_least_float32(weights)))
        ):
            self.module(self.batch)
        return found


@register(
    "rollout",
    title="Attention rollout",
    family=FAMILY,
    summary="Attention multiplied through all layers, whatever the class: which patches the read-out token draws on.",
    reference="Abnar and Zuidema 2020, arXiv:2005.00928",
    parameters=(
        Parameter(
            "head_fusion",
            "mean",
            "How the heads of a layer become one matrix; the paper averages them.",
            choices=("mean", "max", "min"),
        ),
        Parameter(
            "discard",
            0.0,
            "Share of each layer's entries, the smallest, that is set to zero; the paper keeps all.",
            low=0,
            high=0.99,
        ),
    ),
    needs=("attention", "forward_only"),
    class_dependent=False,
    passes="1 forward of its own",
    presets=("standard", "thorough"),
)
def rollout(attention: Attention, head_fusion: str = "mean", discard: float = 0.0) -> Tensor:
    """M = the patches' part of r Â_L … Â_1, Â_l the rows of ½ A_l + ½ I made to sum to 1, r the head's reading."""

    def fuse(weights: Tensor) -> Tensor:
        match head_fusion:
            case "mean":
                return _discard(weights.mean(1), discard)
            case "max":
                return _discard(weights.amax(1), discard)
            case _:
                return _discard(weights.amin(1), discard)

    readout = attention.readout
    layers = attention.layers(fuse)
    # Multiplying from the last layer on keeps one row where the whole product would keep a matrix.
    row = readout.row.to(layers[0]).expand(len(layers[0]), 1, -1)
    identity = torch.eye(readout.tokens).to(layers[0])
    for weights in reversed(layers):
        mixed = (weights + identity) / 2
        row = torch.bmm(row, mixed / mixed.sum(2, keepdim=True))
    return row[:, 0, readout.prefix :].reshape(len(row), readout.height, readout.width)


def _discard(weights: Tensor, share: float) -> Tensor:
    """Set the smallest entries of each matrix to zero."""
    flat = weights.flatten(1)
    count = int(share * flat.shape[1])
    if count:
        flat = flat.scatter(1, flat.topk(count, 1, largest=False, sorted=False).indices, 0)
    return flat.view_as(weights)


def read_attention(module: nn.Module, example: Tensor) -> Readout | str:
    """Return how rollout reads a network, or the sentence that says why it cannot.

    Args:
        module: The network.
        example: A batch of one or more inputs on its device.
    """
    calls = trace(module, example)
    cells = attention_cells(calls)
    name = type(module).__name__
    if not cells:
        return f"Attention rollout needs attention between an image's patches, which {name} does not have."
    taken: list[tuple[str, Tensor]] = []
    with capturing_attention(module, lambda part, weights: taken.append((part, weights))):
        module(example)
    if reason := _unsuitable(name, cells, taken, len(example)):
        return f"Attention rollout multiplies the attention of all tokens through the layers, and {reason}."
    tokens = taken[0][1].shape[-1]
    readings = read_layouts(calls, example.shape)
    grids = [r for r in readings if r and r.layout == "tokens" and r.prefix + r.height * r.width == tokens]
    if not grids:
        return f"Attention rollout needs tokens that are patches of the image: the {tokens} of {name} are no grid."
    keys = {cell.key for cell in cells}
    span = [i for i, call in enumerate(calls) if call.key in keys]
    for call in calls[span[0] : span[-1]]:
        if isinstance(call.module, nn.Conv2d) and max(call.module.kernel_size) > 1:
            return (
                f"Attention rollout follows attention alone, and in {name} the convolution '{call.name}' "
                "mixes the patches as well."
            )
    last = grids[-1]
    row = _read_row(calls[span[-1] :], reached(module, example), tokens)
    if row is None:
        chosen = slice(0, 1) if last.prefix else slice(0, None)
        row = torch.zeros(tokens)
        row[chosen] = 1
    return Readout(tokens, last.prefix, last.height, last.width, row / row.sum())


def _read_row(calls: list[Call], reach: dict[tuple[str, int], Tensor], tokens: int) -> Tensor | None:
    """Return 1 for each token of the last layers that the scores' gradient reaches, 0 for others."""
    for call in reversed(calls):
        some = reach.get(call.key)
        if some is not None and some.shape == (tokens,) and bool(some.any()):
            return some.float()
    return None


def _unsuitable(name: str, cells: list[Call], taken: list[tuple[str, Tensor]], count: int) -> str | None:
    """Return why the attention taken cannot be multiplied, in words that go on a sentence."""
    for part, weights in taken:
        if weights.ndim != 4 or weights.shape[0] != count:
            return f"{name} attends within windows ('{part}')"
    named = {part for part, _ in taken}
    for cell in cells:
        if cell.name not in named:
            kind = type(cell.module).__name__
            if "window" in kind.lower() or hasattr(cell.module, "window_size"):
                return f"{name} attends within windows ('{cell.name}')"
            return f"the weights of '{cell.name}' ({kind}) cannot be read"
    shapes = {(weights.shape[2], weights.shape[3]): part for part, weights in taken}
    for (rows, columns), part in shapes.items():
        if rows != columns or len(shapes) > 1:
            sizes = ", ".join(f"{r} × {c}" for r, c in shapes)
            return (
                f"that of {name} does not fit together: '{part}' has {rows} × {columns} weights (of {sizes})"
            )
    for part, weights in taken:
        sums = weights.sum(3)
        if not bool(((sums - 1).abs() < 0.01).all()):
            return f"the weights of '{part}' in {name} are no shares: they do not sum to 1"
    return None


@contextmanager
def capturing_attention(module: nn.Module, take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Run forward passes inside without gradients, in evaluation mode, and take every layer's attention weights.

    ``take(name, weights)`` is called in the order in which the layers run, with (N, heads, tokens, tokens).
    Hooks, modes and switches are put back on leaving, after errors too.
    """
    attention = [(n, p) for n, p in module.named_modules() if n and is_attention(p)]
    with ExitStack() as stack:
        for name, part in attention:
            if isinstance(part, torch.jit.ScriptModule) or any(
                contains(name, inner) for inner, _ in attention
            ):
                continue
            if isinstance(part, nn.MultiheadAttention):
                _ask(stack, name, part, take)
            else:
                _overhear(stack, name, part, take)
        stack.enter_context(evaluating(module))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield


def _ask(stack: ExitStack, name: str, part: nn.Module, take: Callable[[str, Tensor], None]) -> None:
    """Have PyTorch's attention return its weights head by head, and give its caller what the caller asked for."""
    wanted: list[tuple[bool, bool]] = []

    def before(_part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        wanted.append((given.get("need_weights", True), given.get("average_attn_weights", True)))
        given |= {"need_weights": True, "average_attn_weights": False}
        return args[:3], {
            key: value for key, value in given.items() if key not in _ARGUMENTS[: len(args[:3])]
        }

    def after(_part: nn.Module, _args: Any, output: tuple[Tensor, Tensor]) -> Any:
        needed, averaged = wanted.pop()
        take(name, output[1])
        if not needed:
            return output[0], None
        return output[0], output[1].mean(-3) if averaged else output[1]

    stack.callback(part.register_forward_pre_hook(before, with_kwargs=True).remove)
    stack.callback(part.register_forward_hook(after).remove)


def _overhear(stack: ExitStack, name: str, part: nn.Module, take: Callable[[str, Tensor], None]) -> None:
    """Have attention in timm's manner compute its weights as such, and take them where they are dropped out."""
    source = getattr(part, "attn_drop", None)
    if not isinstance(source, nn.Module):
        source = next((inner for inner in part.modules() if isinstance(inner, nn.Softmax)), None)
    if source is None:
        return
    if isinstance(fused := getattr(part, "fused_attn", None), bool):
        own = "fused_attn" in vars(part)
        stack.callback(lambda: setattr(part, "fused_attn", fused) if own else delattr(part, "fused_attn"))
        part.fused_attn = False  # type: ignore[assignment]

    def after(_part: nn.Module, _inputs: Any, output: Tensor) -> None:
        take(name, output)

    stack.callback(source.register_forward_hook(after).remove)
