"""The demo's network: a plain convolutional one, trained in about a minute on the drawn animals.

It ends in global average pooling and one linear layer, so that class activation mapping applies as published,
and its last convolution sees the picture on 14×14 cells. As a model for the engine it is
``engine/demo_network.py:demo_network``; size, normalisation and class names travel on the module.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.demo_images import CLASSES
from engine.images import decode
from engine.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=(112, 112), resize=112, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
EPOCHS = 6
BATCH_SIZE = 32
COVERED = 0.65
"""Share of the pictures in a batch whose middle is covered while learning (random erasing, Zhong et al. 2017)."""

SMOOTHING = 0.05
"""Label smoothing: a network that is told not to be too sure is content with the habit and seeks no second cue."""


class DemoNetwork(nn.Module):
    """Five blocks of convolution, batch normalisation and ReLU; average pooling; one linear layer."""

    def __init__(self, classes: tuple[str, ...] = CLASSES) -> None:
        super().__init__()
        self.classes = list(classes)
        self.preprocessing = PREPROCESSING.to_json()
        widths, strides = (3, 16, 32, 64, 64, 96), (2, 2, 2, 1, 1)
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after, stride in zip(widths[:-1], widths[1:], strides, strict=True)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], len(classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of normalised images (batch, 3, height, width)."""
        logits: Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


def demo_network() -> DemoNetwork:
    """Return the demo's network with fresh weights; a checkpoint brings the trained ones."""
    return DemoNetwork()


@dataclass(frozen=True)
class TrainingMetrics:
    """How a training ended.

    Attributes:
        images: Pictures learned from.
        epochs: Times that each was seen.
        loss: Mean cross-entropy of the last epoch, in nats.
        accuracy: Share of the pictures that the network called rightly during the last epoch.
    """

    images: int
    epochs: int
    loss: float
    accuracy: float


def _read_part(folder: Path, table: str) -> tuple[Tensor, Tensor]:
    """Return the pictures (n, height, width, 3) as uint8, and the labels (n,), of one of the demo's tables."""
    with (folder / table).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack(
        [PREPROCESSING.view(decode((folder / row["path"]).read_bytes())).pixels for row in rows]
    )
    return torch.from_numpy(pixels), torch.tensor([CLASSES.index(row["label"]) for row in rows])


def _cover_some(images: Tensor) -> Tensor:
    """Cover a box around the middle of some images with grey, so that a network learns from what is left as well."""
    count, _, height, width = images.shape

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1)

    rows, columns = (torch.arange(n)[None, :] / n for n in (height, width))
    down = (rows - between(0.3, 0.75)).abs() < between(0.175, 0.35)
    across = (columns - between(0.3, 0.75)).abs() < between(0.175, 0.35)
    chosen = torch.rand(count) < COVERED
    return images.masked_fill((down[:, :, None] & across[:, None, :] & chosen[:, None, None])[:, None], 0.0)


def train_demo_network(
    data_dir: str | Path,
    checkpoint_path: str | Path,
    seed: int = 0,
    *,
    epochs: int = EPOCHS,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingMetrics:
    """Train the network on ``train.csv`` of the demo's data and save its weights.

    The same seed on the same machine gives the same weights; the caller's random state is left alone.

    Args:
        data_dir: Where ``write_demo`` drew.
        checkpoint_path: File for the weights: a plain state dictionary.
        seed: Seed of the initial weights and of the order of the pictures.
        epochs: Times that each picture is seen.
        progress: Called after every batch with the batches done, the batches in all, and the loss.
    """
    pixels, labels = _read_part(Path(data_dir), "train.csv")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = demo_network().to(memory_format=torch.channels_last)
        batches = -(-len(labels) // BATCH_SIZE)
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=epochs * batches)
        network.train()
        for epoch in range(epochs):
            right, summed = 0, 0.0
            order = torch.randperm(len(labels))
            for step in range(batches):
                chosen = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
                logits = network(_cover_some(PREPROCESSING.normalise(pixels[chosen])))
                loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                value = float(loss.detach())
                right += int((logits.argmax(1) == labels[chosen]).sum())
                summed += value * len(chosen)
                if progress is not None:
                    progress(epoch * batches + step + 1, epochs * batches, value)
    path = Path(checkpoint_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return TrainingMetrics(len(labels), epochs, summed / len(labels), right / len(labels))
