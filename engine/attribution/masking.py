"""The one engine of masked forward passes: (image, mask) pairs of many images through full batches.

A method hands in masks that know how to write any of their masked inputs into a buffer; nothing is written before
its batch comes up, so memory does not grow with the number of passes, and a batch is filled from as many images as it
takes. What comes back is the score of every asked class for every mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from engine.attribution.subjects import Network, Subjects
from engine.layers import Capture, TargetLayer, capturing, evaluating

Score = Literal["probability", "logit"]


class Masks(Protocol):
    """The masked versions of one image, made when they are asked for."""

    def __len__(self) -> int:
        """Return the number of passes."""
        ...

    def write(self, rows: slice, out: Tensor) -> None:
        """Write these masked versions into ``out``, (rows, C, H, W), in the memory format of the inputs."""
        ...


@dataclass
class Ablations:
    """Channels of the target layer to be zeroed one at a time; −1 zeroes none."""

    channels: Tensor

    def __len__(self) -> int:
        """Return the number of passes."""
        return len(self.channels)


_SPENT = Ablations(torch.empty(0))


@dataclass
class Job:
    """Passes that one image asks for, and the scores that come back.

    Attributes:
        image: Row of the inputs.
        masks: What each pass hides; forgotten once the last pass has run.
        score: Which score is kept.
        scores: (passes, T) float32, on the network's device.
    """

    image: int
    masks: Masks | Ablations
    score: Score
    scores: Tensor = field(init=False)


@dataclass(frozen=True)
class Segment:
    """Consecutive passes of one job within a batch."""

    job: Job
    rows: slice
    at: slice
    """Where they lie in the batch."""


def batches(jobs: Iterable[Job], size: int) -> Iterator[list[Segment]]:
    """Cut the passes of all jobs, in order, into batches of exactly ``size``, the last one aside."""
    batch: list[Segment] = []
    filled = 0
    for job in jobs:
        start, count = 0, len(job.masks)
        while start < count:
            take = min(count - start, size - filled)
            batch.append(Segment(job, slice(start, start + take), slice(filled, filled + take)))
            start, filled = start + take, filled + take
            if filled == size:
                yield batch
                batch, filled = [], 0
    if batch:
        yield batch


class MaskedForward:
    """Runs the passes of jobs; the network is left as it was found, after errors too.

    Args:
        network: The classifier.
        subjects: The images and classes that the jobs speak of.
    """

    def __init__(self, network: Network, subjects: Subjects) -> None:
        self.network = network
        self.subjects = subjects
        self._targets = subjects.targets.clamp(min=0).to(subjects.inputs.device)

    def run(self, jobs: Iterable[Job]) -> list[Job]:
        """Run every pass on masked inputs; return the jobs, in order, with their scores."""
        buffers: list[Tensor] = []

        def forward(batch: list[Segment]) -> Tensor:
            if not buffers:
                buffers.append(Layout.of(self.subjects.inputs).empty(self.subjects.budget))
            buffer = buffers[0]
            for segment in batch:
                assert not isinstance(segment.job.masks, Ablations)
                segment.job.masks.write(segment.rows, buffer[segment.at])
            output: Tensor = self.network.module(buffer[: batch[-1].at.stop])
            return output

        with evaluating(self.network.module), torch.inference_mode(False), torch.no_grad():
            return self._collect(jobs, forward)

    def run_ablations(self, jobs: Iterable[Job], layer: TargetLayer, shared: bool) -> list[Job]:
        """Run every pass with channels of the target layer zeroed; return the jobs, in order, with their scores.

        Args:
            jobs: Jobs whose masks are `Ablations`.
            layer: Whose channels are zeroed.
            shared: Whether each image runs once up to the layer for all of its passes in a batch; only where
                `head_resumes` says that the rest of the network takes that.
        """
        inputs, module = self.subjects.inputs, self.network.module

        def forward(batch: list[Segment]) -> Tensor:
            images = [segment.job.image for segment in batch]
            unique = list(dict.fromkeys(images))
            lengths = torch.tensor([segment.at.stop - segment.at.start for segment in batch])
            rows = torch.tensor(images if not shared else [unique.index(i) for i in images])
            rows = rows.repeat_interleave(lengths).to(inputs.device)
            channels = torch.cat([_ablations(segment.job)[segment.rows] for segment in batch]).to(
                inputs.device
            )

            def ablate(activations: Tensor) -> Tensor:
                return zero_channels(activations[rows] if shared else activations, channels)

            with capturing(module, layer, gradients=False, replace=ablate):
                output: Tensor = module(
                    inputs[torch.tensor(unique, device=inputs.device) if shared else rows]
                )
                return output

        return self._collect(jobs, forward)

    def _collect(self, jobs: Iterable[Job], forward: Callable[[list[Segment]], Tensor]) -> list[Job]:
        """Run batch after batch and keep the scores of the asked classes; nothing waits for the device."""
        done: list[Job] = []

        def announced() -> Iterator[Job]:
            for job in jobs:
                job.scores = torch.empty(len(job.masks), self._targets.shape[1], device=self._targets.device)
                done.append(job)
                yield job

        for batch in batches(announced(), self.subjects.budget):
            output = forward(batch)
            kinds = {
                kind: self._values(output, kind) for kind in dict.fromkeys(part.job.score for part in batch)
            }
            for part in batch:
                job = part.job
                asked = kinds[job.score][part.at].index_select(1, self._targets[job.image])
                job.scores[part.rows] = asked
                if part.rows.stop == len(job.masks):
                    job.masks = _SPENT
        return done

    def _values(self, output: Tensor, kind: Score) -> Tensor:
        if kind == "probability":
            return self.network.probabilities(output).float()
        return self.network.scores(output).float()


def _ablations(job: Job) -> Tensor:
    assert isinstance(job.masks, Ablations)
    return job.masks.channels


def zero_channels(activations: Tensor, channels: Tensor) -> Tensor:
    """Return a copy of activations (N, C, h, w) with one channel of each zeroed, none where it is −1."""
    numbers = torch.arange(activations.shape[1], device=activations.device)
    return activations.masked_fill((numbers == channels[:, None])[:, :, None, None], 0)


def activations_of(network: Network, inputs: Tensor, layer: TargetLayer, size: int) -> Tensor:
    """Return the target layer's output (N, C, h, w) float32, running at most ``size`` inputs at a time."""
    found = []
    for part in torch.split(inputs, size):
        with capturing(network.module, layer, gradients=False) as capture:
            network.module(part)
        found.append(_taken(capture, layer).float())
    return torch.cat(found)


