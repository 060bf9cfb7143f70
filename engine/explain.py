"""`explain`: one dataset × one model × one preprocessing, from files to a published run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from cache.errors import ModelError, RunMismatchError
from cache.manifest import now
from cache.run import Run
from cache.schema import AGREEMENT
from cache.writer import RunWriter
from engine.agreement import complete_agreement
from engine.config import ExplainConfig
from engine.coverage import gap_notices
from engine.images import SampleError
from engine.ledger import Ledger
from engine.plan import Plan, command, find_dataset, make_plan
from engine.progress import Reporter, Silent
from engine.trust import TRUST

if TYPE_CHECKING:
    from engine.executors.publication import Counts, Executor

KEPT = (*TRUST, AGREEMENT)
"""Statistics that belong to some methods alone: a run keeps them when it is completed with others."""


@dataclass
class Summary:
    """What an audit came to.

    Attributes:
        run: The run's directory.
        total: Records of the dataset (or as many as ``--limit`` let through).
        counts: What became of them.
        device: Where the network ran.
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
    device: str
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


def explain(config: ExplainConfig, reporter: Reporter | None = None) -> Summary:
    """Explain a dataset into a run, or complete a run.

    Raises:
        GazelakeError: Something that the user can mend, in one sentence.
        AuditInterruptedError: The user pressed Ctrl-C; what was finished is published.
    """
    if config.executor == "ray":
        import engine.executors.ray  # says at once that Ray is missing  # noqa: F401
    reporter = reporter or Silent()
    began = monotonic()
    plan = make_plan(config, find_dataset(config), reporter)
    summary = execute(plan, reporter)
    summary.seconds = monotonic() - began
    return summary


def execute(plan: Plan, reporter: Reporter) -> Summary:
    """Carry out a plan: explain what the run lacks, publish it, and count what the run holds then.

    Raises:
        GazelakeError: As `explain`.
        AuditInterruptedError: As `explain`.
    """
    from engine.executors.publication import AuditInterruptedError

    began = monotonic()
    out = plan.config.out
    with RunWriter(out, plan.manifest) as writer:
        _refuse_other_model(plan, writer)
        ledger = Ledger.read(writer.storage, writer.manifest, plan.keys)
        _refuse_other_dataset(plan, writer, ledger)
        _refuse_partial_change(plan, ledger)
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


def _carry_out(plan: Plan, writer: RunWriter, ledger: Ledger, reporter: Reporter) -> Summary:
    config, records = plan.config, plan.records
    absent = _absent(plan, ledger)
    absent_by_content: dict[str, set[str]] = {}
    for sample_id in absent & ledger.samples.keys():
        absent_by_content.setdefault(ledger.samples[sample_id].content, set()).add(sample_id)
    with (
        _stop_between_batches() as stop,
        _executor(plan, writer, reporter, stop, absent_by_content) as executor,
    ):
        reporter.start(len(records))
        failures: dict[str, SampleError] = {}
        todo: Sequence[int] = range(len(records))
        while todo:
            deferred = executor.run(todo, ledger, failures)
            todo = [one.index for one in deferred]
            if todo:
                del ledger
                only, ids = {one.content for one in deferred}, {records.sample_id(i) for i in todo}
                ledger = Ledger.read(writer.storage, writer.manifest, plan.keys, only, ids)
    if absent:
        writer.publish({"samples": absent, "errors": absent})
    if complete_agreement(writer, writer.manifest.default_method):
        writer.compact()
    writer.manifest.notices = [*plan.manifest.notices, *gap_notices(Run.open(writer.path), plan)]
    summary = Summary(str(config.out), len(records), executor.counts, executor.device, removed=len(absent))
    summary.notices = [*writer.manifest.notices, *_losses(plan, writer)]
    return _measure(summary, writer)


@contextmanager
def _executor(
    plan: Plan, writer: RunWriter, reporter: Reporter, stop: Callable[[], bool], absent: dict[str, set[str]]
) -> Iterator[Executor]:
    """Yield the executor that the configuration names."""
    from engine.executors.local import LocalExecutor
    from engine.worker import Worker

    config = plan.config
    if config.executor == "ray":
        from engine.executors.ray import RayExecutor

        with RayExecutor(plan, writer, reporter, stop=stop, absent=absent) as distributed:
            yield distributed
        return
    yield LocalExecutor(
        plan.records,
        Worker(plan.model, plan.families, plan.targets, plan.recording, plan.batch_size),
        writer,
        reporter,
        batch_size=plan.images_at_once,
        threads=config.workers or os.cpu_count() or 1,
        publish_every=config.publish_every,
        stop=stop,
        absent=absent,
    )


