"""The engine's command line: ``python -m engine COMMAND``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cache.command_line import EXIT_MISTAKE, run_command
from cache.errors import ConfigError, RunDamagedError
from cache.locations import located
from cache.run import Run

EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="Gazelake explains every image of a dataset once, for the dashboard to show.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console(highlight=False, soft_wrap=True)
RunArgument = Annotated[Any, typer.Argument(metavar="RUN", help="Directory or URL of a run.", parser=located)]
"""A `Location`; Typer takes no unions."""


@app.command()
def explain(
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of classes, table, CSV of pixels, tar shards, Parquet with images, torchvision:NAME@ROOT, or a URL."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="torchvision:NAME, timm:NAME, path/to/file.py:factory or package.module:factory."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Directory or URL of the run; completed where it is there already."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of these options.")] = None,
    weights: Annotated[str | None, typer.Option(help="Published weights, such as DEFAULT.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights of one's own: .pt, .pth or .safetensors.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Names with parameters, or a preset; `methods` lists them. [fast]")
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Classes to explain: pred, true, top:K, names or indices. [pred,true]")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the outputs: a file, one a line, or imagenet.")
    ] = None,
    class_map: Annotated[Path | None, typer.Option(help="File that sends dataset labels to classes.")] = None,
    target_layer: Annotated[
        str | None, typer.Option(help="Layer whose activations are explained. [found]")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the model's input in pixels.")] = None,
    resize: Annotated[int | None, typer.Option(help="Shorter side before the centre crop.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, squash or pad.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="bilinear, bicubic, nearest, …")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Subtracted from pixels in 0..1: one number, or three.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Divides after that.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps. [auto]")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, tf32, bfloat16 or float16: of the network's passes. [float32]"),
    ] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images a forward pass. [auto]")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many images: a fixed random choice.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Where a table's relative paths start.")] = None,
    path_column: Annotated[str | None, typer.Option(help="Column of a table that holds paths.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of a table that holds labels.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of a table that holds sample ids.")] = None,
    label_names: Annotated[
        bool | None, typer.Option("--label-names", help="Labels that are whole numbers are class names.")
    ] = None,
    unlabelled: Annotated[
        bool | None, typer.Option("--unlabelled", help="Take every image below a folder, without labels.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of a torchvision dataset.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="Where the work is done: local or ray. [local]")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, such as auto or HOST:6379. [this machine alone]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that read and decode [one a core]; with ray workers [one a GPU, or for 4 cores]."
        ),
    ] = None,
    publish_every: Annotated[float | None, typer.Option(help="Seconds between publications. [30]")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run on the pages. [its directory's]")] = None,
) -> None:
    """Explain every image of a dataset into a run, or complete a run."""
    options = {key: value for key, value in locals().items() if key not in ("config",)}
    from engine.config import read_config

    settings = read_config(options, config)
    run_explain(settings)


def run_explain(settings: Any, more_follows: bool = False) -> None:
    """Explain, with progress on the terminal and a summary at the end; without a next command where more follows."""
    from engine.executors.publication import AuditInterruptedError
    from engine.explain import explain as carry_out
    from engine.progress import ConsoleReporter

    reporter = ConsoleReporter(console)
    try:
        with reporter.running():
            summary = carry_out(settings, reporter)
    except AuditInterruptedError:
        run = Run.open(settings.out)
        console.print(
            f"Stopped: {run.manifest.progress.done:,} of {run.manifest.progress.planned:,} samples are published; "
            "the same command goes on from there."
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    lines = summary_lines(summary)
    for line in lines[:-1] if more_follows else lines:
        console.print(line, markup=False)


def summary_lines(summary: Any) -> list[str]:
    """Return what an audit came to, in lines for a person, with the next command at the end."""
    from engine.progress import speed

    counts = summary.counts
    did = [f"{counts.explained:,} explained"]
    if counts.completed:
        did.append(f"{counts.completed:,} completed with what was missing")
    if counts.reused:
        did.append(
            f"{counts.reused:,} reused"
            + (f" ({counts.copied:,} known from another file)" if counts.copied else "")
        )
    if summary.removed:
        did.append(f"{summary.removed:,} no longer in the dataset")
    failed = sum(counts.failed.values())
    if failed:
        kinds = ", ".join(
            f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.failed.items())
        )
        did.append(f"{failed:,} failed ({kinds})")
    computed = counts.explained + counts.completed
    rate = f" ({speed(computed, summary.seconds)})" if computed and summary.seconds else ""
    lines = ["", f"{' · '.join(did)} in {summary.seconds:.1f} s{rate}"]
    if summary.accuracy is not None:
        lines.append(
            f"Accuracy {summary.accuracy:.1%} on {summary.labelled:,} labelled samples: {summary.wrong:,} are wrong."
        )
    else:
        lines.append(f"{summary.samples:,} samples without labels: accuracy is unknown.")
    lines += [
        f"{count:,} maps of {method} hold no positive attribution; the pages count them apart."
        for method, count in counts.degenerate.items()
        if count
    ]
    lines += [f"Note: {notice}" for notice in summary.notices]
    if failed:
        lines.append(f"What failed and why:  python -m engine errors {summary.run}")
    lines.append(f"Look at it:           python -m dashboard serve {summary.run}")
    return lines


@app.command()
def discover(
    run: RunArgument,
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop what `verify` said about findings that are found again.")
    ] = False,
) -> None:
    """Look for shortcuts: regions, groups of like content and rules that lead to wrong predictions."""
    from engine.discovery.discover import discover as carry_out
    from engine.discovery.report import print_findings, searching

    began = monotonic()
    with searching(console) as advance:
        found = carry_out(run, advance, forget)
    print_findings(console, found, run)
    count = len(found.findings)
    console.print(f"{count} finding{'s' * (count != 1)} in {monotonic() - began:.1f} s")


@app.command()
def project(
    run: RunArgument,
    features: Annotated[str | None, typer.Option(help="penultimate or attended. [those there are]")] = None,
) -> None:
    """Place the images on a 2-D map, alike ones close together, for Browse to show."""
    from engine.discovery.report import searching
    from engine.projection import available
    from engine.projection import project as carry_out

    began = monotonic()
    chosen = [features] if features is not None else available(run) or ["penultimate"]
    with searching(console, "{}") as advance:
        made = carry_out(run, chosen, advance)
    for one in made:
        told = "is there already" if one.reused else "is made"
        without = f"; {one.unplaced:,} have no such features" if one.unplaced else ""
        console.print(f"The map of {one.features} features {told}: {one.placed:,} images{without}")
    console.print(f"{monotonic() - began:.1f} s")
    console.print(f"Look at it:  python -m dashboard serve {run} --page browse", markup=False)


@app.command()
def findings(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List what `discover` found and what `verify` made of it."""
    from cache.findings import load_findings
    from engine.discovery.report import print_findings

    opened = Run.open(run)
    found = load_findings(opened)
    if as_json:
        listed = [finding.to_json(opened.manifest.classes) for finding in found.findings]
        sys.stdout.write(json.dumps(listed, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
        return
    print_findings(console, found, run)


@app.command()
def verify(
    run: RunArgument,
    findings: Annotated[
        str | None, typer.Option(help="Ranks of the findings to test, such as 1,2. [all]")
    ] = None,
    data_root: Annotated[str | None, typer.Option(help="Where the originals are, if they moved.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Where the weights are, if they moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Views a forward pass. [auto]")] = None,
) -> None:
    """Test what `discover` found: cover it, transplant it, and say whether the model relies on it."""
    from engine.progress import ConsoleReporter
    from engine.verification import verified_lines
    from engine.verification import verify as carry_out

    try:
        result = carry_out(
            run,
            ranks=None if findings is None else read_ranks(findings),
            data_root=data_root,
            device=device,
            batch_size=batch_size,
            checkpoint=checkpoint,
            reporter=ConsoleReporter(console),
        )
    except KeyboardInterrupt:
        console.print("Stopped: what was tested is published, and the same command goes on from there.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for line in verified_lines(result, run):
        console.print(line, markup=False)


def read_ranks(text: str) -> list[int]:
    """Read ranks such as ``1,2``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise ConfigError(f"--findings {text!r} is not possible: it should be ranks such as 1 or 1,2.")
    return [int(word) for word in words]


@app.command()
def status(
    run: RunArgument,
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte against the manifest.")] = False,
) -> None:
    """Tell what a run holds, and whether it is whole."""
    opened = Run.open(run)
    manifest = opened.manifest
    writing = opened.is_being_written()
    state = "being written" if writing else "interrupted" if manifest.state == "running" else manifest.state
    console.print(
        f"{manifest.name}: {state}, generation {manifest.generation}, updated {manifest.updated}",
        markup=False,
    )
    progress = manifest.progress
    console.print(f"{progress.done:,} of {progress.planned:,} samples, {progress.failed:,} failed")
    console.print(f"data   {manifest.dataset.get('source')}", markup=False)
    console.print(f"model  {manifest.model.get('source')} ({manifest.model.get('weights')})", markup=False)
    table = Table(box=None, pad_edge=False)
    for title, justify in (("table", "left"), ("rows", "right"), ("parts", "right"), ("MB", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for name, parts in sorted(manifest.parts.items()):
        size = sum(part.bytes for part in parts) / 1e6
        table.add_row(name, f"{sum(part.rows for part in parts):,}", str(len(parts)), f"{size:,.1f}")
    console.print(table)
    damaged = opened.verify(fresh=True) if verify else opened.damaged
    for part_name in damaged:
        console.print(f"damaged: {part_name}", markup=False)
    if damaged or (not writing and manifest.state != "complete"):
        unknown = "the `explain` command that began it"
        last = manifest.history[-1].get("command", unknown) if manifest.history else unknown
        console.print(f"Complete it:  {last}", markup=False)
    if damaged:
        raise typer.Exit(EXIT_MISTAKE)


@app.command()
def errors(run: RunArgument) -> None:
    """List the samples that could not be explained, and why."""
    opened = Run.open(run)
    try:
        rows = [row for path in opened.part_paths("errors") for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise RunDamagedError(
            f"The errors table of {run} is damaged: see `python -m engine status {run} --verify`."
        ) from error
    if not rows:
        console.print("Every sample could be explained.")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("sample", "stage", "kind", "message"):
        table.add_column(title, overflow="fold")
    for row in sorted(rows, key=lambda row: (row["kind"], row["sample_id"])):
        table.add_row(*(Text(row[key]) for key in ("sample_id", "stage", "kind", "message")))
    console.print(table)


@app.command()
def methods() -> None:
    """List the methods: what each needs, what it costs, its parameters and its reference."""
    from engine.attribution.registry import PRESETS
    from engine.attribution.registry import methods as registered

    for method in registered().values():
        presets = f"  [{', '.join(method.presets)}]" if method.presets else ""
        console.print(f"{method.name}  {method.title}{presets}", markup=False, style="bold")
        console.print(f"    {method.summary}", markup=False)
        needs = ", ".join(sorted(need.replace("_", " ") for need in method.needs)) or "nothing special"
        console.print(f"    needs {needs}; costs {method.passes}", markup=False)
        for parameter in method.parameters:
            default = str(parameter.default).lower() if parameter.type == "bool" else parameter.default
            console.print(
                f"    {parameter.name}={default}  {parameter.description} ({parameter.allowed})", markup=False
            )
        console.print(f"    {method.reference}", markup=False, style="dim")
    console.print(
        "\nPresets: " + "; ".join(f"{name}, {words}" for name, words in PRESETS.items()), markup=False
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory of the demo's run; its images lie beside it.")] = Path(
        "runs/demo"
    ),
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="Do not open the dashboard at the end.")
    ] = False,
) -> None:
    """Draw images, train a network that learns two shortcuts, explain it, find and prove them, open the dashboard."""
    from engine.demo import audit_demo, prepare_demo

    run_explain(prepare_demo(out, console), more_follows=True)
    try:
        audit_demo(out, console)
    except KeyboardInterrupt:
        console.print("Stopped: what was tested is published, and the same command goes on from there.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    serve = ["-m", "dashboard", "serve", str(out), "--page", "findings"]
    if no_serve:
        console.print(f"Look at it:  python {' '.join(serve)}", markup=False)
    else:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *serve])


def main() -> None:
    """Run the command line; a mistake of the user is one sentence and exit code 2."""
    program = "python -m engine"
    run_command(lambda: app(standalone_mode=False, prog_name=program), program)


__all__ = ["app", "main", "run_explain", "summary_lines"]
