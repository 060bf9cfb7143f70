"""Explaining with the perturbation family: every method is masked forward passes on one engine.

A method is a function that is given a :class:`Scene` (one image and what is known of it), a source of draws, and its
parameters. It returns a :class:`Proposal`: the masks of its passes, and what turns their scores into maps. The passes
of all images and methods run one after the other through full batches; the scores of every asked class come out of
the same pass, so that a further class costs no further passes. The methods are in
:mod:`engine.attribution.occlusions`, :mod:`engine.attribution.ablations` and
:mod:`engine.attribution.superpixel_methods`; importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache.errors import MethodError
from engine.attribution import ablations, occlusions, superpixel_methods
from engine.attribution.masking import Ablations, Job, Layout, MaskedForward, activations_of, head_resumes
from engine.attribution.proposals import FAMILY, Estimate, Proposal, Scene
from engine.attribution.registry import MethodRequest
from engine.attribution.subjects import Maps, Network, Subjects, empty_maps, generator
from engine.grids import Grid
from engine.layers import TargetLayer

METHODS = (occlusions, superpixel_methods, ablations)
"""Modules whose import registers the family's methods."""


class PerturbationExplainer:
    """Explains batches with the methods of the perturbation family.

    The network is left as it was found: hooks, modes, gradients and grad mode, after errors too.

    Args:
        network: The classifier.
        example: A batch of one or more inputs on the network's device.
        layer: The target layer, None where the network has none.
    """

    def __init__(self, network: Network, example: Tensor, layer: TargetLayer | None = None) -> None:
        self.network = network
        self.layer = layer
        self._example = example[:1]

    @cached_property
    def _resumes(self) -> bool:
        assert self.layer is not None
        return head_resumes(self.network, self.layer, self._example)

    def refusal(self, request: MethodRequest) -> str | None:
        """Return the sentence that says why this network cannot take a method, None where it can."""
        method, parameters = request.method, request.parameters
        name = type(self.network.module).__name__
        if method.family != FAMILY:
            return f"{method.title} is not one of the methods of masked forward passes."
        if "spatial_layer" in method.needs and self.layer is None:
            return (
                f"{method.title} needs a layer with height and width, and {name} has none that it could use: "
                "name one with --target-layer, or choose RISE, which needs none."
            )
        window, stride = int(parameters.get("window", 0)), int(parameters.get("stride", 0))
        if window and stride > window:
            return (
                f"{method.title} with stride={stride} and window={window} would never cover parts of the image: "
                "give a stride of at most the window."
            )
        return None

    def explain(self, subjects: Subjects, requests: Sequence[MethodRequest]) -> dict[str, Maps]:
        """Return every method's maps of a batch by its name.

        Raises:
            MethodError: The network cannot take one of the methods.
        """
        for request in requests:
            if reason := self.refusal(request):
                raise MethodError(reason)
        layout = Layout.of(subjects.inputs)
        scenes = [Scene(subjects, i, layout, self.network.black) for i in range(len(subjects))]
        if self.layer is not None and any("spatial_layer" in r.method.needs for r in requests):
            found = activations_of(self.network, subjects.inputs, self.layer, subjects.budget)
            for scene, activations in zip(scenes, found, strict=True):
                scene.activations = activations
        engine = MaskedForward(self.network, subjects)
        plans: list[_Plan] = []
        on_head: list[Job] = []

        def on_inputs() -> Iterator[Job]:
            for job in _jobs(subjects, scenes, requests, plans):
                if isinstance(job.masks, Ablations):
                    on_head.append(job)
                else:
                    yield job

        engine.run(on_inputs())
        if on_head and self.layer is not None:
            engine.run_ablations(on_head, self.layer, subjects.budget > 1 and self._resumes)
        return {
            request.name: _gather(subjects, request, [p for p in plans if p.request is request])
            for request in requests
        }


@dataclass(frozen=True)
class _Plan:
    """A job under way, and what becomes of its scores."""

    request: MethodRequest
    job: Job
    finish: Callable[[Tensor], Estimate]
    labels: bytes | None


