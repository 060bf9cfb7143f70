"""The methods of the activation family, each a few lines on the same activations and gradients.

They read the target layer's activations A (N, C, H, W) and the gradients g = ∂S/∂A of one score S a sample. Maps are stored as the papers define them: unscaled, (N, H, W), float32.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from engine.attribution.registry import Family, Parameter, register

FAMILY: Family = "activation"


class Evidence:
    """Activations and gradients of one score a sample, with what several methods share.

    Args:
        activations: A, (N, C, H, W).
        gradients: ∂S/∂A, (N, C, H, W), or (N, C, 1, 1) where the head pools globally, so that the gradient is
            the same at every position; None where no method asks for it.
        class_weights: Row of the linear head that belongs to each sample's score, (N, C); None without one.
    """

    def __init__(
        self, activations: Tensor, gradients: Tensor | None = None, class_weights: Tensor | None = None
    ) -> None:
        self.activations = at_least_float32(activations)
        self._gradients = None if gradients is None else at_least_float32(gradients)
        self._class_weights = class_weights

    @property
    def gradients(self) -> Tensor:
        """∂S/∂A, (N, C, H, W) or (N, C, 1, 1) where every position has the same."""
        assert self._gradients is not None, "a method that reads gradients must declare that it needs them"
        return self._gradients

    @property
    def class_weights(self) -> Tensor:
        """Weights of the linear head for each sample's score, (N, C)."""
        assert self._class_weights is not None, "a method that reads the head must declare that it needs it"
        return self._class_weights.to(self.activations.dtype)

    @property
    def uniform(self) -> bool:
        """Whether the gradients are the same at every position and held once."""
        return self.gradients.shape[2:] != self.activations.shape[2:]

    @property
    def positions(self) -> int:
        """Positions of the layer: H · W."""
        return self.activations.shape[2] * self.activations.shape[3]

    @cached_property
    def activation_sum(self) -> Tensor:
        """Σ A over the positions, (N, C)."""
        return self.activations.sum((2, 3))

    @cached_property
    def product(self) -> Tensor:
        """Gradient times activation, g ⊙ A, (N, C, H, W), for heads whose gradient varies over the positions."""
        return self.gradients * self.activations

    @cached_property
    def gradient_mean(self) -> Tensor:
        """Mean of g over the positions, (N, C)."""
        return self.gradients.mean((2, 3))

    @cached_property
    def gradient_weighted(self) -> Tensor:
        """Σ over channels of mean(g) · A, (N, H, W): Grad-CAM before its ReLU."""
        return self.weigh(self.gradient_mean)

    def weigh(self, weights: Tensor) -> Tensor:
        """Return Σ over channels of weight · A, (N, H, W), for weights (N, C)."""
        # One small matrix product a sample: it reads A once, in either memory format.
        flat = torch.bmm(weights.unsqueeze(1), self.activations.flatten(2))
        return flat.view(-1, *self.activations.shape[2:])


