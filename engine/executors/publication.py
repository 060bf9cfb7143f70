"""What of the work is published: counts, superseded rows, copies, errors; the same for every executor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import pyarrow as pa

from cache.schema import ERROR_COLUMNS, PART_ROWS, arrow_schema
from cache.writer import RunWriter
from engine.executors.pipeline import Event, Recorded
from engine.images import SampleError
from engine.ledger import Ledger
from engine.preparation import GONE, Copied, Deferred, Failed, Kept
from engine.records import Records
from engine.sample_rows import copied_rows, sample_schema

COPIED_AT_ONCE = 4_096


class AuditInterruptedError(Exception):
    """The person stopped the audit; everything finished is published."""


@dataclass
class Counts:
    """What became of the records."""

    explained: int = 0
    completed: int = 0
    copied: int = 0
    kept: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    degenerate: dict[str, int] = field(default_factory=dict)

    @property
    def reused(self) -> int:
        """Records for which nothing was computed."""
        return self.copied + self.kept


class Executor(Protocol):
    """Where the work of an audit is done.

    Attributes:
        counts: What became of the records so far.
        device: Where the network runs.
    """

    counts: Counts
    device: str

    def run(self, indices: Sequence[int], ledger: Ledger, failures: dict[str, SampleError]) -> list[Deferred]:
        """Explain records and publish the result.

        Args:
            indices: The records.
            ledger: What the run holds of them already.
            failures: Why contents could not be explained; filled.

        Returns:
            Records whose bytes equal another's that was explained meanwhile: run them again with a new ledger.

        Raises:
            AuditInterruptedError: The person stopped the work.
            GazelakeError: The network fails, or the disk refuses the rows.
        """
        ...


class Publication:
    """Keeps account of what becomes of records, and publishes it together with the rows that were written."""

    def __init__(
        self, records: Records, writer: RunWriter, *, publish_every: float, absent: Mapping[str, set[str]]
    ) -> None:
        """Set up.

        Args:
            records: What is explained.
            writer: Writer of the run.
            publish_every: Seconds after which finished rows are published.
            absent: By content, samples of the run that the dataset no longer has.
        """
        self.records = records
        self.writer = writer
        self.publish_every = publish_every
        self.absent = absent
        self.counts = Counts()
        self._schema = sample_schema(records)

    def begin(self, ledger: Ledger) -> None:
        """Start with a new snapshot of what the run holds."""
        self._ledger = ledger
        self._maps = False
        self._deferred: list[Deferred] = []
        self._reset()

    @property
    def deferred(self) -> list[Deferred]:
        """Records that wait for another one with the same bytes."""
        return self._deferred

    def settle(self, event: Event) -> None:
        """Note what became of a record, or of a batch's."""
        match event:
            case Kept():
                self.counts.kept += 1
                self._settled.add(self.records.sample_id(event.index))
            case Copied() if event.content not in self._ledger.contents:
                # A worker that joined later knows more than this snapshot: copied from the next one.
                self._deferred.append(Deferred(event.index, event.content))
            case Copied():
                self.counts.copied += 1
                self._copy(event)
                self._settle(event.index)
            case Deferred():
                self._deferred.append(event)
            case Failed():
                self._fail(event)
            case Recorded():
                self._record(event)

    def due(self) -> bool:
        """Tell whether so much is finished, or for so long, that it should be published."""
        due = monotonic() - self._published >= self.publish_every
        return self._pending >= PART_ROWS or (due and self._pending > 0)

    def publish(self) -> None:
        """Publish everything that was settled."""
        self._write_copies()
        held = self._ledger
        retire: dict[str, Collection[str]] = {
            "samples": {i for i in self._replaced if i in held.samples},
            "errors": {i for i in self._settled if i in held.failed},
        }
        if self._errors:
            self.writer.append(
                "errors", pa.Table.from_pylist(self._errors, schema=arrow_schema(ERROR_COLUMNS))
            )
        # Maps of other parameters go when the first of the new ones come.
        stale = held.stale if self._maps else []
        self.writer.publish(retire, drop=stale)
        held.stale = [part for part in held.stale if part not in stale]
        # What is retired once must not be looked for again.
        for sample_id in retire["samples"]:
            del held.samples[sample_id]
        held.failed.difference_update(retire["errors"])
        self.writer.compact()
        self._reset()

    def _reset(self) -> None:
        self._replaced: set[str] = set()
        self._settled: set[str] = set()
        self._errors: list[dict[str, object]] = []
        self._copies: list[Copied] = []
        self._losses: dict[int, float] = {}
        self._pending = 0
        self._published = monotonic()

    def _record(self, recorded: Recorded) -> None:
        self._maps = self._maps or recorded.maps
        self._losses |= recorded.losses
        for method, count in recorded.degenerate.items():
            self.counts.degenerate[method] = self.counts.degenerate.get(method, 0) + count
        self.counts.explained += len(recorded.explained)
        self.counts.completed += len(recorded.completed)
        for index in recorded.explained:
            self._replaced.add(self.records.sample_id(index))
            self._settle(index)
        for index in recorded.completed:
            self._settle(index)
        for copied in recorded.copied:
            if copied.content in self._ledger.contents:
                self._copy(copied)
            else:
                self._deferred.append(Deferred(copied.index, copied.content))
        for failure in recorded.failed:
            self._fail(failure)

    def _copy(self, copied: Copied) -> None:
        self._copies.append(copied)
        self._replaced.add(self.records.sample_id(copied.index))
        # A file that was moved is not shown twice until the end: its old row goes as the new one comes.
        self._replaced |= self.absent.get(copied.content, set())

    def _write_copies(self) -> None:
        for start in range(0, len(self._copies), COPIED_AT_ONCE):
            some = self._copies[start : start + COPIED_AT_ONCE]
            source = self._ledger.rows([copied.content for copied in some])
            indices = [copied.index for copied in some]
            table = copied_rows(self.records, indices, source, self._losses, self._schema)
            self.writer.append("samples", self.writer.redirect(table))

    def _fail(self, failure: Failed) -> None:
        sample_id = self.records.sample_id(failure.index)
        message = failure.message
        if failure.kind in GONE and sample_id in self._ledger.samples:
            message += " What was found out about it before is kept."
        elif sample_id in self._ledger.samples:
            self._replaced.add(sample_id)
        row: dict[str, object] = {
            "sample_id": sample_id,
            "uri": self.records.uri(failure.index),
            "label": self.records.label(failure.index),
            "stage": failure.stage,
            "kind": failure.kind,
            "message": message,
        }
        self._errors.append(row)
        self.counts.failed[failure.kind] = self.counts.failed.get(failure.kind, 0) + 1
        self._settle(failure.index)

    def _settle(self, index: int) -> None:
        self._pending += 1
        self._settled.add(self.records.sample_id(index))
