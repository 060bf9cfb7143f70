"""What an image is compared with by the methods that need an image without evidence."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BASELINES = ("black", "mean", "blur")
"""The baselines that a method may be asked for."""

BLUR_WIDTH = 0.05
"""Standard deviation of the blur, in fractions of the side it runs along."""


def baseline(kind: str, inputs: Tensor, black: Tensor) -> Tensor:
    """Return the baseline of every input, in the shape of the inputs.

    Args:
        kind: One of `BASELINES`: black pixels, each image's own mean colour, or the image under a Gaussian blur.
        inputs: (N, C, H, W).
        black: The input that a black pixel becomes, (C,).
    """
    if kind == "black":
        return black.to(inputs)[None, :, None, None].expand_as(inputs)
    if kind == "mean":
        return inputs.mean((2, 3), keepdim=True).expand_as(inputs)
    height, width = inputs.shape[2:]
    down, across = (_blur_matrix(size, inputs.device, inputs.dtype) for size in (height, width))
    return down @ inputs @ across.T


@lru_cache(maxsize=16)
def _blur_matrix(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the (size, size) matrix that blurs along one side; its rows sum to 1, at the edges too."""
    at = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((at[:, None] - at) / (BLUR_WIDTH * size)) ** 2)
    return (weights / weights.sum(1, keepdim=True)).to(device, dtype)
