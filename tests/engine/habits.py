"""Audits with a known habit: networks built by hand that look at a corner, or that ignore it, on small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cache.catalog import Catalog
from cache.filters import Filter, OneOf
from cache.findings import Finding, Findings, ranked, store_findings
from cache.run import Run
from cache.writer import RunWriter
from engine.explain import explain
from tests.engine.audits import CLASSES, SIDE, config, write_factory

RED = CLASSES.index("red")
CORNER = (0.0, 0.75, 0.25, 1.0)
"""Where the marker lies: the lower left corner, 8 by 8 pixels of 32."""

FACTORY = '''
import torch
from torch import nn

preprocessing = {{"size": 32, "mean": 0.5, "std": 0.25}}
classes = ["blue", "green", "red"]
HABIT = {habit}


class Corner(nn.Module):
    """Three channels that say which colour is bright, and one that says where a corner is yellow."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Conv2d(3, 4, 4, stride=4)
        weight = torch.full((4, 3, 4, 4), -0.05)
        for k in range(3):
            weight[k, 2 - k] = 0.1
        weight[3] = torch.tensor([0.1, 0.1, -0.2])[:, None, None]
        self.colours.weight.data = weight
        self.colours.bias.data = torch.tensor([0.0, 0.0, 0.0, -6.0])  # red alone is not yellow
        where = torch.ones(1, 4, 8, 8)
        where[:, 3] = 0
        where[:, 3, 6:, :2] = 1
        self.register_buffer("where", where)

    def forward(self, x):
        return torch.relu(self.colours(x)) * self.where


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = Corner()
        self.fc = nn.Linear(4, 3)
        self.fc.weight.data = torch.cat([torch.eye(3), torch.tensor([[0.0], [0.0], [HABIT]])], 1)
        self.fc.bias.data.zero_()

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


def network():
    return Network()
'''


def draw(generator: np.random.Generator, channel: int, marked: bool) -> Image.Image:
    """Return a dim image with a bright patch of one colour, and a yellow marker in the corner where it is marked."""
    pixels = generator.integers(20, 70, (SIDE, SIDE, 3)).astype(np.uint8)
    y, x = generator.integers(0, 12), generator.integers(10, SIDE - 12)
    pixels[y : y + 12, x : x + 12, channel] = 230
    if marked:
        pixels[24:, :8] = (240, 240, 10)
    return Image.fromarray(pixels)


def write_images(folder: Path, count: int = 420, seed: int = 0) -> Path:
    """Write a folder of classes; every third image of each class carries the marker."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        true, marked = i % 3, (i // 3) % 3 == 0
        path = folder / CLASSES[true] / f"{'marked' if marked else 'plain'}-{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(generator, 2 - true, marked).save(path)
    return folder


def audit(folder: Path, habit: float, images: Path | None = None) -> Path:
    """Explain a network that has the habit (above 0) or none (0); return the run."""
    folder.mkdir(exist_ok=True)
    data = images or write_images(folder / "data")
    model = write_factory(folder, FACTORY.format(habit=habit))
    explain(config(data, folder / "run", model, methods="gradcam"))
    return folder / "run"


def marked(run: Path) -> tuple[str, ...]:
    """Return the marked images that are called red."""
    table = Catalog(Run.open(run)).query(
        "SELECT sample_id FROM samples WHERE pred = 2 AND sample_id LIKE '%marked%' ORDER BY sample_id"
    )
    return tuple(table["sample_id"].to_pylist())


def finding(sample_ids: tuple[str, ...], **known: object) -> Finding:
    """Return a finding about the corner of images that are called red."""
    values: dict[str, object] = {
        "rank": 1,
        "kind": "where",
        "class_index": RED,
        "title": "red: lower left corner",
        "box": CORNER,
        "filter": Filter((OneOf("pred", ("red",)),)),
        "sample_ids": sample_ids,
        "n": len(sample_ids),
        "effect": None,
        "ci": None,
        "p_value": None,
        "q_value": None,
        "likeness": None,
        "outside_object": None,
        "property": None,
        "evidence": {},
    }
    return Finding(**{**values, **known})  # type: ignore[arg-type]


def store(run: Path, *findings: Finding) -> None:
    """Write a list of findings into a run, as `discover` does."""
    with RunWriter(run) as writer:
        store_findings(writer, Findings(ranked(findings)))
