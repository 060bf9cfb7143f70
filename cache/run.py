"""A run on disk, opened for reading: the manifest and the files it names."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

from cache.errors import RunDamagedError, RunNotFoundError
from cache.locations import Location, Url, located
from cache.manifest import MANIFEST_NAME, Manifest, Part
from cache.storage import Signature, Storage, storage_at

__all__ = ["Run", "Signature", "changed", "find_runs", "is_run", "signature"]


def signature(place: str | os.PathLike[str] | Url) -> Signature | None:
    """Return what changes whenever ``run.json`` is replaced, or None where there is none."""
    return storage_at(place).signature()


class Run:
    """One generation of a run: a consistent set of parts that no later publication alters.

    Attributes:
        path: The run's directory, or its URL.
        storage: Where its files are.
        manifest: Its manifest as it was when opened.
        damaged: Parts (``table/name``) that the manifest names but that are missing, of another size, or found to hold
            other bytes; they are left out of `part_paths`, and the same `explain` command computes them again.
    """

    def __init__(self, storage: Storage, manifest: Manifest, opened: Signature | None) -> None:
        self.path: Location = storage.place
        self.storage = storage
        self.manifest = manifest
        self._signature = opened
        self._fetching = Lock()
        named = [(f"{table}/{part.name}", part) for table, parts in manifest.parts.items() for part in parts]
        sizes = storage.sizes([name for name, _ in named])
        self.damaged = [name for (name, part), size in zip(named, sizes, strict=True) if size != part.bytes]

    @classmethod
    def open(cls, path: str | os.PathLike[str] | Url) -> Run:
        """Open the newest generation of a run.

        Raises:
            RunNotFoundError: There is no run at that path.
            RunSchemaError: Another schema version wrote it.
            RunDamagedError: The manifest cannot be read.
            RunStorageError: The object store that holds it denies it, or cannot be reached.
        """
        storage = storage_at(path)
        place = storage.place
        opened = storage.signature()
        try:
            text = storage.read_manifest().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            there = isinstance(place, Url) or place.is_dir()
            raise RunNotFoundError(
                f"{place} {'holds no run' if there else 'does not exist'}: start one with "
                f"`python -m engine explain --data DATA --model MODEL --out {place}`."
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunNotFoundError(
                f"{place}/{MANIFEST_NAME} cannot be read ({error}): check the disk and the permissions."
            ) from error
        return cls(storage, Manifest.from_json(text, str(place)), opened)

    def readable(self, table: str) -> list[Part]:
        """Return a table's published parts, in the order of publication, without damaged ones."""
        damaged = set(self.damaged)
        return [part for part in self.manifest.parts.get(table, []) if f"{table}/{part.name}" not in damaged]

    def part_paths(self, table: str) -> list[str]:
        """Return local files of a table's readable parts, in that order; parts of an object store are fetched.

        Raises:
            RunStorageError: The object store denies them, or cannot be reached.
        """
        with self._fetching:
            while True:
                parts = self.readable(table)
                try:
                    return [str(path) for path in self.storage.fetch_all(table, parts)]
                except RunDamagedError:
                    if not self._find_damaged(table, parts):
                        raise

    def part_sources(self, table: str) -> list[Any]:
        """Return what some rows of the same parts are read from: paths, or files of which only ranges are fetched."""
        return [self.storage.source(table, part) for part in self.readable(table)]

    def _find_damaged(self, table: str, parts: list[Part]) -> bool:
        """Leave out the parts that hold other bytes; tell whether there are any."""
        found = [f"{table}/{part.name}" for part in parts if not self.storage.is_whole(table, part)]
        self.damaged += found
        return bool(found)

    def verify(self, fresh: bool = False) -> list[str]:
        """Return the damaged parts, those included that have the right size but other bytes: reads every byte.

        Args:
            fresh: Read what lies there, also where parts of an object store have been fetched before.
        """
        found: list[str] = []
        for table, parts in self.manifest.parts.items():
            if not fresh:
                self.part_paths(table)  # fetches several at a time
            for part in parts:
                name = f"{table}/{part.name}"
                if name not in self.damaged and not self.storage.is_whole(table, part, fresh):
                    found.append(name)
        return [*self.damaged, *found]

    def exists(self) -> bool:
        """Tell whether the run is still there."""
        return self.storage.signature() is not None

    def is_current(self) -> bool:
        """Tell whether no newer generation has been published since this one was opened."""
        return self.storage.signature() == self._signature

    def is_being_written(self) -> bool:
        """Tell whether a process holds the writer's lock right now."""
        return self.storage.is_being_written()


def is_run(place: Location) -> bool:
    """Tell whether a manifest lies at a place (raises RunStorageError where an object store does not say)."""
    return storage_at(place).holds_run()


def changed(place: Location) -> float:
    """Return when a run was last published, in seconds of the epoch; 0 where that cannot be told."""
    return storage_at(place).changed()


def find_runs(folder: str | os.PathLike[str] | Url) -> list[Location]:
    """Return the runs at a folder, below it and one level deeper, sorted by path; empty where it does not exist."""
    root = located(folder)
    if is_run(root):
        return [root]
    if isinstance(root, Url):
        from cache.bucket import runs_below

        return list(runs_below(root))
    found = [path.parent for pattern in ("*/", "*/*/") for path in root.glob(pattern + MANIFEST_NAME)]
    return [*sorted(found)]
