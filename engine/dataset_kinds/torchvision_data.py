"""Datasets that torchvision ships, from a local root: ``torchvision:MNIST@ROOT``, ``torchvision:CIFAR10:train@ROOT``."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cache.errors import DatasetError
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import ReadError
from engine.images import encode_raw

_PREFIX = "torchvision:"
_LABEL_ATTRIBUTES = ("targets", "labels", "_labels", "_samples")
"""Where torchvision's classes keep their labels: asking them does not decode any image."""


@dataclass
class Pictures:
    """Reads the images of a torchvision dataset, without its transforms."""

    dataset: Any
    name: str

    def __call__(self, i: int) -> bytes:
        """Return the i-th image as a PGM or PPM file (raises ReadError)."""
        try:
            image = self.dataset[i][0]
        except FileNotFoundError as error:
            raise ReadError("gone", f"There is no file at {error.filename} any more.") from error
        except Exception as error:  # torchvision's readers differ
            raise ReadError("unreadable", f"Image {i} of {self.name} cannot be read: {error}.") from error
        return encode_raw(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))


def open_torchvision(spec: str, options: DatasetOptions) -> Dataset:
    """Open a torchvision dataset without downloading; the sample_id is its split and number (``test/00012``)."""
    name, split, root = _parse(spec, options.split)
    if not os.path.isdir(root):
        raise DatasetError(f"There is no folder at {root}, the root of {spec}: check the path after @.")
    dataset, split = _load(spec, name, split, root)
    targets = _targets(dataset, spec)
    classes = [str(c) for c in getattr(dataset, "classes", None) or ()] or None
    if classes and all(re.fullmatch(r"\d+ - \w+", c) for c in classes):
        classes = [c.partition(" ")[0] for c in classes]  # MNIST calls its classes "7 - seven"
    if classes and max(targets, default=-1) >= len(classes):
        classes = None
    labels = [None if t < 0 else classes[t] if classes else str(t) for t in targets]
    ids = pa.array([f"{split}/{i:05d}" for i in range(len(targets))], pa.string())
    records = pa.table(
        {
            "sample_id": ids,
            "uri": ids,
            "label": pa.array(labels, pa.string()),
            "split": pa.array([split] * len(targets), pa.string()),
        }
    )
    return Dataset(
        spec,
        os.path.abspath(root),
        "torchvision",
        records,
        labels_are_indices=classes is None,
        classes=classes,
        native_size=_native_size(dataset),
        reader=Pictures(dataset, name),
    )


def _parse(spec: str, option: str | None) -> tuple[str, str | None, str]:
    body, at, root = spec.removeprefix(_PREFIX).partition("@")
    name, _, split = body.partition(":")
    if not at or not name or not root:
        raise DatasetError(
            f"The dataset {spec} lacks a part: write torchvision:NAME@ROOT or torchvision:NAME:SPLIT@ROOT, with ROOT "
            "the folder it was downloaded to."
        )
    return name, split or option, os.path.expanduser(root)


def _load(spec: str, name: str, split: str | None, root: str) -> tuple[Any, str]:
    import torchvision.datasets

    cls = getattr(torchvision.datasets, name, None)
    if name not in torchvision.datasets.__all__ or not isinstance(cls, type):
        close = difflib.get_close_matches(name, torchvision.datasets.__all__, n=3, cutoff=0.5)
        hint = f" (close: {', '.join(close)})" if close else ""
        raise DatasetError(f"torchvision has no dataset {name!r}{hint}: check the name.")
    arguments = inspect.signature(cls).parameters
    keywords: dict[str, Any] = {}
    if "train" in arguments:
        split = split or "test"
        if split not in ("train", "test"):
            raise DatasetError(f"The dataset {name} has no split {split!r}: write train or test.")
        keywords["train"] = split == "train"
    elif "split" in arguments:
        split = keywords["split"] = split or "test"
    elif split is not None:
        raise DatasetError(f"The dataset {name} has no splits: leave {split!r} out.")
    if "download" in arguments:
        keywords["download"] = False
    try:
        return cls(root, **keywords), split or "all"
    except (RuntimeError, FileNotFoundError) as error:
        raise DatasetError(
            f"The dataset {name} is not complete below {root}: download it there once with "
            f"torchvision.datasets.{name}({root!r}, download=True), or mend the path after @."
        ) from error
    except Exception as error:  # each of torchvision's classes refuses in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DatasetError(f"The dataset {spec} cannot be opened: {reason}.") from error


def _targets(dataset: Any, spec: str) -> list[int]:
    for attribute in _LABEL_ATTRIBUTES:
        values = getattr(dataset, attribute, None)
        if values is None:
            continue
        if attribute == "_samples":
            values = [label for _, label in values]
        flat = np.asarray(values)
        if flat.ndim == 1 and len(flat) == len(dataset) and flat.dtype.kind in "iu":
            return [int(v) for v in flat]
    raise DatasetError(
        f"The dataset {spec} does not give one class an image: save it as a folder or a table."
    )


def _native_size(dataset: Any) -> tuple[int, int] | None:
    if getattr(dataset, "data", None) is None:
        return None
    width, height = dataset[0][0].size
    return height, width


KIND = DatasetKind("torchvision", lambda spec: spec.startswith(_PREFIX), open_torchvision, order=10)
