"""What a run is kept on: a directory of a local disk, or below a URL of an object store.

Everything that reads or writes a run's files goes through a `Storage`, so that the rest knows one kind of run. What a
storage promises:

- a part is there as a whole under its final name, or not at all;
- the manifest is replaced in one step, and by its writer alone;
- nothing else is ever altered, and only files with the names of parts are deleted.
"""

from __future__ import annotations

import fcntl
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, ClassVar, Protocol, TypeAlias

from cache.disk import TEMPORARY_SUFFIX, digest, replace_file, storage_errors, sync_folder
from cache.errors import RunBusyError, RunStorageError
from cache.locations import Location, Url, located
from cache.manifest import MANIFEST_NAME, Part

LOCK_NAME = ".lock"
PLAIN_TABLES = (
    "samples",
    "thumbnails",
    "embeddings",
    "errors",
    "agreement",
    "findings",
    "groups",
    "projections",
)
OWN_TABLE = re.compile("|".join(PLAIN_TABLES) + "|attributions/[a-z][a-z0-9_]*")
OWN_NAME = re.compile(
    r"part-[0-9a-f]{16}\.parquet|\.part-[0-9a-f]{16}\.parquet" + re.escape(TEMPORARY_SUFFIX)
)
"""Names of parts, finished and half-written; nothing else is ever deleted."""
Signature: TypeAlias = tuple[str | int, ...]
"""What changes whenever a manifest is replaced."""


class Lock(Protocol):
    """The writer's lock, held from when it is taken until it is closed."""

    def check(self) -> None:
        """Make sure that it is still held (raises RunBusyError)."""

    def close(self) -> None:
        """Release it."""


class Storage(ABC):
    """The files of one run; safe between threads, and made anew from its place in another process.

    Attributes:
        place: Where the run lies, as people write it.
        remote: Its files are not paths of this machine.
        garbage_age: Files of nobody's are deleted once they are so old: others may be about to name younger ones.
    """

    place: Location
    remote: ClassVar[bool]
    garbage_age: ClassVar[timedelta] = timedelta(0)

    @abstractmethod
    def signature(self) -> Signature | None:
        """Return what changes whenever the manifest is replaced, or None where there is none."""

    @abstractmethod
    def holds_run(self) -> bool:
        """Tell whether there is a manifest (raises RunStorageError where an object store does not say)."""

    @abstractmethod
    def changed(self) -> float:
        """Return when the manifest was replaced, in seconds of the epoch; 0 where that cannot be told."""

    @abstractmethod
    def read_manifest(self) -> bytes:
        """Return the manifest (raises OSError, FileNotFoundError where there is none)."""

    @abstractmethod
    def replace_manifest(self, data: bytes) -> None:
        """Replace the manifest in one step (raises RunStorageError; RunBusyError where another writer did so first)."""

    @abstractmethod
    def sizes(self, names: Sequence[str]) -> list[int]:
        """Return the sizes of files by their names below the run, −1 for one that is not there."""

    @abstractmethod
    def fetch(self, table: str, part: Part) -> Path:
        """Return a local file with a part's bytes (raises OSError, RunDamagedError, RunStorageError)."""

    def fetch_all(self, table: str, parts: Sequence[Part]) -> list[Path]:
        """Return local files of several parts (raises as `fetch` does)."""
        return [self.fetch(table, part) for part in parts]

    @abstractmethod
    def source(self, table: str, part: Part) -> Any:
        """Return what PyArrow reads some rows of a part from: a path, or a file whose ranges are read."""

    @abstractmethod
    def is_whole(self, table: str, part: Part, fresh: bool = False) -> bool:
        """Tell whether a part's bytes are those that the manifest names; fresh: those that lie there this moment."""

    @abstractmethod
    def is_being_written(self) -> bool:
        """Tell whether a process holds the writer's lock right now."""

    @abstractmethod
    def prepare(self) -> None:
        """Get ready to write; refuse a place that holds something else (raises RunStorageError)."""

    @abstractmethod
    def lock(self) -> Lock:
        """Take the writer's lock (raises RunBusyError, RunStorageError)."""

    @abstractmethod
    def spool(self, table: str, name: str) -> Path:
        """Return the local file that a part is written to before `put` (raises RunStorageError)."""

    @abstractmethod
    def put(self, table: str, part: Part, spooled: Path) -> None:
        """Put a finished file under its final name, whole or not at all (raises RunStorageError)."""

    @abstractmethod
    def delete(self, table: str, name: str) -> None:
        """Delete a part; one that is not there is no mistake."""

    @abstractmethod
    def own_files(self) -> Iterator[tuple[str, str, float]]:
        """Yield table, name and age in seconds of every file that is called as parts are, finished or not."""


