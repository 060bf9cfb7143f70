"""The Ray executor: workers on a cluster take shards and write their own parts; the driver alone publishes.

A worker or a node that is lost costs the shards it was working on, which others take. Two records with the same bytes
are explained once: before each batch a worker claims its contents on a board that all of them share.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import ConfigError, GazelakeError, MemoryShortError, ModelError
from cache.writer import RunWriter
from engine.executors.actors import Board, Hand, Ready, packed_network
from engine.executors.crews import Post, crew
from engine.executors.publication import AuditInterruptedError, Publication
from engine.executors.shards import Report, Round, Shard, Tally, add_up
from engine.images import SampleError
from engine.ledger import Ledger
from engine.plan import Plan
from engine.preparation import Deferred, Failed
from engine.progress import Reporter
from engine.recipe import OtherNetworkError, Recipe

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ConfigError(
        "--executor ray needs the package ray: install it with `pip install -r requirements-ray.txt`."
    ) from error

from engine.executors.ray_cluster import connect

ATTEMPTS = 3
"""A shard that so many workers failed on is given up until the next command."""
PIECES = 8
"""A shard that failed is tried again in so many pieces: what makes it fail is named the more closely."""
LARGEST_SHARD = 2_048
SEND_BELOW = 128
"""A shard of fewer rows a table is handed in as rows: eleven files of it, to be merged with others, would cost more than all else."""
WORTH_SHARING = 4
"""A worker that has so many batches left hands back what it has not begun, once another has nothing to do."""
LOOK_SECONDS = 0.2
TELL_SECONDS = 1.0
STOP_SECONDS = 60.0
"""How long workers have to finish their batches after Ctrl-C; a second one ends them at once."""
ROOM_SECONDS = 300.0
"""How long to wait for a first worker to start."""


@dataclass
class _Task:
    """Records to be explained, and how often that failed."""

    indices: NDArray[np.int64]
    failures: int = 0


@dataclass
class _Member:
    """A worker as the driver sees it; what it is doing is behind its reference."""

    actor: Any
    post: Post
    doing: Any
    ready: Ready | None = None
    sent: bool = False
    task: _Task | None = None
    attempt: int = -1
    asked: bool = False


class RayExecutor:
    """Explains records on a Ray cluster; a context manager."""

    def __init__(
        self,
        plan: Plan,
        writer: RunWriter,
        reporter: Reporter,
        *,
        stop: Callable[[], bool],
        absent: Mapping[str, set[str]],
    ) -> None:
        """Set up.

        Args:
            plan: The audit.
            writer: Writer of the run.
            reporter: Who is told.
            stop: Whether the person wants the work to end.
            absent: By content, samples of the run that the dataset no longer has.
        """
        self.plan = plan
        self.writer = writer
        self.reporter = reporter
        self.stop = stop
        self.publication = Publication(
            plan.records, writer, publish_every=plan.config.publish_every, absent=absent
        )
        self.counts = self.publication.counts
        self.device = ""
        self._recipe = Recipe.of(plan)
        self._members: list[_Member] = []
        self._queue: deque[_Task] = deque()
        self._told: dict[int, Tally] = {}
        self.attempts = self._rounds = self._failed_starts = 0
        self._sent: Any = None
        self._board: Any = None

    def __enter__(self) -> RayExecutor:
        self._connected = connect(self.plan.config.address)
        try:
            self._gather()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _gather(self) -> None:
        """Start the board and the workers."""
        here = ray.get_runtime_context().get_node_id()
        strategy = NodeAffinitySchedulingStrategy(here, soft=False)
        self._board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=strategy).remote()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        posts = crew(nodes, self.plan.config.device, self.plan.config.workers)
        if not posts:
            raise ConfigError(
                "The Ray cluster has no cores: start nodes with `ray start`, or say --executor local."
            )
        workers = f"{len(posts)} worker{'s' * (len(posts) != 1)}"
        self.reporter.say(f"{workers} on a Ray cluster of {len(nodes)} machine{'s' * (len(nodes) != 1)}")
        self._members = [self._hire(post) for post in posts]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self._members:
            ray.kill(member.actor)
        if self._board is not None:
            ray.kill(self._board)
        if self._connected:
            ray.shutdown()

    def run(self, indices: Sequence[int], ledger: Ledger, failures: dict[str, SampleError]) -> list[Deferred]:
        """Explain records and publish the result, as `engine.executors.publication.Executor` says."""
        self._begin_round(ledger)
        self._rest = np.asarray(indices, np.int64)
        waiting_since = monotonic()
        looked = 0.0
        while self._rest.size or self._queue or any(m.task for m in self._members):
            for member in self._members:
                self._give(member)
            finished, _ = ray.wait(
                [m.doing for m in self._members if m.doing], num_returns=1, timeout=LOOK_SECONDS
            )
            for member in [m for m in self._members if m.doing in finished]:
                self._take(member)
            idle = any(member.ready and member.task is None for member in self._members)
            if idle or monotonic() - looked >= TELL_SECONDS:
                looked = monotonic()
                self._look()
            if idle:
                self._share()
            if self.publication.due():
                self.publication.publish()
            if self.stop():
                self._halt()
                raise AuditInterruptedError
            if any(member.ready for member in self._members):
                waiting_since = monotonic()
            elif monotonic() - waiting_since > ROOM_SECONDS:
                raise ConfigError(
                    f"No worker could start on the Ray cluster for {ROOM_SECONDS / 60:.0f} minutes: see `ray status` for "
                    "what holds its cores."
                )
        self.publication.publish()
        return self.publication.deferred

    def _begin_round(self, ledger: Ledger) -> None:
        """Prepare what workers must know; in later rounds no more than concerns the records that waited."""
        only = ids = None
        if self._rounds:
            only = frozenset(one.content for one in self.publication.deferred)
            ids = frozenset(self.plan.records.sample_id(one.index) for one in self.publication.deferred)
            ray.get(self._board.clear.remote())
        self._rounds += 1
        self._round = ray.put(Round(self._rounds, not self.writer.manifest.parts, only, ids, SEND_BELOW))
        self.publication.begin(ledger)

    def _hire(self, post: Post) -> _Member:
        options = {"num_cpus": post.cores, "num_gpus": post.gpus, "max_concurrency": 2}
        actor = ray.remote(Hand).options(**options).remote(self._recipe, post.cores, self._board)
        return _Member(actor, post, actor.begin.remote())

    def _give(self, member: _Member) -> None:
        """Give a worker that waits its next shard."""
        if member.ready is None or member.doing is not None:
            return
        task = self._next(member.ready.images_at_once)
        if task is None:
            return
        self.attempts += 1
        member.task, member.attempt, member.asked = task, self.attempts, False
        shard = Shard.of(self.plan.records, task.indices)
        seconds = self.plan.config.publish_every
        member.doing = member.actor.explain.remote(shard, self.attempts, self._round, seconds, task.failures)

    def _next(self, images_at_once: int) -> _Task | None:
        """Cut the next shard: as much as leaves every worker with the same, so that all of them finish at about the same time."""
        if self._queue:
            return self._queue.popleft()
        if not self._rest.size:
            return None
        ready = sum(member.ready is not None for member in self._members)
        fair = (self._rest.size + sum(map(self._left, self._members))) / ready
        count = max(1, round(min(fair, LARGEST_SHARD) / images_at_once)) * images_at_once
        task, self._rest = _Task(self._rest[:count]), self._rest[count:]
        return task

    def _left(self, member: _Member) -> int:
        """Return how many records of its shard a worker has still to do, as far as it has told."""
        return (
            0 if member.task is None else member.task.indices.size - sum(self._told.get(member.attempt, ()))
        )

    def _share(self) -> None:
        """Where a worker has nothing to do, have the one that has most left hand back what it has not begun."""
        if self._rest.size or self._queue:
            return
        most = max(self._members, key=self._left)
        if most.ready and not most.asked and self._left(most) >= WORTH_SHARING * most.ready.images_at_once:
            most.asked = True
            most.actor.stop.remote(most.attempt)

    def _take(self, member: _Member) -> None:
        """Take what a worker hands in, and give it something new before that is looked at."""
        try:
            result = ray.get(member.doing)
        except ray.exceptions.RayTaskError as error:  # the code fails, and would anywhere
            self.publication.publish()
            raise ModelError(
                f"A worker of the Ray cluster failed ({_last_line(error)}): what was published is kept."
            ) from error
        except ray.exceptions.RayError as error:
            self._lose(member, error)
            return
        member.doing = None
        if member.ready is None:
            self._start(member, result)
            return
        task, attempt = member.task, member.attempt
        assert task is not None
        member.task = None
        if isinstance(result, MemoryShortError):
            self._retry(task, attempt, "out_of_memory", str(result))
        elif isinstance(result, GazelakeError):
            self._board.release.remote(attempt)
            self.publication.publish()
            raise result
        else:
            self._board.settle.remote(attempt)
            if result.undone.size and task.failures:
                self._queue.appendleft(_Task(result.undone, task.failures))
            elif result.undone.size:
                self._rest = np.union1d(self._rest, result.undone)
            self._give(member)
            self._settle(result, attempt)

    def _settle(self, report: Report, attempt: int) -> None:
        tally = [0, 0, 0]
        for table, part in report.parts:
            self.writer.adopt(table, part)
        self.writer.adopt_rows(report.sent)
        for event in report.events:
            self.publication.settle(event)
            add_up(tally, event)
        self._tell(attempt, (tally[0], tally[1], tally[2]))

    def _start(self, member: _Member, result: Ready | OtherNetworkError | GazelakeError) -> None:
        """Note that a worker is ready, or send it the network where it cannot load it."""
        if isinstance(result, Ready):
            member.ready, self._failed_starts = result, 0
            self.device = result.device
            return
        if isinstance(result, GazelakeError):
            raise result
        if member.sent:
            raise ModelError(
                f"A worker of the Ray cluster cannot use the network that was sent to it: {result}"
            )
        if self._sent is None:
            self.reporter.say(f"The network is sent to the workers: {result}")
            self._sent = ray.put(packed_network(self.plan.model))
        member.sent = True
        member.doing = member.actor.begin.remote(self._sent)

    def _lose(self, member: _Member, error: Exception) -> None:
        """Let another worker take the place of one that died, and its shard."""
        ray.kill(member.actor)
        reason = str(error).strip().partition("\n")[0].rstrip(".:")
        at = self._members.index(member)
        self._members[at] = self._hire(member.post)
        if member.ready is None:
            self._failed_starts += 1
            if self._failed_starts >= ATTEMPTS * len(self._members):
                raise ModelError(
                    f"The workers of the Ray cluster die while they load the network ({reason}): see Ray's logs."
                ) from error
        if member.task is not None:
            out_of_memory = isinstance(error, ray.exceptions.OutOfMemoryError) or "memory" in reason.lower()
            self._retry(member.task, member.attempt, "out_of_memory" if out_of_memory else "lost", reason)

    def _retry(self, task: _Task, attempt: int, kind: str, reason: str) -> None:
        """Have a shard tried again in smaller batches, or give it up."""
        self._board.release.remote(attempt)
        self._tell(attempt, (0, 0, 0))
        failures = task.failures + 1
        if failures < ATTEMPTS:
            pieces = np.array_split(task.indices, min(PIECES, task.indices.size))
            self._queue.extend(_Task(piece, failures) for piece in pieces)
            return
        records = self.plan.records
        first, last = (records.sample_id(int(task.indices[i])) for i in (0, -1))
        message = (
            f"The shard of {task.indices.size} images from {first} to {last} failed {ATTEMPTS} times ({reason}): "
            "run the same command again to complete it."
        )
        self.reporter.say(message)
        for index in task.indices.tolist():
            self.publication.settle(Failed(index, "explain", kind, message))
        self._tell(attempt, (0, 0, task.indices.size))

    def _tell(self, attempt: int, tally: Tally) -> None:
        """Tell the reporter how far an attempt is; what came to nothing is taken back."""
        before = self._told.get(attempt, (0, 0, 0))
        self._told[attempt] = tally
        self.reporter.advance(*(now - then for now, then in zip(tally, before, strict=True)))

    def _look(self) -> None:
        """Look how far the workers are."""
        working = {member.attempt for member in self._members if member.task is not None}
        for attempt, tally in ray.get(self._board.tallies.remote()).items():
            if attempt in working:
                self._tell(attempt, tally)

    def _halt(self) -> None:
        """Have every worker finish its batch, and publish that."""
        busy = [member for member in self._members if member.task is not None]
        for member in busy:
            member.actor.stop.remote(member.attempt)
        doing = {member.doing: member for member in busy}
        finished, _ = (
            ray.wait(list(doing), num_returns=max(1, len(doing)), timeout=STOP_SECONDS) if doing else ([], [])
        )
        for reference in finished:
            with contextlib.suppress(ray.exceptions.RayError):
                result = ray.get(reference)
                if isinstance(result, Report):
                    self._settle(result, doing[reference].attempt)
        self.publication.publish()


def _last_line(error: Exception) -> str:
    """Return the line of a worker's traceback that says what went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200].rstrip(".:")
