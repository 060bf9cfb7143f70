"""Bytes from local paths and fsspec URLs, with failures told apart."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, cast

from engine.images import SampleError

NOT_A_FILE = (IsADirectoryError, NotADirectoryError)


class ReadError(SampleError):
    """A file of a dataset cannot be read: kinds gone, unreadable, empty."""

    stage = "read"


def is_url(location: str) -> bool:
    """Tell an fsspec URL (``s3://…``, ``memory://…``, ``file://…``) from a local path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


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


@lru_cache(maxsize=64)
def _filesystem(protocol: str) -> Any:
    import fsspec

    return fsspec.filesystem(protocol)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path within it.

    Raises:
        ImportError, ValueError: the protocol needs a package that is not installed, or does not exist.
    """
    fs = _filesystem(url.partition("://")[0])
    return fs, str(fs._strip_protocol(url))


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
            data = cast("bytes", fs.cat_file(path))
        else:
            data = _read_local(location)
    except FileNotFoundError as error:
        raise ReadError("gone", f"There is no file at {location}.") from error
    except PermissionError as error:
        raise ReadError("unreadable", f"The file {location} may not be read: permission denied.") from error
    except NOT_A_FILE as error:
        raise ReadError("unreadable", f"{location} is not a file.") from error
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
