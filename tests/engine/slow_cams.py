"""The activation family written the slow way, a sample at a time in NumPy and float64."""

from __future__ import annotations

import numpy as np


def cam(A, g, w):
    return sum(w[k] * A[k] for k in range(len(A)))


def gradcam(A, g, w):
    return np.maximum(sum(g[k].mean() * A[k] for k in range(len(A))), 0)


def gradcampp(A, g, w):
    total = np.zeros(A.shape[1:])
    for k in range(len(A)):
        weight = 0.0
        for i, j in np.ndindex(*A.shape[1:]):
            if g[k, i, j] != 0:
                square = g[k, i, j] ** 2
                alpha = square / (2 * square + A[k].sum() * g[k, i, j] ** 3)
                weight += alpha * max(g[k, i, j], 0)
        total += weight * A[k]
    return np.maximum(total, 0)


def xgradcam(A, g, w):
    total = np.zeros(A.shape[1:])
    for k in range(len(A)):
        if A[k].sum() != 0:
            total += (g[k] * A[k] / A[k].sum()).sum() * A[k]
    return np.maximum(total, 0)


def hirescam(A, g, w):
    return (g * A).sum(0)


def layercam(A, g, w):
    return np.maximum((np.maximum(g, 0) * A).sum(0), 0)


def eigencam(A, g, w, center=False):
    matrix = A.reshape(len(A), -1).T
    if center:
        matrix = matrix - matrix.mean(0)
    _, _, right = np.linalg.svd(matrix, full_matrices=False)
    flat = matrix @ right[0]
    guide = flat[np.abs(flat).argmax()] if center else flat.sum()
    return (flat if guide >= 0 else -flat).reshape(A.shape[1:])


ALL = {f.__name__: f for f in (cam, gradcam, gradcampp, xgradcam, hirescam, layercam, eigencam)}
