"""How the Ray executor cuts shards, and has work handed back for those who have none; without a cluster."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")
from engine.executors import ray as distributed
from engine.executors.actors import Hand, Ready
from engine.executors.crews import Post

BATCH = 32


class Actor:
    """Notes which attempts it is told to stop."""

    def __init__(self) -> None:
        self.stopped: list[int] = []
        self.stop = SimpleNamespace(remote=self.stopped.append)


def executor(images: int, workers: int) -> distributed.RayExecutor:
    made = object.__new__(distributed.RayExecutor)
    made._rest, made._queue, made._told = np.arange(images), deque(), {}
    made._members = [distributed._Member(Actor(), Post(1, 0), None) for _ in range(workers)]
    for member in made._members:
        member.ready = Ready(BATCH, "cpu")
    made.reporter = SimpleNamespace(advance=lambda *counts: None)
    return made


def cut(made: distributed.RayExecutor, at: int, attempt: int) -> int:
    """Cut a shard for a worker; return its size."""
    member = made._members[at]
    member.task, member.attempt, member.asked = made._next(BATCH), attempt, False
    return 0 if member.task is None else member.task.indices.size


def test_workers_get_the_same_and_little_remains() -> None:
    made = executor(2_048, 2)
    assert [cut(made, 0, 1), cut(made, 1, 2)] == [1_024, 1_024]
    assert made._rest.size == 0
    made = executor(1_000, 4)
    shards = [cut(made, at, at) for at in range(4)]
    assert sum(shards) == 1_000
    assert max(shards) - min(shards) <= 2 * BATCH


def test_shards_are_bounded_and_who_comes_late_gets_what_leaves_all_the_same() -> None:
    made = executor(100_000, 3)
    assert cut(made, 0, 1) == distributed.LARGEST_SHARD
    made = executor(1_200, 2)
    cut(made, 0, 1)
    cut(made, 1, 2)
    made._rest = np.arange(400)
    made._tell(2, (500, 0, 0))  # 100 of its 600 are left
    made._members[0].task = None
    assert cut(made, 0, 3) in (224, 256)  # half of 400 + 100


def test_the_one_with_most_left_hands_back_once_and_only_what_is_worth_it() -> None:
    made = executor(1_536, 3)
    for at in range(3):
        cut(made, at, at)
    made._members[0].task = None
    made._tell(1, (300, 10, 2))
    made._tell(2, (100, 0, 0))
    made._share()
    made._share()
    assert [member.actor.stopped for member in made._members] == [[], [], [2]]
    made._members[2].task, made._members[2].asked = None, False
    made._tell(1, (512 - 3 * BATCH, 0, 0))
    made._share()
    assert made._members[1].actor.stopped == []
    made._tell(1, (512 - 4 * BATCH, 0, 0))
    made._share()
    assert made._members[1].actor.stopped == [1]


def test_nobody_is_stopped_while_there_is_something_to_cut() -> None:
    made = executor(50_000, 2)
    cut(made, 0, 1)
    made._share()
    assert made._members[0].actor.stopped == []


def test_a_stop_concerns_an_attempt_and_none_that_comes_later() -> None:
    asked: list[Any] = []

    class Explainer:
        def explain(
            self, shard: Any, round_: Any, seconds: float, halvings: int, claim: Any, stop: Any
        ) -> Any:
            asked.append(stop)

    hand = Hand(None, 1, None)  # type: ignore[arg-type]
    hand._explainer = Explainer()  # type: ignore[assignment]
    hand.stop(4)
    for attempt in (4, 5):
        hand.explain(None, attempt, None, 1.0, 0)  # type: ignore[arg-type]
    assert [stop() for stop in asked] == [True, False]
    hand.stop(5)
    assert asked[1]()
