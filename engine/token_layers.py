"""What the positions of a module's output are: an image's, channels first or last, or the tokens of its patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from engine.tracing import Call, Layout, TargetLayer

MAX_PREFIX = 16
"""Class, distillation and register tokens that a transformer may put before its patches."""

_ATTENTION_PARAMETERS = ("qkv", "query", "in_proj", "q_proj", "to_q", "q.weight", "kv.weight")
_CHANNELS_FIRST = (
    nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How an output is read as a grid of positions."""

    layout: Layout
    channels: int
    height: int
    width: int
    prefix: int = 0

    def of(self, call: Call) -> TargetLayer:
        """Return the call as a target layer."""
        return TargetLayer(
            call.name, call.call, self.channels, self.height, self.width, self.layout, self.prefix
        )


def read_layouts(calls: Sequence[Call], example: Sequence[int]) -> list[Reading | None]:
    """Return how the output of each call is read, None where it has no more than one position.

    The layout of four dimensions is that of the operation (a convolution's, a layer normalisation's), handed on to
    the containers and activations with the same shape after it. Three dimensions are tokens where their number is
    that of the positions of the last grid before them (a patch embedding's convolution) and a few more, or of that
    grid halved; without any grid, that of square patches of the input.

    Args:
        calls: The calls of a traced forward pass.
        example: Shape of its input, (N, C, H, W).
    """
    inside = [call.name for call in attention_cells(calls)]
    known: dict[tuple[int, ...], Layout] = {}
    grids: list[tuple[int, int]] = []
    readings: list[Reading | None] = []
    for call in calls:
        shape = call.shape
        reading: Reading | None = None
        if shape is None or shape[:1] != tuple(example[:1]) or any(contains(n, call.name) for n in inside):
            pass
        elif len(shape) == 4:
            layout = known[shape] = _layout(call.module, shape, known)
            channels, height, width = shape[1:] if layout == "nchw" else (shape[3], *shape[1:3])
            if height * width > 1:
                grids.append((height, width))
                reading = Reading(layout, channels, height, width)
        elif len(shape) == 3:
            grid = _fitting(shape[1], grids[::-1] if grids else _patch_grids(example))
            if grid is None and grids and (grid := _halved(shape[1], grids[-1])) is not None:
                grids.append(grid)
            if grid is not None:
                reading = Reading("tokens", shape[2], *grid, prefix=shape[1] - grid[0] * grid[1])
        readings.append(reading)
    return readings


def attention_cells(calls: Iterable[Call]) -> list[Call]:
    """Return the calls of attention that hold no other attention, a transformer's blocks excluded."""
    found = [call for call in calls if is_attention(call.module)]
    return [call for call in found if not any(contains(call.name, other.name) for other in found)]


def is_attention(module: nn.Module) -> bool:
    """Tell whether a module attends, by its kind and its parameters."""
    if isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer):
        return True
    if "attention" not in type(module).__name__.lower() and "attn" not in type(module).__name__.lower():
        return False
    # Channel and spatial attention of convolutional networks (CBAM and its kin) asks no queries.
    return any(part in name for name, _ in module.named_parameters() for part in _ATTENTION_PARAMETERS)


def contains(name: str, inner: str) -> bool:
    """Tell whether one module's dotted name is that of a part of another's."""
    return inner.startswith(name + ".")


def _layout(module: nn.Module, shape: tuple[int, ...], known: dict[tuple[int, ...], Layout]) -> Layout:
    """Return the layout of a four-dimensional output."""
    if isinstance(module, _CHANNELS_FIRST):
        return "nchw"
    if isinstance(module, nn.Linear):
        return "nhwc"
    if isinstance(module, nn.LayerNorm):
        # Over the last axis alone it has channels last; LayerNorm2d, a kind of its own, turns its input twice.
        one = len(module.normalized_shape) == 1
        last = one and (type(module) is nn.LayerNorm or shape[1] != module.normalized_shape[0])
        return "nhwc" if last else "nchw"
    if shape in known:
        return known[shape]
    count, first, second, third = shape
    if known.get((count, third, first, second)) == "nchw":
        return "nhwc"
    return "nchw"


def _fitting(tokens: int, grids: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first of the grids whose positions, and a prefix, make that number of tokens."""
    for height, width in grids:
        if 0 <= tokens - height * width <= min(MAX_PREFIX, height * width - 1):
            return height, width
    return None


def _halved(tokens: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid halved as often as makes exactly that number of tokens."""
    height, width = grid
    while height * width > max(tokens, 2):
        height, width = -(-height // 2), -(-width // 2)
    return (height, width) if height * width == tokens > 1 else None


def _patch_grids(example: Sequence[int]) -> list[tuple[int, int]]:
    """Return the grids of square patches that divide an input, the finest first."""
    if len(example) != 4:
        return []
    height, width = example[2:]
    sides = range(2, min(height, width) + 1)
    grids = [(height // s, width // s) for s in sides if height % s == 0 and width % s == 0]
    return [grid for grid in grids if grid[0] * grid[1] > 1]
