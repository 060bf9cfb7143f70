"""Small audits for tests: images with a known answer, a network built by hand that gives it, and its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from PIL import Image

from cache.run import Run
from engine.config import ExplainConfig, read_config

CLASSES = ("blue", "green", "red")
SIDE = 32

FACTORY = '''
import torch
from torch import nn

preprocessing = {"size": 32, "mean": 0.5, "std": 0.25}
classes = ["blue", "green", "red"]


class Brightest(nn.Module):
    """Says which colour channel is brightest: convolution, pooling, one linear layer, all set by hand."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 6, 4, stride=4)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(6, 3)
        generator = torch.Generator().manual_seed(0)
        weight = torch.rand(6, 3, 4, 4, generator=generator) * 0.02
        for k in range(3):
            weight[k, 2 - k] += 0.1
            weight[3 + k, 2 - k] -= 0.1
        self.features.weight.data = weight
        self.features.bias.data.zero_()
        self.fc.weight.data = torch.cat([torch.eye(3), -torch.eye(3)], 1)
        self.fc.bias.data.zero_()

    def forward(self, x):
        return self.fc(self.relu(self.features(x)).mean((2, 3)))


def network():
    return Brightest()
'''


def write_factory(folder: Path, text: str = FACTORY) -> str:
    """Write a factory's file; return what ``--model`` takes."""
    path = folder / "network.py"
    path.write_text(text)
    return f"{path}:network"


def draw(generator: np.random.Generator, channel: int) -> Image.Image:
    """Return a dim image with a bright patch of one colour channel."""
    pixels = generator.integers(20, 70, (SIDE, SIDE, 3)).astype(np.uint8)
    x, y = generator.integers(0, SIDE - 12, 2)
    pixels[y : y + 12, x : x + 12, channel] = 230
    return Image.fromarray(pixels)


def write_images(folder: Path, count: int, seed: int = 0, wrong_every: int = 5) -> Path:
    """Write a folder of classes with ``count`` images; every ``wrong_every``-th lies in another class's folder."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        true = i % 3
        filed = (true + 1) % 3 if i % wrong_every == 0 else true
        path = folder / CLASSES[filed] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(generator, 2 - true).save(path)
    return folder


def config(data: Path | str, out: Path | str, model: str, **options: Any) -> ExplainConfig:
    """Return a configuration of `explain`."""
    given = {"data": str(data), "out": out, "model": model, "batch_size": 8, "device": "cpu", **options}
    return read_config(given)


def tables(run: Path | str) -> dict[str, pd.DataFrame]:
    """Return what a run holds, each table in an order of its own that does not depend on how it was written.

    Where a thumbnail lies is replaced by the thumbnail itself.
    """
    opened = Run.open(run)
    assert not opened.damaged
    found = {}
    for table in opened.manifest.parts:
        rows = duckdb.sql(f"from read_parquet({opened.part_paths(table)}, union_by_name=true)").df()
        keys = [k for k in ("sample_id", "content", "target") if k in rows.columns]
        found[table] = rows.sort_values(keys).reset_index(drop=True)
    if "samples" in found:
        parts = {
            Path(p).name: duckdb.sql(f"from read_parquet('{p}')").df()
            for p in opened.part_paths("thumbnails")
        }
        samples = found["samples"]
        where = zip(samples.pop("thumbnail_part"), samples.pop("thumbnail_row"), strict=True)
        rows = [parts[part].iloc[row] for part, row in where]
        assert [row["content"] for row in rows] == list(samples["content"])
        samples["thumbnail"] = [bytes(row["image"]) for row in rows]
    return found


def assert_same_rows(here: Path | str, there: Path | str, orphans: bool = False) -> None:
    """Compare two runs row for row.

    Args:
        here: A run.
        there: The run it must equal.
        orphans: Allow maps and thumbnails that no sample of the other run asks for any more.
    """
    a, b = tables(here), tables(there)
    assert set(a) == set(b)
    for table, rows in a.items():
        keys = [k for k in ("sample_id", "content", "target") if k in rows.columns]
        assert not rows.duplicated(keys).any(), f"{table} holds a row twice"
        asked = rows
        if orphans and table != "samples":
            asked = rows.merge(b[table][keys], on=keys).sort_values(keys).reset_index(drop=True)
        _assert_frames(asked, b[table], table)


def _assert_frames(rows: pd.DataFrame, expected: pd.DataFrame, table: str) -> None:
    assert list(rows.columns) == list(expected.columns), table
    assert len(rows) == len(expected), table
    for column in rows.columns:
        a, b = rows[column].to_list(), expected[column].to_list()
        for x, y in zip(a, b, strict=True):
            if column == "map":
                np.testing.assert_allclose(np.frombuffer(x, "<f2"), np.frombuffer(y, "<f2"), atol=2e-3)
            elif isinstance(x, float) or isinstance(y, float):
                np.testing.assert_allclose(
                    float(x), float(y), rtol=2e-4, atol=2e-5, err_msg=f"{table}.{column}"
                )
            elif isinstance(x, np.ndarray | list):
                np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), rtol=2e-3, atol=1e-3)
            else:
                assert x is y or x == y or (x is None and y is None), (table, column, x, y)
