"""`explain`: one dataset × one model × one preprocessing, from files to a published run."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib import metadata
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from cache.errors import MethodError, ModelError, RunMismatchError
from cache.manifest import Manifest, now
from cache.schema import Field
from cache.writer import RunWriter
from engine.config import ExplainConfig
from engine.datasets import Dataset, DatasetOptions, open_dataset
from engine.image_statistics import IMAGE_STATISTICS
from engine.ledger import EMBEDDINGS, Ledger
from engine.progress import Reporter, Silent
from engine.records import Records
from engine.targets import Targets, parse_targets

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.activation import ActivationExplainer
    from engine.attribution.registry import MethodRequest
    from engine.executors.local import Counts
    from engine.models import LoadedModel

PREFERRED_DEFAULT = "gradcam"
VERSIONED = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "duckdb", "captum")


@dataclass
class Summary:
    """What an audit came to.

    Attributes:
        run: The run's directory.
        total: Records of the dataset (or as many as ``--limit`` let through).
        counts: What became of them.
        samples: Rows the run holds now.
        labelled: Those with a label.
        wrong: Those of them that are classified wrongly.
        errors: Samples in the errors table, by kind.
        removed: Rows of samples that the dataset no longer has.
        seconds: How long it took.
        notices: Sentences that a person should read.
    """

    run: str
    total: int
    counts: Counts
    samples: int = 0
    labelled: int = 0
    wrong: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    removed: int = 0
    seconds: float = 0.0
    notices: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """Share of labelled samples that are classified rightly, None without labels."""
        return 1 - self.wrong / self.labelled if self.labelled else None


@dataclass
class Plan:
    """An audit, ready to be carried out: everything has been checked, nothing has been written."""

    config: ExplainConfig
    records: Records
    model: LoadedModel
    explainer: ActivationExplainer
    requests: tuple[MethodRequest, ...]
    targets: Targets
    manifest: Manifest
    keys: dict[str, str]
    objects: bool
    batch_size: int


def explain(config: ExplainConfig, reporter: Reporter | None = None) -> Summary:
    """Explain a dataset into a run, or complete a run.

    Raises:
        GazelakeError: Something that the user can mend, in one sentence.
        AuditInterruptedError: The user pressed Ctrl-C; what was finished is published.
    """
    reporter = reporter or Silent()
    began = monotonic()
    dataset = open_dataset(config.data, _dataset_options(config))
    if config.limit is not None and config.limit < len(dataset):
        dataset = dataset.take(np.arange(config.limit))
    plan = make_plan(config, dataset, reporter)
    summary = execute(plan, reporter)
    summary.seconds = monotonic() - began
    return summary


def execute(plan: Plan, reporter: Reporter) -> Summary:
    """Carry out a plan: explain what the run lacks, publish it, and count what the run holds then.

    Raises:
        GazelakeError: As `explain`.
        AuditInterruptedError: As `explain`.
    """
    from engine.executors.local import AuditInterruptedError

    began = monotonic()
    out = plan.config.out
    with RunWriter(out, plan.manifest) as writer:
        _refuse_other_model(plan, writer)
        ledger = Ledger.read(writer.path, writer.manifest, plan.keys)
        _refuse_other_dataset(plan, writer, ledger)
        _enter(plan, writer)
        try:
            summary = _carry_out(plan, writer, ledger, reporter)
        except AuditInterruptedError:
            writer.manifest.state = "interrupted"
            writer.save()
            raise
        summary.seconds = monotonic() - began
        writer.manifest.state = "complete"
        writer.manifest.history.append(_history(plan, summary))
        writer.save()
    if not summary.samples:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary.errors.items())
        raise ModelError(
            f"None of the {summary.total} images could be explained ({kinds}): see `python -m engine errors {out}`."
        )
    return summary


def make_plan(config: ExplainConfig, dataset: Dataset, reporter: Reporter) -> Plan:
    """Load the model and check everything that can be checked before work begins."""
    reporter.say(f"{len(dataset):,} images in {config.data}")
    reporter.say("Loading PyTorch and the model …")
    from engine.attribution.activation import ActivationExplainer
    from engine.attribution.registry import parse_methods
    from engine.labels import match_labels, read_class_map, read_classes
    from engine.layers import find_target_layer, resolve_target_layer
    from engine.models import load_model
    from engine.statistics import statistic_fields

    requests = parse_methods(config.methods)
    named = read_classes(config.classes) if config.classes else None
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
        classes=named,
        native_size=dataset.native_size,
        device=config.device,
    )
    class_map = read_class_map(str(config.class_map)) if config.class_map else None
    match = match_labels(dataset, model.outputs, model.classes, class_map)
    targets = parse_targets(config.targets, match.classes)
    example = _example(model)
    layer = (
        resolve_target_layer(model.module, config.target_layer, example)
        if config.target_layer
        else find_target_layer(model.module, example)
    )
    explainer = ActivationExplainer(model.module, layer, example, scores=model.scores)
    requests, refused = _usable(requests, explainer)
    notices = [*dataset.notices, *model.notices, *match.notices, *refused]
    default = _default_method(requests)
    objects = not {"mask", "boxes"}.isdisjoint(dataset.records.column_names)
    fields = statistic_fields(objects)
    version = _statistics_version(fields)
    keys = {request.name: f"{request.key(layer.identity)}-{version}" for request in requests}
    keys[EMBEDDINGS] = keys[default]
    manifest = _manifest(config, dataset, model, layer.identity, match.classes)
    manifest.notices = notices + _equivalences(explainer, requests, manifest, keys)
    manifest.default_method = default
    manifest.statistics = fields
    manifest.targets = list(config.targets)
    records = Records(dataset, match.label_indices(dataset))
    size = config.batch_size if config.batch_size != "auto" else _batch_size(model)
    return Plan(config, records, model, explainer, requests, targets, manifest, keys, objects, size)


def _carry_out(plan: Plan, writer: RunWriter, ledger: Ledger, reporter: Reporter) -> Summary:
    from engine.executors.local import LocalExecutor
    from engine.preparation import Preparer
    from engine.worker import Worker

    config, records = plan.config, plan.records
    worker = Worker(
        plan.model,
        plan.explainer,
        plan.requests,
        plan.targets,
        plan.manifest.default_method,
        plan.keys,
        [field.name for field in plan.manifest.statistics],
        plan.objects,
    )
    threads = config.workers or os.cpu_count() or 1
    with _stop_between_batches() as stop:
        executor = LocalExecutor(
            records,
            worker,
            writer,
            reporter,
            batch_size=plan.batch_size,
            threads=threads,
            publish_every=config.publish_every,
            stop=stop,
        )
        known_before = set(ledger.samples) | ledger.failed
        reporter.start(len(records))
        todo: Sequence[int] = range(len(records))
        while todo:
            todo = executor.run(todo, Preparer(records, plan.model.preprocessing, plan.targets, ledger))
            if todo:
                ledger = Ledger.read(writer.path, writer.manifest, plan.keys)
    removed = _remove_absent(plan, writer, known_before)
    summary = Summary(str(config.out), len(records), executor.counts, removed=removed)
    summary.notices = list(plan.manifest.notices)
    return _measure(summary, writer)


def _remove_absent(plan: Plan, writer: RunWriter, known: set[str]) -> int:
    """Retire rows of samples that the dataset no longer has; with --limit nobody can know."""
    if plan.config.limit is not None or not known:
        return 0
    absent = known.difference(plan.records.sample_id(i) for i in range(len(plan.records)))
    if absent:
        writer.publish({"samples": absent, "errors": absent})
    return len(absent)


def _measure(summary: Summary, writer: RunWriter) -> Summary:
    """Count what the run holds now."""
    summary.samples = writer.manifest.rows("samples")
    for part in writer.manifest.parts.get("samples", []):
        correct = pq.read_table(writer.path / "samples" / part.name, columns=["correct"])["correct"]
        rightness = correct.drop_null().to_numpy()
        summary.labelled += len(rightness)
        summary.wrong += int((~rightness).sum())
    for part in writer.manifest.parts.get("errors", []):
        for kind in pq.read_table(writer.path / "errors" / part.name, columns=["kind"])["kind"].to_pylist():
            summary.errors[kind] = summary.errors.get(kind, 0) + 1
    return summary


def _refuse_other_model(plan: Plan, writer: RunWriter) -> None:
    """A run belongs to one set of weights and one preprocessing."""
    other = plan.config.out.with_name(plan.config.out.name + "-2")
    for what, here, there in (
        ("model", plan.manifest.model, writer.manifest.model),
        ("preprocessing", plan.manifest.preprocessing, writer.manifest.preprocessing),
    ):
        if here["fingerprint"] != there.get("fingerprint"):
            raise RunMismatchError(
                f"{writer.path} audits another {what} ({_difference(there, here)}): start a run of its own with "
                f"`{command(plan.config.model_copy(update={'out': other}))}`."
            )


def _enter(plan: Plan, writer: RunWriter) -> None:
    """Bring the manifest of the run up to date with the plan, and publish that work has begun."""
    manifest, planned = writer.manifest, plan.manifest
    if manifest is not planned:
        for name in ("dataset", "model", "classes", "notices", "default_method", "versions", "statistics"):
            setattr(manifest, name, getattr(planned, name))
        manifest.image_statistics = planned.image_statistics
        manifest.methods |= planned.methods
        manifest.targets = list(dict.fromkeys([*manifest.targets, *planned.targets]))
        named = {entry["name"] for entry in planned.meta}
        manifest.meta = planned.meta + [entry for entry in manifest.meta if entry["name"] not in named]
    manifest.state = "running"
    manifest.progress.planned = len(plan.records)
    writer.save()


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    names = sorted(name for name in here if name != "fingerprint" and here.get(name) != there.get(name))
    if not names:
        return "with other weights"
    return ", ".join(
        f"{name} {_short(there.get(name))} instead of {_short(here.get(name))}" for name in names[:3]
    )


def _short(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:60]


def _refuse_other_dataset(plan: Plan, writer: RunWriter, ledger: Ledger) -> None:
    """A run is about one dataset: another one would replace all of its rows."""
    records, audited = plan.records, writer.manifest.dataset.get("source")
    if not ledger.samples or audited == records.dataset.source:
        return
    if not any(records.sample_id(i) in ledger.samples for i in range(len(records))):
        raise RunMismatchError(
            f"{writer.path} audits another dataset, {audited}, and shares no sample with {records.dataset.source}: "
            "name another directory with --out."
        )


def _usable(
    requests: tuple[MethodRequest, ...], explainer: ActivationExplainer
) -> tuple[tuple[MethodRequest, ...], list[str]]:
    """Leave out methods that this network cannot take, with a sentence each."""
    reasons = {request.name: explainer.refusal(request.method) for request in requests}
    usable = tuple(request for request in requests if reasons[request.name] is None)
    refused = [
        f"{request.method.title} is left out: {reasons[request.name]}"
        for request in requests
        if reasons[request.name]
    ]
    if not usable:
        raise MethodError(f"None of the methods can explain this network. {' '.join(refused)}")
    return usable, refused


def _default_method(requests: Sequence[MethodRequest]) -> str:
    names = [request.name for request in requests]
    return PREFERRED_DEFAULT if PREFERRED_DEFAULT in names else names[0]


def _statistics_version(fields: Sequence[Field]) -> str:
    """Return a digest of the statistics that go with every map: another set of them means other rows."""
    declared = [[field.name, field.formula] for field in fields]
    return blake2b(json.dumps(declared).encode(), digest_size=4).hexdigest()


def _equivalences(
    explainer: ActivationExplainer,
    requests: Sequence[MethodRequest],
    manifest: Manifest,
    keys: dict[str, str],
) -> list[str]:
    """Describe the methods in the manifest; say which coincide on this network."""
    equivalent = explainer.equivalent([request.name for request in requests])
    for request in requests:
        method = request.method
        manifest.methods[method.name] = {
            "title": method.title,
            "family": method.family,
            "summary": method.summary,
            "key": keys[method.name],
            "parameters": dict(request.parameters),
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
        dataset={"source": dataset.source, "root": dataset.root, "kind": dataset.kind},
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


def _history(plan: Plan, summary: Summary) -> dict[str, Any]:
    counts = summary.counts
    return {
        "command": command(plan.config),
        "finished": now(),
        "seconds": round(summary.seconds, 1),
        "device": str(plan.model.device),
        "explained": counts.explained + counts.completed,
        "reused": counts.reused,
        "failed": sum(counts.failed.values()),
        "removed": summary.removed,
    }


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


def _batch_size(model: LoadedModel) -> int:
    """Choose a batch that keeps the device busy: as many pixels as 32 photographs of 224 × 224, or 128 on a GPU."""
    height, width = model.preprocessing.size
    pixels = (32 if model.device.type == "cpu" else 128) * 224 * 224
    return int(np.clip(pixels // (height * width), 4, 256))


def _example(model: LoadedModel) -> Tensor:
    """Return two inputs of noise, on which the network's layers are looked at."""
    height, width = model.preprocessing.size
    noise = np.random.default_rng(0).integers(
        0, 256, (2, height, width, model.preprocessing.channels), np.uint8
    )
    return model.preprocessing.normalise(noise, model.device)


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


@contextmanager
def _stop_between_batches() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM stop the work where rows are whole; a second one stops at once."""
    asked = False

    def stop() -> bool:
        return asked

    def handle(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, handle) for number in signals]
    except ValueError:  # not the main thread: whoever called keeps the signals
        yield stop
        return
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