def _jobs(
    subjects: Subjects, scenes: list[Scene], requests: Sequence[MethodRequest], plans: list[_Plan]
) -> Iterator[Job]:
    """Propose the passes of every method, image and seed when their turn comes, and note them in ``plans``."""
    for row, scene in enumerate(scenes):
        for request in requests:
            parameters = dict(request.parameters)
            for seed in range(int(parameters.pop("seeds", 1))):
                draws = generator(subjects.contents[row], request.method, sorted(parameters.items()), seed)
                proposal: Proposal = request.method.compute(scene, draws, **parameters)
                job = Job(row, proposal.masks, proposal.score)
                plans.append(_Plan(request, job, proposal.finish, proposal.labels))
                yield job


def _gather(subjects: Subjects, request: MethodRequest, plans: list[_Plan]) -> Maps:
    """Turn the scores of one method into its maps of the batch; several seeds are averaged."""
    count, classes = subjects.targets.shape
    estimates: list[list[Estimate]] = [[] for _ in range(count)]
    for plan in plans:
        estimates[plan.job.image].append(_estimate(plan, request))
    height, width = estimates[0][0].maps.shape[1:]
    result = Maps(empty_maps(subjects.targets, height, width, subjects.inputs.device))
    for row, seeds in enumerate(estimates):
        maps = torch.stack([e.maps for e in seeds]).float()
        asked = subjects.targets[row] >= 0
        where = asked.to(maps.device)
        result.maps[row] = torch.where(where[:, None, None], maps.mean(0), torch.nan)
        values: dict[str, NDArray[np.float64]] = {
            name: np.mean([e.statistics[name] for e in seeds], axis=0) for name in seeds[0].statistics
        }
        if len(seeds) > 1:
            values["seed_spread"] = _spread(maps)
        for name, value in values.items():
            stored = result.statistics.setdefault(name, np.full((count, classes), np.nan, np.float32))
            stored[row] = np.where(asked.numpy(), value, np.nan)
        if seeds[0].weights is not None:
            label = next(p.labels for p in plans if p.job.image == row)
            _add_extras(result.extras, seeds, asked.tolist(), label)
    return result


def _estimate(plan: _Plan, request: MethodRequest) -> Estimate:
    """Finish a job; where a score is not finite, its class's map and whatever goes with it are NaN."""
    scores = plan.job.scores
    finite = scores.isfinite().all(0)
    estimate = plan.finish(scores.nan_to_num(0.0, 0.0, 0.0))
    estimate.maps = torch.where(finite[:, None, None], estimate.maps, torch.nan)
    kept = finite.cpu().numpy()
    for name, values in estimate.statistics.items():
        estimate.statistics[name] = np.where(kept, values, np.nan)
    if estimate.weights is not None and estimate.intercept is not None:
        estimate.weights = np.where(kept[:, None], estimate.weights, np.nan)
        estimate.intercept = np.where(kept, estimate.intercept, np.nan)
    return estimate


def _spread(maps: Tensor) -> NDArray[np.float64]:
    """Return the mean over seeds of ½ Σ|p_s − p̄|, (T,); NaN for maps without mass."""
    seeds, classes = maps.shape[:2]
    grid = Grid(maps.flatten(0, 1))
    p = grid.p.double().view(seeds, classes, *grid.p.shape[1:])
    spread = 0.5 * (p - p.mean(0)).abs().sum((2, 3)).mean(0)
    degenerate = grid.degenerate.view(seeds, classes).any(0)
    found: NDArray[np.float64] = torch.where(degenerate, torch.nan, spread).cpu().numpy()
    return found


def _add_extras(
    extras: dict[str, list[list[Any]]], seeds: list[Estimate], asked: list[bool], label: bytes | None
) -> None:
    """Append one image's values of the columns of superpixel methods."""
    weights = np.mean([e.weights for e in seeds if e.weights is not None], axis=0).astype(np.float32)
    intercept = np.mean([e.intercept for e in seeds if e.intercept is not None], axis=0).astype(np.float32)
    values: dict[str, list[Any]] = {
        "superpixels": [label for _ in asked],
        "weights": list(weights),
        "intercept": [float(value) for value in intercept],
    }
    for name, row in values.items():
        extras.setdefault(name, []).append(
            [value if wanted else None for value, wanted in zip(row, asked, strict=True)]
        )
