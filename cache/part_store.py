"""A disposable folder of parts that were fetched from object stores, by the digest of their bytes.

Parts never change, so that what is there is right; whatever is deleted is fetched again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from uuid import uuid4

from cache.disk import TEMPORARY_SUFFIX, digest, storage_errors
from cache.errors import ConfigError, RunDamagedError
from cache.manifest import Part

FOLDER_VARIABLE = "GAZELAKE_CACHE"
SIZE_VARIABLE = "GAZELAKE_CACHE_GB"
DEFAULT_GB = 20.0
IN_USE = 600.0
"""Seconds that a part is left alone after it was asked for: a query may be reading it."""
ABANDONED = 86_400.0
"""Seconds after which a half-written file is nobody's any more."""
TOUCHED = 60.0


class PartStore:
    """Local copies of parts, least recently used ones deleted first; shared by processes.

    Attributes:
        folder: Where they lie.
        limit: Bytes that they may take, but for those in use.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self._since_trimmed = limit
        self._lock = Lock()

    def find(self, part: Part) -> Path | None:
        """Return the copy of a part; None where there is none."""
        path = self._path(part)
        try:
            stat = os.stat(path)
        except OSError:
            return None
        if stat.st_size != part.bytes:
            return None
        if time.time() - stat.st_mtime > TOUCHED:
            with suppress(OSError):
                os.utime(path)
        return path

    def spool(self, name: str) -> Path:
        """Return a name for a file that is being written (raises RunStorageError)."""
        folder = self.folder / "writing"
        with storage_errors(self.folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / f"{uuid4().hex[:8]}-{name}{TEMPORARY_SUFFIX}"

    def add(self, part: Part, fill: Callable[[Path], None]) -> Path:
        """Have a part written to a file and keep it.

        Raises:
            RunDamagedError: It is not the part that the manifest names.
            RunStorageError: The disk refuses.
        """
        spooled = self.spool(part.name)
        try:
            fill(spooled)
            with storage_errors(self.folder):
                if os.stat(spooled).st_size != part.bytes or digest(spooled) != part.sha256:
                    raise RunDamagedError(f"The part {part.name} holds other bytes than it should.")
            return self.adopt(part, spooled)
        finally:
            spooled.unlink(missing_ok=True)

    def adopt(self, part: Part, spooled: Path) -> Path:
        """Keep a file that holds a part's bytes (raises RunStorageError)."""
        path = self._path(part)
        with storage_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.replace(spooled, path)
        with self._lock:
            self._since_trimmed += part.bytes
            due = self._since_trimmed >= self.limit / 10
            self._since_trimmed = 0.0 if due else self._since_trimmed
        if due:
            self.trim()
        return path

    def forget(self, part: Part) -> None:
        """Delete the copy of a part."""
        self._path(part).unlink(missing_ok=True)

    def trim(self) -> None:
        """Delete what was used least recently until the rest is within the limit, and what killed writers left."""
        now = time.time()
        held = []
        for path in self.folder.glob("*/*/*"):
            with suppress(OSError):
                stat = os.stat(path)
                held.append((stat.st_mtime, stat.st_size, path))
        for path in self.folder.glob(f"writing/*{TEMPORARY_SUFFIX}"):
            with suppress(OSError):
                if now - os.stat(path).st_mtime > ABANDONED:
                    path.unlink()
        total = sum(size for _, size, _ in held)
        for used, size, path in sorted(held):
            if total <= self.limit or now - used < IN_USE:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
                path.parent.rmdir()

    def _path(self, part: Part) -> Path:
        return self.folder / part.sha256[:2] / part.sha256 / part.name


def part_store() -> PartStore:
    """Return the store that the environment names; by default one in the user's cache folder.

    Raises:
        ConfigError: The size is no number of gigabytes.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        folder = Path(named).expanduser().absolute()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gazelake"
    size = os.environ.get(SIZE_VARIABLE, str(DEFAULT_GB))
    try:
        limit = float(size)
        if not limit >= 0:
            raise ValueError(size)
    except ValueError as error:
        raise ConfigError(
            f"{SIZE_VARIABLE}={size} is no size: give the gigabytes that copies of parts may take, such as 20."
        ) from error
    return _store(folder, limit * 1e9)


@lru_cache(maxsize=8)
def _store(folder: Path, limit: float) -> PartStore:
    return PartStore(folder, limit)
