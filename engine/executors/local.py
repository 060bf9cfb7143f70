"""The local executor: readers prepare images, the worker explains them, a recorder measures and writes the last batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic

import pyarrow as pa

from cache.schema import ERROR_COLUMNS, PART_ROWS, arrow_schema
from cache.writer import RunWriter
from engine.batch_rows import Rows
from engine.images import SampleError
from engine.preparation import GONE, Copied, Deferred, Failed, Kept, Outcome, Preparer, Work
from engine.progress import Reporter
from engine.records import Records
from engine.sample_rows import copied_rows, sample_rows, sample_schema
from engine.worker import Explained, Worker


class NotFiniteError(SampleError):
    """The network's scores for an image are NaN or infinite."""

    stage = "predict"

    def __init__(self) -> None:
        super().__init__("not_finite", "The network's scores for this image are not finite.")


class AuditInterruptedError(Exception):
    """The person stopped the audit; everything finished is published."""


COPIED_AT_ONCE = 4_096
AHEAD = 2
"""Batches that are decoded ahead of the one that the model works on."""


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


@contextmanager
def _recorder() -> Iterator[ThreadPoolExecutor]:
    """Yield one thread whose operations run on one core: those of the model and the readers have the others."""
    import torch

    usual = torch.get_num_threads()
    with ThreadPoolExecutor(1, thread_name_prefix="recorder") as pool:
        pool.submit(torch.set_num_threads, 1).result()
        # What a thread sets for itself, threads that are started later take over.
        torch.set_num_threads(usual)
        yield pool


