"""Writes a run: takes the lock, writes parts, and publishes them by replacing the manifest in one step."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache.compaction import conform, mergeable, point_anew, unify
from cache.errors import RunBusyError, RunStorageError
from cache.locations import Url
from cache.manifest import Manifest, Part, now
from cache.run import Run
from cache.schema import PART_ROWS
from cache.shards import PartsWriter, Sent
from cache.storage import OWN_NAME, OWN_TABLE

OPEN_AT_ONCE = 64
"""Parts that are open at the same time while they are merged."""
GRACE = timedelta(minutes=1)
"""How long a file that no manifest names any more is kept for readers of an older generation."""


class RunWriter(PartsWriter):
    """The only process that may write a run; a context manager.

    Parts are first written and then published together: until `publish` returns, readers and a restarted engine
    see the previous generation, afterwards the new one, never something between.
    """

    def __init__(self, path: str | os.PathLike[str] | Url, manifest: Manifest | None = None) -> None:
        """Lock a run for writing.

        Args:
            path: The run's directory or URL; created where it does not exist.
            manifest: Manifest of a new run; ignored where a run is there already.

        Raises:
            RunBusyError: Another process is writing the run.
            RunStorageError: The directory cannot be made, or holds something that is not a run.
            RunNotFoundError: There is no run and no manifest to start one with.
        """
        super().__init__(path)
        self.damaged: list[str] = []
        self._moved: dict[str, tuple[str, int]] = {}
        self._uncertain = False
        self.storage.prepare()
        self._lock = self.storage.lock()
        try:
            if manifest is not None and not self.storage.holds_run():
                self.manifest = manifest
            else:
                run = Run.open(self.path)
                self.manifest, self.damaged = run.manifest, run.verify()
                self._drop_damaged()
            self._collect_garbage()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Throw away what was not published and release the lock."""
        # An object store may have taken a manifest without being able to say so: then what it names must stay.
        if self._uncertain:
            self._closed.clear()
        self.discard()
        self._lock.close()

    def adopt(self, table: str, part: Part) -> None:
        """Take over a finished part that another process wrote into the run; it counts once `publish` has returned.

        Raises:
            RunStorageError: It is not there: the other process writes elsewhere.
        """
        name = f"{table}/{part.name}"
        if self.storage.sizes([name]) != [part.bytes]:
            raise RunStorageError(
                f"{name} was written by a worker and cannot be seen in {self.path}: give --out a place that all of them share."
            )
        if table == "samples" and self._moved and self._points_into(part, self._moved.keys()):
            self.append(table, self.redirect(pq.read_table(self.storage.fetch(table, part))))
            self.storage.delete(table, part.name)
        else:
            self._closed.append((table, part))

    def adopt_rows(self, sent: Sequence[Sent]) -> None:
        """Write rows that another process sent; they count once `publish` has returned (raises RunStorageError)."""
        placed: dict[str, tuple[str, int]] = {}
        # Rows of `samples` say where thumbnails lie, which is known when those are written.
        for one in sorted(sent, key=lambda one: one.table == "samples"):
            rows = one.rows
            if one.table == "samples":
                rows = self.redirect(point_anew(rows, placed))
            placed[one.name] = self.append(one.table, rows, one.key)

    def publish(
        self, retire: dict[str, Collection[str]] | None = None, drop: Collection[tuple[str, str]] = ()
    ) -> None:
        """Make everything written since the last publication count, in one step.

        Args:
            retire: By table, sample ids whose published rows are superseded: parts that hold them are written
                again without them.
            drop: Published parts (table, name) that no longer count.

        Raises:
            RunStorageError: The disk refuses; the previous generation stays as it was.
            RunBusyError: Another process has taken over the run.
        """
        self._finish_all()
        gone = set(drop)
        for table, ids in (retire or {}).items():
            gone |= self._rewrite_without(table, set(ids))
        parts = {
            table: [part for part in published if (table, part.name) not in gone]
            for table, published in self.manifest.parts.items()
        }
        # From here on the parts may be named by the manifest on disk, and an interruption must not delete them.
        closed, self._closed = self._closed, []
        for table, part in closed:
            parts.setdefault(table, []).append(part)
        try:
            self._replace_manifest(parts, gone)
        except (RunStorageError, RunBusyError):
            self._closed, self._uncertain = closed, self.storage.remote
            raise
        self._collect_retired()

    def save(self) -> None:
        """Publish a change of the manifest alone, such as the state of the run."""
        self._replace_manifest(self.manifest.parts, set())

    def compact(self) -> int:
        """Merge runs of small parts into parts of `PART_ROWS` rows and publish the result.

        Rows of `samples` that point into merged thumbnails are pointed anew. Returns the number of parts merged.

        Raises:
            RunStorageError: The disk refuses; the previous generation stays as it was.
        """
        gone: set[tuple[str, str]] = set()
        moved: dict[str, tuple[str, int]] = {}
        for table, published in self.manifest.parts.items():
            if table == "samples":
                continue
            for group in mergeable(published):
                gone |= {(table, part.name) for part in group}
                placed = self._merge(table, group)
                if table == "thumbnails":
                    moved |= placed
        samples = self.manifest.parts.get("samples", [])
        groups = [part for group in mergeable(samples) for part in group]
        if moved:
            groups = [part for part in samples if self._points_into(part, moved) or part in groups]
        if groups:
            gone |= {("samples", part.name) for part in groups}
            self._merge("samples", groups, moved)
        if gone:
            self.publish(drop=gone)
            self._remember(moved)
        return len(gone)

    def redirect(self, rows: pa.Table) -> pa.Table:
        """Return rows of `samples` read before a compaction, pointing to where their thumbnails lie now."""
        return point_anew(rows, self._moved)

    def _remember(self, moved: dict[str, tuple[str, int]]) -> None:
        for old, (part, first) in self._moved.items():
            if part in moved:
                self._moved[old] = (moved[part][0], moved[part][1] + first)
        self._moved |= moved

    def _merge(
        self, table: str, parts: list[Part], moved: dict[str, tuple[str, int]] | None = None
    ) -> dict[str, tuple[str, int]]:
        """Write the rows of parts into new ones; return where the first row of each old part now lies."""
        placed: dict[str, tuple[str, int]] = {}
        for start in range(0, len(parts), OPEN_AT_ONCE):
            some = parts[start : start + OPEN_AT_ONCE]
            with ExitStack() as opened:
                paths = self.storage.fetch_all(table, some)
                files = [opened.enter_context(pq.ParquetFile(path)) for path in paths]
                schema = unify([file.schema_arrow for file in files])
                for part, file in zip(some, files, strict=True):
                    placed[part.name] = self._copy(table, part, file, schema, moved)
        return placed

    def _copy(
        self,
        table: str,
        part: Part,
        file: pq.ParquetFile,
        schema: pa.Schema,
        moved: dict[str, tuple[str, int]] | None,
    ) -> tuple[str, int]:
        # A part is never split between two, so that one offset says where all of its rows went.
        target = self._open_parts.get(table)
        if target is not None and target.rows + part.rows > PART_ROWS:
            self._finish(table)
        placed: list[tuple[str, int]] = []
        for i in range(file.num_row_groups):
            # Threads pay where columns are long; these are many and short.
            rows = conform(file.read_row_group(i, use_threads=False), schema)
            placed.append(self.append(table, point_anew(rows, moved) if moved else rows, part.key))
        return placed[0] if placed else ("", 0)

    def _points_into(self, part: Part, moved: Collection[str]) -> bool:
        path = self.storage.fetch("samples", part)
        column = pq.read_table(path, columns=["thumbnail_part"])["thumbnail_part"]
        return not set(moved).isdisjoint(column.unique().to_pylist())

    def _rewrite_without(self, table: str, ids: set[str]) -> set[tuple[str, str]]:
        """Write parts again without some samples; return the parts that this replaces."""
        replaced: set[tuple[str, str]] = set()
        if not ids:
            return replaced
        wanted = pa.array(sorted(ids), pa.string())
        for part in self.manifest.parts.get(table, []):
            path = self.storage.fetch(table, part)
            held = pq.read_table(path, columns=["sample_id"])["sample_id"]
            stays = pc.invert(pc.is_in(held, wanted))
            if pc.all(stays).as_py():
                continue
            replaced.add((table, part.name))
            rows = pq.read_table(path).filter(stays)
            if rows.num_rows:
                self.append(table, rows, part.key)
                self._finish(table)
        return replaced

    def _replace_manifest(self, parts: dict[str, list[Part]], gone: set[tuple[str, str]]) -> None:
        before = self.manifest.parts, self.manifest.retired, self.manifest.generation, self.manifest.updated
        at = now()
        self.manifest.parts = {table: named for table, named in parts.items() if named}
        self.manifest.progress.done = self.manifest.rows("samples")
        self.manifest.progress.failed = self.manifest.rows("errors")
        self.manifest.retired = self.manifest.retired + [
            {"path": f"{table}/{name}", "at": at} for table, name in sorted(gone)
        ]
        self.manifest.generation += 1
        self.manifest.updated = at
        try:
            self._lock.check()
            self.storage.replace_manifest(self.manifest.to_json().encode())
        except (RunStorageError, RunBusyError):
            self.manifest.parts, self.manifest.retired, self.manifest.generation, self.manifest.updated = (
                before
            )
            raise

    def _drop_damaged(self) -> None:
        damaged = set(self.damaged)
        self.manifest.parts = {
            table: [part for part in parts if f"{table}/{part.name}" not in damaged]
            for table, parts in self.manifest.parts.items()
        }

    def _collect_garbage(self) -> None:
        """Delete what a killed writer left, and what was retired long enough ago."""
        self._collect_retired(everywhere=True)
        named = {f"{table}/{part.name}" for table, parts in self.manifest.parts.items() for part in parts}
        named |= {entry["path"] for entry in self.manifest.retired}
        for table, name, age in self.storage.own_files():
            if f"{table}/{name}" not in named and age >= self.storage.garbage_age.total_seconds():
                self.storage.delete(table, name)

    def _collect_retired(self, everywhere: bool = False) -> None:
        """Delete files that were retired long enough ago for every reader to have moved on.

        Args:
            everywhere: Superseded parts of `samples` too; while an audit lasts, rows are copied out of them.
        """
        kept = []
        for entry in self.manifest.retired:
            table, _, name = entry["path"].rpartition("/")
            if not OWN_NAME.fullmatch(name) or not OWN_TABLE.fullmatch(table):
                continue
            recent = datetime.now(UTC) - datetime.fromisoformat(entry["at"]) < GRACE
            if recent or (entry["path"].startswith("samples/") and not everywhere):
                kept.append(entry)
            else:
                self.storage.delete(table, name)
        self.manifest.retired = kept
