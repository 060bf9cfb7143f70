"""How long work reports itself: what is going on, how far it is, how fast, and how long it will take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0
"""Where the output is not a terminal, one line is printed this often."""


class Reporter(Protocol):
    """Receives the progress of an audit."""

    def say(self, sentence: str) -> None:
        """Tell what is going on."""

    def start(self, total: int) -> None:
        """Begin to count samples."""

    def advance(self, explained: int = 0, reused: int = 0, failed: int = 0) -> None:
        """Count samples that are finished."""


class Silent:
    """Reports nothing: for programs that call the engine."""

    def say(self, sentence: str) -> None:
        """Tell nobody."""

    def start(self, total: int) -> None:
        """Count nothing."""

    def advance(self, explained: int = 0, reused: int = 0, failed: int = 0) -> None:
        """Count nothing."""


def speed(count: int, seconds: float) -> str:
    """Say how fast images are explained: images a second, or seconds an image where that is more telling."""
    if not count:
        return ""
    return f"{count / seconds:.1f} images/s" if count >= seconds else f"{seconds / count:.1f} s an image"


def duration(seconds: float) -> str:
    """Write a duration for people: 45 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class ConsoleReporter:
    """Reports to a terminal with a bar, and to a log file with a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._total = self._explained = self._reused = self._failed = 0
        self._began = self._said = monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @contextmanager
    def running(self) -> Iterator[ConsoleReporter]:
        """Show the bar for as long as the block lasts."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[counts]}", style="dim"),
        )
        try:
            if self.console.is_terminal:
                self._progress = Progress(*columns, console=self.console, transient=True)
            yield self
        finally:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def start(self, total: int) -> None:
        """Begin to count samples."""
        self._total = total
        self._began = self._said = monotonic()
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task("Explaining", total=total, rate="", left="", counts="")

    def advance(self, explained: int = 0, reused: int = 0, failed: int = 0) -> None:
        """Count samples that are finished."""
        self._explained += explained
        self._reused += reused
        self._failed += failed
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task,
                completed=self._done,
                rate=speed(self._explained, self._seconds),
                left=self._left,
                counts=self._counts,
            )
        elif monotonic() - self._said >= LINE_SECONDS:
            self._said = monotonic()
            told = (
                f"{self._done:,} of {self._total:,}",
                speed(self._explained, self._seconds),
                self._left,
                self._counts,
            )
            self.say(" · ".join(part for part in told if part))

    @property
    def _done(self) -> int:
        return self._explained + self._reused + self._failed

    @property
    def _seconds(self) -> float:
        return max(monotonic() - self._began, 1e-3)

    @property
    def _left(self) -> str:
        """Say how long the rest takes at the pace so far, as if none of it were reused."""
        if not self._explained:
            return ""
        left = (self._total - self._done) * self._seconds / self._explained
        return f"{duration(left)} left" if self._done < self._total else ""

    @property
    def _counts(self) -> str:
        return " · ".join(
            f"{count} {what}" for count, what in ((self._reused, "reused"), (self._failed, "failed")) if count
        )