class LocalExecutor:
    """Explains records in this process."""

    def __init__(
        self,
        records: Records,
        worker: Worker,
        writer: RunWriter,
        reporter: Reporter,
        *,
        batch_size: int,
        threads: int,
        overlap: bool,
        publish_every: float,
        stop: Callable[[], bool],
        absent: Mapping[str, set[str]],
    ) -> None:
        """Set up.

        Args:
            records: What to explain.
            worker: Who explains it.
            writer: Where rows go.
            reporter: Who is told.
            batch_size: Images a batch.
            threads: Threads that read and decode.
            overlap: Prepare images while the model works.
            publish_every: Seconds after which finished rows are published.
            stop: Asked between images: whether the person wants the work to end.
            absent: By content, samples of the run that the dataset no longer has.
        """
        self.records = records
        self.worker = worker
        self.writer = writer
        self.reporter = reporter
        self.batch_size = batch_size
        self.threads = threads
        self.overlap = overlap
        self.publish_every = publish_every
        self.stop = stop
        self.absent = absent
        self.counts = Counts()
        self._schema = sample_schema(records)

    def run(self, indices: Iterable[int], preparer: Preparer) -> list[Deferred]:
        """Explain records and publish the result.

        Returns:
            Records whose bytes equal another's that was explained meanwhile: run them again with a new ledger.

        Raises:
            AuditInterruptedError: The person stopped the work.
            RunStorageError: The disk refuses the rows.
        """
        self._begin(preparer)
        with _recorder() as self._recorder:
            return self._run(indices, preparer)

    def _run(self, indices: Iterable[int], preparer: Preparer) -> list[Deferred]:
        deferred: list[Deferred] = []
        batch: list[Work] = []
        for outcome in self._prepared(indices, preparer):
            match outcome:
                case Kept():
                    self.counts.kept += 1
                    self._settle(outcome.index, reused=1)
                    self._pending -= 1
                case Copied():
                    self.counts.copied += 1
                    self._copy(outcome)
                    self._settle(outcome.index, reused=1)
                case Deferred():
                    deferred.append(outcome)
                case Failed():
                    self._fail(outcome)
                case Work():
                    batch.append(outcome)
            if len(batch) >= self.batch_size:
                self._explain(batch)
                batch = []
            self._publish_when_due()
            if self.stop():
                self.publish()
                raise AuditInterruptedError
        if batch:
            self._explain(batch)
        self.publish()
        return deferred

    def publish(self) -> None:
        """Publish everything that is finished."""
        self._collect()
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
        stale = held.stale if self._explained else []
        self.writer.publish(retire, drop=stale)
        held.stale = [part for part in held.stale if part not in stale]
        # What is retired once must not be looked for again.
        for sample_id in retire["samples"]:
            del held.samples[sample_id]
        held.failed.difference_update(retire["errors"])
        self.writer.compact()
        self._reset()

    def _begin(self, preparer: Preparer) -> None:
        self._ledger = preparer.ledger
        self._failures = preparer.failures
        self._explained = False
        self._recording: tuple[list[Work], Future[list[Rows]]] | None = None
        self._reset()

    def _reset(self) -> None:
        self._replaced: set[str] = set()
        self._settled: set[str] = set()
        self._errors: list[dict[str, object]] = []
        self._copies: list[Copied] = []
        self._losses: dict[int, float] = {}
        self._pending = 0
        self._published = monotonic()

    def _prepared(self, indices: Iterable[int], preparer: Preparer) -> Iterator[Outcome]:
        """Yield outcomes in the order of the records.

        With an accelerator a bounded number of images is prepared ahead. On a CPU model and readers would compete for
        the same cores, which costs more than it hides: a batch is prepared by all threads, then the model has them.
        """
        ahead = self.batch_size * AHEAD + self.threads if self.overlap else self.batch_size
        waiting: deque[Future[Outcome]] = deque()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="reader") as pool:
            try:
                for i in indices:
                    waiting.append(pool.submit(preparer, i))
                    if len(waiting) >= ahead:
                        ready = 1 if self.overlap else len(waiting)
                        wait(list(waiting)[:ready])
                        for _ in range(ready):
                            yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _explain(self, batch: list[Work]) -> None:
        """Explain a batch, and let its rows be written while the next one is being prepared."""
        if self._recording is not None and self._recording[1].done():
            # Costly methods take minutes a batch: what is finished is published before they begin.
            self._collect()
            self._publish_when_due()
        explained = self.worker.explain([work.prepared for work in batch], self._ledger)
        self._collect()
        self._recording = (batch, self._recorder.submit(self._record, explained))

    def _record(self, explained: list[Explained]) -> list[Rows]:
        """Measure and write what was found about a batch; beside the readers, never beside another batch's."""
        recorded = []
        while explained:
            rows = self.worker.rows(explained.pop(0), self._ledger)
            self._write(rows)
            recorded.append(replace(rows, predictions={}, keyed={}))
        return recorded

    def _collect(self) -> None:
        """Wait until the last batch is written, and note what became of its records."""
        if self._recording is None:
            return
        (batch, future), self._recording = self._recording, None
        recorded = future.result()
        new = {index for rows in recorded for index in rows.indices}
        failed = {index for rows in recorded for index in rows.failed}
        for rows in recorded:
            self._losses |= rows.losses
            for method, count in rows.degenerate.items():
                self.counts.degenerate[method] = self.counts.degenerate.get(method, 0) + count
        for work in batch:
            index = work.prepared.index
            if index in failed:
                error = self._failures[work.prepared.content] = NotFiniteError()
                self._fail(Failed(index, error.stage, error.kind, error.message))
                continue
            if index in new:
                self.counts.explained += 1
                self._replaced.add(self.records.sample_id(index))
            else:
                self.counts.completed += 1
            if work.copied is not None:
                self._copy(work.copied)
            self._settle(index, told=False)
        self.reporter.advance(explained=len(batch) - len(failed))

    def _write(self, rows: Rows) -> None:
        if rows.indices:
            places = self._place_thumbnails(rows.keyed["thumbnails"][0])
            table = sample_rows(self.records, rows.indices, rows.predictions, places, self._schema)
            self.writer.append("samples", self.writer.redirect(table))
        for table_name, (table, key) in rows.keyed.items():
            if table_name != "thumbnails" and table.num_rows:
                self.writer.append(table_name, table, key)
                self._explained = True

    def _place_thumbnails(self, thumbnails: pa.Table) -> list[tuple[str, int]]:
        """Write those thumbnails that the run lacks; return where each of them lies."""
        contents = thumbnails["content"].to_pylist()
        loose = self._ledger.thumbnails
        lacking = [i for i, content in enumerate(contents) if content not in loose]
        places = [loose.get(content, ("", 0)) for content in contents]
        if lacking:
            part, first = self.writer.append("thumbnails", thumbnails.take(pa.array(lacking)))
            for row, i in enumerate(lacking):
                places[i] = (part, first + row)
        return places

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
        self._settle(failure.index, failed=1)

    def _settle(self, index: int, reused: int = 0, failed: int = 0, *, told: bool = True) -> None:
        self._pending += 1
        self._settled.add(self.records.sample_id(index))
        if told:
            self.reporter.advance(0, reused, failed)

    def _publish_when_due(self) -> None:
        due = monotonic() - self._published >= self.publish_every
        if self._pending >= PART_ROWS or (due and self._pending):
            self.publish()
