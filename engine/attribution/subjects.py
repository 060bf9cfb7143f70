"""What every family is given and gives back: a network, a batch of images with classes, and maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.attribution.registry import Method, MethodRequest


@dataclass(frozen=True)
class Network:
    """The classifier as the families see it.

    Attributes:
        module: The network, on its device, in evaluation mode.
        scores: Turns its output into one score a class (N, classes): the logits, or (−z, z) of a single logit z.
        probabilities: Turns its output into (N, classes) probabilities, float32.
        black: The input that a black pixel becomes, one value a channel: (C,).
    """

    module: nn.Module
    scores: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    black: Tensor


@dataclass(frozen=True)
class Subjects:
    """A batch of images to be explained, and the classes to explain them for.

    Attributes:
        inputs: What the network is given, (N, C, H, W) float32, on its device, in its best memory format.
        pixels: What a person would see of that, uint8 (N, H, W, C), C being 1 or 3.
        targets: Classes, (N, T) int64 on the CPU; −1 asks for nothing.
        contents: Content key of each image, from which draws are seeded.
        budget: Inputs that one pass through the network may hold at a time.
    """

    inputs: Tensor
    pixels: NDArray[np.uint8]
    targets: Tensor
    contents: Sequence[str]
    budget: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.contents)


@dataclass
class Maps:
    """One method's maps of a batch.

    Attributes:
        maps: (N, T, h, w) float32, unscaled; NaN where the target is −1.
        statistics: Trust in each map, by the name of a field of `TRUST_FIELDS`: (N, T) float32, NaN where unknown.
        extras: Values of the method's own columns (`Method.columns`): by column, one list of T values an image.
    """

    maps: Tensor
    statistics: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    extras: dict[str, list[list[Any]]] = field(default_factory=dict)


class Explainer(Protocol):
    """Explains batches with the methods of one family; the network is left as it was found, after errors too."""

    def refusal(self, request: MethodRequest) -> str | None:
        """Return the sentence that says why this network cannot take a method, None where it can."""
        ...

    def explain(self, subjects: Subjects, requests: Sequence[MethodRequest]) -> dict[str, Maps]:
        """Return every method's maps by its name."""
        ...


def generator(content: str, method: Method, parameters: object, seed: int = 0) -> np.random.Generator:
    """Return the source of a sampled method's draws for one image.

    It depends on the image's content, the method, its parameters and the number of the repetition, on nothing else:
    neither on the batch nor on the device.
    """
    text = f"{content}|{method.name}|{method.version}|{parameters!r}|{seed}"
    return np.random.default_rng(int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "little"))


def chunks(count: int, size: int) -> list[slice]:
    """Return slices of at most ``size`` that cover ``count`` items in order."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def empty_maps(targets: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Return (N, T, height, width) float32 maps of NaN."""
    return torch.full((*targets.shape, height, width), torch.nan, dtype=torch.float32, device=device)
