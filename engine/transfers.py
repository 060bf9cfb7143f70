"""Between the host and a device: the few lines that must know what kind of device it is."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.maps import FLOAT32_MAX

if TYPE_CHECKING:
    from engine.models import LoadedModel

TIMED_INPUTS = 16
ROUNDS = 3


def to_device(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return pixels on a device; copied to an NVIDIA one from page-locked memory, which the host does not wait for."""
    host = torch.as_tensor(np.require(pixels, requirements="W"))
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors on the host; from an NVIDIA device all of them are waited for once."""
    if not any(tensor.device.type == "cuda" for tensor in tensors):
        return [tensor.cpu() for tensor in tensors]
    copies = [
        torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors
    ]
    synchronise(tensors[0].device)
    return copies


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def forget_freed(device: torch.device) -> None:
    """Hand back what a device keeps for reuse, so that a smaller batch finds it in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def encode(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps as the cache stores them, as `cache.maps.encode_maps` does, without leaving their device.

    Args:
        maps: (N, H, W) float32.

    Returns:
        float16 values (N, H, W) of ``map / scale``, and the scales (N,) float32.
    """
    magnitude = torch.where(maps.isfinite(), maps.abs(), 0)
    scales = magnitude.amax((1, 2)).clamp(max=FLOAT32_MAX)
    scales = torch.where(scales == 0, 1, scales)
    return (maps / scales[:, None, None]).half(), scales


def settle_layout(model: LoadedModel, example: Tensor) -> None:
    """Lay a network and its inputs out in memory as its forward pass is fastest, which is measured.

    Args:
        model: The network, on its device, in the precision that it computes in.
        example: A few of its inputs.
    """
    batch = example.repeat(-(-TIMED_INPUTS // len(example)), 1, 1, 1)[:TIMED_INPUTS]
    taken: dict[Any, float] = {}
    for layout in (torch.channels_last, torch.contiguous_format):
        try:
            model.module.to(memory_format=layout)
        except RuntimeError:  # five-dimensional weights have no channels_last
            continue
        laid = batch.contiguous(memory_format=layout)
        taken[layout] = min(_seconds(model, laid) for _ in range(ROUNDS))
    model.layout = min(taken, key=lambda layout: taken[layout])
    model.module.to(memory_format=model.layout)


def _seconds(model: LoadedModel, batch: Tensor) -> float:
    from engine.layers import evaluating

    synchronise(batch.device)
    start = perf_counter()
    with evaluating(model.module), torch.no_grad():
        model.module(batch)
    synchronise(batch.device)
    return perf_counter() - start
