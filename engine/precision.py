"""The precision of the network's passes: exact by default, lower where that was asked for.

Only the network itself computes in it. Its output, what methods make of its layers, statistics and rows stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cache.errors import ConfigError

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def settle_matmul(device: torch.device, precision: Precision) -> None:
    """Say how exactly an NVIDIA device multiplies float32 numbers; convolutions are not exact there by default."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def lower(module: nn.Module, device: torch.device, precision: Precision) -> None:
    """Let a network compute in another precision from now on, and return float32 all the same.

    Which kind of head it has must have been found out before: what is learnt from rounded numbers may be wrong.

    Raises:
        ConfigError: The device or the network cannot compute in it.
    """
    if precision not in _HALVES:
        return
    if isinstance(module, torch.jit.ScriptModule):
        raise ConfigError(f"--precision {precision} does not work with a scripted network: say float32.")
    dtype = _HALVES[precision]
    try:
        with torch.autocast(device.type, dtype):
            ones = torch.ones(2, 2, device=device)
            possible = (ones @ ones).dtype == dtype
    except (RuntimeError, ValueError):
        possible = False
    if not possible:
        raise ConfigError(f"--precision {precision} is not possible on {device}: say float32.")
    usual: Callable[..., Any] = module.forward

    def forward(*inputs: Any, **options: Any) -> Any:
        with torch.autocast(device.type, dtype):
            output = usual(*inputs, **options)
        return output.float() if isinstance(output, Tensor) else output

    module.forward = forward


def key_suffix(precision: Precision) -> str:
    """Return what enters the keys of maps; exact ones have keys without it."""
    return "" if precision == "float32" else f"-{precision}"
