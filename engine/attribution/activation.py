"""Explaining with the activation family: one forward pass, and one backward pass through the head, for all of it.

The target layer's output is detached and made a leaf, so that the graph holds the head only; the methods
themselves are in :mod:`engine.attribution.cams`. Attention rollout, in :mod:`engine.attribution.attention`, takes a
forward pass of its own and needs no target layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.errors import LayerError, MethodError, ModelError
from cache.maps import area_matrix
from engine.attribution.attention import Attention, Readout, read_attention
from engine.attribution.cams import FAMILY, Evidence, at_least_float32
from engine.attribution.registry import Method, MethodRequest
from engine.layers import Capture, TargetLayer, capturing, last_linear, trace

SAME_ON_POOLED_HEADS = ("gradcam", "xgradcam", "hirescam")
"""Methods that agree, up to scale and what they keep of the sign, where every position has the same gradient."""


def attended_features(activations: Tensor, maps: Tensor) -> Tensor:
    """Return the activations averaged under a map: Σ_ij A_ij p_ij, with p the map's positive part over its sum.

    Args:
        activations: (N, C, H, W).
        maps: (N, h, w); resampled by area where the resolution is not the layer's.

    Returns:
        (N, C) float32; rows of NaN where the map has no positive mass or is not finite.
    """
    positive = at_least_float32(maps).relu()
    positive = positive / positive.amax((1, 2), keepdim=True)
    (height, width), (rows, columns) = activations.shape[2:], maps.shape[1:]
    if (rows, columns) != (height, width):
        down = torch.tensor(area_matrix(rows, height)).to(positive)
        across = torch.tensor(area_matrix(columns, width)).to(positive)
        positive = down @ positive @ across.T
    share = (positive / positive.sum((1, 2), keepdim=True)).flatten(1)
    flat = at_least_float32(activations).flatten(2)
    return torch.bmm(flat, share.to(flat.dtype).unsqueeze(2)).squeeze(2).float()


@dataclass(frozen=True)
class LinearHead:
    """Scores that are linear in the mean activations: S = mean(A) Wᵀ + b, verified on a probe."""

    weight: Tensor
    """W, (classes, channels)."""
    bias: Tensor
    """b, (classes,)."""


@dataclass(frozen=True)
class ActivationResult:
    """What one forward pass gave.

    Attributes:
        logits: The network's output, (N, outputs).
        scores: One score a class, (N, classes); two for a single logit.
        targets: Classes explained, (N, T); −1 where none was asked for.
        activations: The target layer's output, (N, C, h, w); of tokens those of the patches; None without a layer.
        penultimate: Input of the last linear layer, or the mean activations, or the logits, (N, d) float32.
        maps: Method name to maps (N, T, h, w), float32, unscaled; NaN where the target is −1.
    """

    logits: Tensor
    scores: Tensor
    targets: Tensor
    activations: Tensor | None
    penultimate: Tensor
    maps: dict[str, Tensor]


class ActivationExplainer:
    """Explains batches with any methods of the activation family, from one forward pass each.

    The network is left as it was found: hooks, modes, gradients and grad mode, after errors too.

    Args:
        module: The network; its output is (N, outputs).
        layer: Where to look, from `find_target_layer` or `resolve_target_layer`; None where the network has no
            such layer: logits, scores and features are given all the same.
        example: A batch of one or more inputs on the network's device, to learn what kind of head it has.
        scores: Turns logits into one score a class, as a single logit z becomes (−z, z).
        layer_problem: Sentence that says why there is no layer, for those who ask for a method on one.

    Attributes:
        head: The linear head, where the scores are one linear layer of the mean activations.
        pooled: Whether the scores depend on the activations through their mean alone.

    Raises:
        LayerError: The layer does not run.
        ModelError: The output is not (N, outputs).
    """

    def __init__(
        self,
        module: nn.Module,
        layer: TargetLayer | None,
        example: Tensor,
        scores: Callable[[Tensor], Tensor] = lambda logits: logits,
        layer_problem: str = "",
    ) -> None:
        self.module = module
        self.layer = layer
        self.scores = scores
        self.layer_problem = layer_problem
        self._example = example
        self._readout: Readout | str | None = None
        self._linear = last_linear(trace(module, example), layer)
        self._frozen = False
        self.pooled = False
        self.differentiable = False
        self.head: LinearHead | None = None
        if layer is None:
            with self._capturing(False):
                self._forward(example)
        else:
            self._probe(example)

    def refusal(self, method: Method) -> str | None:
        """Return the sentence that says why this network cannot take a method, None where it can."""
        name = type(self.module).__name__
        if method.family != FAMILY:
            return f"{method.title} is not one of the methods on a layer's activations."
        if "attention" in method.needs:
            readout = self._attention()
            return readout if isinstance(readout, str) else None
        if self.layer is None:
            return self.layer_problem or f"{method.title} needs a layer with positions, and {name} has none."
        if "linear_head" in method.needs and self.head is None:
            return (
                f"{method.title} needs a head of global average pooling and one linear layer after "
                f"'{self.layer.name}', which {name} does not have; Grad-CAM works for any head."
            )
        if "gradients" in method.needs and not self.differentiable:
            return (
                f"{method.title} needs gradients, and the scores of {name} have none with respect to "
                f"'{self.layer.name}': choose another layer, or CAM and Eigen-CAM."
            )
        return None

    def equivalent(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return, for each of the methods, the others whose maps are the same up to scale on this network.

        Where the head pools globally, every position has the same gradient, so Grad-CAM, XGrad-CAM and HiRes-CAM
        coincide (the first two keep the positive part); where it is one linear layer besides, CAM joins them.
        """
        alike = (*SAME_ON_POOLED_HEADS, *(("cam",) if self.head else ())) if self.pooled else ()
        asked = list(names)
        return {n: [o for o in asked if o != n and o in alike] if n in alike else [] for n in asked}

    def explain(
        self,
        batch: Tensor,
        targets: Tensor | Callable[[Tensor], Tensor],
        methods: Sequence[MethodRequest],
    ) -> ActivationResult:
        """Explain a batch.

        Args:
            batch: Inputs, (N, C, H, W), on the network's device.
            targets: Classes, (N, T) int64, or a function of the scores (N, classes) that returns them; −1 asks
                for nothing, as in the second column where the label equals the prediction. The first column
                that asks for a class costs the head's backward pass, later ones their own rows only.
            methods: What to compute; each must be one that `refusal` lets pass.

        Raises:
            MethodError: The network cannot take one of the methods.
        """
        for request in methods:
            if reason := self.refusal(request.method):
                raise MethodError(reason)
        attending = [request for request in methods if "attention" in request.method.needs]
        looking = [request for request in methods if request not in attending]
        gradients = any("gradients" in request.method.needs for request in looking)
        with self._capturing(gradients) as capture:
            logits, scores = self._forward(batch)
            asked = (targets(scores.detach()) if callable(targets) else targets).cpu()
            chosen = asked.to(scores.device)
            leaf = None if self.layer is None else self._leaf(capture)
            maps = {} if leaf is None else self._maps(leaf, scores, asked, looking, gradients)
        maps |= self._attended(batch, chosen, attending)
        return ActivationResult(
            logits.detach(),
            scores.detach(),
            chosen,
            None if leaf is None else self._grid(leaf.detach()),
            self._penultimate(capture, logits.detach()),
            {request.name: maps[request.name] for request in methods},
        )

    def _attended(
        self, batch: Tensor, targets: Tensor, methods: Sequence[MethodRequest]
    ) -> dict[str, Tensor]:
        """Compute (N, T, h, w) maps of the methods on attention, a forward pass each."""
        maps = {}
        for request in methods:
            readout = self._attention()
            assert isinstance(readout, Readout)  # `refusal` has let it pass
            with torch.no_grad():
                found = request.method.compute(Attention(self.module, batch, readout), **request.parameters)
            maps[request.name] = _for_every_target(found, targets)
        return maps

    def _attention(self) -> Readout | str:
        if self._readout is None:
            self._readout = read_attention(self.module, self._example)
        return self._readout

    def _maps(
        self,
        leaf: Tensor,
        scores: Tensor,
        targets: Tensor,
        methods: Sequence[MethodRequest],
        gradients: bool,
    ) -> dict[str, Tensor]:
        """Compute (N, T, h, w) maps of every method, a column of targets at a time.

        What is asked for is looked up on the host, where it came from: the device is not waited for.
        """
        detached = self._grid(leaf.detach())
        host, targets = targets, targets.to(scores.device)
        rows, columns = targets.shape
        empty = detached.new_full((rows, columns, *detached.shape[2:]), torch.nan, dtype=torch.float32)
        maps = {request.name: empty.clone() for request in methods}
        for request in methods:
            if not request.method.class_dependent:
                common = request.method.compute(Evidence(detached), **request.parameters)
                maps[request.name] = _for_every_target(common, targets)
        dependent = [request for request in methods if request.method.class_dependent]
        for column in range(columns if dependent else 0):
            where = (host[:, column] >= 0).nonzero()[:, 0].to(scores.device)
            if len(where) == 0:
                continue
            asked = targets[:, column] >= 0
            gradient = None
            classes = targets[:, column].clamp(min=0)
            if gradients:
                with torch.enable_grad():  # a network with a no_grad block of its own leaves it off
                    chosen = scores.gather(1, classes[:, None])[:, 0]
                    total = torch.where(asked, chosen, 0).sum()
                (gradient,) = torch.autograd.grad(total, leaf, retain_graph=column < columns - 1)
                gradient = self._grid(gradient)
                if self.pooled:
                    gradient = gradient[:, :, :1, :1]
            weights = self.head.weight[classes] if self.head else None
            with torch.no_grad():
                some = len(where) < rows
                evidence = Evidence(
                    detached[where] if some else detached,
                    gradient[where] if some and gradient is not None else gradient,
                    weights[where] if some and weights is not None else weights,
                )
                for request in dependent:
                    found = request.method.compute(evidence, **request.parameters).float()
                    if some:
                        maps[request.name][where, column] = found
                    else:
                        maps[request.name][:, column] = found
        return maps

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.module(batch)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
            said = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"the output of {type(self.module).__name__} is not (batch, classes) but {said}: "
                "return the logits alone."
            )
        return logits, self.scores(logits)

    def _grid(self, output: Tensor) -> Tensor:
        assert self.layer is not None
        return self.layer.grid(output)

    def _leaf(self, capture: Capture) -> Tensor:
        """Return the layer's whole output, tokens and their prefix as they are."""
        if capture.activations is None:
            name = self.layer.name if self.layer else ""
            raise LayerError(
                f"layer '{name}' did not run in the forward pass: "
                "name one that every input passes through with --target-layer."
            )
        return capture.activations

    def _penultimate(self, capture: Capture, logits: Tensor) -> Tensor:
        features, count = capture.features, len(logits)
        if features is None or features.shape[0] != count or features[0].numel() != features.shape[-1]:
            features = logits if self.layer is None else self._grid(self._leaf(capture).detach()).mean((2, 3))
        return features.flatten(1).float()

    @contextmanager
    def _capturing(
        self, gradients: bool, replace: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[Capture]:
        with capturing(
            self.module, self.layer, self._linear, gradients=gradients, frozen=self._frozen, replace=replace
        ) as capture:
            yield capture

    def _probe(self, example: Tensor) -> None:
        """Learn whether gradients reach the layer, whether the head pools globally, and whether it is linear."""
        plain = self._gradient_of_mixture(example, None)
        if plain is None:
            self._frozen = True
            plain = self._gradient_of_mixture(example, None)
        self.differentiable = plain is not None

        def disturb(activations: Tensor) -> Tensor:
            # Noise of both signs and another mean: a ReLU or a maximum after the layer cannot stay unseen.
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(activations.shape, generator=generator).to(activations)
            return activations + (noise + 0.5) * activations.float().std().clamp(min=1).to(activations)

        noisy = self._gradient_of_mixture(example, disturb)
        self.pooled = (
            plain is not None and noisy is not None and _same_everywhere(plain) and _same_everywhere(noisy)
        )
        with self._capturing(False, disturb) as capture:
            logits, scores = self._forward(example)
            self.head = self._linear_head(self._grid(self._leaf(capture)), logits, scores)

    def _gradient_of_mixture(
        self, example: Tensor, replace: Callable[[Tensor], Tensor] | None
    ) -> Tensor | None:
        with self._capturing(True, replace) as capture:
            _, scores = self._forward(example)
            if not scores.requires_grad:
                return None
            generator = torch.Generator().manual_seed(1)
            mixture = torch.randn(scores.shape, generator=generator).to(scores)
            with torch.enable_grad():
                total = (scores * mixture).sum()
            (gradient,) = torch.autograd.grad(total, self._leaf(capture), allow_unused=True)
        return None if gradient is None else self._grid(gradient)

    def _linear_head(self, activations: Tensor, logits: Tensor, scores: Tensor) -> LinearHead | None:
        """Return the head if the scores equal the last linear layer of the mean activations, or these themselves."""
        mean = at_least_float32(activations).mean((2, 3))
        channels, outputs = mean.shape[1], logits.shape[1]
        weight, bias = torch.eye(outputs).to(mean), torch.zeros(outputs).to(mean)
        if self._linear is not None:
            linear = self._linear.module
            assert isinstance(linear, nn.Linear)
            weight = linear.weight.detach().to_dense().to(mean)
            bias = bias if linear.bias is None else linear.bias.detach().to(mean)
        if weight.shape != (outputs, channels):
            return None
        # A linear `scores` is linear on the rows of the weights as well, which the comparison below verifies.
        origin = self.scores(bias[None]).detach()
        weight, bias = (self.scores(weight.T + bias) - origin).T.contiguous(), origin[0]
        expected = mean @ weight.T
        rounding = 100 * torch.finfo(logits.dtype).eps * scores.abs().max()
        visible = expected.std() > 10 * rounding
        agrees = ((scores - bias) - expected).abs().max() <= rounding + 1e-4 * expected.std()
        if not bool(visible & agrees):
            return None
        return LinearHead(weight, bias)


def _for_every_target(maps: Tensor, targets: Tensor) -> Tensor:
    """Return maps (N, h, w) that are the same for every class as (N, T, h, w), NaN where none is asked for."""
    return torch.where((targets >= 0)[:, :, None, None], maps.float()[:, None], torch.nan)


def _same_everywhere(gradient: Tensor) -> bool:
    """Tell whether a gradient (N, C, H, W) is not zero and the same at every position."""
    largest = gradient.abs().max()
    difference = (gradient - gradient[:, :, :1, :1]).abs().max()
    return bool(largest > 0) and bool(difference <= 100 * torch.finfo(gradient.dtype).eps * largest)
