"""A run on disk, opened for reading: the manifest and the files it names."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cache.errors import RunNotFoundError
from cache.manifest import MANIFEST_NAME, Manifest
from cache.parts import digest

LOCK_NAME = ".lock"
Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Return what changes whenever ``run.json`` is replaced, or None where there is none."""
    try:
        stat = os.stat(path / MANIFEST_NAME)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class Run:
    """One generation of a run: a consistent set of parts that no later publication alters.

    Attributes:
        path: The run's directory.
        manifest: Its manifest as it was when opened.
        damaged: Parts (``table/name``) that the manifest names but that are missing or of another size;
            they are left out of `part_paths`, and the same `explain` command computes them again.
    """

    def __init__(self, path: Path, manifest: Manifest, opened: Signature | None) -> None:
        self.path = path
        self.manifest = manifest
        self._signature = opened
        self.damaged = [
            f"{table}/{part.name}"
            for table, parts in manifest.parts.items()
            for part in parts
            if _size(path / table / part.name) != part.bytes
        ]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open the newest generation of a run.

        Raises:
            RunNotFoundError: There is no run at that path.
            RunSchemaError: Another schema version wrote it.
            RunDamagedError: The manifest cannot be read.
        """
        folder = Path(path)
        opened = signature(folder)
        try:
            text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "holds no run" if folder.is_dir() else "does not exist"
            raise RunNotFoundError(
                f"{folder} {what}: start one with `python -m engine explain --data DATA --model MODEL --out {folder}`."
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise RunNotFoundError(
                f"{folder}/{MANIFEST_NAME} cannot be read ({error}): check the disk and the permissions."
            ) from error
        return cls(folder, Manifest.from_json(text, str(folder)), opened)

    def part_paths(self, table: str) -> list[str]:
        """Return the paths of a table's published parts, in the order of publication, without damaged ones."""
        damaged = set(self.damaged)
        return [
            str(self.path / table / part.name)
            for part in self.manifest.parts.get(table, [])
            if f"{table}/{part.name}" not in damaged
        ]

    def verify(self) -> list[str]:
        """Return the damaged parts, those included that have the right size but other bytes: reads every byte."""
        found = list(self.damaged)
        for table, parts in self.manifest.parts.items():
            for part in parts:
                name = f"{table}/{part.name}"
                if name not in self.damaged and digest(self.path / table / part.name) != part.sha256:
                    found.append(name)
        return found

    def exists(self) -> bool:
        """Tell whether the run is still there."""
        return signature(self.path) is not None

    def is_current(self) -> bool:
        """Tell whether no newer generation has been published since this one was opened."""
        return signature(self.path) == self._signature

    def is_being_written(self) -> bool:
        """Tell whether a process holds the writer's lock right now."""
        try:
            with open(self.path / LOCK_NAME, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def is_run(path: Path) -> bool:
    """Tell whether a directory holds a manifest."""
    return (path / MANIFEST_NAME).is_file()


def find_runs(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the runs at a folder, below it and one level deeper, sorted by path; empty where it does not exist."""
    root = Path(folder)
    if is_run(root):
        return [root]
    found = [path.parent for pattern in ("*/", "*/*/") for path in root.glob(pattern + MANIFEST_NAME)]
    return sorted(found)
