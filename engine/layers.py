"""The target layer: where in a network the activation methods look, and how it is found."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import Tensor, nn

from cache.errors import LayerError
from engine.token_layers import Reading, attention_cells, contains, is_attention, read_layouts
from engine.tracing import Call, Capture, TargetLayer, capturing, evaluating, reached, trace

__all__ = [
    "Call",
    "Capture",
    "TargetLayer",
    "capturing",
    "evaluating",
    "find_target_layer",
    "last_linear",
    "resolve_target_layer",
    "trace",
]


def find_target_layer(module: nn.Module, example: Tensor) -> TargetLayer:
    """Find the last layer that still has positions, among those that the scores' gradient reaches.

    In a convolutional network it is the last convolution with a spatial output, carried on to the last module that
    completes after it with the same height and width and either contains it or keeps its channels (a
    normalisation, an activation, the block and the stage around it); pooling ends the search. Where attention or
    layers on tokens follow, it is the last module with weights, outside attention, whose patches the gradient
    reaches: behind the last attention only the class token does, in a transformer that has one.

    Args:
        module: The network.
        example: A batch of one or more inputs, (N, C, H, W), on the network's device.

    Raises:
        LayerError: Nothing in the network has positions, or attention follows all that has.
    """
    calls = trace(module, example)
    readings = read_layouts(calls, example.shape)
    live = _live(calls, readings, module, example)
    spatial = [i for i, c in enumerate(calls) if c.spatial and readings[i] and live[i]]
    start = [i for i in spatial if isinstance(calls[i].module, nn.Conv2d)]
    start = start or [i for i in spatial if not _is_pooling(calls[i].module)]
    last = _carried_on(calls, live, start[-1]) if start else -1
    origin = calls[start[-1]].name if start else ""
    after = [i for i in range(last + 1, len(calls)) if not contains(calls[i].name, origin)]
    attention = [calls[i] for i in after if is_attention(calls[i].module)]
    tokens = [i for i in after if (r := readings[i]) and r.layout == "tokens" and _has_weights(calls[i])]
    if attention or tokens:
        last = _last_of_tokens(calls, readings, live)
        # The patch embedding alone: what a class rests on is not decided there.
        if last < 0 or not _follows(calls, last, origin):
            where = f"'{attention[0].name}'" if attention else "on tokens"
            raise LayerError(
                f"{type(module).__name__} is a transformer: attention ({where}) follows its last "
                f"convolution ('{origin}'), where no class evidence lies yet; use a convolutional network, "
                "or name a layer with --target-layer."
            )
    reading = readings[last] if last >= 0 else None
    if reading is None:
        raise LayerError(
            f"no layer of {type(module).__name__} has an output with height and width{_odd(module)}: "
            "the activation methods need a convolutional network, or a transformer on patches."
        )
    return reading.of(calls[last])


def resolve_target_layer(module: nn.Module, name: str, example: Tensor) -> TargetLayer:
    """Return the layer of that name, at its last call with an output that has positions.

    Raises:
        LayerError: There is no such layer, it does not run, its output has no positions, or no gradient reaches them.
    """
    names = [known for known, _ in module.named_modules() if known]
    if name not in names:
        raise LayerError(_unknown(name, names, type(module).__name__))
    part = module.get_submodule(name)
    calls = trace(module, example)
    readings = read_layouts(calls, example.shape)
    own = [i for i, call in enumerate(calls) if call.module is part]
    if not own:
        raise LayerError(f"layer '{name}' does not run in a forward pass: name one that does.")
    spatial = [i for i in own if readings[i]]
    if not spatial:
        shape = calls[own[-1]].shape
        said = "is not a tensor of numbers" if shape is None else f"has shape {_shape_words(shape)}"
        raise LayerError(
            f"layer '{name}' is not spatial: its output {said}, and the activation methods need "
            "(batch, channels, height, width), or the tokens of an image's patches, with more than one position; "
            "name an earlier layer."
        )
    live = _live(calls, readings, module, example)
    usable = [i for i in spatial if live[i]]
    if not usable:
        raise LayerError(
            f"the scores of {type(module).__name__} have no gradient at the positions of layer '{name}': "
            f"what it returns there does not reach them; {_better(module, example)}."
        )
    reading = readings[usable[-1]]
    assert reading is not None
    return reading.of(calls[usable[-1]])


def last_linear(calls: list[Call], layer: TargetLayer | None) -> Call | None:
    """Return the last linear layer that runs after the target layer, None where there is none."""
    at = -1 if layer is None else max(i for i, c in enumerate(calls) if c.key == (layer.name, layer.call))
    linear = [c for c in calls[at + 1 :] if isinstance(c.module, nn.Linear)]
    return linear[-1] if linear else None


def _live(
    calls: Sequence[Call], readings: Sequence[Reading | None], module: nn.Module, example: Tensor
) -> list[bool]:
    """Tell of every call whether the gradient reaches its positions; of all where nothing can be known."""
    reach = reached(module, example)
    live = []
    for call, reading in zip(calls, readings, strict=True):
        some = reach.get(call.key)
        prefix = reading.prefix if reading is not None and some is not None and some.ndim else 0
        live.append(
            reading is not None and some is not None and bool(some[prefix:].any() if prefix else some.any())
        )
    return live if any(live) else [True] * len(calls)


def _carried_on(calls: Sequence[Call], live: Sequence[bool], start: int) -> int:
    """Return the index of the last call that holds what the convolution at ``start`` found, at the same positions."""
    chosen, last = calls[start], start
    for index in range(start + 1, len(calls)):
        call = calls[index]
        if (
            not live[index]
            or not call.spatial
            or call.positions != chosen.positions
            or _is_pooling(call.module)
        ):
            continue
        if contains(call.name, calls[start].name) or (call.shape or ())[1:] == (chosen.shape or ())[1:]:
            chosen, last = call, index
    return last


def _last_of_tokens(calls: Sequence[Call], readings: Sequence[Reading | None], live: Sequence[bool]) -> int:
    """Return the index of the last call with weights and positions, −1 where there is none."""
    usable = [i for i, c in enumerate(calls) if readings[i] and live[i] and _has_weights(c)]
    if all(live):
        # No gradient tells which tokens count: before the last attention all of them do.
        cells = [cell.key for cell in attention_cells(calls)]
        stop = max((i for i, c in enumerate(calls) if c.key in cells), default=len(calls))
        usable = [i for i in usable if i < stop]
    return usable[-1] if usable else -1


def _follows(calls: Sequence[Call], index: int, origin: str) -> bool:
    """Tell whether a call is more than the last convolution with what is wrapped around it."""
    call = calls[index]
    if call.name == origin:
        return False
    convolution = max((i for i, c in enumerate(calls) if c.name == origin), default=-1)
    cells = [cell.key for cell in attention_cells(calls)]
    first = min((i for i, c in enumerate(calls) if c.key in cells), default=-1)
    return index > convolution and (index > first or len(call.shape or ()) == 3)


def _better(module: nn.Module, example: Tensor) -> str:
    try:
        return f"name '{find_target_layer(module, example).name}' or an earlier layer"
    except LayerError:
        return "name an earlier layer"


def _odd(module: nn.Module) -> str:
    """Return what is unusual about a network whose outputs are no plain numbers, in words that go on a sentence."""
    kinds = {type(part).__module__ for part in module.modules()}
    if any("quantized" in kind for kind in kinds) or any(
        tensor.is_quantized for tensor in module.state_dict().values() if isinstance(tensor, Tensor)
    ):
        return " in floating-point numbers, because it is quantised"
    return ""


def _has_weights(call: Call) -> bool:
    return next(call.module.parameters(), None) is not None


def _is_pooling(module: nn.Module) -> bool:
    return "pool" in type(module).__name__.lower()


def _shape_words(shape: tuple[int, ...]) -> str:
    return "(batch, " + ", ".join(map(str, shape[1:])) + ")" if len(shape) > 1 else f"({shape[0]},)"


def _unknown(name: str, names: list[str], architecture: str) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if not close:
        close = [known for known in names if "." not in known]
        return f"{architecture} has no layer '{name}': it has {', '.join(close[:12])}."
    return f"{architecture} has no layer '{name}': did you mean {' or '.join(close)}?"