class LocalStorage(Storage):
    """A directory of a local disk."""

    remote = False

    def __init__(self, path: Path) -> None:
        self.place: Path = path

    def signature(self) -> Signature | None:
        """Return inode, time and size of the manifest."""
        try:
            stat = os.stat(self.place / MANIFEST_NAME)
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def holds_run(self) -> bool:
        """Look for the file."""
        return (self.place / MANIFEST_NAME).is_file()

    def changed(self) -> float:
        """Ask the file."""
        try:
            return os.stat(self.place / MANIFEST_NAME).st_mtime
        except OSError:
            return 0.0

    def read_manifest(self) -> bytes:
        """Return the manifest."""
        return (self.place / MANIFEST_NAME).read_bytes()

    def replace_manifest(self, data: bytes) -> None:
        """Write another file, and rename it."""
        with storage_errors(self.place):
            replace_file(self.place / MANIFEST_NAME, data)

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Ask the directory."""
        return [_size(self.place / name) for name in names]

    def fetch(self, table: str, part: Part) -> Path:
        """Return the part itself."""
        return self.place / table / part.name

    def source(self, table: str, part: Part) -> str:
        """Return the part's path."""
        return str(self.place / table / part.name)

    def is_whole(self, table: str, part: Part, fresh: bool = False) -> bool:
        """Read every byte."""
        try:
            return digest(self.place / table / part.name) == part.sha256
        except FileNotFoundError:
            return False

    def is_being_written(self) -> bool:
        """Try the lock."""
        try:
            with open(self.place / LOCK_NAME, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def prepare(self) -> None:
        """Make the directory; refuse one that holds something else, before anything is written into it."""
        path = self.place
        with storage_errors(path):
            if path.exists() and not path.is_dir():
                raise RunStorageError(f"{path} is a file: name a directory for the run with --out.")
            entries = list(path.iterdir()) if path.is_dir() else []
        if any(not entry.name.startswith(".") for entry in entries) and not self.holds_run():
            raise RunStorageError(
                f"{path} is not empty and holds no run: name a new directory for the run with --out."
            )
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)

    def lock(self) -> Lock:
        """Lock a file; the system releases it when the process ends, however it ends."""
        with storage_errors(self.place):
            file = open(self.place / LOCK_NAME, "ab")  # noqa: SIM115 - held as long as the writer lives
        deadline = monotonic() + 2.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return _FileLock(file)
            except BlockingIOError as error:
                # A reader that asks whether the run is being written holds the lock for an instant.
                if monotonic() < deadline:
                    sleep(0.05)
                    continue
                file.close()
                raise RunBusyError(
                    f"Another process is writing {self.place}: wait for it or stop it, then run the same command again."
                ) from error

    def spool(self, table: str, name: str) -> Path:
        """Return a temporary name beside the final one."""
        folder = self.place / table
        with storage_errors(self.place):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
                sync_folder(self.place)
        return folder / f".{name}{TEMPORARY_SUFFIX}"

    def put(self, table: str, part: Part, spooled: Path) -> None:
        """Rename the file."""
        folder = self.place / table
        with storage_errors(folder):
            os.replace(spooled, folder / part.name)
            sync_folder(folder)

    def delete(self, table: str, name: str) -> None:
        """Unlink the file."""
        (self.place / table / name).unlink(missing_ok=True)

    def own_files(self) -> Iterator[tuple[str, str, float]]:
        """Look into the tables' folders; nobody but the writer puts anything there, so that age says nothing."""
        for table in (*PLAIN_TABLES, "attributions/*"):
            for pattern in ("*", ".*"):
                for path in self.place.glob(f"{table}/{pattern}"):
                    if OWN_NAME.fullmatch(path.name):
                        yield path.parent.relative_to(self.place).as_posix(), path.name, 0.0


class _FileLock:
    """An open file that is locked."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def check(self) -> None:
        """Nobody else can take it."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def storage_at(place: str | os.PathLike[str] | Url) -> Storage:
    """Return the storage of a run by its path or URL.

    Raises:
        ConfigError: The URL's protocol is unknown, or its package is not installed.
    """
    where = located(place)
    if isinstance(where, Url):
        from cache.bucket import BucketStorage

        return BucketStorage(where)
    return LocalStorage(where)
