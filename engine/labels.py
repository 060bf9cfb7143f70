"""Matching a dataset's labels to a model's outputs, by name, never by a silent guess."""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cache.errors import ConfigError, DatasetError, ModelError, shown
from engine.datasets import Dataset, output_index
from engine.files import ReadError, is_folder, is_text, is_url, parse_problem, read_bytes

ClassMap = Mapping[str, str | int | None]

IMAGENET_HOMONYMS = {"crane": (134, 517), "maillot": (638, 639)}
"""ImageNet's names that mean two outputs: the bird and the machine, the swimsuit and the tank suit.

Later versions of torchvision call them "crane bird" and "maillot tank suit", but data that say "crane" mean either.
"""
_MAP_HEADERS = {"label", "from", "dataset", "class", "to", "model", "index", "output", "name"}


@dataclass(frozen=True)
class ClassMatch:
    """How a dataset's labels meet a model's outputs.

    Attributes:
        classes: Name of every output, in order.
        indices: Output index of every dataset label; None for labels that the class map sets aside.
        notices: Sentences that a person should read.
    """

    classes: list[str]
    indices: dict[str, int | None]
    notices: list[str]

    def label_indices(self, dataset: Dataset) -> pa.Array:
        """Return the output index of every record's label, int32, NULL where it has none."""
        labels = dataset.records.column("label").combine_chunks().dictionary_encode()
        names = labels.dictionary.to_pylist()
        table = pa.array([self.indices[name] for name in names], pa.int32())
        return table.take(labels.indices)


