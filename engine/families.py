"""The families of attribution side by side: one forward pass for the activation family, the others after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.attribution.activation import ActivationExplainer
from engine.attribution.registry import Family, MethodRequest
from engine.attribution.subjects import Explainer, Maps, Network, Subjects
from engine.layers import TargetLayer

if TYPE_CHECKING:
    from engine.models import LoadedModel

Needed = NDArray[np.bool_]
"""Which of a batch's images and classes a method is wanted for, (N, T)."""


class Families:
    """Explains batches with any registered method.

    Attributes:
        activation: Explainer of the activation family, whose forward pass also predicts and gives the embeddings.
        layer: The target layer, None where the network has none.
    """

    def __init__(
        self, model: LoadedModel, layer: TargetLayer | None, example: Tensor, layer_problem: str = ""
    ) -> None:
        """Take over a model.

        Args:
            model: The loaded model.
            layer: Its target layer, None where it has none.
            example: A batch of inputs on its device.
            layer_problem: Why it has no target layer.
        """
        self.layer = layer
        self.activation = ActivationExplainer(
            model.module, layer, example, scores=model.scores, layer_problem=layer_problem
        )
        self._model = model
        self._example = example
        self._others: dict[Family, Explainer] = {}

    @property
    def layer_identity(self) -> str:
        """Name of the target layer as cache keys have it, empty where there is none."""
        return self.layer.identity if self.layer else ""

    def refusal(self, request: MethodRequest) -> str | None:
        """Return the sentence that says why this network cannot take a method, None where it can."""
        if request.method.family == "activation":
            return self.activation.refusal(request.method)
        return self._other(request.method.family).refusal(request)

    def equivalent(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return, for each of the methods, the others whose maps are the same up to scale on this network."""
        return self.activation.equivalent(names)

    def maps(
        self, subjects: Subjects, wanted: dict[MethodRequestKey, Needed], requests: Sequence[MethodRequest]
    ) -> dict[str, Maps]:
        """Return the maps of the methods that are not of the activation family.

        Args:
            subjects: The batch.
            wanted: By method, which images and classes to compute; the others stay NaN.
            requests: The methods, those of the activation family are passed by.
        """
        found: dict[str, Maps] = {}
        for some in _alike(requests, wanted):
            needed = wanted[some[0].name]
            rows = np.flatnonzero(needed.any(axis=1))
            if len(rows) == 0:
                continue
            chosen = _subset(subjects, rows, needed)
            maps = self._other(some[0].method.family).explain(chosen, some)
            found |= {name: _spread(one, rows, needed.shape) for name, one in maps.items()}
        return found

    def _other(self, family: Family) -> Explainer:
        """Return the explainer of a family, made when it is first asked for."""
        if family not in self._others:
            network = network_of(self._model)
            if family == "gradient":
                from engine.attribution.gradient import GradientExplainer

                self._others[family] = GradientExplainer(network, self._example, self.layer)
            else:
                from engine.attribution.perturbation import PerturbationExplainer

                self._others[family] = PerturbationExplainer(network, self._example, self.layer)
        return self._others[family]


MethodRequestKey = str
"""Name of a requested method: a run holds one map of each."""


def network_of(model: LoadedModel) -> Network:
    """Return a loaded model as the families see it."""
    preprocessing = model.preprocessing
    black = np.zeros((1, *preprocessing.size, preprocessing.channels), np.uint8)
    return Network(
        model.module,
        model.scores,
        lambda logits: model.log_probabilities(logits).exp(),
        preprocessing.normalise(black, model.device)[0, :, 0, 0].clone(),
    )


def _alike(
    requests: Sequence[MethodRequest], wanted: dict[MethodRequestKey, Needed]
) -> list[list[MethodRequest]]:
    """Group the methods of a family that are wanted for the same images and classes."""
    groups: dict[tuple[Family, bytes], list[MethodRequest]] = {}
    for request in requests:
        if request.method.family != "activation":
            key = (request.method.family, wanted[request.name].tobytes())
            groups.setdefault(key, []).append(request)
    return list(groups.values())


def _subset(subjects: Subjects, rows: NDArray[np.intp], needed: Needed) -> Subjects:
    """Return some images of a batch, with the classes that are wanted of each."""
    asked = torch.from_numpy(needed) & (subjects.targets >= 0)
    targets = torch.where(asked, subjects.targets, -1)
    if len(rows) == len(subjects):
        return replace(subjects, targets=targets)
    at = torch.from_numpy(rows)
    inputs = subjects.inputs[at.to(subjects.inputs.device)]
    if subjects.inputs.is_contiguous(memory_format=torch.channels_last):
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    contents = [subjects.contents[i] for i in rows.tolist()]
    return replace(
        subjects, inputs=inputs, pixels=subjects.pixels[rows], targets=targets[at], contents=contents
    )


def _spread(maps: Maps, rows: NDArray[np.intp], shape: tuple[int, ...]) -> Maps:
    """Return the maps of some images in their places among all of a batch."""
    if len(rows) == shape[0]:
        return maps
    full = maps.maps.new_full((*shape, *maps.maps.shape[2:]), torch.nan)
    full[torch.from_numpy(rows).to(full.device)] = maps.maps
    trust = {}
    for name, values in maps.statistics.items():
        trust[name] = np.full(shape, np.nan, np.float32)
        trust[name][rows] = values
    extras = {name: [[None] * shape[1] for _ in range(shape[0])] for name in maps.extras}
    for name, kept in maps.extras.items():
        for row, of_image in zip(rows.tolist(), kept, strict=True):
            extras[name][row] = of_image
    return Maps(full, trust, extras)
