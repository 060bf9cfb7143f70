"""What is put in place of hidden pixels, in the space of the network's input."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FILLS = ("mean", "blur", "black", "noise")
"""Fills of superpixel methods."""
ALL_FILLS = ("zero", *FILLS)
"""Fills of the others; zero is what normalisation makes of the training images' mean colour."""

_BLUR = 0.05
"""Standard deviation of the blur, of the shorter side: 11 of 224 pixels."""


def fill_of(
    kind: str,
    image: Tensor,
    black: Tensor,
    generator: np.random.Generator,
    labels: Tensor | None = None,
) -> Tensor:
    """Return the image that shows through where pixels are hidden, (C, H, W).

    Args:
        kind: zero, black, mean (the image's mean colour, or every superpixel's own), blur, or noise (Gaussian, with
            each channel's own mean and deviation).
        image: The input, (C, H, W).
        black: The input that a black pixel becomes, (C,).
        generator: Source of the noise.
        labels: Superpixels 0..S − 1 of every pixel, (H, W) int64, where the mean is taken in each.
    """
    channels, height, width = image.shape
    if kind == "zero":
        return torch.zeros_like(image)
    if kind == "black":
        return black.to(image)[:, None, None].expand_as(image)
    if kind == "blur":
        sigma = max(_BLUR * min(height, width), 0.5)
        down, across = (_gaussian(n, sigma).to(image) for n in (height, width))
        return down @ image @ across.T
    if kind == "noise":
        flat = image.double().flatten(1)
        noise = torch.from_numpy(generator.standard_normal((channels, height, width), np.float32)).to(image)
        mean, deviation = flat.mean(1).to(image), flat.std(1, correction=0).to(image)
        return mean[:, None, None] + deviation[:, None, None] * noise
    if labels is None:
        return image.double().mean((1, 2)).to(image)[:, None, None].expand_as(image)
    return _superpixel_means(image, labels)


def _superpixel_means(image: Tensor, labels: Tensor) -> Tensor:
    flat, pixels = labels.flatten(), image.double().flatten(1)
    count = int(flat.max()) + 1
    sums = torch.zeros(len(image), count, dtype=torch.float64, device=image.device).index_add_(
        1, flat, pixels
    )
    sizes = torch.bincount(flat, minlength=count)
    return (sums / sizes).to(image)[:, flat].reshape(image.shape)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Return the matrix (size, size) that blurs a line; at the edges the weights of what is there sum to one."""
    at = torch.arange(size, dtype=torch.float64)
    weights = torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)
