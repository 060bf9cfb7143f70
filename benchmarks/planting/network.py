"""The network of the benchmark: the demo's, trained in less than a minute on a core, by a recipe of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.demo_network import PREPROCESSING, DemoNetwork

EPOCHS = 8
BATCH = 32
COVERED = 0.65
"""Share of the pictures of a batch whose middle is covered while learning: a shortcut must do where nothing else is seen."""
SHIFT = 6
"""Pictures are shifted by up to so many pixels, reflected at the edges."""
FACTORY = '''"""The network that was trained on planted images."""

from engine.demo_network import DemoNetwork


def network():
    """Return it with fresh weights."""
    return DemoNetwork({classes!r})
'''


def train(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...], seed: int
) -> DemoNetwork:
    """Train the network on pictures (n, side, side, 3); the same seed gives the same weights."""
    images, targets = torch.from_numpy(pixels), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DemoNetwork(classes).to(memory_format=torch.channels_last)
        steps = -(-len(targets) // BATCH)
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=EPOCHS * steps)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(targets)).split(BATCH):
                logits = network(_varied(PREPROCESSING.normalise(images[chosen])))
                loss = functional.cross_entropy(logits, targets[chosen], label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return network.eval()


def _varied(x: Tensor) -> Tensor:
    """Shift a batch, and cover the middle of some of its pictures with grey."""
    n, _, height, width = x.shape
    down, right = (int(v) for v in torch.randint(0, 2 * SHIFT + 1, (2,)))
    x = functional.pad(x, (SHIFT,) * 4, mode="reflect")[:, :, down : down + height, right : right + width]
    rows, columns = (torch.arange(size)[None] / size for size in (height, width))

    def apart(at: Tensor) -> Tensor:
        return (at - (0.3 + 0.4 * torch.rand(n, 1))).abs() < 0.15 + 0.17 * torch.rand(n, 1)

    chosen = torch.rand(n) < COVERED
    hole = apart(rows)[:, :, None] & apart(columns)[:, None, :] & chosen[:, None, None]
    return x.masked_fill(hole[:, None], 0.0)


def predict(network: DemoNetwork, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the predicted class of each picture."""
    with torch.inference_mode():
        parts = [
            network(PREPROCESSING.normalise(part)).argmax(1) for part in torch.from_numpy(pixels).split(128)
        ]
    return torch.cat(parts).numpy()


def save(network: DemoNetwork, folder: Path) -> tuple[str, Path]:
    """Write a factory and a checkpoint; return what ``--model`` and ``--checkpoint`` take."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.py").write_text(FACTORY.format(classes=tuple(network.classes)))
    torch.save(network.state_dict(), folder / "network.pt")
    return f"{folder / 'network.py'}:network", folder / "network.pt"