@register(
    "cam",
    title="CAM",
    family=FAMILY,
    summary="Activations weighted by the class's row of the final linear layer; only for heads of global average pooling and one linear layer.",
    reference="Zhou et al. 2016, arXiv:1512.04150",
    needs=("spatial_layer", "linear_head", "forward_only"),
    signed=True,
    passes="1 forward, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def cam(evidence: Evidence) -> Tensor:
    """M = Σ_k w_k A_k, with w the linear layer's weights of the class."""
    return evidence.weigh(evidence.class_weights)


@register(
    "gradcam",
    title="Grad-CAM",
    family=FAMILY,
    summary="Activations weighted by their mean gradient, positive part.",
    reference="Selvaraju et al. 2017, arXiv:1610.02391",
    needs=("spatial_layer", "gradients"),
    passes="1 forward, 1 backward through the head, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def gradcam(evidence: Evidence) -> Tensor:
    """M = ReLU(Σ_k mean(g_k) A_k)."""
    return evidence.gradient_weighted.relu()


@register(
    "gradcampp",
    title="Grad-CAM++",
    family=FAMILY,
    summary="Activations weighted by positive gradients, each by its share in the score; favours several instances of a class.",
    reference="Chattopadhyay et al. 2018, arXiv:1710.11063",
    needs=("spatial_layer", "gradients"),
    passes="1 forward, 1 backward through the head, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def gradcampp(evidence: Evidence) -> Tensor:
    """M = ReLU(Σ_k A_k Σ_ij α_ij ReLU(g_ij)), α = g² / (2 g² + ΣA · g³) = 1 / (2 + ΣA · g) where g ≠ 0.

    Cancelling g² needs no small constant in the denominator, in which the tiny gradients of a pooled head would
    drown. The paper's Y = exp(S) multiplies every weight by exp(S) > 0, which is dropped: the map is so up to
    scale. A denominator of exactly zero, which needs negative activations, gives α = 0.
    """
    denominator = 2 + evidence.activation_sum[:, :, None, None] * evidence.gradients
    alpha = torch.where(denominator == 0, 0, 1 / denominator)
    weights = (alpha * evidence.gradients.relu()).sum((2, 3))
    if evidence.uniform:
        weights = weights * evidence.positions
    return evidence.weigh(weights).relu()


@register(
    "xgradcam",
    title="XGrad-CAM",
    family=FAMILY,
    summary="Activations weighted by their gradients averaged under the activations themselves, positive part.",
    reference="Fu et al. 2020, arXiv:2008.02312",
    needs=("spatial_layer", "gradients"),
    passes="1 forward, 1 backward through the head, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def xgradcam(evidence: Evidence) -> Tensor:
    """M = ReLU(Σ_k A_k Σ_ij g_ij A_ij / ΣA), a weight of 0 where ΣA = 0."""
    if evidence.uniform:
        return evidence.gradient_weighted.relu()
    total = evidence.activation_sum
    weights = torch.where(total == 0, 0, evidence.product.sum((2, 3)) / total)
    return evidence.weigh(weights).relu()


@register(
    "hirescam",
    title="HiRes-CAM",
    family=FAMILY,
    summary="Gradient times activation at each position: the layer's own contributions to the score, both signs.",
    reference="Draelos and Carin 2020, arXiv:2011.08891",
    needs=("spatial_layer", "gradients"),
    signed=True,
    passes="1 forward, 1 backward through the head, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def hirescam(evidence: Evidence) -> Tensor:
    """M = Σ_k g_k ⊙ A_k."""
    return evidence.gradient_weighted if evidence.uniform else evidence.product.sum(1)


@register(
    "layercam",
    title="Layer-CAM",
    family=FAMILY,
    summary="Positive gradients times activations at each position, positive part.",
    reference="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
    needs=("spatial_layer", "gradients"),
    passes="1 forward, 1 backward through the head, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def layercam(evidence: Evidence) -> Tensor:
    """M = ReLU(Σ_k ReLU(g_k) ⊙ A_k)."""
    if evidence.uniform:
        return evidence.weigh(evidence.gradients.flatten(1).relu()).relu()
    return (evidence.gradients.relu() * evidence.activations).sum(1).relu()


@register(
    "eigencam",
    title="Eigen-CAM",
    family=FAMILY,
    summary="First principal component of the activations, whatever the class: what the layer responds to most.",
    reference="Muhammad and Yeasin 2020, arXiv:2008.00299",
    parameters=(
        Parameter(
            "center",
            False,
            "Subtract each channel's mean first, as pytorch-grad-cam does; the paper does not.",
        ),
    ),
    needs=("spatial_layer", "forward_only"),
    signed=True,
    class_dependent=False,
    passes="1 forward, shared by the family",
    presets=("fast", "standard", "thorough"),
)
def eigencam(evidence: Evidence, center: bool = False) -> Tensor:
    """M = A v₁, with v₁ the first right singular vector of A as a (positions × channels) matrix; ΣM ≥ 0.

    A v₁ = σ₁ u₁, so the eigenvectors of the smaller of A Aᵀ and Aᵀ A give it without a decomposition of A. The
    sign of a singular vector is arbitrary; it is chosen so that the map's sum is positive. Centred maps sum to
    zero: there the largest magnitude is made positive.
    """
    matrix = evidence.activations.flatten(2)
    if center:
        matrix = matrix - matrix.mean(2, keepdim=True)
    narrow = matrix.shape[2] <= matrix.shape[1]
    square = torch.bmm(matrix.mT, matrix) if narrow else torch.bmm(matrix, matrix.mT)
    # One NaN would make the decomposition of the whole batch fail: such samples are set aside.
    finite = square.isfinite().all(2).all(1)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], square, 0))
    first = vectors[:, :, -1]
    if narrow:
        flat = first * values[:, -1:].clamp(min=0).sqrt()
    else:
        flat = torch.bmm(first.unsqueeze(1), matrix).squeeze(1)
    guide = flat.gather(1, flat.abs().argmax(1, keepdim=True)) if center else flat.sum(1, keepdim=True)
    flat = torch.where(guide < 0, -flat, flat)
    flat = torch.where(finite[:, None], flat, torch.nan)
    return flat.view(-1, *evidence.activations.shape[2:])


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return half-precision tensors as float32, others as they are."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
