"""A local disk: its refusals as sentences, and files that a crash cannot split."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import RunStorageError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a disk's refusals into one sentence.

    Raises:
        RunStorageError: The disk is full, read-only, gone, or may not be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is full" if full else f"cannot be written ({error.strerror or error})"
        remedy = "free some space" if full else "check the disk and the permissions"
        raise RunStorageError(
            f"The disk that holds {folder} {what}: {remedy} and run the same command again; what was published is kept."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file's contents in one step that a crash cannot split."""
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