def read_classes(source: str) -> list[str]:
    """Return class names in output order: the built-in ``imagenet``, or a text file with one name a line.

    Raises:
        ConfigError: the file is missing, empty or not text.
    """
    if source == "imagenet":
        return imagenet_classes()
    lines = [line.strip() for line in _read_text(source, "--classes").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ConfigError(f"The class file {source} is empty: write one class name a line, in output order.")
    if "" in lines:
        raise ConfigError(
            f"The class file {source} has an empty line {lines.index('') + 1}: write one class name a line, in output order."
        )
    return lines


def declared_classes(value: object, where: str) -> list[str] | None:
    """Return the class names that a network or a checkpoint declares, None where it declares no list of them.

    Raises:
        ModelError: a name is no text.
    """
    if not isinstance(value, list | tuple) or not value:
        return None
    for name in value:
        if not isinstance(name, str | int) or not is_text(str(name)):
            raise ModelError(
                f"{where} declares the class name {shown(name)}, which is no text: correct its list of classes, or "
                "give --classes FILE and leave the list out."
            )
    return [str(name) for name in value]


def imagenet_classes() -> list[str]:
    """Return the 1,000 ImageNet class names that torchvision uses."""
    from torchvision.models import ResNet50_Weights

    return list(ResNet50_Weights.DEFAULT.meta["categories"])


def read_class_map(source: str) -> dict[str, str | int | None]:
    """Return the class map of a CSV (label, class), JSON or TOML file: dataset label to class name or output index.

    An empty class (CSV) or null (JSON) says that images of that label count as unlabelled.

    Raises:
        ConfigError: the file is missing or not of that form.
    """
    text = _read_text(source, "--class-map")
    suffix = source.lower().rpartition(".")[2]
    try:
        if suffix == "json":
            pairs = json.loads(text)
        elif suffix == "toml":
            pairs = tomllib.loads(text)
        else:
            pairs = _read_map_csv(text, source)
    except csv.Error as error:
        raise ConfigError(
            f"The class map {source} is no CSV of labels and classes: {str(error).rstrip('.')}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"The class map {source} is not valid {suffix.upper()}: {parse_problem(error)}."
        ) from error
    if not isinstance(pairs, dict) or not pairs:
        raise ConfigError(f"The class map {source} is empty: give it pairs of dataset label and class.")
    for label, target in pairs.items():
        if isinstance(target, bool) or not isinstance(target, str | int | None):
            raise ConfigError(
                f"The class map {source} sends {shown(label)} to {shown(target)}: give a class name or an output index."
            )
    return {label: target if target != "" else None for label, target in pairs.items()}


def match_labels(
    dataset: Dataset,
    outputs: int,
    classes: Sequence[str] | None = None,
    class_map: ClassMap | None = None,
) -> ClassMatch:
    """Find the output index of every label of a dataset.

    A label that the class map names goes where the map says. Otherwise integer labels are output indices, and names
    are matched exactly, then ignoring case, spaces, hyphens and underscores. A model without class names that has as
    many outputs as the dataset has classes takes the dataset's order.

    Args:
        dataset: Its labels, whether they are indices, and its classes.
        outputs: Number of the model's outputs (2 for a single logit).
        classes: Name of every output, None where the model names none.
        class_map: Dataset label to class name or output index, None to count as unlabelled.

    Raises:
        DatasetError: a label that cannot be matched, or that two outputs share.
        ConfigError: class names or a class map that do not fit the model.
    """
    labels, class_map = dataset.labels(), class_map or {}
    notices: list[str] = []
    if classes is not None and len(classes) != outputs:
        raise ConfigError(
            f"The model has {outputs} outputs but {len(classes)} class names were given: "
            "give --classes a file with one name an output, in order."
        )
    if classes is None and not class_map and not dataset.labels_are_indices and dataset.classes:
        if len(dataset.classes) != outputs:
            raise DatasetError(
                f"The model names no classes and has {outputs} outputs, but the dataset has "
                f"{len(dataset.classes)} classes: name the outputs with --classes FILE, or send each label to "
                "an output with --class-map FILE."
            )
        classes = dataset.classes
        order = ", ".join(f"{name} = {i}" for i, name in enumerate(classes[:4]))
        notices.append(
            f"The model names no classes; its {outputs} outputs were taken in the dataset's order "
            f"({order}{', …' if outputs > 4 else ''}): --classes says otherwise."
        )
    matcher = _Matcher(outputs, classes, class_map, dataset.labels_are_indices)
    indices = {label: matcher.match(label) for label in labels}
    if matcher.unknown:
        raise matcher.unknown_error(dataset)
    notices += matcher.notices()
    return ClassMatch(_output_names(outputs, classes, indices, dataset), indices, notices)


class _Matcher:
    """Looks labels up among the outputs and remembers what did not match."""

    def __init__(
        self, outputs: int, classes: Sequence[str] | None, class_map: ClassMap, labels_are_indices: bool
    ) -> None:
        self.outputs = outputs
        self.classes = classes
        self.class_map = class_map
        self.labels_are_indices = labels_are_indices
        self.exact = _positions(classes or (), str)
        if classes is not None and len(classes) == 1000:
            for name, shared in IMAGENET_HOMONYMS.items():
                if all(classes[i].startswith(name) for i in shared):
                    self.exact[name] = list(shared)
        self.loose = _positions(classes or (), _normalise)
        self.unknown: list[str] = []
        self.loosely: list[tuple[str, str]] = []

    def match(self, label: str) -> int | None:
        if label in self.class_map:
            return self._mapped(label, self.class_map[label])
        if self.labels_are_indices:
            index = output_index(label)
            if not 0 <= index < self.outputs:
                self.unknown.append(label)
            return index
        return self._named(label, label)

    def _mapped(self, label: str, target: str | int | None) -> int | None:
        if target is None:
            return None
        if isinstance(target, str) and target not in self.exact and re.fullmatch(r"[0-9]+", target):
            target = output_index(target)
        if isinstance(target, int):
            if not 0 <= target < self.outputs:
                raise ConfigError(
                    f"The class map sends {shown(label)} to output {shown(self.class_map[label])}, but the outputs are 0 to {self.outputs - 1}."
                )
            return target
        if self.classes is None:
            raise ConfigError(
                f"The class map sends {shown(label)} to the class {shown(target)}, but the model names no classes: "
                "give output indices, or name the outputs with --classes FILE."
            )
        found = self._named(label, target)
        if found is None:
            raise ConfigError(
                f"The class map sends {shown(label)} to {shown(target)}, which is no class of the model"
                f"{_suggest([target], self.classes)}."
            )
        return found

    def _named(self, label: str, name: str) -> int | None:
        positions = self.exact.get(name)
        if positions is None:
            positions = self.loose.get(_normalise(name))
            if positions is None or self.classes is None:
                self.unknown.append(label)
                return None
            if len(positions) == 1:
                self.loosely.append((name, self.classes[positions[0]]))
        if len(positions) > 1:
            choices = " or ".join(map(str, positions))
            raise DatasetError(
                f"The label {shown(label)} fits {len(positions)} outputs of the model ({choices}): send it to one of these "
                "indices with --class-map FILE, or use integer labels."
            )
        return positions[0]

    def notices(self) -> list[str]:
        if not self.loosely:
            return []
        pairs = ", ".join(f"{name} → {match}" for name, match in self.loosely[:3])
        rest = ", …" if len(self.loosely) > 3 else ""
        return [
            f"{len(self.loosely)} label(s) matched only after ignoring case, spaces and underscores: {pairs}{rest}."
        ]

    def unknown_error(self, dataset: Dataset) -> DatasetError:
        named = ", ".join(shown(label) for label in self.unknown[:3])
        more = f" and {len(self.unknown) - 3} more" if len(self.unknown) > 3 else ""
        if self.labels_are_indices:
            return DatasetError(
                f"The labels {named}{more} are no outputs of the model, which has 0 to {self.outputs - 1}: correct "
                "them, send them to outputs with --class-map FILE, or say --label-names if they are class names."
            )
        if self.classes is None:
            return DatasetError(
                f"The model names none of its {self.outputs} classes, so the labels {named}{more} cannot be matched: "
                "name the outputs with --classes FILE, or send each label to an output with --class-map FILE."
            )
        return DatasetError(
            f"The model does not know the label(s) {named}{more}{_suggest(self.unknown, self.classes)}: send them to "
            "its classes with --class-map FILE, or name its outputs with --classes FILE."
        )


def _output_names(
    outputs: int, classes: Sequence[str] | None, indices: Mapping[str, int | None], dataset: Dataset
) -> list[str]:
    """Name the outputs: the model's names, else the single label that is mapped to each, else the index."""
    if classes is not None:
        return list(classes)
    names = [str(i) for i in range(outputs)]
    if not dataset.labels_are_indices:
        for i in range(outputs):
            mapped = [label for label, index in indices.items() if index == i]
            names[i] = mapped[0] if len(mapped) == 1 else names[i]
    return names


def _positions(classes: Iterable[str], key: Callable[[str], str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for i, name in enumerate(classes):
        positions.setdefault(key(name), []).append(i)
    return positions


def _normalise(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def _suggest(names: Iterable[str], classes: Sequence[str]) -> str:
    close: list[str] = []
    by_lower = {name.lower(): name for name in classes}
    for name in names:
        close += [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)]
    close = list(dict.fromkeys(close))[:3]
    return f" (close: {', '.join(close)})" if close else ""


def _read_map_csv(text: str, source: str) -> dict[str, str]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and {cell.strip().lower() for cell in rows[0]} <= _MAP_HEADERS:
        rows = rows[1:]
    pairs: dict[str, str] = {}
    for row in rows:
        if len(row) != 2:
            raise ConfigError(
                f"The class map {source} has a row of {len(row)} fields ({shown(', '.join(row))}): "
                "write two a row, dataset label and class."
            )
        pairs[row[0].strip()] = row[1].strip()
    return pairs


def _read_text(source: str, option: str) -> str:
    source = source if is_url(source) else os.path.expanduser(source)
    if is_folder(source):
        raise ConfigError(f"{option} {source} is a folder: give a file.")
    try:
        return read_bytes(source).decode("utf-8-sig")
    except ReadError as error:
        raise ConfigError(f"The file of {option} cannot be used: {error.message.rstrip('.')}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file {source} of {option} is not UTF-8 text: save it as such.") from error
