"""What people are told while they wait."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from engine import progress
from engine.progress import ConsoleReporter, duration, speed


@pytest.mark.parametrize(
    ("count", "seconds", "said"),
    [(0, 5.0, ""), (90, 30.0, "3.0 images/s"), (4, 400.0, "100.0 s an image"), (5, 5.0, "1.0 images/s")],
)
def test_speed(count, seconds, said):
    assert speed(count, seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (300, "5 min"), (12_000, "3 h 20 min"), (3_599, "1 h 0 min")],
)
def test_duration(seconds, said):
    assert duration(seconds) == said


def test_reused_images_are_not_taken_for_the_pace(monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(progress, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    reporter = ConsoleReporter(Console(file=out, width=200))
    with reporter.running():
        reporter.start(100)
        reporter.advance(reused=60)
        reporter.advance(explained=4)
    first, second = out.getvalue().splitlines()
    assert first == "60 of 100 · 60 reused"
    assert second.startswith("64 of 100 · ")
    assert " an image · " in second
    assert second.endswith("min left · 60 reused")
