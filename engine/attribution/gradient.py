"""Explains a batch with any methods of the gradient family, each from passes of at most the batch's budget.

The methods themselves are in :mod:`engine.attribution.sensitivity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.errors import MethodError
from engine.attribution import rectifiers, rescale
from engine.attribution.activation import ActivationExplainer
from engine.attribution.baselines import baseline
from engine.attribution.differentiation import Passes, differentiating, gradient_of, run, watching_grad_mode
from engine.attribution.registry import MethodRequest, methods
from engine.attribution.sensitivity import FAMILY, Found
from engine.attribution.subjects import Maps, Network, Subjects, empty_maps, generator
from engine.grids import Grid
from engine.tracing import TargetLayer

GUIDED = ("guided_backprop", "guided_gradcam")
"""Methods that need a rule at every rectifier."""

TOLERANCE = 0.01
"""Share of the score's difference by which DeepLIFT's shares may miss it on a probe."""


class GradientExplainer:
    """Explains batches with the methods of the gradient family; the network is left as it was found.

    Args:
        network: The classifier.
        example: A batch of one or more inputs on its device, to learn what it can take.
        layer: The target layer for guided Grad-CAM, None where the network has none.
    """

    def __init__(self, network: Network, example: Tensor, layer: TargetLayer | None = None) -> None:
        self.network = network
        self.layer = layer
        self._example = example[:1].detach().clone()

    def refusal(self, request: MethodRequest) -> str | None:
        """Return the sentence that says why this network cannot take a method, None where it can."""
        method = request.method
        if method.family != FAMILY:
            return f"{method.title} is not one of the methods on the gradients of the input."
        if self._no_gradients:
            return f"{method.title} needs gradients, and {self._no_gradients}."
        architecture = type(self.network.module).__name__
        why, instead = None, "saliency and integrated gradients can"
        if method.name in GUIDED:
            why = self._not_guided
        elif method.name == "deeplift":
            why, instead = self._not_rescaled, "integrated gradients can, and add up too"
        if why:
            return f"{method.title} cannot be had of {architecture}: {why}; {instead}."
        if "spatial_layer" not in method.needs:
            return None
        if self.layer is None:
            return f"{method.title} needs a layer with positions, and none was found in {architecture}."
        return self._activation.refusal(methods()["gradcam"])

    def explain(self, subjects: Subjects, requests: Sequence[MethodRequest]) -> dict[str, Maps]:
        """Return every method's maps (N, T, H, W), in the resolution of the input, by its name.

        Raises:
            MethodError: The network cannot take one of the methods.
        """
        for request in requests:
            if reason := self.refusal(request):
                raise MethodError(reason)
        rows, columns = (subjects.targets >= 0).nonzero(as_tuple=True)
        results = {}
        with differentiating(self.network.module):
            passes = self._passes(subjects, rows, columns)
            for request in requests:
                found = _found(request, passes) if len(passes) else None
                results[request.name] = _spread(request, found, subjects, rows, columns)
        return results

    def _passes(self, subjects: Subjects, rows: Tensor, columns: Tensor) -> Passes:
        """Return the asked pairs of image and class, in copies that gradients may be asked of."""
        inputs = subjects.inputs.detach()
        last = inputs.is_contiguous(memory_format=torch.channels_last) and not inputs.is_contiguous()
        layout = torch.channels_last if last else torch.contiguous_format
        return Passes(
            self.network,
            inputs[rows.to(inputs.device)].contiguous(memory_format=layout),
            subjects.targets[rows, columns].to(inputs.device),
            [subjects.contents[row] for row in rows.tolist()],
            subjects.budget,
            self._cams,
        )

    @cached_property
    def _activation(self) -> ActivationExplainer:
        assert self.layer is not None
        example = self._example.clone()
        return ActivationExplainer(self.network.module, self.layer, example, scores=self.network.scores)

    def _cams(self, inputs: Tensor, classes: Tensor) -> Tensor:
        method = methods()["gradcam"]
        request = MethodRequest(method, method.resolve())
        result = self._activation.explain(inputs.clone(), classes[:, None], [request])
        return result.maps["gradcam"][:, 0]

    def _probes(self) -> list[Tensor]:
        """Return inputs unlike each other and the example, one at a time: it may be black, or grey all over."""
        source = torch.Generator().manual_seed(0)
        scale = self._example.float().std(correction=0).clamp(min=1).to(self._example)
        shape = self._example.shape
        noise = [torch.randn(shape, generator=source).to(self._example) for _ in range(2)]
        return [self._example + scale * one for one in noise]

    @cached_property
    def _no_gradients(self) -> str | None:
        """Why the scores have no gradients with respect to the input."""
        module = self.network.module
        architecture = type(module).__name__
        with differentiating(module), watching_grad_mode(module) as without:
            leaf = self._probes()[0].requires_grad_()
            problem = _undifferentiable(run(self.network, leaf), leaf)
        if without:
            return f"{architecture} runs '{without[0]}' under torch.no_grad(): take that out of its forward"
        return problem and f"the scores of {architecture} {problem}"

    @cached_property
    def _not_guided(self) -> str | None:
        """Why the guided rule cannot be applied."""
        if _is_scripted(self.network.module):
            return "it is TorchScript, whose rectifiers cannot be seen"
        with differentiating(self.network.module):
            scores = run(self.network, self._probes()[0].requires_grad_())
            return rectifiers.obstacle(rectifiers.graph(scores))

    @cached_property
    def _not_rescaled(self) -> str | None:
        """Why the rescale rule cannot be applied: an operation that it does not cover, or sums that do not match."""
        if _is_scripted(self.network.module):
            return "it is TorchScript, whose activations cannot be seen"
        errors, differences = [], []
        with differentiating(self.network.module):
            for probe in self._probes():
                reference = baseline("black", probe, self.network.black)
                rescaled, before = rescale.rescaled(self.network, reference)
                with torch.no_grad():
                    after = run(self.network, probe)
                seen = rectifiers.graph(rescaled(probe.clone().requires_grad_()))
                if uncovered := rescale.obstacle(seen):
                    return f"its rescale rule does not cover {uncovered}"
                best = after.argmax(1)
                multipliers = gradient_of(rescaled, probe, best)
                difference = (after - before).gather(1, best[:, None]).sum()
                differences.append(difference.abs().item())
                errors.append((((probe - reference) * multipliers).sum() - difference).abs().item())
        if max(errors) > TOLERANCE * max(differences):
            return (
                f"on a probe its shares missed the score's difference of {max(differences):.3g} by "
                f"{max(errors):.3g}, so that an operation in it is not covered by the rescale rule"
            )
        return None


def _found(request: MethodRequest, passes: Passes) -> Found:
    """Compute one method's maps, averaged over the seeds of a sampled one."""
    method = request.method
    parameters = dict(request.parameters)
    seeds = parameters.pop("seeds", None)
    if seeds is None:
        found = method.compute(passes, **parameters)
        return found if isinstance(found, Found) else Found(found, {})
    repeated = [
        method.compute(
            passes,
            **parameters,
            generators=[generator(content, method, parameters, seed) for content in passes.contents],
        )
        for seed in range(int(seeds))
    ]
    statistics = {"seed_spread": _seed_spread(repeated)} if len(repeated) > 1 else {}
    return Found(torch.stack(repeated).mean(0), statistics)


