"""Bytes from local paths and fsspec URLs, with failures told apart."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import cast

from cache.errors import ConfigError, DatasetError
from cache.locations import filesystem, is_url
from cache.objects import STORES, cat
from cache.retrying import patiently
from engine.images import SampleError

__all__ = ["ReadError", "filesystem", "is_url"]

NOT_A_FILE = (IsADirectoryError, NotADirectoryError)


class ReadError(SampleError):
    """A file of a dataset cannot be read: kinds gone, unreadable, empty."""

    stage = "read"


def join(root: str, relative: str) -> str:
    """Return where a relative POSIX path lies below a root; URLs and absolute paths stay as they are."""
    if not root or is_url(relative) or os.path.isabs(relative):
        return relative
    return f"{root.rstrip('/') or '/'}/{relative}" if is_url(root) else os.path.join(root, relative)


def parent(location: str) -> str:
    """Return the folder that holds a file."""
    if is_url(location):
        scheme, _, path = location.partition("://")
        return f"{scheme}://{PurePosixPath(path).parent}"
    return str(Path(location).parent)


def look_at(url: str) -> None:
    """Look at a URL before anything is read: what is missing or denied is said as what it is.

    Raises:
        DatasetError: its package is not installed, there is no such protocol, or the object store denies it or cannot be
            reached.
    """
    try:
        fs, path = filesystem(url)
    except ConfigError as error:
        raise DatasetError(str(error)) from error
    if url.partition("://")[0] not in STORES:
        return  # what a web server says about a folder means nothing
    try:
        patiently(lambda: fs.info(path))
    except FileNotFoundError:
        return
    except Exception as error:  # each remote filesystem has its own errors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(". ")
        what = "may not be read" if isinstance(error, PermissionError) else "cannot be reached"
        raise DatasetError(
            f"The dataset {url} {what} ({reason}): check the address, the credentials and the network."
        ) from error


def exists(location: str) -> bool:
    """Tell whether anything lies at a path or URL; whatever prevents the look counts as no."""
    try:
        if not is_url(location):
            return os.path.exists(location)
        fs, path = filesystem(location)
        return bool(fs.exists(path))
    except Exception:  # each remote filesystem has its own errors
        return False


def is_folder(location: str) -> bool:
    """Tell whether a folder lies at a path or URL."""
    try:
        if not is_url(location):
            return os.path.isdir(location)
        fs, path = filesystem(location)
        return bool(fs.isdir(path))
    except Exception:  # each remote filesystem has its own errors
        return False


def _read_local(location: str) -> bytes:
    # A pipe or a device would never end; opening without blocking and asking first lets a person still stop the work.
    descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IsADirectoryError
        return file.read()


def read_bytes(location: str) -> bytes:
    """Return a file's bytes.

    Raises:
        ReadError: gone, unreadable, or empty.
    """
    try:
        if is_url(location):
            fs, path = filesystem(location)
            data = cast("bytes", patiently(lambda: cat(fs, path)))
        else:
            data = _read_local(location)
    except FileNotFoundError as error:
        raise ReadError("gone", f"There is no file at {location}.") from error
    except PermissionError as error:
        raise ReadError("unreadable", f"The file {location} may not be read: permission denied.") from error
    except NOT_A_FILE as error:
        raise ReadError("unreadable", f"{location} is not a file.") from error
    except ConfigError:
        raise
    except Exception as error:  # each remote filesystem has its own errors
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
        raise ReadError("unreadable", f"The file {location} cannot be read: {reason}.") from error
    if not data:
        raise ReadError("empty", f"The file {location} has no bytes.")
    return data


def parse_problem(error: ValueError | RecursionError) -> str:
    """Return why a parser of TOML or JSON refuses a text, in words for a sentence."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if "integer string conversion" in str(error):
        return "it holds a number of thousands of digits"
    return " ".join(str(error).split()).rstrip(".")


def is_text(value: str) -> bool:
    """Tell whether a text can be written down; file names may hold bytes that are no characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
