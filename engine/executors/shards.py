"""A shard of an audit, and what a worker elsewhere makes of it; this module knows nothing of how they talk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.errors import DatasetError
from cache.manifest import Manifest, Part
from cache.run import Run
from cache.shards import Sent, ShardWriter
from cache.storage import storage_at
from engine.datasets import Dataset
from engine.executors.pipeline import Event, Pipeline, Recorded
from engine.ledger import Ledger
from engine.plan import find_dataset
from engine.preparation import Copied, Failed, Kept, Preparer
from engine.recipe import Recipe
from engine.records import Records

if TYPE_CHECKING:
    from engine.models import LoadedModel

READ_AGAIN = 3
Tally = tuple[int, int, int]
"""Records explained, reused and failed."""


@dataclass(frozen=True)
class Shard:
    """Some records of an audit, with all that the dataset says of them.

    Attributes:
        indices: Their positions among the audit's records.
        dataset: They alone, without a reader.
        labels: Output index of every label, NULL where unknown.
        packed: The dataset holds many images in a file, so that it must be opened to read one.
    """

    indices: NDArray[np.int64]
    dataset: Dataset
    labels: pa.Array
    packed: bool

    @classmethod
    def of(cls, records: Records, indices: NDArray[np.int64]) -> Shard:
        """Cut a shard out of an audit's records."""
        dataset = records.dataset.take(indices)
        packed = dataset.reader is not None
        return cls(
            indices, replace(dataset, reader=None, notices=[]), records.labels.take(pa.array(indices)), packed
        )


@dataclass(frozen=True)
class Round:
    """What a worker must know of the run before it works on shards of one round.

    Attributes:
        number: The round's number.
        empty: The run held nothing when it began.
        only: Contents of which anything is wanted to be known; None for all.
        ids: Likewise sample ids.
        send_below: A shard of fewer rows is handed in as rows instead of parts.
    """

    number: int
    empty: bool
    only: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    send_below: int = 0


@dataclass
class Report:
    """What became of a shard.

    Attributes:
        parts: What was written, with the table of each; nobody else knows of it.
        sent: Or, where that is little, the rows themselves.
        events: What became of which records, by their positions among the audit's.
        undone: Records that were not reached before time was up.
        seconds: How long it took, parts finished and all.
    """

    parts: list[tuple[str, Part]]
    sent: list[Sent]
    events: list[Event]
    undone: NDArray[np.int64]
    seconds: float


