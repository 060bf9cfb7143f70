"""The local executor: explains in this process, and publishes what is finished every so often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from cache.writer import RunWriter
from engine.executors.pipeline import Event, Pipeline, Recorded
from engine.executors.publication import AuditInterruptedError, Publication
from engine.images import SampleError
from engine.ledger import Ledger
from engine.preparation import Copied, Deferred, Failed, Kept, Preparer
from engine.progress import Reporter
from engine.records import Records
from engine.worker import Worker


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
            publish_every: Seconds after which finished rows are published.
            stop: Asked between images: whether the person wants the work to end.
            absent: By content, samples of the run that the dataset no longer has.
        """
        self.records = records
        self.worker = worker
        self.reporter = reporter
        self.stop = stop
        self.publication = Publication(records, writer, publish_every=publish_every, absent=absent)
        self.counts = self.publication.counts
        self.device = str(worker.model.device)
        overlap = worker.model.device.type != "cpu"
        self._pipeline = Pipeline(
            records, worker, writer, batch_size=batch_size, threads=threads, overlap=overlap
        )

    def run(self, indices: Sequence[int], ledger: Ledger, failures: dict[str, SampleError]) -> list[Deferred]:
        """Explain records and publish the result, as `engine.executors.publication.Executor` says."""
        model = self.worker.model
        preparer = Preparer(self.records, model.preprocessing, self.worker.targets, ledger, failures)
        self.publication.begin(ledger)
        with closing(self._pipeline.run(indices, preparer)) as events:
            for event in events:
                self._settle(event)
                if self.publication.due():
                    self._publish()
                if self.stop():
                    self._publish()
                    raise AuditInterruptedError
        self._publish()
        return self.publication.deferred

    def _publish(self) -> None:
        for event in self._pipeline.collect():
            self._settle(event)
        self.publication.publish()

    def _settle(self, event: Event) -> None:
        self.publication.settle(event)
        match event:
            case Recorded():
                self.reporter.advance(explained=event.count, failed=len(event.failed))
            case Kept() | Copied():
                self.reporter.advance(reused=1)
            case Failed():
                self.reporter.advance(failed=1)
