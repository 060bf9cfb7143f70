"""The demo: draws a dataset with two planted habits, trains a network that learns them, audits it, and finds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cache.findings import basis_of, load_findings
from cache.run import Run, is_run
from engine.config import ExplainConfig, read_config

MODEL = "engine.demo_network:demo_network"
PLAN = {"version": 2, "train": 1400, "audit": 1000, "seed": 0, "training_seed": 2}
"""What is drawn; data of another plan is drawn anew."""
PLAN_NAME = "demo.json"
CHECKPOINT_NAME = "network.pt"


def data_folder(out: Path) -> Path:
    """Return where the demo's images lie: beside its run."""
    return out.with_name(out.name + "-data")


def prepare_demo(out: Path, console: Console) -> ExplainConfig:
    """Draw the images and train the network where that has not been done; return how to explain them.

    Args:
        out: Directory of the run.
        console: Where progress is shown.
    """
    folder = data_folder(out)
    plan, checkpoint = folder / PLAN_NAME, folder / CHECKPOINT_NAME
    if not _drawn(plan):
        checkpoint.unlink(missing_ok=True)
        _draw(folder, console)
        plan.write_text(json.dumps(PLAN))
    if not checkpoint.is_file():
        _train(folder, checkpoint, console)
        # A run belongs to one set of weights: the demo's own run of the weights before is of no use any more.
        if is_run(out) and Run.open(out).manifest.model.get("source") == MODEL:
            shutil.rmtree(out)
    options = {"data": str(folder / "audit.csv"), "model": MODEL, "checkpoint": checkpoint, "out": out}
    return read_config({**options, "name": "Demo: animals on snow and grass"})


def audit_demo(out: Path, console: Console) -> None:
    """Find the demo's shortcuts and prove them, as far as that has not been done, and say what came of it.

    Args:
        out: Directory of the run, explained.
        console: Where progress is shown.

    Raises:
        GazelakeError: Something that the user can mend, in one sentence.
    """
    from engine.discovery.discover import discover
    from engine.discovery.report import print_summary, searching
    from engine.progress import ConsoleReporter
    from engine.verification import verify

    run = Run.open(out)
    found, began = load_findings(run), monotonic()
    if found.basis == basis_of(run.manifest) and not run.damaged:
        console.print(f"{len(found.findings)} suspected shortcuts reused")
    else:
        with searching(console) as advance:
            found = discover(out, advance)
        console.print(f"Found {len(found.findings)} suspected shortcuts in {monotonic() - began:.0f} s")
    result = verify(out, reporter=ConsoleReporter(console))
    reused = f" · {result.kept} reused" if result.kept else ""
    console.print(f"{result.tested} tested{reused} in {result.seconds:.0f} s", markup=False)
    console.print()
    for finding in result.findings:
        console.print(f"{finding.rank:>3}  {finding.verdict:<12}  {finding.title}", markup=False)
    for notice in (*found.notices, *result.notices):
        console.print(f"Note: {notice}", markup=False)
    print_summary(console, out)


def _drawn(plan: Path) -> bool:
    """Tell whether this plan's images are all there; it is written when they are."""
    try:
        return bool(json.loads(plan.read_text()) == PLAN)
    except (OSError, ValueError):
        return False


def _draw(folder: Path, console: Console) -> None:
    from engine.demo_images import write_demo

    began = monotonic()
    with _bar(console) as progress:
        task = progress.add_task("Drawing animals", total=None)
        write_demo(
            folder,
            PLAN["train"],
            PLAN["audit"],
            PLAN["seed"],
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(
        f"Drew {PLAN['train']:,} images to learn from and {PLAN['audit']:,} to audit in {monotonic() - began:.0f} s"
    )


def _train(folder: Path, checkpoint: Path, console: Console) -> None:
    console.print("Loading PyTorch …")
    from engine.demo_network import train_demo_network

    began = monotonic()
    partial = checkpoint.with_suffix(".tmp")
    with _bar(console) as progress:
        task = progress.add_task("Training a network", total=None)
        metrics = train_demo_network(
            folder,
            partial,
            PLAN["training_seed"],
            progress=lambda done, total, _: progress.update(task, completed=done, total=total),
        )
    partial.replace(checkpoint)
    console.print(
        f"Trained a network in {monotonic() - began:.0f} s; it gets {metrics.accuracy:.1%} of what it learned from right. "
        "Wolves stood on snow there, and foxes carried a tag."
    )


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
