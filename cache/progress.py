"""How far a long task is: what it calls, and a counter of its steps."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with what is done and with what there is to do; it may raise to stop the task."""


def steps(total: int, progress: Progress | None) -> Callable[[], None]:
    """Return what a task calls after each of its steps, so that somebody is told."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return step
