"""A small network in a file for tests, and the sentence of a model that cannot be loaded."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cache.errors import GazelakeError, ModelError
from engine.models import LoadedModel, load_model

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=3, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, outputs)
    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

def net():
    torch.manual_seed(5)
    return Net()
"""


def source(folder: Path, body: str = "", name: str = "net.py") -> str:
    """Write the network and more code into a file."""
    path = folder / name
    path.write_text(NETWORK + textwrap.dedent(body))
    return str(path)


def load(spec: str, **options: Any) -> LoadedModel:
    return load_model(spec, **{"image_size": 16, **options})


def sentence(call: Callable[[], object], kind: type[GazelakeError] = ModelError) -> str:
    """Return the error of a call: one line that ends in a full stop."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text
