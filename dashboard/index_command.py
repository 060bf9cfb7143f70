"""The command ``index``: builds what makes a large run fast, lists it or takes it away."""

from __future__ import annotations

from typing import Annotated

import typer

from cache.errors import ConfigError
from cache.indexing import build_index, drop_index
from cache.run import Run
from dashboard.sharing import size_text, told_progress

ALL = "all"


def index(
    run: Annotated[str, typer.Argument(help="The run: its directory or URL.")],
    grids: Annotated[
        str,
        typer.Option(
            help="Methods whose grids are copied at once, besides the default one's: names with commas between them, or "
            "all. The others' are copied when somebody asks for a region of their maps.",
            show_default="none",
        ),
    ] = "",
    drop: Annotated[bool, typer.Option("--drop", help="Delete the run's indexes instead.")] = False,
) -> None:
    """Build the index of a large run, so that its pages take milliseconds; it may be deleted at any time."""
    opened = Run.open(run)
    if drop:
        dropped = drop_index(opened)
        typer.echo(f"Deleted {', '.join(map(str, dropped))}." if dropped else f"{run} has no index.")
        return
    methods = list(opened.manifest.methods)
    wanted = methods if grids == ALL else [name.strip() for name in grids.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in methods]
    if unknown:
        raise ConfigError(
            f"{run} has no method {unknown[0]}: choose of {', '.join(methods)} with --grids, or all."
        )
    with told_progress("Building the index") as progress:
        built = build_index(opened, tuple(wanted), lambda share, _: progress(round(1000 * share), 1000))
    made = (
        f"indexed in {built.seconds:.0f} s ({built.samples / max(built.seconds, 0.001):,.0f} a second)"
        if built.seconds
        else "indexed already"
    )
    typer.echo(f"{built.samples:,} samples {made}: {built.folder} ({size_text(built.bytes)}).")
    typer.echo(f"Look at it:  python -m dashboard serve {run}")
