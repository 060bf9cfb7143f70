"""Objects of a store by their keys: fsspec's calls, asked patiently, and conditional writes where the store knows them."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cache.errors import RunStorageError
from cache.locations import Url, filesystem
from cache.retrying import patiently, refusal

STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory")
"""Schemes of stores in which an object appears whole or not at all: what a run's publication rests on."""
CONDITIONAL = ("s3", "s3a")
"""Schemes whose writes may name the object that they replace."""
MANY = 16
"""Requests under way at once."""
TAGS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "mtime", "created", "LastModified", "size")
"""What a store tells of an object; the first that it has, or all others together, tell its versions apart."""
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


class ReplacedError(Exception):
    """An object is no longer the one that was to be replaced, or is there where none was expected."""


class Objects:
    """The objects below a URL; safe between threads."""

    def __init__(self, place: Url) -> None:
        """Name the place.

        Raises:
            ConfigError: The protocol is unknown, or its package is not installed.
        """
        self.place = place
        self.fs, self.root = filesystem(place.text)
        self._conditional = place.scheme in CONDITIONAL

    def path(self, name: str) -> str:
        """Return what fsspec calls an object."""
        return f"{self.root}/{name}"

    def info(self, name: str) -> dict[str, Any] | None:
        """Return what is known of an object, None where there is none (raises RunStorageError)."""
        try:
            found: dict[str, Any] = patiently(lambda: self.fs.info(self.path(name)))
        except FileNotFoundError:
            return None
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error
        return found if found.get("type") == "file" else None

    def sizes(self, names: list[str]) -> list[int]:
        """Return the sizes of objects, −1 for those that are not there; nothing is listed (raises RunStorageError)."""

        def size(name: str) -> int:
            found = self.info(name)
            return -1 if found is None else int(found["size"])

        with ThreadPoolExecutor(MANY) as pool:
            return list(pool.map(size, names))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, or some of them (raises FileNotFoundError, RunStorageError)."""
        try:
            return bytes(patiently(lambda: cat(self.fs, self.path(name), start, end)))
        except FileNotFoundError:
            raise
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error

    def download(self, name: str, target: Path) -> None:
        """Write an object's bytes to a local file (raises FileNotFoundError, OSError of the disk, RunStorageError)."""
        try:
            patiently(lambda: self.fs.get_file(self.path(name), str(target)))
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
            raise refusal(self.place, error) from error
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error

    def upload(self, name: str, source: Path, size: int) -> None:
        """Put a local file, and look that it is there as a whole (raises RunStorageError)."""
        try:
            patiently(lambda: self.fs.put_file(str(source), self.path(name)))
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error
        found = self.info(name)
        if found is None or int(found["size"]) != size:
            raise RunStorageError(
                f"{self.place} did not keep {name} as it was written: check the service, then run the same command again; "
                "what was published is kept."
            )

    def tag(self, name: str) -> str | None:
        """Return what tells the versions of an object apart, None where there is none (raises RunStorageError)."""
        found = self.info(name)
        return None if found is None else _tag(found)

    def write(self, name: str, data: bytes, expected: str | None) -> str:
        """Write a small object in place of the version that has a tag, or where there is none.

        Args:
            name: The object.
            data: Its bytes, which nobody else writes.
            expected: Tag of the version to replace; None where there must be none.

        Returns:
            The tag of what was written.

        Raises:
            ReplacedError: Another version is there.
            RunStorageError: The store denies it, or cannot be reached.
        """
        try:
            return patiently(lambda: self._write(name, data, expected))
        except ReplacedError:
            # A store may have taken what it had to be sent again.
            if self._holds(name, data):
                return self.tag(name) or ""
            raise
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error

    def _write(self, name: str, data: bytes, expected: str | None) -> str:
        path = self.path(name)
        try:
            if expected is None:
                told = self.fs.pipe_file(path, data, mode="create")
            elif self._conditional:
                told = self.fs.pipe_file(path, data, IfMatch=expected)
            else:
                if self.tag(name) != expected:
                    raise ReplacedError(name)
                told = self.fs.pipe_file(path, data)
        except FileExistsError as error:
            raise ReplacedError(name) from error
        except FileNotFoundError as error:
            if expected is None or not self._conditional:
                raise
            raise ReplacedError(name) from error
        except OSError as error:
            if _precondition(error):
                raise ReplacedError(name) from error
            if error.errno == errno.ENOSYS and expected is not None and self._conditional:
                self._conditional = False  # a store that speaks S3, but not this word of it
                return self._write(name, data, expected)
            raise
        return _tag(told) if isinstance(told, dict) and told.get("ETag") else self.tag(name) or ""

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name) == data
        except FileNotFoundError:
            return False

    def delete(self, name: str) -> None:
        """Delete an object; one that stays is deleted by a later writer."""
        try:
            self.fs.rm_file(self.path(name))
        except Exception:  # each store has its own errors, and none of them matters
            return

    def listed(self, folder: str = "") -> list[tuple[str, dict[str, Any]]]:
        """Return the objects below a folder that a listing shows, by name (raises RunStorageError)."""
        base = self.path(folder).rstrip("/")
        try:
            found = patiently(lambda: self.fs.find(base, detail=True))
        except FileNotFoundError:
            return []
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error
        start = len(self.root) + 1
        return [(str(path)[start:], told) for path, told in found.items() if told.get("type") == "file"]

    def folders(self) -> list[str]:
        """Return the names of the folders that a listing shows (raises RunStorageError)."""
        try:
            found = patiently(lambda: self.fs.ls(self.root, detail=True))
        except FileNotFoundError:
            return []
        except Exception as error:  # each store has its own errors
            raise refusal(self.place, error) from error
        return sorted(
            str(one["name"]).rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory"
        )


def cat(fs: Any, path: str, start: int | None = None, end: int | None = None) -> Any:
    """Return an object's bytes, or some of them, by one request: some filesystems would ask for its size first."""
    told = _cat_options(fs.__class__) if start is None and end is None else {}
    return fs.cat_file(path, start=start, end=end, **told)


@lru_cache(maxsize=16)
def _cat_options(kind: Hashable) -> dict[str, Any]:
    call = getattr(kind, "_cat_file", None)
    return {"max_concurrency": 1} if call and "max_concurrency" in inspect.signature(call).parameters else {}


def age(told: dict[str, Any]) -> float:
    """Return how many seconds ago an object was written, by what a listing tells; 0 where it does not."""
    at = next((told[key] for key in _TIMES if told.get(key)), None)
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            return 0.0
    if isinstance(at, int | float):
        at = datetime.fromtimestamp(at, UTC)
    if not isinstance(at, datetime):
        return 0.0
    return (datetime.now(UTC) - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds()


def _tag(told: dict[str, Any]) -> str:
    if told.get("ETag"):
        return str(told["ETag"])
    return " ".join(str(told[key]) for key in TAGS if told.get(key) is not None)


def _precondition(error: OSError) -> bool:
    """Tell whether a store refused because another version is there."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code in ("PreconditionFailed", "412")
