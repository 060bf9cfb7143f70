"""What the pages on datasets and models say is what the code does: undocumented means failing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from engine import tables
from engine.datasets import DatasetOptions, dataset_kinds
from engine.image_statistics import IMAGE_STATISTICS
from engine.images import MAX_PIXELS, SUFFIXES
from engine.preprocessing import _RESAMPLING, KEYS

ROOT = Path(__file__).parents[2]
DATASETS = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [f.name for f in fields(DatasetOptions)])
def test_every_option_of_datasets_is_documented(name: str) -> None:
    assert f"`--{name.replace('_', '-')}" in DATASETS


@pytest.mark.parametrize(
    "name",
    [
        *tables.PATH_COLUMNS,
        *tables.LABEL_COLUMNS,
        *tables.ID_COLUMNS,
        *tables.SPLIT_COLUMNS,
        *tables.MASK_COLUMNS,
        *(name for group in tables.BOX_COLUMNS for name in group),
        tables.BOXES_COLUMN,
    ],
)
def test_every_column_name_is_documented(name: str) -> None:
    assert f"`{name}`" in DATASETS


def test_column_names_are_documented_in_the_order_in_which_they_are_taken() -> None:
    for names in (tables.PATH_COLUMNS, tables.LABEL_COLUMNS, tables.ID_COLUMNS):
        assert ", ".join(f"`{name}`" for name in names) in DATASETS


def test_suffixes_limit_and_kinds_are_documented() -> None:
    listed = set(re.findall(r"(?<!\w)\.[a-z0-9]+", next(x for x in DATASETS.splitlines() if ".jfif" in x)))
    assert listed == SUFFIXES
    assert f"{MAX_PIXELS:,}" in DATASETS
    for kind in dataset_kinds():
        assert kind.name in DATASETS.lower()


@pytest.mark.parametrize("name", list(IMAGE_STATISTICS))
def test_every_image_statistic_is_documented_with_its_formula(name: str) -> None:
    row = next(line for line in DATASETS.splitlines() if line.startswith(f"| `{name}`"))
    assert IMAGE_STATISTICS[name].field.formula in row


def test_every_option_of_models_is_documented() -> None:
    from engine.models import load_model

    parameters = set(inspect.signature(load_model).parameters) - {"spec", "native_size"}
    for name in parameters:
        assert f"`--{name.replace('_', '-')}" in MODELS, name
    for key in KEYS:
        assert f"| `{key}` |" in MODELS
    for name in _RESAMPLING:
        assert f"`{name}`" in MODELS


@pytest.mark.parametrize(
    "name", ["executor", "address", "workers", "publish_every", "precision", "device", "batch_size"]
)
def test_every_option_of_where_and_how_is_documented(name: str) -> None:
    from engine.config import ExplainConfig

    distributed = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    option = f"`--{name.replace('_', '-')}"
    assert option in distributed or option in MODELS
    for choice in get_args(ExplainConfig.model_fields[name].annotation):
        if isinstance(choice, str):
            assert f"`{choice}`" in distributed + MODELS or f"{option} {choice}`" in MODELS


def test_numbers_of_the_ray_executor_are_the_documented_ones() -> None:
    from engine.executors import crews
    from engine.executors import ray as distributed

    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    assert f"up to {distributed.LARGEST_SHARD:,} records" in page
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
    assert f"one for every {words[crews.CORES_A_WORKER]} cores" in page
    assert f"a shard fails {words[distributed.ATTEMPTS]} times" in page
    assert f"tried again in {words[distributed.PIECES]} pieces" in page
    assert f"fewer than {distributed.SEND_BELOW} rows" in page
    assert f"has {words[distributed.WORTH_SHARING]} batches or more left" in page


def test_datasets_and_images_do_not_load_torch() -> None:
    """A wrong path is told at once, not after the seconds that PyTorch takes to load."""
    code = (
        "import sys, engine.datasets as d, engine.images, engine.preprocessing, engine.image_statistics, engine.labels\n"
        "d.dataset_kinds(); print({'torch', 'torchvision'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == "set()"
