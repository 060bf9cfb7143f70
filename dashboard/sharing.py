"""The commands that hand an audit on: a report, a bundle, opening one, and taking back what was reviewed elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import parse_qs, urlsplit

import typer

from cache import queries
from cache.bundle_reading import merge_reviews, open_bundle
from cache.bundles import write_bundle
from cache.catalog import Catalog
from cache.disk import storage_errors
from cache.errors import BundleError
from cache.filters import Filter, compile_filter
from cache.locations import Location, located
from cache.manifest import Manifest
from cache.progress import Progress
from cache.reviews import Reviews, reviews_path
from cache.run import Run, is_run
from dashboard.configuration import configuration_path, read_configuration
from dashboard.data import DEFAULT_RUNS
from dashboard.original_files import original_reader
from dashboard.report import Contents, build_report, check_report_target, write_report
from dashboard.report_content import Asked

RunArgument = Annotated[
    Any, typer.Argument(help="The run: its directory or URL.", parser=located, metavar="RUN")
]
"""A `Location`; Typer takes no unions."""
FILTER_HELP = "Only these samples: the filter of a link (what stands after filter=), or the link itself."


class Serve(Protocol):
    """Serves a folder until somebody ends it."""

    def __call__(self, folder: Path, port: int, address: str, browser: bool) -> None:
        """Serve."""


def reviews_of(run: Location) -> Reviews:
    """Return the reviews of a run, where the configuration beside it keeps them.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    path = configuration_path(run)
    folder = None if path is None else read_configuration(path).reviews
    return Reviews(reviews_path(run, Run.open(run).manifest, folder))


def add_commands(
    cli: typer.Typer, serve: Serve, check_port: Callable[[str, int], None], address: str
) -> None:
    """Add ``report``, ``bundle``, ``open`` and ``merge`` to the command line.

    Args:
        cli: The command line.
        serve: What ``open`` ends with.
        check_port: Refuses a port that cannot be listened on.
        address: Where ``open`` listens.
    """
    cli.command()(report)
    cli.command()(bundle)
    cli.command()(merge)

    @cli.command("open")
    def open_(
        source: Annotated[Path, typer.Argument(help="A bundle: the file that `bundle` wrote.")],
        into: Annotated[
            Path | None,
            typer.Option(help="Directory of the run to make.", show_default=f"{DEFAULT_RUNS}/NAME"),
        ] = None,
        port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
        browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
        show: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve what was opened.")] = True,
    ) -> None:
        """Open a bundle: check it, make a run of it, and serve that on this machine."""
        if show:
            check_port(address, port)
        target = opened_run(source, into)
        if show:
            serve(target, port, address, browser)
        else:
            typer.echo(f"Look at it:  python -m dashboard serve {target}")


def report(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("audit.html"),
    findings: Annotated[
        bool,
        typer.Option(
            "--findings", help="The findings; without --findings, --views and --filter all there is."
        ),
    ] = False,
    views: Annotated[bool, typer.Option("--views", help="The saved views, in order.")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help=f"{FILTER_HELP} May be given several times.")
    ] = None,
    title: Annotated[str, typer.Option(help="The heading.", show_default="the run's name")] = "",
) -> None:
    """Write a report: one HTML file that opens anywhere, without internet."""
    check_report_target(out)
    catalog = Catalog(Run.open(run))
    refuse_empty(catalog.manifest, run)
    selections = tuple(Asked(read_filter(text, catalog.manifest)) for text in filters or ())
    everything = not (findings or views or selections)
    contents = Contents(title, selections, findings or everything, views or everything, everything)
    with told_progress("Writing the report") as progress:
        html = build_report(catalog, reviews_of(run), contents, progress)
        size = write_report(html, out)
    typer.echo(f"{out} holds the report ({size_text(size)}). Open it in a browser; it needs nothing else.")


