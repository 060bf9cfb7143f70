"""Command line of the dashboard: ``python -m dashboard serve``, and the commands that hand an audit on."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Annotated

import typer

from cache.command_line import run_command
from cache.errors import ConfigError
from cache.locations import Location, Url, located
from cache.run import find_runs
from dashboard import preload
from dashboard.configuration import CONFIG_VARIABLE, configuration_path, read_configuration
from dashboard.data import DEFAULT_RUNS, RUNS_VARIABLE
from dashboard.index_building import BUILD_VARIABLE
from dashboard.index_command import index
from dashboard.originals import FETCH_VARIABLE
from dashboard.sharing import add_commands

LOOPBACK = "127.0.0.1"
APP = Path(__file__).resolve().parent / "app.py"
FIRST_PAGES = ("overview", "findings", "browse", "region", "methods", "reviews")
"""Pages that can be begun with, by the paths of their addresses; Streamlit is imported late, so that mistakes are told at once."""
_START_SECONDS = 30

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Shows what image classifiers look at.",
)


@cli.callback()
def main() -> None:
    """Show what image classifiers look at."""


@cli.command()
def serve(
    runs_dir: Annotated[
        str | None,
        typer.Argument(
            help="A folder of runs or one run, or the URL of either (s3://…).", show_default=DEFAULT_RUNS
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen on; anything but the default lets other machines in.")
    ] = LOOPBACK,
    page: Annotated[str, typer.Option(help=f"Page to begin with: {', '.join(FIRST_PAGES)}.")] = "overview",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Who may look and review, and where reviews go (TOML).",
            show_default="gazelake.toml beside the runs",
        ),
    ] = None,
    fetch_originals: Annotated[
        bool,
        typer.Option(
            "--fetch-originals",
            help="Let the server fetch originals at the http, https and s3 addresses that a run names; for runs you trust.",
        ),
    ] = False,
    build_index: Annotated[
        bool,
        typer.Option(
            "--index/--no-index",
            help="Build the index of a large run that has none, in the background when it is first looked at.",
        ),
    ] = True,
) -> None:
    """Open the dashboard over a folder of runs, for this machine only unless --address says otherwise."""
    folder = checked_folder(None if runs_dir is None else located(runs_dir))
    path = checked_page(page)
    check_configuration(folder, config)
    check_port(address, port)
    if fetch_originals:
        os.environ[FETCH_VARIABLE] = "1"
    if build_index:
        os.environ[BUILD_VARIABLE] = "1"
    serve_folder(folder, port, address, browser, path)


def serve_folder(folder: Location, port: int, address: str, browser: bool, page: str = "") -> None:
    """Serve a folder until somebody ends it, and open the page once it answers where that is wanted."""
    shown = LOOPBACK if address in ("0.0.0.0", "::") else address
    prefix = os.environ.get("STREAMLIT_SERVER_BASE_URL_PATH", "").strip("/")
    url = "/".join(part for part in (f"http://{shown}:{port}", prefix, page) if part)
    typer.echo(f"Gazelake shows {folder} at {url} (Ctrl-C ends it).")
    os.environ[RUNS_VARIABLE] = str(folder.absolute())
    if browser:
        Thread(target=_open_when_ready, args=(url, shown, port), daemon=True).start()
    _run_streamlit(address, port)


def checked_folder(runs_dir: Location | None) -> Location:
    """Return the folder to serve; the default one may be missing, since the page says how to fill it.

    Raises:
        ConfigError: It does not exist, is not a folder, or is a URL whose package is not installed.
        RunStorageError: It is a URL whose store denies it, or cannot be reached.
    """
    if runs_dir is None:
        runs_dir = located(os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS)
        if not isinstance(runs_dir, Url):
            return runs_dir.absolute()
    if isinstance(runs_dir, Url):
        find_runs(runs_dir)
        return runs_dir
    if not os.path.exists(runs_dir):  # which takes names that are too long, too
        raise ConfigError(
            f"{runs_dir} does not exist: name a folder of runs, or make a run there with `python -m engine explain --out`."
        )
    if not runs_dir.is_dir():
        raise ConfigError(f"{runs_dir} is a file: name the folder that holds the runs, or one run's folder.")
    return runs_dir.absolute()


def checked_page(name: str) -> str:
    """Return the path of a page's address; the first page's is empty.

    Raises:
        ConfigError: There is no such page.
    """
    if name not in FIRST_PAGES:
        raise ConfigError(f"There is no page {name!r}: choose {', '.join(FIRST_PAGES)} with --page.")
    return "" if name == FIRST_PAGES[0] else name


def check_configuration(folder: Location, config: Path | None) -> None:
    """Check the configuration before anything is served, and have the pages read the one that is named.

    Raises:
        ConfigError: It cannot be used.
    """
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    path = configuration_path(folder)
    if path is not None:
        read_configuration(path)


def check_port(address: str, port: int) -> None:
    """Check that the port is free.

    Raises:
        ConfigError: It is no port, in use, or the address is not this machine's.
    """
    if not 1 <= port <= 65_535:
        raise ConfigError(f"{port} is not a port: choose one from 1 to 65535 with --port.")
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except (OSError, IndexError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"Port {port} at {address} cannot be used ({reason}): choose another with --port, or end what uses it."
        ) from error


def _open_when_ready(url: str, host: str, port: int) -> None:
    end = monotonic() + _START_SECONDS
    while monotonic() < end:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            sleep(0.2)
        else:
            webbrowser.open(url)
            return


def _run_streamlit(address: str, port: int) -> None:
    from streamlit.web import cli as streamlit_cli

    preload.start()
    sys.argv = [
        "streamlit", "run", str(APP), f"--server.address={address}", f"--server.port={port}",
        "--server.headless=true", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false",
    ]  # fmt: skip
    streamlit_cli.main()


add_commands(cli, serve_folder, check_port, LOOPBACK)
cli.command()(index)


if __name__ == "__main__":
    program = "python -m dashboard"
    run_command(lambda: cli(standalone_mode=False, prog_name=program), program)
