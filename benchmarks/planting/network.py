"""The network of the benchmark: the demo's, trained in less than a minute on a core, by a recipe of its own."""

from __future__ import annotations

from collections.abc import Callable
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
"""Share of the pictures whose middle is covered before the plant is put in: it must do where little else is seen."""
SHIFT = 4
"""Pictures are shifted by up to so many pixels while learning."""
FACTORY = '''"""The network that was trained on planted images."""

from engine.demo_network import DemoNetwork


def network():
    """Return it with fresh weights."""
    return DemoNetwork({classes!r})
'''


def train(
    pixels: Callable[[int], NDArray[np.uint8]],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
) -> DemoNetwork:
    """Train the network; the same seed gives the same weights.

    Args:
        pixels: Returns the pictures (n, side, side, 3) as an epoch shows them.
        labels: The class of each.
        classes: Names of the classes.
        seed: Decides the first weights and the order.
    """
    targets = torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DemoNetwork(classes).to(memory_format=torch.channels_last)
        steps = -(-len(targets) // BATCH)
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=6e-3, total_steps=EPOCHS * steps)
        for epoch in range(EPOCHS):
            images = torch.from_numpy(pixels(epoch))
            for chosen in torch.randperm(len(targets)).split(BATCH):
                logits = network(_varied(PREPROCESSING.normalise(images[chosen])))
                loss = functional.cross_entropy(logits, targets[chosen], label_smoothing=0.05)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return network.eval()


def _varied(x: Tensor) -> Tensor:
    """Shift a batch by a few pixels, reflected at the edges."""
    height, width = x.shape[2:]
    down, right = (int(v) for v in torch.randint(0, 2 * SHIFT + 1, (2,)))
    moved = functional.pad(x, (SHIFT,) * 4, mode="reflect")
    return moved[:, :, down : down + height, right : right + width]


def covered(pixels: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    """Cover the middle of some pictures (n, side, side, 3) with a grey box."""
    covered = pixels.copy()
    side = pixels.shape[1]
    for i in np.flatnonzero(dice.uniform(size=len(pixels)) < COVERED):
        (top, left), (tall, wide) = dice.uniform(0.05, 0.3, 2) * side, dice.uniform(0.4, 0.7, 2) * side
        covered[i, int(top) : int(top + tall), int(left) : int(left + wide)] = 127
    return covered


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