def _refuse_partial_change(plan: Plan, ledger: Ledger) -> None:
    """Other parameters replace the maps of the whole run, so a part of the dataset cannot have them."""
    if ledger.stale and plan.config.limit is not None:
        methods = sorted({table.split("/")[-1] for table, _ in ledger.stale})
        raise RunMismatchError(
            f"{plan.config.out} holds {', '.join(methods)} with other parameters, and changing them replaces the maps of "
            "every image: leave --limit out, or name another directory with --out."
        )


def _absent(plan: Plan, ledger: Ledger) -> set[str]:
    """Return the samples of the run that the dataset no longer has; with --limit nobody can know."""
    if plan.config.limit is not None:
        return set()
    known = set(ledger.samples) | ledger.failed
    return known.difference(plan.records.sample_id(i) for i in range(len(plan.records))) if known else known


def _losses(plan: Plan, writer: RunWriter) -> list[str]:
    """Say which damaged parts were found, and what of them this command does not compute again."""
    if not writer.damaged:
        return []
    asked = {request.name for request in plan.requests}
    lost = sorted(
        {Path(name).parts[1] for name in writer.damaged if name.startswith("attributions/")} - asked
    )
    again = f"; run again with --methods {','.join(lost)} for the rest" if lost else ""
    return [f"{len(writer.damaged)} damaged parts were dropped and computed again{again}."]


def _measure(summary: Summary, writer: RunWriter) -> Summary:
    """Count what the run holds now."""
    summary.samples = writer.manifest.rows("samples")
    for part in writer.manifest.parts.get("samples", []):
        correct = pq.read_table(writer.storage.fetch("samples", part), columns=["correct"])["correct"]
        rightness = correct.drop_null().to_numpy()
        summary.labelled += len(rightness)
        summary.wrong += int((~rightness).sum())
    for part in writer.manifest.parts.get("errors", []):
        path = writer.storage.fetch("errors", part)
        for kind in pq.read_table(path, columns=["kind"])["kind"].to_pylist():
            summary.errors[kind] = summary.errors.get(kind, 0) + 1
    return summary


def _refuse_other_model(plan: Plan, writer: RunWriter) -> None:
    """A run belongs to one set of weights and one preprocessing."""
    for what, here, there in (
        ("model", plan.manifest.model, writer.manifest.model),
        ("preprocessing", plan.manifest.preprocessing, writer.manifest.preprocessing),
    ):
        if here["fingerprint"] != there.get("fingerprint"):
            out = plan.config.out.absolute()
            other = out.with_name(out.name + "-2")
            raise RunMismatchError(
                f"{writer.path} audits another {what} ({_difference(there, here)}): start a run of its own with "
                f"`{command(plan.config.model_copy(update={'out': other}))}`."
            )


def _enter(plan: Plan, writer: RunWriter) -> None:
    """Bring the manifest of the run up to date with the plan, and publish that work has begun."""
    manifest, planned = writer.manifest, plan.manifest
    if manifest is not planned:
        for name in ("dataset", "model", "classes", "notices", "versions"):
            setattr(manifest, name, getattr(planned, name))
        named = {field.name for field in planned.statistics}
        kept = [field for field in manifest.statistics if field.name in KEPT and field.name not in named]
        manifest.statistics = planned.statistics + kept
        manifest.image_statistics = planned.image_statistics
        manifest.methods |= planned.methods
        manifest.targets = list(dict.fromkeys([*manifest.targets, *planned.targets]))
        entered = {entry["name"] for entry in planned.meta}
        manifest.meta = planned.meta + [entry for entry in manifest.meta if entry["name"] not in entered]
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
    same_split = writer.manifest.dataset.get("split") == plan.manifest.dataset["split"]
    if not ledger.samples or (audited == records.dataset.source and same_split):
        return
    if not any(records.sample_id(i) in ledger.samples for i in range(len(records))):
        raise RunMismatchError(
            f"{writer.path} audits another dataset, {audited}, and shares no sample with {records.dataset.source}: "
            "name another directory with --out."
        )


def _history(plan: Plan, summary: Summary) -> dict[str, Any]:
    counts = summary.counts
    return {
        "command": command(plan.config),
        "finished": now(),
        "seconds": round(summary.seconds, 1),
        "device": summary.device,
        "explained": counts.explained + counts.completed,
        "reused": counts.reused,
        "failed": sum(counts.failed.values()),
        "removed": summary.removed,
    }


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