@dataclass
class ShardExplainer:
    """Holds the network once and explains shards.

    Attributes:
        recipe: How to explain.
        cores: Threads of the network, and of the readers.
        sent: Returns the network that was sent along, None to load it here.
    """

    recipe: Recipe
    cores: int
    sent: Callable[[], LoadedModel] | None = None
    _known: tuple[int, Ledger] | None = field(default=None, init=False)
    _source: Dataset | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Load the network.

        Raises:
            OtherNetworkError: It cannot be loaded here, or is not the one that was planned with.
        """
        import torch

        with suppress(OSError):  # where the folder is missing, absolute paths still work
            os.chdir(self.recipe.folder)
        torch.set_num_threads(self.cores)
        self.worker, self.images_at_once = self.recipe.worker(self.sent)

    def explain(
        self,
        shard: Shard,
        round_: Round,
        seconds: float,
        halvings: int,
        claim: Callable[[Sequence[str], Tally], Sequence[bool]],
        stop: Callable[[], bool],
    ) -> Report:
        """Explain the records of a shard into parts of its own, as the local executor would.

        Args:
            shard: The shard.
            round_: The round that it belongs to.
            seconds: After so long what is left is handed back, so that what is done can be published.
            halvings: How often the batch is halved, because a worker died over these records.
            claim: Asks which contents nobody else explains, and tells how many records are finished.
            stop: Asked after each batch whether what is left is to be handed back at once.

        Raises:
            GazelakeError: The network fails, or the disk refuses.
        """
        import torch

        torch.set_num_threads(self.cores)  # a thread's own setting, and calls come in threads of their own
        began = monotonic()
        records, ledger = Records(self._dataset(shard), shard.labels), self._ledger(round_)
        sink = ShardWriter(self.recipe.config.out)
        done = np.zeros(len(records), bool)
        events: list[Event] = []
        tally = [0, 0, 0]
        budget = self.worker.budget
        self.worker.budget = max(1, budget >> halvings)
        pipeline = Pipeline(
            records,
            self.worker,
            sink,
            batch_size=max(1, self.images_at_once >> halvings),
            threads=self.cores,
            overlap=self.worker.model.device.type != "cpu",
            claim=lambda contents: claim(contents, (tally[0], tally[1], tally[2])),
        )
        model = self.worker.model
        preparer = Preparer(records, model.preprocessing, self.worker.targets, ledger, {})

        def take(event: Event) -> None:
            events.append(moved(event, shard.indices))
            done[list(positions(event))] = True
            add_up(tally, event)

        try:
            with closing(pipeline.run(range(len(records)), preparer)) as found:
                for event in found:
                    take(event)
                    if stop() or monotonic() - began >= seconds:
                        for last in pipeline.collect():
                            take(last)
                        break
            sent = sink.send(round_.send_below)
            parts = sink.finish()
        except BaseException:
            sink.discard()
            raise
        finally:
            if halvings:
                self.worker.budget = budget
        return Report(parts, sent, events, shard.indices[~done], monotonic() - began)

    def _dataset(self, shard: Shard) -> Dataset:
        """Return the shard's records with a way to read their images."""
        if not shard.packed:
            return shard.dataset
        if self._source is None:
            self._source = find_dataset(self.recipe.config.model_copy(update={"limit": None}))
        source, rows = self._source, shard.dataset.rows
        wanted = shard.dataset.records["sample_id"].to_pylist()
        here = pa.array(shard.indices if rows is None else rows)
        if (
            len(source) <= int(here[-1].as_py())
            or source.records["sample_id"].take(here).to_pylist() != wanted
        ):
            raise DatasetError(
                f"The dataset {source.source} is another one where a worker runs than here: give all of them the same."
            )
        return replace(shard.dataset, reader=source.reader)

    def _ledger(self, round_: Round) -> Ledger:
        """Return what the run holds, read once a round."""
        if self._known is not None and self._known[0] == round_.number:
            return self._known[1]
        self._known = None
        out, keys = self.recipe.config.out, self.recipe.keys
        if round_.empty:
            ledger = Ledger.read(storage_at(out), Manifest(""), keys)
        else:
            ledger = self._read(partial(Ledger.read, keys=keys, only=round_.only, ids=round_.ids))
        self._known = (round_.number, ledger)
        return ledger

    def _read(self, read: Callable[..., Ledger]) -> Ledger:
        """Read the run as it is now; what is being merged meanwhile is looked for in the next generation."""
        for attempt in range(READ_AGAIN):
            run = Run.open(self.recipe.config.out)
            try:
                return read(run.storage, run.manifest)
            except FileNotFoundError:
                if attempt == READ_AGAIN - 1:
                    raise
        raise AssertionError


def positions(event: Event) -> Sequence[int]:
    """Return the records that an event speaks of."""
    if isinstance(event, Recorded):
        return [*event.explained, *event.completed, *(failure.index for failure in event.failed)]
    return [event.index]


def moved(event: Event, indices: NDArray[np.int64]) -> Event:
    """Return an event that speaks of positions among the audit's records instead of a shard's."""

    def at(index: int) -> int:
        return int(indices[index])

    if not isinstance(event, Recorded):
        return replace(event, index=at(event.index))
    return Recorded(
        [at(i) for i in event.explained],
        [at(i) for i in event.completed],
        [replace(copied, index=at(copied.index)) for copied in event.copied],
        [replace(failure, index=at(failure.index)) for failure in event.failed],
        {at(i): loss for i, loss in event.losses.items()},
        event.degenerate,
        event.maps,
    )


def add_up(tally: list[int], event: Event) -> None:
    """Count an event's records among those explained, reused and failed."""
    match event:
        case Recorded():
            tally[0] += event.count
            tally[2] += len(event.failed)
        case Kept() | Copied():
            tally[1] += 1
        case Failed():
            tally[2] += 1
