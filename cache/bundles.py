"""Writes a bundle: one zip file with a run, or a selection of one, and its reviews, for somebody else's machine.

``bundle.json``, the last member, names every other one with its SHA-256, and the archive's comment is the SHA-256 of
all bytes before it: a byte that flips anywhere is noticed. `cache.bundle_reading` opens what is written here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from cache.bundle_privacy import Privacy
from cache.bundle_rows import Chosen, Rows, choose, original_rows, rewritten
from cache.disk import storage_errors, sync_folder
from cache.errors import BundleError, RunDamagedError
from cache.manifest import MANIFEST_NAME, Part
from cache.parts import PartWriter
from cache.progress import Progress, steps
from cache.reading import reading_errors
from cache.review_events import Event
from cache.reviews import Reviews
from cache.run import Run
from cache.schema import PART_ROWS

BUNDLE_FORMAT = "gazelake-bundle"
BUNDLE_VERSION = 1
BUNDLE_NAME = "bundle.json"
REVIEWS_LINES = "reviews.jsonl"
ORIGINALS = "originals"
SEAL = b"sha256:"
SEAL_DIGITS = 64
CHUNK = 1 << 20
FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the same run gives the same bundle."""
OriginalReader = Callable[[Mapping[str, Any]], bytes | None]
"""Returns the bytes of an original without EXIF, or None where there is none to give."""


@dataclass
class Bundled:
    """What a bundle holds.

    Attributes:
        path: The file.
        samples: Samples in it.
        of: Samples of the run.
        bytes: Its size.
        originals: Originals in it.
        missing: Samples whose original was wanted and not to be had.
        reviews: Lines of reviews in it.
    """

    path: Path
    samples: int = 0
    of: int = 0
    bytes: int = 0
    originals: int = 0
    missing: int = 0
    reviews: int = 0


@dataclass
class _Writing:
    """A bundle in the making."""

    run: Run
    chosen: Chosen
    privacy: Privacy
    archive: zipfile.ZipFile
    folder: Path
    result: Bundled
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)


def write_bundle(
    run: Run,
    target: str | os.PathLike[str],
    *,
    samples: Sequence[str] | None = None,
    reviews: Reviews | None = None,
    original: OriginalReader | None = None,
    progress: Progress | None = None,
) -> Bundled:
    """Write a run, or a selection of it, into one file, without anything that says where it lay.

    Args:
        run: The run as it was opened.
        target: The zip file to make; must not exist.
        samples: Ids of the selection's samples; None for the whole run.
        reviews: The run's reviews; None for those in its directory. With a selection go those of its images only.
        original: Called once an image with sample_id, content, uri, width and height; None for thumbnails only.
        progress: Told how many files of how many are done; raising in it cancels, and leaves nothing.

    Raises:
        BundleError: The target exists, or the selection names samples that the run does not have.
        RunDamagedError: A part of the run is missing or damaged.
        RunStorageError: The disk refuses.
        ReviewStoreError: The reviews cannot be read.
    """
    path = Path(target)
    if os.path.lexists(path):
        raise BundleError(f"{path} exists already: name another file for the bundle.")
    if not path.parent.is_dir():
        raise BundleError(
            f"There is no folder {path.parent} to write the bundle into: make it, or name another."
        )
    if run.damaged:
        raise RunDamagedError(
            f"{run.path} lacks {run.damaged[0]}: run the same `explain` command again, then make the bundle."
        )
    folder = path.with_name(f".{path.name}.{uuid4().hex[:8]}.writing")
    try:
        with storage_errors(path.parent):
            folder.mkdir()
        with reading_errors(run), _full_disk(path.parent):
            chosen, privacy = choose(run, samples), Privacy(run.manifest, run.path)
            result = Bundled(path, chosen.count, run.manifest.rows("samples"))
            with zipfile.ZipFile(folder / "bundle.zip", "w", allowZip64=True) as archive:
                writing = _Writing(run, chosen, privacy, archive, folder, result)
                _write_members(writing, reviews or Reviews.of_run(run.path), original, progress)
                archive.comment = SEAL + b"0" * SEAL_DIGITS
        with storage_errors(path.parent):
            result.bytes = _seal(folder / "bundle.zip")
            if os.path.lexists(path):
                raise BundleError(f"{path} exists already: name another file for the bundle.")
            os.replace(folder / "bundle.zip", path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Tell a disk that refuses to be written from a run that cannot be read."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        with storage_errors(folder):
            raise


def _write_members(
    writing: _Writing, reviews: Reviews, original: OriginalReader | None, progress: Progress | None
) -> None:
    tables = writing.run.manifest.parts
    step = steps(sum(len(parts) for parts in tables.values()) + 1, progress)
    # Samples point into the thumbnails, so that these are placed first.
    order = sorted(tables, key=lambda table: (table == "samples", table != "thumbnails", table))
    for table in order:
        _write_table(writing, table, original, step)
    with _member(writing, REVIEWS_LINES) as file:
        for line in reviews.lines(None if writing.chosen.everything else writing.chosen.known):
            event = writing.privacy.event(Event.from_line(line))
            for written in event.lines():
                file.write(written.encode() + b"\n")
                writing.result.reviews += 1
    with _member(writing, MANIFEST_NAME) as file:
        file.write(_json(_manifest(writing)))
    contents = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "schema_version": writing.run.manifest.schema_version,
        "run_id": writing.run.manifest.run_id,
        "name": writing.run.manifest.name,
        "samples": writing.result.samples,
        "of": writing.result.of,
        "originals": writing.result.originals,
        "members": writing.members,
    }
    with _member(writing, BUNDLE_NAME) as file:
        file.write(_json(contents))
    step()


