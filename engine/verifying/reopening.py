"""Opens again what a run was explained with: its model, its preprocessing and its originals."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import ConfigError, RunDamagedError, RunMismatchError
from cache.manifest import Manifest
from engine.datasets import DatasetOptions, open_dataset
from engine.files import ReadError, is_url, join, read_bytes
from engine.interventions import Pixels
from engine.preprocessing import Preprocessing

if TYPE_CHECKING:
    from engine.config import ExplainConfig
    from engine.models import LoadedModel

REMEMBERED = (
    "data",
    "model",
    "weights",
    "checkpoint",
    "path_column",
    "label_column",
    "id_column",
    "label_names",
    "unlabelled",
    "split",
)
"""Options of `explain` that are needed to open its model and its originals again."""
TORCHVISION = "torchvision:"
BY_FILE = ("folder", "table")
"""Kinds of datasets whose samples name a file each; the others hold many images in a file."""

Reader = Callable[[str, str], bytes]
"""Returns the bytes of an original by its sample_id and uri; raises SampleError."""


def remembered(config: ExplainConfig) -> dict[str, Any]:
    """Return what the manifest keeps of a configuration, its paths made absolute."""
    values = {name: getattr(config, name) for name in REMEMBERED}
    kept = {name: value for name, value in values.items() if value not in (None, False)}
    kept["data"] = _absolute(config.data)
    if config.checkpoint is not None:
        kept["checkpoint"] = os.path.abspath(config.checkpoint)
    file, colon, factory = config.model.rpartition(":")
    if colon and file.endswith(".py"):
        kept["model"] = f"{os.path.abspath(os.path.expanduser(file))}:{factory}"
    return kept


def _absolute(spec: str) -> str:
    name, at, root = spec.partition("@")
    if spec.startswith(TORCHVISION):
        return f"{name}@{_absolute(root)}" if at else spec
    return spec if is_url(spec) else os.path.abspath(os.path.expanduser(spec))


def recalled(manifest: Manifest) -> dict[str, Any]:
    """Return the options that a run was explained with; of older runs from their last command."""
    kept = manifest.dataset.get("config")
    if isinstance(kept, dict):
        return dict(kept)
    options: dict[str, Any] = {"model": manifest.model.get("source")}
    commands = [str(entry.get("command", "")) for entry in manifest.history]
    words = shlex.split(next((c for c in reversed(commands) if " explain " in f"{c} "), ""))
    for at, word in enumerate(words):
        name = word.removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in REMEMBERED:
            follows = words[at + 1 : at + 2]
            options[name] = follows[0] if follows and not follows[0].startswith("--") else True
    return options


def preprocessing_of(manifest: Manifest) -> Preprocessing:
    """Return the preprocessing of a run (raises RunDamagedError where the manifest does not hold it)."""
    kept = {name: value for name, value in manifest.preprocessing.items() if name != "fingerprint"}
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
    }
    try:
        preprocessing = Preprocessing(**plain)
    except (TypeError, ConfigError) as error:
        raise RunDamagedError(
            f"The manifest of {manifest.name} does not say how images were prepared for the model: explain again into "
            "another directory."
        ) from error
    return preprocessing


class Predictor:
    """The run's model, as it was explained.

    Attributes:
        model: The network.
        preprocessing: How views become its input: the run's.
        batch_size: Views of one forward pass.
    """

    def __init__(self, model: LoadedModel, preprocessing: Preprocessing, batch_size: int) -> None:
        self.model = model
        self.preprocessing = preprocessing
        self.batch_size = batch_size

    def __call__(self, views: Sequence[Pixels]) -> NDArray[np.int64]:
        """Return the predicted class of each view; batches are filled across images."""
        import torch

        found = [np.zeros(0, np.int64)]
        for first in range(0, len(views), self.batch_size):
            batch = np.stack(views[first : first + self.batch_size])
            with torch.inference_mode():
                logits = self.model.module(self.preprocessing.normalise(batch, self.model.device))
                found.append(self.model.scores(logits).argmax(dim=1).cpu().numpy())
        return np.concatenate(found)


def open_model(
    manifest: Manifest, device: str = "auto", batch_size: int | None = None, checkpoint: str | None = None
) -> Predictor:
    """Load the model that a run was explained with.

    Args:
        manifest: The run's.
        device: auto, cpu, cuda, cuda:1, mps.
        batch_size: Views of one forward pass; None measures how many fit.
        checkpoint: Where the weights lie now, if they moved.

    Raises:
        ModelError: It cannot be loaded.
        RunMismatchError: What is found there is another model.
    """
    from engine.batches import automatic_batch
    from engine.models import load_model

    options, preprocessing = recalled(manifest), preprocessing_of(manifest)
    if options.get("model") is None:
        raise RunDamagedError(
            f"The manifest of {manifest.name} does not name its model: explain again into another directory."
        )
    file = checkpoint or options.get("checkpoint")
    model = load_model(
        str(options["model"]),
        weights=None if file else options.get("weights"),
        checkpoint=file,
        image_size=preprocessing.size,
        resize=preprocessing.resize,
        fit=preprocessing.fit,
        mean=preprocessing.mean,
        std=preprocessing.std,
        interpolation=preprocessing.interpolation,
        device=device,
    )
    if model.fingerprint != manifest.model.get("fingerprint"):
        found = f"with the weights of {file}" if file else "as it is now"
        raise RunMismatchError(
            f"The model {options['model']} {found} is not the one that {manifest.name} was explained with: bring the "
            "former weights back (--checkpoint names a file), or explain again into another directory."
        )
    if batch_size is None:
        height, width = preprocessing.size
        noise = np.random.default_rng(0).integers(
            0, 256, (2, height, width, preprocessing.channels), np.uint8
        )
        batch_size = automatic_batch(model, preprocessing.normalise(noise, model.device), gradients=False)
    return Predictor(model, preprocessing, batch_size)


def open_originals(manifest: Manifest, data_root: str | None = None) -> Reader:
    """Return the reader of a run's originals.

    Args:
        manifest: The run's.
        data_root: The folder or URL that they moved to.

    Raises:
        DatasetError: The dataset cannot be opened.
    """
    if manifest.dataset.get("kind") in BY_FILE:
        root = str(manifest.dataset.get("root") or "")
        if data_root is not None:
            root = data_root if is_url(data_root) else os.path.abspath(os.path.expanduser(data_root))
        return lambda _, uri: read_bytes(join(root, uri))
    dataset = open_dataset(_source(manifest, data_root), _options(manifest))
    rows = {name: row for row, name in enumerate(dataset.records["sample_id"].to_pylist())}

    def read(sample_id: str, _: str) -> bytes:
        if sample_id not in rows:
            raise ReadError("gone", f"{dataset.source} has no sample {sample_id} any more.")
        return dataset.read(rows[sample_id])

    return read


def _options(manifest: Manifest) -> DatasetOptions:
    options = recalled(manifest)
    names = ("path_column", "label_column", "id_column", "label_names", "unlabelled", "split")
    return DatasetOptions(**{name: options[name] for name in names if options.get(name)})


def _source(manifest: Manifest, data_root: str | None) -> str:
    """Return the spec of a dataset that holds many images in a file, moved to another folder where one is given."""
    source = str(recalled(manifest).get("data") or manifest.dataset.get("source") or "")
    if data_root is None:
        return source
    name, at, _ = source.partition("@")
    if at and source.startswith(TORCHVISION):
        return f"{name}@{data_root}"
    return join(data_root, os.path.basename(source))
