"""How many inputs a pass through the network may hold: measured on the network itself, before work begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from engine.layers import evaluating

if TYPE_CHECKING:
    from engine.models import LoadedModel

SHARE = 0.5
"""Share of the free memory that a pass may take; the rest is for decoded images, maps and rows."""
GRADIENTS_TOO = 2.0
"""A backward pass holds the gradients of what it is about to use, at most as much again as was kept for it."""
PIXELS = 224 * 224
BUSY_CPU, BUSY_ACCELERATOR = 32, 128
"""Inputs of 224 × 224 that keep a device busy; larger batches gain nothing and cost memory."""
LARGEST = 256
CGROUP = Path("/sys/fs/cgroup")


def automatic_batch(model: LoadedModel, example: Tensor, gradients: bool) -> int:
    """Return the inputs of one pass: as many as keep the device busy, and fit its free memory.

    Args:
        model: The loaded model.
        example: A batch of inputs on its device.
        gradients: Whether methods differentiate the whole network, which keeps every layer's output.
    """
    height, width = model.preprocessing.size
    busy = BUSY_CPU if model.device.type == "cpu" else BUSY_ACCELERATOR
    wanted = int(np.clip(busy * PIXELS // (height * width), 4, LARGEST))
    fitting = int(SHARE * free_memory(model.device) / max(1, input_bytes(model, example, gradients)))
    return max(1, min(wanted, fitting))


def input_bytes(model: LoadedModel, example: Tensor, gradients: bool) -> int:
    """Return the bytes that one input takes on its way through the network.

    With gradients that is what autograd keeps for the backward pass, parameters left out, and the gradients
    themselves; without, the largest input and output of a module at the same time.
    """
    held = {parameter.untyped_storage().data_ptr() for parameter in model.module.parameters()}
    kept: dict[int, int] = {}
    largest = 0

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def watch(_module: object, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    hooks = []
    try:
        for part in model.module.modules():
            if not isinstance(part, torch.jit.ScriptModule):
                hooks.append(part.register_forward_hook(watch))
        with evaluating(model.module), torch.inference_mode(False), torch.set_grad_enabled(gradients):
            given = example.detach().clone().requires_grad_(gradients)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                output = model.module(given)
            del output
    finally:
        for hook in hooks:
            hook.remove()
    own = example[0].numel() * example.element_size()
    needed = GRADIENTS_TOO * sum(kept.values()) if gradients else 2 * largest
    return own + int(needed / len(example))


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device; on a CPU, within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    free = _available()
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        return min(free, int(limit) - used) if limit != "max" else free
    except (OSError, ValueError):
        return free


def _available() -> int:
    """Return what the system could give without swapping: Linux says so, elsewhere half of the memory is taken."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
