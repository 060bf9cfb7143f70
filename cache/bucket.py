"""A run in an object store, by fsspec: parts are put whole under their final names, the manifest by one conditional write.

Nothing depends on a listing that shows what was just written: what the manifest names is asked for by name. Listings
find runs, and files of nobody's that are old enough to be deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Any, cast

from cache.errors import RunBusyError, RunDamagedError, RunStorageError
from cache.lease import Lease, is_held
from cache.locations import Url
from cache.manifest import MANIFEST_NAME, Part
from cache.objects import MANY, STORES, Objects, ReplacedError, age
from cache.part_store import part_store
from cache.ranges import Ranges
from cache.storage import LOCK_NAME, OWN_NAME, OWN_TABLE, Lock, Signature, Storage

CHUNK = 16 << 20


class BucketStorage(Storage):
    """The objects below a URL."""

    remote = True
    garbage_age = timedelta(hours=1)

    def __init__(self, place: Url) -> None:
        """Name the place.

        Raises:
            ConfigError: The protocol is unknown, or its package is not installed.
        """
        self.place: Url = place
        self._objects = Objects(place)
        self._store = part_store()
        self._tag: str | None = None

    def signature(self) -> Signature | None:
        """Return the manifest's tag; None also where the store does not answer."""
        try:
            tag = self._objects.tag(MANIFEST_NAME)
        except RunStorageError:
            return None
        return None if tag is None else (tag,)

    def holds_run(self) -> bool:
        """Ask for the manifest by name (raises RunStorageError)."""
        return self._objects.tag(MANIFEST_NAME) is not None

    def changed(self) -> float:
        """Ask the store."""
        try:
            told = self._objects.info(MANIFEST_NAME)
        except RunStorageError:
            return 0.0
        return 0.0 if told is None else time() - age(told)

    def read_manifest(self) -> bytes:
        """Return the manifest (raises FileNotFoundError, RunStorageError)."""
        return self._objects.read(MANIFEST_NAME)

    def replace_manifest(self, data: bytes) -> None:
        """Write it where the one that `lock` saw, or the last one written from here, still lies.

        Raises:
            RunStorageError: The store denies it, or cannot be reached.
            RunBusyError: Another writer has published meanwhile.
        """
        try:
            self._tag = self._objects.write(MANIFEST_NAME, data, self._tag)
        except ReplacedError as error:
            raise RunBusyError(
                f"Another process has published into {self.place} meanwhile: stop one of the two, then run the same command "
                "again; what was published is kept."
            ) from error

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Ask for each of them by name (raises RunStorageError)."""
        return self._objects.sizes(list(names))

    def fetch(self, table: str, part: Part) -> Path:
        """Return the local copy of a part, fetched where there is none."""
        found = self._store.find(part)
        return found or self._store.add(
            part, lambda target: self._objects.download(f"{table}/{part.name}", target)
        )

    def fetch_all(self, table: str, parts: Sequence[Part]) -> list[Path]:
        """Fetch several at once."""
        found = [self._store.find(part) for part in parts]
        if all(found):
            return cast("list[Path]", found)
        with ThreadPoolExecutor(MANY // 2) as pool:
            return list(pool.map(lambda part: self.fetch(table, part), parts))

    def source(self, table: str, part: Part) -> Any:
        """Return the local copy where there is one, else a file of ranges."""
        found = self._store.find(part)
        if found:
            return str(found)
        name = f"{table}/{part.name}"
        return Ranges(
            f"{self.place}/{name}", part.bytes, lambda start, end: self._objects.read(name, start, end)
        )

    def is_whole(self, table: str, part: Part, fresh: bool = False) -> bool:
        """Fetch the part and compare its bytes, or those that lie there now; forget a copy that is none any more."""
        try:
            if not fresh:
                self.fetch(table, part)
                return True
            name, seen = f"{table}/{part.name}", hashlib.sha256()
            for start in range(0, part.bytes, CHUNK):
                seen.update(self._objects.read(name, start, min(start + CHUNK, part.bytes)))
        except (RunDamagedError, FileNotFoundError):
            return False
        if seen.hexdigest() != part.sha256:
            self._store.forget(part)
            return False
        return True

    def is_being_written(self) -> bool:
        """Look at the lock."""
        try:
            return is_held(self._objects, LOCK_NAME)
        except RunStorageError:
            return False

    def prepare(self) -> None:
        """Refuse what is no object store, or a folder that holds something else."""
        if self.place.scheme not in STORES:
            raise RunStorageError(
                f"{self.place} cannot hold a run: only a local directory or an object store ({', '.join(STORES[:-1])}) shows "
                "files whole or not at all."
            )
        if not self.holds_run():
            foreign = [name for name, _ in self._objects.listed() if not _is_own(name)]
            if foreign:
                raise RunStorageError(
                    f"{self.place} is not empty and holds no run ({foreign[0][:80]} lies there): name a new place for the run "
                    "with --out."
                )

    def lock(self) -> Lock:
        """Take the lease, and remember which manifest lies there (raises RunBusyError, RunStorageError)."""
        lease = Lease(self._objects, LOCK_NAME)
        self._tag = self._objects.tag(MANIFEST_NAME)
        return lease

    def spool(self, table: str, name: str) -> Path:
        """Return a file beside the local copies."""
        return self._store.spool(name)

    def put(self, table: str, part: Part, spooled: Path) -> None:
        """Put the file, and keep it as the local copy."""
        self._objects.upload(f"{table}/{part.name}", spooled, part.bytes)
        self._store.adopt(part, spooled)

    def delete(self, table: str, name: str) -> None:
        """Delete the object."""
        self._objects.delete(f"{table}/{name}")

    def own_files(self) -> Iterator[tuple[str, str, float]]:
        """List what lies there; what is too young to be listed yet is too young to be deleted."""
        for path, told in self._objects.listed():
            table, _, name = path.rpartition("/")
            if OWN_TABLE.fullmatch(table) and OWN_NAME.fullmatch(name):
                yield table, name, age(told)


def _is_own(path: str) -> bool:
    table, _, name = path.rpartition("/")
    return name.startswith(".") or bool(OWN_TABLE.fullmatch(table) and OWN_NAME.fullmatch(name))


def runs_below(root: Url) -> list[Url]:
    """Return the runs in a folder and one level deeper, sorted (raises RunStorageError)."""
    found: list[Url] = []
    for name in Objects(root).folders():
        place = root / name
        below = Objects(place)
        if below.tag(MANIFEST_NAME) is not None:
            found.append(place)
            continue
        inner = below.folders()
        sizes = below.sizes([f"{one}/{MANIFEST_NAME}" for one in inner])
        found += [place / one for one, size in zip(inner, sizes, strict=True) if size >= 0]
    return sorted(found)
