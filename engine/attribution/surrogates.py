"""LIME and Kernel SHAP on superpixels: which superpixels to show in each pass, and what the scores come to.

Everything here is NumPy on (passes, superpixels) matrices of ones (shown) and zeros (hidden); no network, no image.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from engine.attribution.designs import BLOCK, balanced

ENUMERATED = 10
"""Superpixels up to which Kernel SHAP always asks every subset: 1,024 passes at most."""

States = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Surrogate:
    """What a linear model of the superpixels came to, one entry a class.

    Attributes:
        weights: (T, superpixels).
        intercept: (T,); for Kernel SHAP the score with everything hidden.
        trust: (T,): LIME's local R², Kernel SHAP's additivity error.
    """

    weights: Floats
    intercept: Floats
    trust: Floats


def lime_states(
    superpixels: int,
    samples: int,
    sampling: str,
    generator: np.random.Generator,
    importance: Floats | None = None,
) -> States:
    """Return which superpixels each pass of LIME shows, (samples, superpixels); the first shows all.

    independent
        Every superpixel is shown with probability ½, as the lime package draws.
    paired
        Passes 2k − 1 and 2k are each other's complement, so that whatever interactions of an even order do to the
        scores cancels. The pairs are a design of `engine.attribution.designs`: no weight is estimated from what
        belongs to another, and interactions of three among the superpixels that are expected to matter most disturb
        the weights little. Every single pass still shows each superpixel with probability ½, so the surrogate is
        the same in the limit.

    Args:
        superpixels: How many there are.
        samples: Passes.
        sampling: independent or paired.
        generator: Source of the draws.
        importance: What paired sampling expects of each superpixel, (superpixels,); without it, at random.
    """
    if sampling == "independent":
        states = generator.integers(0, 2, (samples, superpixels)).astype(bool)
        states[:1] = True
        return states
    if importance is None:
        importance = generator.random(superpixels)
    order = np.argsort(-importance, kind="stable")
    pairs = samples // 2
    design = balanced(superpixels, min(BLOCK, pairs))
    blocks = []
    for start in range(0, pairs, BLOCK):
        halves = np.empty((min(BLOCK, pairs - start), superpixels), bool)
        halves[:, order] = design[: len(halves)]
        blocks.append(halves ^ generator.integers(0, 2, superpixels).astype(bool))
    halves = np.concatenate(blocks)
    states = np.stack([halves, ~halves], 1).reshape(-1, superpixels)
    return np.concatenate([np.ones((1, superpixels), bool), states])[:samples]


def lime_fit(states: States, scores: Floats, kernel_width: float) -> Surrogate:
    """Fit LIME's surrogate with the lime package: a ridge regression weighted by nearness to the whole image.

    Args:
        states: (passes, superpixels).
        scores: (passes, T), finite.
        kernel_width: Width of the exponential kernel of the cosine distance.

    Returns:
        Signed weights, intercepts and the weighted R² of the fit.
    """
    from lime.lime_base import LimeBase

    def kernel(distances: Floats) -> Floats:
        return np.sqrt(np.exp(-(distances**2) / kernel_width**2))

    base = LimeBase(kernel, random_state=0)
    superpixels = states.shape[1]
    # The cosine of a 0/1 vector with k ones to the vector of ones is √(k / S).
    distances = 1 - np.sqrt(states.mean(1))
    weights = np.zeros((scores.shape[1], superpixels))
    intercept, trust = np.zeros(len(weights)), np.zeros(len(weights))
    data = states.astype(np.float64)
    for t in range(len(weights)):
        intercept[t], found, trust[t], _ = base.explain_instance_with_data(
            data, scores, distances, t, superpixels, feature_selection="none"
        )
        for superpixel, weight in found:
            weights[t, superpixel] = weight
    return Surrogate(weights, intercept, trust)


@dataclass(frozen=True)
class Coalitions:
    """Subsets that Kernel SHAP asks for.

    Attributes:
        states: (passes, superpixels); the first shows nothing, the last everything.
        weights: (passes,): share of the kernel's weight that each stands for, 0 for those two.
        exact: Whether they are all 2^superpixels subsets, subset b being row b in binary.
    """

    states: States
    weights: Floats
    exact: bool


def shap_coalitions(superpixels: int, samples: int, generator: np.random.Generator) -> Coalitions:
    """Return the subsets of Kernel SHAP: all where there are few, else pairs of complements, as many of each size.

    A subset of k of S superpixels weighs (S − 1) / (C(S, k) k (S − k)). The passes are divided evenly among the sizes
    (the leverage scores of that regression: Musco and Witter 2024, arXiv:2410.01917), sizes with fewer subsets than
    that are enumerated, and the subsets of a size share the weight that the size has altogether.
    """
    if superpixels <= ENUMERATED or 2**superpixels <= samples:
        bits = np.arange(2**superpixels)[:, None] >> np.arange(superpixels)
        return Coalitions((bits & 1).astype(bool), np.zeros(2**superpixels), exact=True)
    sizes = np.arange(1, superpixels // 2 + 1)
    middle = 2 * sizes == superpixels
    mass = np.where(middle, 1.0, 2.0) / (sizes * (superpixels - sizes))
    available = [
        comb(superpixels, int(k)) // (2 if half else 1) for k, half in zip(sizes, middle, strict=True)
    ]
    counts = _shared_out(max((samples - 2) // 2, 1), np.where(middle, 1.0, 2.0), available, generator)
    states, weights = [np.zeros((1, superpixels), bool)], [np.zeros(1)]
    for size, total, count in zip(sizes, mass, counts, strict=True):
        if count:
            chosen = _distinct(superpixels, int(size), count, 2 * int(size) == superpixels, generator)
            states += [chosen, ~chosen]
            weights.append(np.full(2 * count, total / (2 * count)))
    states.append(np.ones((1, superpixels), bool))
    return Coalitions(np.concatenate(states), np.concatenate([*weights, np.zeros(1)]), exact=False)


def _shared_out(
    pairs: int, shares: Floats, available: list[int], generator: np.random.Generator
) -> list[int]:
    """Divide pairs among sizes in proportion to their shares, none getting more than it has subsets."""
    counts = np.zeros(len(shares))
    open_ = np.ones(len(shares), bool)
    limits = np.array([float(a) for a in available])
    while open_.any():
        wanted = (pairs - counts[~open_].sum()) * np.where(open_, shares, 0) / shares[open_].sum()
        full = open_ & (wanted >= limits)
        if not full.any():
            counts[open_] = wanted[open_]
            break
        counts[full] = limits[full]
        open_ &= ~full
    whole = np.floor(counts + 1e-9)
    left = round(min(pairs, limits.sum()) - whole.sum())
    # Whole numbers by systematic sampling of the fractions: no size is favoured.
    steps = np.floor(np.cumsum(counts - whole) - 1e-9 + generator.random())
    extra = np.diff(steps, prepend=0.0)
    whole += np.where(whole + extra <= limits, extra, 0) if left > 0 else 0
    return [int(count) for count in whole]


def _distinct(
    superpixels: int, size: int, count: int, middle: bool, generator: np.random.Generator
) -> States:
    """Return different random subsets of a size, (count, superpixels); of the middle size no two complements."""
    seen: dict[bytes, States] = {}
    while len(seen) < count:
        row = np.zeros(superpixels, bool)
        row[generator.permutation(superpixels)[:size]] = True
        key = ~row if middle and not row[0] else row
        seen.setdefault(key.tobytes(), row)
    return np.stack(list(seen.values()))


def shap_fit(coalitions: Coalitions, scores: Floats) -> Surrogate:
    """Return the Shapley values of the superpixels: exact where every subset was asked, else by weighted least squares.

    The regression is constrained to be efficient: the values sum to f(everything) − f(nothing).

    Args:
        coalitions: The subsets.
        scores: (passes, T), finite.

    Returns:
        Shapley values, the score with everything hidden, and |Σφ + φ₀ − f(x)| of the float32 values that are kept.
    """
    nothing, everything = scores[0], scores[-1]
    if coalitions.exact:
        values = _exact(coalitions.states.shape[1], scores)
    else:
        values = _constrained(coalitions, scores - nothing, everything - nothing)
    kept = values.astype(np.float32).astype(np.float64)
    error = np.abs(kept.sum(1) + nothing.astype(np.float32) - everything)
    return Surrogate(values, nothing, error)


def _exact(superpixels: int, scores: Floats) -> Floats:
    subsets = np.arange(2**superpixels)
    sizes = np.bitwise_count(subsets).astype(int)
    weights = np.array([1 / (superpixels * comb(superpixels - 1, k)) for k in range(superpixels)])
    values = np.zeros((scores.shape[1], superpixels))
    for i in range(superpixels):
        without = subsets[(subsets >> i & 1) == 0]
        values[:, i] = weights[sizes[without]] @ (scores[without | 1 << i] - scores[without])
    return values


def _constrained(coalitions: Coalitions, gains: Floats, total: Floats) -> Floats:
    """Solve min Σ w (Σ z φ − gain)² with Σφ = total by eliminating the last value."""
    states = coalitions.states.astype(np.float64)
    root = np.sqrt(coalitions.weights)[:, None]
    left = (states[:, :-1] - states[:, -1:]) * root
    right = (gains - states[:, -1:] * total) * root
    first = np.linalg.lstsq(left, right, rcond=None)[0]
    values: Floats = np.concatenate([first, (total - first.sum(0))[None]]).T
    return values
