"""A file of which only the ranges that are asked for are fetched."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class Ranges(io.RawIOBase):
    """A file elsewhere, to be read here and there; equal to every other file of the same name."""

    def __init__(self, name: str, size: int, fetch: Callable[[int, int], bytes]) -> None:
        """Name it.

        Args:
            name: What tells it from other files, by which what was read of it may be remembered.
            size: Its bytes.
            fetch: Returns the bytes from one position to before another.
        """
        self._name, self._size, self._fetch, self._at = name, size, fetch, 0

    def __hash__(self) -> int:
        """Return what is the same for every file of this name."""
        return hash(self._name)

    def __eq__(self, other: object) -> bool:
        """Tell whether it is a file of the same name."""
        return isinstance(other, Ranges) and self._name == other._name

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fetch as much as fits (raises what fetching raises)."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._fetch(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
