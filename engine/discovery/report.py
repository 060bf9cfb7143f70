"""Findings on the terminal: one table, the notices, the run in plain words, and the next command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cache.catalog import Catalog
from cache.findings import Findings, Rate
from cache.locations import Location
from cache.run import Run
from cache.summaries import run_summary


@contextmanager
def searching(console: Console, what: str = "Searching {}") -> Iterator[Callable[[int, int, str], None]]:
    """Show what is being searched, how much is left and for how long; yields what `discover` reports to."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading the run", total=None)

        def advance(done: int, total: int, name: str) -> None:
            words = what.format(name) if name else "Done"
            progress.update(task, description=words, completed=done, total=total or None)

        yield advance


def print_findings(console: Console, found: Findings, run: Location) -> None:
    """Print a run's list, what cannot be said about the run, the run in plain words, and what to type next."""
    if not found.discovered:
        console.print(
            f"Nobody has looked for shortcuts yet.  Look:  python -m engine discover {run}", markup=False
        )
        return
    if found.findings:
        console.print(_table(found, console.width >= WIDE))
    else:
        console.print("No suspected shortcut was found.")
    for notice in found.notices:
        console.print(f"Note: {notice}", markup=False)
    print_summary(console, run)
    if any(finding.verdict == "untested" for finding in found.findings):
        console.print(f"Prove or refute them:  python -m engine verify {run}", markup=False)
    elif found.findings:
        console.print(f"Look at them:         python -m dashboard serve {run} --page findings", markup=False)


def print_summary(console: Console, run: Location) -> None:
    """Print a run in plain words."""
    console.print()
    for sentence in run_summary(Catalog(Run.open(run))).sentences:
        console.print(sentence, markup=False)
    console.print()


WIDE = 130
"""Columns of a terminal from which on the tests' rates have a place beside the findings."""


def _table(found: Findings, wide: bool) -> Table:
    tested = any(finding.verdict != "untested" for finding in found.findings)
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right")
    if tested:
        table.add_column("verdict", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for title in ("images", "wrong", "else", "q", "alike"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("deletion", "transplant") if tested and wide else ():
        table.add_column(title, no_wrap=True)
    for finding in found.findings:
        cells = [str(finding.rank), *([finding.verdict] if tested else []), finding.title, f"{finding.n:,}"]
        cells += [_share(finding.evidence.get(key)) for key in ("error_rate", "error_rate_rest")]
        cells += [_q(finding.q_value), "–" if finding.likeness is None else f"{finding.likeness:.2f}"]
        if tested and wide:
            cells += [_tested(finding.deletion), _tested(finding.transfer)]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _q(value: float | None) -> str:
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _tested(rate: Rate | None) -> str:
    if rate is None or rate.rate is None:
        return "–"
    return f"{rate.rate:.0%} against {_share(rate.control_rate)}"