class _Out:
    """New parts of a table, one at a time, that go into the archive under names that their bytes give them."""

    def __init__(self, writing: _Writing, table: str) -> None:
        self._writing, self._table = writing, table
        self._part: PartWriter | None = None

    @property
    def number(self) -> int:
        """Position that the part being written, or else the next one, has among the table's parts."""
        return len(self._writing.parts.get(self._table, []))

    def ready(self, schema: pa.Schema, key: str, count: int) -> PartWriter:
        """Return a part with room for some rows of a schema and key."""
        part = self._part
        if part is not None and (part.rows + count > PART_ROWS or part.schema != schema or part.key != key):
            self.finish()
        self._part = self._part or PartWriter(self._writing.folder, self._table, schema, key)
        return self._part

    def finish(self) -> None:
        """Put the part being written into the archive."""
        if self._part is not None:
            part, self._part = self._part.close(), None
            path = self._writing.folder / self._table / part.name
            named = replace(part, name=f"part-{part.sha256[:16]}.parquet")
            _add_part(self._writing, self._table, named, path)
            path.unlink()

    def abort(self) -> None:
        """Close what was not finished."""
        if self._part is not None:
            self._part.abort()


def _write_table(
    writing: _Writing, table: str, original: OriginalReader | None, step: Callable[[], None]
) -> None:
    """Write what is needed of a table: parts as they are where all of their rows go, else rows of them in new ones."""
    out, originals = _Out(writing, table), _Out(writing, ORIGINALS)
    try:
        for part in writing.run.manifest.parts[table]:
            path = writing.run.storage.fetch(table, part)
            with pq.ParquetFile(path) as file:
                rows = Rows.of(file, table, part.name, writing.chosen)
                if rows.whole:
                    out.finish()
                    writing.chosen.place(table, part.name, rows, out.number, 0)
                    _add_part(writing, table, part, path)
                elif rows.count:
                    new = out.ready(rows.schema(file), part.key, rows.count)
                    writing.chosen.place(table, part.name, rows, out.number, new.rows)
                    for raw, neutral in rewritten(file, rows, writing.chosen, writing.privacy):
                        taken = neutral
                        if table == "samples":
                            names = [p.name for p in writing.parts.get("thumbnails", [])]
                            taken = writing.chosen.pointed(neutral, names)
                            if original is not None:
                                taken = _originals(writing, raw, taken, original, originals)
                        new.append(taken)
            step()
        out.finish()
        originals.finish()
    finally:
        out.abort()
        originals.abort()


def _originals(
    writing: _Writing, raw: pa.Table, taken: pa.Table, original: OriginalReader, out: _Out
) -> pa.Table:
    """Write the originals of some samples; return the samples with the uris that those now have."""
    uris: list[str] = []
    for (uri, image), neutral in zip(
        original_rows(raw, original, writing.chosen), taken["uri"].to_pylist(), strict=True
    ):
        if image is not None:
            out.ready(image.schema, "", 1).append(image)
            writing.result.originals += 1
        writing.result.missing += uri is None
        uris.append(uri or neutral)
    at = taken.schema.get_field_index("uri")
    return taken.set_column(at, taken.schema.field(at), pa.array(uris, pa.string()))


def _add_part(writing: _Writing, table: str, part: Part, path: Path) -> None:
    name = f"{table}/{part.name}"
    with open(path, "rb") as source, _member(writing, name, stored=True, size=part.bytes) as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
    if writing.members[name]["sha256"] != part.sha256:
        raise RunDamagedError(
            f"{writing.run.path} holds other bytes in {table} than it should: run the same `explain` command again, then "
            "make the bundle."
        )
    writing.parts.setdefault(table, []).append(part)


class _Counted:
    """Writes into a member, and keeps count and digest of what goes in."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.bytes, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.bytes += len(data)
        self.digest.update(data)


@contextmanager
def _member(writing: _Writing, name: str, stored: bool = False, size: int = 0) -> Iterator[_Counted]:
    info = zipfile.ZipInfo(name, FIRST_DAY)
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    # Parts are compressed already; and what is stored cannot swell when it is opened.
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.file_size = size
    with writing.archive.open(info, "w", force_zip64=not stored or size > 1 << 30) as file:
        counted = _Counted(file)
        yield counted
    writing.members[name] = {"bytes": counted.bytes, "sha256": counted.digest.hexdigest()}


def _manifest(writing: _Writing) -> dict[str, Any]:
    manifest, chosen = writing.run.manifest, writing.chosen
    parts = {table: held for table, held in writing.parts.items() if table != ORIGINALS}
    failed = sum(part.rows for part in parts.get("errors", []))
    data = writing.privacy.manifest(manifest)
    data["parts"] = {table: [vars(part) for part in held] for table, held in parts.items()}
    data["state"] = "interrupted" if manifest.state == "running" else manifest.state
    if not chosen.everything:
        data["run_id"] = hashlib.blake2b(
            "\n".join([manifest.run_id, *chosen.ids()]).encode(), digest_size=16
        ).hexdigest()
        data["progress"] = {"planned": chosen.count + failed, "done": chosen.count, "failed": failed}
        told = f"This is a selection: {chosen.count:,} of the run's {writing.result.of:,} samples."
        data["notices"] = [*data["notices"], told]
    return data


def _json(data: object) -> bytes:
    return json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"


def _seal(path: Path) -> int:
    """Write the digest of everything before it into the last bytes of the archive; return its size."""
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size - SEAL_DIGITS)
        file.write(sealed(path, size).encode())
        file.flush()
        os.fsync(file.fileno())
    return size


def sealed(path: Path, size: int) -> str:
    """Return the digest that a bundle of some size ends with."""
    digest, left = hashlib.sha256(), size - SEAL_DIGITS
    with open(path, "rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
