"""Datasets in several large files: which files a pattern or a folder means, and ranges of them, local or at a URL."""

from __future__ import annotations

import io
import os
import re
from typing import IO, cast

from cache.errors import DatasetError
from cache.locations import filesystem, is_url
from cache.ranges import Ranges
from cache.retrying import patiently
from engine.files import ReadError

MOST_FILES = 100_000
BLOCK = 1 << 20
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def expand(pattern: str) -> list[str]:
    """Return what a pattern of braces stands for: ``{000..012}`` numbers, ``{a,b}`` alternatives, also several of them.

    Raises:
        DatasetError: It stands for too many files.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    if found[3] is None:
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= MOST_FILES:
            raise DatasetError(
                f"{pattern} stands for more than {MOST_FILES:,} files: name fewer, or their folder."
            )
        step = 1 if last >= first else -1
        width = len(found[1]) if found[1].startswith("0") else 0
        words = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        words = found[3].split(",")
    expanded: list[str] = []
    for word in words:
        expanded += expand(pattern[: found.start()] + word + pattern[found.end() :])
        if len(expanded) > MOST_FILES:
            raise DatasetError(
                f"{pattern} stands for more than {MOST_FILES:,} files: name fewer, or their folder."
            )
    return expanded


def listed(folder: str, suffix: str) -> list[str]:
    """Return the files of a folder with an ending, sorted; none where it cannot be listed."""
    try:
        if not is_url(folder):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        else:
            fs, path = filesystem(folder)
            told = patiently(lambda: fs.ls(path, detail=True))
            names = [str(one["name"]).rpartition("/")[2] for one in told if one["type"] == "file"]
    except Exception:  # each remote filesystem has its own errors
        return []
    chosen = sorted(name for name in names if name.lower().endswith(suffix) and not name.startswith("."))
    return [f"{folder.rstrip('/')}/{name}" for name in chosen]


def file_size(location: str) -> int:
    """Return a file's size, −1 where there is none.

    Raises:
        DatasetError: Its URL cannot be asked.
    """
    if not is_url(location):
        return os.path.getsize(location) if os.path.isfile(location) else -1
    fs, path = filesystem(location)
    try:
        told = patiently(lambda: fs.info(path))
    except FileNotFoundError:
        return -1
    except Exception as error:  # each remote filesystem has its own errors
        raise DatasetError(f"{location} cannot be reached: {str(error).rstrip('.')}.") from error
    return int(told["size"] or 0) if told.get("type") == "file" else -1


def read_range(location: str, start: int, size: int) -> bytes:
    """Return some bytes of a file, fewer where it ends before (raises ReadError)."""
    try:
        if is_url(location):
            fs, path = filesystem(location)
            return cast("bytes", patiently(lambda: fs.cat_file(path, start=start, end=start + size)))
        with open(location, "rb") as file:
            return os.pread(file.fileno(), size, start)
    except FileNotFoundError as error:
        raise ReadError("gone", f"There is no file at {location} any more.") from error
    except Exception as error:  # each remote filesystem has its own errors
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
        raise ReadError("unreadable", f"The file {location} cannot be read: {reason}.") from error


def ranges(location: str, size: int) -> Ranges:
    """Return a file at a URL of which ranges are read."""
    fs, path = filesystem(location)
    return Ranges(
        location, size, lambda start, end: patiently(lambda: fs.cat_file(path, start=start, end=end))
    )


def open_file(location: str) -> IO[bytes]:
    """Open a file to be read here and there; of one at a URL, blocks of a megabyte (raises OSError)."""
    if not is_url(location):
        return open(location, "rb")
    size = file_size(location)
    if size < 0:
        raise FileNotFoundError(location)
    return cast("IO[bytes]", io.BufferedReader(ranges(location, size), BLOCK))