def bundle(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The zip file to write; must not exist.")] = Path(
        "audit.zip"
    ),
    filter_: Annotated[str, typer.Option("--filter", help=FILTER_HELP, show_default="the whole run")] = "",
    originals: Annotated[
        bool,
        typer.Option(
            "--originals", help="With the original images, without what a camera wrote beside them."
        ),
    ] = False,
) -> None:
    """Write a bundle: one file with the run, or a selection of it, and its reviews, for another machine."""
    opened = Run.open(run)
    refuse_empty(opened.manifest, run)
    samples: Sequence[str] | None = None
    if filter_:
        samples = queries.ids(Catalog(opened), read_filter(filter_, opened.manifest))
        if not samples:
            raise BundleError("No sample of the run meets the filter: choose another one.")
    with told_progress("Writing the bundle") as progress:
        written = write_bundle(
            opened,
            out,
            samples=samples,
            reviews=reviews_of(run),
            original=original_reader(opened.manifest) if originals else None,
            progress=progress,
        )
    told = (
        f"{written.samples:,} of {written.of:,} samples"
        if samples is not None
        else f"{written.samples:,} samples"
    )
    with_ = f", {written.originals:,} originals" if originals else ""
    typer.echo(
        f"{out} holds {told}{with_} and {written.reviews:,} {'line' if written.reviews == 1 else 'lines'} of reviews ({size_text(written.bytes)})."
    )
    if written.missing:
        typer.echo(
            f"{written.missing:,} originals are not where the run says, or not what it explained; they were left out."
        )
    typer.echo(f"Elsewhere:  python -m dashboard open {out.name}")
    typer.echo(f"And back:   python -m dashboard merge {run} BUNDLE_FROM_THERE.zip")


def merge(
    run: Annotated[
        Any, typer.Argument(help="The run that takes the reviews in.", parser=located, metavar="RUN")
    ],
    sources: Annotated[
        list[Path], typer.Argument(help="Bundles, runs or databases of reviews with what others said.")
    ],
) -> None:
    """Take in what was reviewed elsewhere: a union, in which nobody's words are altered."""
    Run.open(run)
    reviews = reviews_of(run)
    for source in sources:
        merged = merge_reviews(source, reviews)
        told = f"{source}: {merged.added:,} new reviews, {merged.known:,} known already"
        if merged.differing:
            told += f"; {merged.differing:,} of those read otherwise there, and stay as they are here"
        typer.echo(f"{told}.")


def opened_run(source: Path, into: Path | None) -> Path:
    """Make a run of a bundle and say what came of it; return its directory.

    Raises:
        BundleError: It is no bundle to be trusted, or the directory exists.
        RunStorageError: The disk refuses.
    """
    if not source.is_file():
        raise BundleError(f"There is no file {source}: name a bundle.")
    target = into or Path(DEFAULT_RUNS) / source.stem
    if is_run(target):
        raise BundleError(
            f"{target} holds a run already: look at it with `python -m dashboard serve {target}`, take in its reviews "
            f"with `python -m dashboard merge {target} {source}`, or name a new directory with --into."
        )
    made: Path | None = None
    if into is None and not target.parent.exists():
        with storage_errors(target.parent.absolute().parent):
            target.parent.mkdir()
        made = target.parent
    try:
        with told_progress("Opening the bundle") as progress:
            opened = open_bundle(source, target, progress=progress)
    except BaseException:
        if made is not None and not any(made.iterdir()):
            made.rmdir()
        raise
    parts = [f"{opened.samples:,} samples"]
    if opened.originals:
        parts.append(f"{opened.originals:,} originals")
    if opened.reviews.added:
        parts.append(f"{opened.reviews.added:,} reviews")
    typer.echo(f"{target} holds the run: {', '.join(parts)}.")
    return target


def read_filter(text: str, manifest: Manifest) -> Filter:
    """Read a filter as links hold it, or out of a whole link.

    Raises:
        FilterError: It is none, or names something that the run does not have.
    """
    if text.startswith(("http://", "https://")):
        text = parse_qs(urlsplit(text).query).get("filter", [""])[-1]
    chosen = Filter.from_param(text)
    compile_filter(chosen, manifest)
    return chosen


def refuse_empty(manifest: Manifest, run: Location) -> None:
    """Refuse a run without samples.

    Raises:
        BundleError: It has none.
    """
    if not manifest.rows("samples"):
        raise BundleError(
            f"{run} has no samples yet: run the `explain` command that started it again to fill it."
        )


def size_text(size: int) -> str:
    """Write a number of bytes as people read it."""
    amount = float(size)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"


@contextmanager
def told_progress(title: str) -> Iterator[Progress]:
    """Show how far something is, with the time left, on a terminal; a file or a pipe gets nothing of it."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with typer.progressbar(length=1000, label=title, file=sys.stderr) as shown:
        at = 0

        def progress(done: int, total: int) -> None:
            nonlocal at
            now = round(1000 * done / max(total, 1))
            shown.update(now - at)
            at = now

        yield progress
