"""The plan of an audit: dataset, model, labels, methods and layer, checked before anything is written."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from cache.errors import LayerError, MethodError, RunError
from cache.locations import Location
from cache.manifest import Manifest
from cache.run import Run
from cache.schema import Field
from engine.allocation import keep_freed_memory
from engine.config import ExplainConfig
from engine.datasets import Dataset, DatasetOptions, open_dataset
from engine.image_statistics import IMAGE_STATISTICS
from engine.ledger import EMBEDDINGS
from engine.progress import Reporter
from engine.records import Records
from engine.targets import Targets, parse_targets
from engine.verifying.reopening import remembered

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.registry import MethodRequest
    from engine.attribution_rows import Objects
    from engine.batch_rows import Recording
    from engine.families import Families
    from engine.layers import TargetLayer
    from engine.models import LoadedModel

PREFERRED_DEFAULT = "gradcam"
MANY_PASSES = 500
"""So many passes an image fill batches even when images are few."""
VERSIONED = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "duckdb", "captum")


@dataclass
class Plan:
    """An audit, ready to be carried out: everything has been checked, nothing has been written."""

    config: ExplainConfig
    records: Records
    model: LoadedModel
    families: Families
    requests: tuple[MethodRequest, ...]
    targets: Targets
    manifest: Manifest
    keys: dict[str, str]
    objects: Objects | None
    batch_size: int

    @property
    def images_at_once(self) -> int:
        """Images that are explained together."""
        return images_at_once(self.requests, self.batch_size)

    @property
    def recording(self) -> Recording:
        """What is recorded of every batch."""
        from engine.batch_rows import Recording
        from engine.statistics import statistic_fields

        names = [field.name for field in statistic_fields(self.objects is not None)]
        return Recording(self.requests, self.manifest.default_method, self.keys, names, self.objects)


def images_at_once(requests: Sequence[MethodRequest], batch_size: int) -> int:
    """Return how many images are explained together: fewer where each takes many passes, which fill batches of their own.

    Progress and publication would come too rarely otherwise.
    """
    families = {request.method.family for request in requests}
    drawn = max(int(r.parameters.get(name, 0)) for r in requests for name in ("samples", "masks"))
    share = 4 if "gradient" in families else 1
    if "perturbation" in families:
        share = 16 if drawn >= MANY_PASSES else 8
    return max(1, batch_size // share)


def find_dataset(config: ExplainConfig) -> Dataset:
    """Open the dataset of a configuration; with a limit, the records whose ids have the smallest digests.

    That is a random choice which is always the same, and which a larger limit contains; the first records of a
    folder would all be of one class.

    Raises:
        DatasetError: It is missing, empty or malformed.
    """
    dataset = open_dataset(config.data, _dataset_options(config))
    if config.limit is not None and config.limit < len(dataset):
        ids = dataset.records["sample_id"].to_pylist()
        ranks = [blake2b(i.encode("utf-8", "surrogatepass"), digest_size=8).digest() for i in ids]
        chosen = sorted(range(len(ids)), key=ranks.__getitem__)[: config.limit]
        dataset = dataset.take(sorted(chosen))
    return dataset


def make_plan(config: ExplainConfig, dataset: Dataset, reporter: Reporter) -> Plan:
    """Load the model and check everything that can be checked before work begins."""
    reporter.say(f"{len(dataset):,} images in {config.data}")
    reporter.say("Loading PyTorch and the model …")
    from engine.attribution.registry import parse_methods
    from engine.labels import match_labels, read_class_map
    from engine.precision import key_suffix
    from engine.statistics import statistic_fields
    from engine.trust import trust_fields

    requests, default = _with_default(parse_methods(config.methods), config.out)
    # Where workers elsewhere do the work, an accelerator here is left to them.
    model = open_model(config, dataset.native_size, "cpu" if config.executor == "ray" else config.device)
    class_map = read_class_map(str(config.class_map)) if config.class_map else None
    match = match_labels(dataset, model.outputs, model.classes, class_map)
    targets = parse_targets(config.targets, match.classes)
    families, requests, refused = set_up(config, model, requests)
    if config.executor == "local":
        speed_up(config, model)
    notices = [*dataset.notices, *model.notices, *match.notices, *refused]
    default = default if default in {request.name for request in requests} else _default_method(requests)
    columns = dataset.records.column_names
    objects: Objects | None = "mask" if "mask" in columns else "boxes" if "boxes" in columns else None
    fields = statistic_fields(objects is not None)
    version = _statistics_version(fields)
    version += key_suffix(config.precision)
    keys = {request.name: f"{request.key(families.layer_identity)}-{version}" for request in requests}
    keys[EMBEDDINGS] = keys[default]
    manifest = _manifest(config, dataset, model, families.layer_identity, match.classes)
    manifest.notices = notices + _equivalences(families, requests, manifest, keys)
    manifest.default_method = default
    manifest.statistics = [*fields, *trust_fields(requests)]
    manifest.targets = list(config.targets)
    records = Records(dataset, match.label_indices(dataset))
    size = fitting_batch(config, model, requests)
    return Plan(config, records, model, families, requests, targets, manifest, keys, objects, size)


def open_model(config: ExplainConfig, native_size: tuple[int, int] | None, device: str) -> LoadedModel:
    """Load the network that a configuration names.

    Args:
        config: The configuration.
        native_size: Height and width that all images share by construction, None otherwise.
        device: Where it is to run.

    Raises:
        GazelakeError: It cannot be loaded, or is no classifier.
    """
    from engine.labels import read_classes
    from engine.models import load_model
    from engine.precision import settle_matmul

    model = load_model(
        config.model,
        weights=config.weights,
        checkpoint=str(config.checkpoint) if config.checkpoint else None,
        image_size=config.image_size,
        resize=config.resize,
        fit=config.fit,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
        classes=read_classes(config.classes) if config.classes else None,
        native_size=native_size,
        device=device,
    )
    settle_matmul(model.device, config.precision)
    if model.device.type == "cpu":
        keep_freed_memory()
    return model


def set_up(
    config: ExplainConfig, model: LoadedModel, requests: tuple[MethodRequest, ...]
) -> tuple[Families, tuple[MethodRequest, ...], list[str]]:
    """Look at a network: return its explainers, the methods that it can take, and a sentence for each that it cannot."""
    from engine.families import Families

    example = example_of(model)
    layer, problem = target_layer(model, config.target_layer, example)
    families = Families(model, layer, example, problem)
    requests, refused = _usable(requests, families)
    return families, requests, refused


def speed_up(config: ExplainConfig, model: LoadedModel) -> None:
    """Let a network that was looked at compute as it was asked to, and as its device likes it best."""
    from engine.precision import lower
    from engine.transfers import settle_layout

    lower(model.module, model.device, config.precision)
    if model.device.type != "cpu":  # there channels_last was the faster, whatever the network
        settle_layout(model, example_of(model))


def fitting_batch(config: ExplainConfig, model: LoadedModel, requests: Sequence[MethodRequest]) -> int:
    """Return the inputs of one pass through the network: as many as were asked for, or as many as fit its device."""
    from engine.batches import automatic_batch

    gradients = any(request.method.family == "gradient" for request in requests)
    return (
        automatic_batch(model, example_of(model), gradients)
        if config.batch_size == "auto"
        else config.batch_size
    )


def target_layer(model: LoadedModel, named: str | None, example: Tensor) -> tuple[TargetLayer | None, str]:
    """Return the layer that was named, or the one that is found, or None with the reason why there is none."""
    from engine.layers import find_target_layer, resolve_target_layer

    if named:
        return resolve_target_layer(model.module, named, example), ""
    try:
        return find_target_layer(model.module, example), ""
    except LayerError as error:
        return None, str(error)


def command(config: ExplainConfig) -> str:
    """Return the command line that a configuration stands for."""
    words = ["python", "-m", "engine", "explain"]
    defaults = {name: f.default for name, f in ExplainConfig.model_fields.items()}
    for name, value in config:
        if value is None or value == defaults[name]:
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(",".join(str(v) for v in value) if isinstance(value, tuple) else str(value))
    return shlex.join(words)


def _usable(
    requests: tuple[MethodRequest, ...], families: Families
) -> tuple[tuple[MethodRequest, ...], list[str]]:
    """Leave out methods that this network cannot take, with a sentence each."""
    reasons = {request.name: families.refusal(request) for request in requests}
    usable = tuple(request for request in requests if reasons[request.name] is None)
    refused = [
        f"{request.method.title} is left out: {reasons[request.name]}"
        for request in requests
        if reasons[request.name]
    ]
    if not usable:
        raise MethodError(f"None of the methods can explain this network. {' '.join(refused)}")
    return usable, refused


def _with_default(
    requests: tuple[MethodRequest, ...], out: Location
) -> tuple[tuple[MethodRequest, ...], str]:
    """Add the default method of a run that is there already.

    Links that name no method mean it, and embeddings are weighed by it, so that it stays what it was when the run
    was begun.
    """
    from engine.attribution.registry import MethodRequest
    from engine.attribution.registry import methods as registered

    try:
        manifest = Run.open(out).manifest
    except RunError:
        return requests, ""
    default, known = manifest.default_method, registered()
    if default in known and default not in {request.name for request in requests}:
        parameters = known[default].resolve(manifest.methods[default]["parameters"])
        requests = (*requests, MethodRequest(known[default], parameters))
    return requests, default


def _default_method(requests: Sequence[MethodRequest]) -> str:
    names = [request.name for request in requests]
    return PREFERRED_DEFAULT if PREFERRED_DEFAULT in names else names[0]


def _statistics_version(fields: Sequence[Field]) -> str:
    """Return a digest of the statistics that go with every map: another set of them means other rows."""
    declared = [[field.name, field.formula] for field in fields]
    return blake2b(json.dumps(declared).encode(), digest_size=4).hexdigest()


def _equivalences(
    families: Families,
    requests: Sequence[MethodRequest],
    manifest: Manifest,
    keys: dict[str, str],
) -> list[str]:
    """Describe the methods in the manifest; say which coincide on this network."""
    from engine.trust import trust_names

    equivalent = families.equivalent([request.name for request in requests])
    for request in requests:
        method = request.method
        manifest.methods[method.name] = {
            "title": method.title,
            "family": method.family,
            "summary": method.summary,
            "key": keys[method.name],
            "parameters": dict(request.parameters),
            "target_layer": families.layer_identity if "spatial_layer" in method.needs else None,
            "trust": list(trust_names(request)),
            "columns": [column.name for column in method.columns],
            "signed": method.signed,
            "class_dependent": method.class_dependent,
            "reference": method.reference,
            "equivalent": equivalent.get(method.name, []),
        }
    titles = [
        manifest.methods[name]["title"] for name in manifest.methods if manifest.methods[name]["equivalent"]
    ]
    if len(titles) < 2:
        return []
    together = ", ".join(titles[:-1]) + " and " + titles[-1]
    return [
        f"{together} coincide up to scale on this network, whose head is global pooling and one linear layer."
    ]


def _manifest(
    config: ExplainConfig, dataset: Dataset, model: LoadedModel, target_layer: str, classes: list[str]
) -> Manifest:
    return Manifest(
        name=config.name or config.out.resolve().name,
        dataset={
            "source": dataset.source,
            "split": config.split,
            "root": dataset.root,
            "kind": dataset.kind,
            "config": remembered(config),
        },
        model={
            "source": config.model,
            "weights": model.weights,
            "architecture": model.architecture,
            "outputs": model.outputs,
            "target_layer": target_layer,
            "fingerprint": model.fingerprint,
        },
        preprocessing=model.preprocessing.to_json() | {"fingerprint": model.preprocessing.fingerprint},
        classes=classes,
        image_statistics=[statistic.field for statistic in IMAGE_STATISTICS.values()],
        meta=dataset.meta(),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def example_of(model: LoadedModel) -> Tensor:
    """Return two inputs of noise, on which the network's layers are looked at."""
    height, width = model.preprocessing.size
    noise = np.random.default_rng(0).integers(
        0, 256, (2, height, width, model.preprocessing.channels), np.uint8
    )
    return model.inputs(noise)


def _dataset_options(config: ExplainConfig) -> DatasetOptions:
    return DatasetOptions(
        data_root=config.data_root,
        path_column=config.path_column,
        label_column=config.label_column,
        id_column=config.id_column,
        label_names=config.label_names,
        unlabelled=config.unlabelled,
        split=config.split,
    )
