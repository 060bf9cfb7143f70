"""Superpixels: connected areas of similar colour, computed on what a person would see of the input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALGORITHMS = ("slic", "quickshift", "felzenszwalb")


def segment(pixels: NDArray[np.uint8], algorithm: str, segments: int) -> NDArray[np.uint16]:
    """Cut an image into superpixels.

    Args:
        pixels: (H, W, 1 or 3), 0..255.
        algorithm: slic (Achanta et al. 2012), quickshift (Vedaldi and Soatto 2008) or felzenszwalb (Felzenszwalb and
            Huttenlocher 2004).
        segments: About how many; quickshift decides for itself.

    Returns:
        Labels 0..S − 1 of every pixel, (H, W); S is 1 for an image of one colour.
    """
    import skimage.segmentation as skimage

    height, width, channels = pixels.shape
    colour = np.repeat(pixels, 3, axis=2) if channels == 1 else pixels
    if (colour == colour[:1, :1]).all():
        return np.zeros((height, width), np.uint16)
    if algorithm == "slic":
        labels = skimage.slic(colour, n_segments=segments, compactness=10, sigma=1, start_label=0)
    elif algorithm == "quickshift":
        # The settings of the lime package.
        labels = skimage.quickshift(colour, kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    else:
        smallest = max(1, height * width // (4 * segments))
        labels = skimage.felzenszwalb(colour, scale=100, sigma=0.5, min_size=smallest)
    _, numbered = np.unique(labels, return_inverse=True)
    return numbered.reshape(height, width).astype(np.uint16)