def head_resumes(network: Network, layer: TargetLayer, example: Tensor) -> bool:
    """Tell whether the rest of the network takes more rows from the layer than came in, and gives them the same scores.

    A head that knows the batch's size beforehand, or a way round the layer, fails; each pass then runs in full.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(example[:1].shape, generator=generator).to(example)
    pair = torch.cat([example[:1], example[:1] + noise])
    rows, channels = torch.tensor([0, 1, 1], device=pair.device), torch.arange(-1, 2, device=pair.device)

    def scores(inputs: Tensor, ablate: Callable[[Tensor], Tensor]) -> Tensor:
        with capturing(network.module, layer, gradients=False, replace=ablate):
            output: Tensor = network.module(inputs)
            return output

    try:
        resumed = scores(pair, lambda a: zero_channels(a[rows], channels))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever somebody's head says to a batch that has grown
        return False
    expected = torch.cat(
        [
            scores(pair, lambda a: zero_channels(a, channels[:2])),
            scores(pair[1:], lambda a: zero_channels(a, channels[2:])),
        ]
    )
    if not isinstance(resumed, Tensor) or resumed.shape != expected.shape:
        return False
    return bool((resumed - expected).abs().max() <= 1e-4 * expected.abs().max())


def _taken(capture: Capture, layer: TargetLayer) -> Tensor:
    assert capture.activations is not None, f"layer '{layer.name}' did not run"
    return capture.activations


@dataclass(frozen=True)
class Layout:
    """How inputs lie in memory, so that masks are made in that order and blended without striding.

    An input is seen as one matrix: (H, W·C) where channels come last, (C·H, W) where they come first.
    """

    channels: int
    height: int
    width: int
    last: bool
    like: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> Layout:
        """Read it off inputs (N, C, H, W)."""
        _, channels, height, width = inputs.shape
        return cls(channels, height, width, inputs.stride(1) == 1, inputs[:0])

    def empty(self, count: int) -> Tensor:
        """Return an uninitialised batch (count, C, H, W)."""
        shape = (count, self.channels, self.height, self.width)
        if not self.last:
            return self.like.new_empty(shape)
        return self.like.new_empty(count, self.height, self.width, self.channels).permute(0, 3, 1, 2)

    def flat(self, inputs: Tensor) -> Tensor:
        """View inputs (N, C, H, W) of this layout as (N, C·H·W) in the order of their memory."""
        return (inputs.permute(0, 2, 3, 1) if self.last else inputs).flatten(1)

    def laid(self, image: Tensor) -> Tensor:
        """Return an image (C, H, W), or a plane (1, H, W), as (C·H·W) in the order of the memory."""
        full = image.expand(self.channels, self.height, self.width)
        return (full.permute(1, 2, 0) if self.last else full).reshape(-1)

    def rows(self, weights: Tensor) -> Tensor:
        """Repeat the weights of rows (…, H, cells) for the rows of the matrix."""
        return weights if self.last else weights.repeat(*([1] * (weights.ndim - 2)), self.channels, 1)

    def columns(self, weights: Tensor) -> Tensor:
        """Repeat the weights of columns (…, W, cells) for the columns of the matrix."""
        return weights.repeat_interleave(self.channels, dim=-2) if self.last else weights

    @cached_property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        if self.last:
            return self.height, self.width * self.channels
        return self.channels * self.height, self.width