def _seed_spread(repeated: Sequence[Tensor]) -> Tensor:
    """Return the mean over seeds of ½ Σ |p_s − p̄|, (P,); NaN where a seed's map has no positive mass."""
    grids = [Grid(maps) for maps in repeated]
    shares = torch.stack([grid.flat for grid in grids])
    moved = (shares - shares.mean(0)).abs().sum(2).mean(0) / 2
    return torch.where(torch.stack([grid.degenerate for grid in grids]).any(0), torch.nan, moved)


def _spread(
    request: MethodRequest, found: Found | None, subjects: Subjects, rows: Tensor, columns: Tensor
) -> Maps:
    """Put the maps and numbers of the pairs in their places among all images and classes."""
    height, width = subjects.inputs.shape[2:]
    maps = empty_maps(subjects.targets, height, width, subjects.inputs.device)
    names = [*request.method.trust, *(("seed_spread",) if _repeated(request) else ())]
    shape = tuple(subjects.targets.shape)
    statistics: dict[str, NDArray[np.float32]] = {n: np.full(shape, np.nan, np.float32) for n in names}
    if found is not None:
        maps[rows.to(maps.device), columns.to(maps.device)] = found.maps.float()
        for name, values in found.statistics.items():
            statistics[name][rows.numpy(), columns.numpy()] = values.float().cpu().numpy()
    return Maps(maps, statistics)


def _repeated(request: MethodRequest) -> bool:
    return int(request.parameters.get("seeds", 1)) > 1


def _undifferentiable(scores: Tensor, leaf: Tensor) -> str | None:
    """Return what keeps some scores from being differentiated with respect to their input, None where they can be."""
    detached = "have none with respect to the image: it is detached on the way"
    if not scores.requires_grad:
        return detached
    try:
        (gradient,) = torch.autograd.grad(scores.sum(), leaf, allow_unused=True)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise
        if "inplace operation" in str(error):
            return "cannot be differentiated: an operation in place overwrites what its backward pass needs"
        return f"cannot be differentiated ({str(error).strip().partition(chr(10))[0].rstrip('.')})"
    return detached if gradient is None else None


def _is_scripted(module: nn.Module) -> bool:
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
