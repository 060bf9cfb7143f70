"""What every executor does with records: readers prepare images, a worker explains them, a recorder measures and writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import pyarrow as pa

from engine.batch_rows import Rows
from engine.images import SampleError
from engine.preparation import Copied, Deferred, Failed, Kept, Outcome, Preparer, Work
from engine.records import Records
from engine.sample_rows import sample_rows, sample_schema
from engine.worker import Explained, Worker

AHEAD = 2
"""Batches that are decoded ahead of the one that the model works on."""


class NotFiniteError(SampleError):
    """The network's scores for an image are NaN or infinite."""

    stage = "predict"

    def __init__(self) -> None:
        super().__init__("not_finite", "The network's scores for this image are not finite.")


class Sink(Protocol):
    """Where rows go: the run's writer, or a shard's."""

    def append(self, table: str, rows: pa.Table, key: str = "") -> tuple[str, int]:
        """Write rows; return the part that they went to, and the position of the first of them."""
        ...

    def redirect(self, rows: pa.Table) -> pa.Table:
        """Return rows of `samples`, pointing to where their thumbnails lie now."""
        ...


@dataclass
class Recorded:
    """A batch whose rows are written, though not yet published.

    Attributes:
        explained: Records with a new row.
        completed: Records whose content was known, and which got what was missing.
        copied: Those of the latter whose row is to be copied besides.
        failed: Records whose scores are not finite.
        losses: Cross-entropy of the true class for records whose content was known.
        degenerate: Maps without positive mass, by method.
        maps: Whether any map or embedding was written.
    """

    explained: list[int] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)
    copied: list[Copied] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)
    degenerate: dict[str, int] = field(default_factory=dict)
    maps: bool = False

    @property
    def count(self) -> int:
        """Number of records that have rows."""
        return len(self.explained) + len(self.completed)


Event = Kept | Copied | Deferred | Failed | Recorded
"""What became of a record, or of the records of a batch."""
Claim = Callable[[Sequence[str]], Sequence[bool]]
"""Asks which of these contents nobody else explains: they are then this pipeline's to explain."""


class Pipeline:
    """Explains records into a sink, and tells what became of each of them; a context manager."""

    def __init__(
        self,
        records: Records,
        worker: Worker,
        sink: Sink,
        *,
        batch_size: int,
        threads: int,
        overlap: bool,
        claim: Claim | None = None,
    ) -> None:
        """Set up.

        Args:
            records: What to explain.
            worker: Who explains it.
            sink: Where rows go.
            batch_size: Images a batch.
            threads: Threads that read and decode.
            overlap: Prepare images while the model works.
            claim: Asked before a batch is explained; None where nobody else works on the same run.
        """
        self.records = records
        self.worker = worker
        self.sink = sink
        self.batch_size = batch_size
        self.threads = threads
        self.overlap = overlap
        self.claim = claim
        self._schema = sample_schema(records)
        self._recording: tuple[list[Work], Future[list[tuple[Rows, bool]]]] | None = None

    def run(self, indices: Iterable[int], preparer: Preparer) -> Generator[Event]:
        """Explain records; yields as soon as it is known what became of them.

        Between two of its values the caller may `collect` and then do with the sink what it likes.

        Raises:
            ModelError: The network fails.
            RunStorageError: The disk refuses the rows.
        """
        self._ledger, self._failures = preparer.ledger, preparer.failures
        batch: list[Work] = []
        with _recorder() as self._recorder:
            try:
                for outcome in self._prepared(indices, preparer):
                    if not isinstance(outcome, Work):
                        yield outcome
                        continue
                    batch.append(outcome)
                    if len(batch) >= self.batch_size:
                        yield from self._explain(batch)
                        batch = []
                if batch:
                    yield from self._explain(batch)
                yield from self.collect()
            finally:
                self._forget()

    def collect(self) -> list[Recorded]:
        """Wait until the last batch is written; return what became of its records."""
        if self._recording is None:
            return []
        (batch, future), self._recording = self._recording, None
        written = future.result()
        new = {index for rows, _ in written for index in rows.indices}
        failed = {index for rows, _ in written for index in rows.failed}
        recorded = Recorded(maps=any(maps for _, maps in written))
        for rows, _ in written:
            recorded.losses |= rows.losses
            for method, count in rows.degenerate.items():
                recorded.degenerate[method] = recorded.degenerate.get(method, 0) + count
        for work in batch:
            index = work.prepared.index
            if index in failed:
                error = self._failures[work.prepared.content] = NotFiniteError()
                recorded.failed.append(Failed(index, error.stage, error.kind, error.message))
                continue
            (recorded.explained if index in new else recorded.completed).append(index)
            if work.copied is not None:
                recorded.copied.append(work.copied)
        return [recorded]

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

    def _explain(self, batch: list[Work]) -> Iterator[Event]:
        """Explain a batch, and let its rows be written while the next one is being prepared."""
        if self._recording is not None and self._recording[1].done():
            # Costly methods take minutes a batch: what is finished may be published before they begin.
            yield from self.collect()
        if self.claim is not None:
            granted = self.claim([work.prepared.content for work in batch])
            refused = [work for work, mine in zip(batch, granted, strict=True) if not mine]
            yield from (Deferred(work.prepared.index, work.prepared.content) for work in refused)
            batch = [work for work, mine in zip(batch, granted, strict=True) if mine]
            if not batch:
                return
        explained = self.worker.explain([work.prepared for work in batch], self._ledger)
        yield from self.collect()
        self._recording = (batch, self._recorder.submit(self._record, explained))

    def _record(self, explained: list[Explained]) -> list[tuple[Rows, bool]]:
        """Measure and write what was found about a batch; beside the readers, never beside another batch's."""
        recorded = []
        while explained:
            rows = self.worker.rows(explained.pop(0), self._ledger)
            recorded.append((replace(rows, predictions={}, keyed={}), self._write(rows)))
        return recorded

    def _write(self, rows: Rows) -> bool:
        """Write the rows of a batch; return whether maps or embeddings are among them."""
        if rows.indices:
            places = self._place_thumbnails(rows.keyed["thumbnails"][0])
            table = sample_rows(self.records, rows.indices, rows.predictions, places, self._schema)
            self.sink.append("samples", self.sink.redirect(table))
        maps = False
        for table_name, (table, key) in rows.keyed.items():
            if table_name != "thumbnails" and table.num_rows:
                self.sink.append(table_name, table, key)
                maps = True
        return maps

    def _place_thumbnails(self, thumbnails: pa.Table) -> list[tuple[str, int]]:
        """Write those thumbnails that the run lacks; return where each of them lies."""
        contents = thumbnails["content"].to_pylist()
        loose = self._ledger.thumbnails
        lacking = [i for i, content in enumerate(contents) if content not in loose]
        places = [loose.get(content, ("", 0)) for content in contents]
        if lacking:
            part, first = self.sink.append("thumbnails", thumbnails.take(pa.array(lacking)))
            for row, i in enumerate(lacking):
                places[i] = (part, first + row)
        return places

    def _forget(self) -> None:
        """Wait for the recorder where the work ended early: nobody else may touch the sink before."""
        if self._recording is not None:
            wait([self._recording[1]])
            self._recording = None


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
