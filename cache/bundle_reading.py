"""Opens a bundle from elsewhere, trusting nothing in it: everything is checked beside the target, then moved there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from cache.bundle_checks import check_parts, unpack_originals
from cache.bundles import (
    BUNDLE_FORMAT,
    BUNDLE_NAME,
    BUNDLE_VERSION,
    CHUNK,
    ORIGINALS,
    REVIEWS_LINES,
    SEAL,
    SEAL_DIGITS,
    sealed,
)
from cache.disk import replace_file, storage_errors, sync_folder
from cache.errors import BundleError, RunError
from cache.manifest import MANIFEST_NAME, PART_NAME, TABLE_NAME, Manifest
from cache.review_events import MAX_LINE, Event
from cache.reviews import REVIEWS_NAME, Merged, Reviews
from cache.run import Run, is_run
from cache.schema import SCHEMA_VERSION

MAX_BYTES = 1 << 40
"""Bytes that a bundle may take on disk."""
MAX_MEMBERS = 100_000
MAX_RATIO = 200
"""How many times its size in the bundle a member may take on disk."""
SMALL = 1 << 20
"""Members that stay below this may be packed however densely."""
MAX_JSON = 1 << 28
DAMAGED = "is damaged or incomplete: copy it again from where it was made"
FOREIGN = "was not made by Gazelake: open only what `python -m dashboard bundle` made"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Opened:
    """A bundle that became a run: where, with how many samples and originals, and what came of its reviews."""

    path: Path
    samples: int
    originals: int
    reviews: Merged


def open_bundle(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    limit: int = MAX_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Opened:
    """Make a run of a bundle.

    Args:
        path: The zip file.
        into: Directory of the run to make; must not exist.
        limit: Bytes that it may take on disk.
        progress: Told how many bytes of how many are out; raising in it cancels, and leaves nothing.

    Raises:
        BundleError: The file is no bundle, damaged, of another version, too large, or holds what no bundle holds; the
            target exists, or the folder around it does not. Nothing is left in any case.
        RunStorageError: The disk refuses.
    """
    source, target = Path(path), Path(os.path.abspath(into))
    if os.path.lexists(target):
        raise BundleError(f"{target} exists already: name a new directory for the run.")
    if not target.parent.is_dir():
        raise BundleError(
            f"There is no folder {target.parent} to open the bundle in: make it, or name another."
        )
    folder = target.with_name(f".{target.name}.{uuid4().hex[:8]}.opening")
    try:
        with _archive(source) as archive:
            bundle = _Bundle(source, archive, limit)
            if shutil.disk_usage(target.parent).free < bundle.total:
                raise BundleError(
                    f"{source} takes {bundle.total / 2**20:,.0f} MB on disk, and less is free: free some space, then open it."
                )
            with storage_errors(target.parent):
                folder.mkdir()
            bundle.extract(folder, progress)
        originals = unpack_originals(folder, source)
        check_parts(folder, bundle.manifest, source)
        merged = Merged()
        if (folder / REVIEWS_LINES).stat().st_size:
            with open(folder / REVIEWS_LINES, "rb") as file:
                merged = _merge(file, Reviews(folder / REVIEWS_NAME), source)
        with storage_errors(target.parent):
            (folder / REVIEWS_LINES).unlink()
            # Whatever the bundle says: originals are looked for where they have just been put, and nowhere else.
            bundle.manifest.dataset["root"] = str(target / ORIGINALS) if originals else ""
            replace_file(folder / MANIFEST_NAME, bundle.manifest.to_json().encode())
            if os.path.lexists(target):
                raise BundleError(f"{target} exists already: name a new directory for the run.")
            os.rename(folder, target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Opened(target, bundle.manifest.rows("samples"), originals, merged)


def merge_reviews(source: str | os.PathLike[str], run: str | os.PathLike[str] | Reviews) -> Merged:
    """Take the reviews of a bundle, or of another run or database, into those of a run: a union.

    Args:
        source: A bundle, a run's directory, or a database of reviews.
        run: The run's directory, or its reviews where they lie elsewhere.

    Raises:
        BundleError: There is nothing of the kind, or the bundle is damaged.
        ReviewError: The reviews cannot be read or written, or are none.
        RunNotFoundError: There is no run to take them in.
    """
    path = Path(source)
    reviews = run if isinstance(run, Reviews) else Reviews.of_run(Run.open(run).path)
    if path.is_dir() and is_run(path):
        return reviews.merge(Reviews.of_run(path))
    if not path.is_file():
        raise BundleError(f"{path} is neither a bundle nor a run: name one of them.")
    if path.suffix == Path(REVIEWS_NAME).suffix:
        return reviews.merge(Reviews(path))
    with _archive(path) as archive:
        bundle = _Bundle(path, archive, MAX_BYTES)
        # Read once to the end before anything is taken in, so that only whole reviews are.
        with bundle.member(REVIEWS_LINES) as file:
            while file.read(CHUNK):
                pass
        with bundle.member(REVIEWS_LINES) as file:
            return _merge(file, reviews, path)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose every byte is as it was written, and turn what is wrong with it into one sentence."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - SEAL_DIGITS - len(SEAL)))
            tail = file.read()
            file.seek(0)
            begins = file.read(2) == b"PK"
        if not begins or not tail.startswith(SEAL):
            raise BundleError(f"{path} {DAMAGED if begins else FOREIGN}.")
        if sealed(path, size).encode() != tail[len(SEAL) :]:
            raise BundleError(f"{path} {DAMAGED}.")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise BundleError(f"There is no file {path}: name a bundle.") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, UnicodeError) as error:
        raise BundleError(f"{path} {DAMAGED}.") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}): check the file and the disk.") from error


class _Bundle:
    """An archive whose table of contents has been checked."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, limit: int) -> None:
        self.path = path
        self.archive = archive
        self._check_infos(limit)
        contents = self._json(BUNDLE_NAME)
        if contents.get("format") != BUNDLE_FORMAT:
            raise BundleError(f"{path} {FOREIGN}.")
        for name, version, known in (
            ("bundle", contents.get("version"), BUNDLE_VERSION),
            ("schema", contents.get("schema_version"), SCHEMA_VERSION),
        ):
            if version != known or type(version) is not int:
                raise BundleError(
                    f"{path} was written with {name} version {str(version)[:20]}, and this Gazelake reads version {known}: "
                    "use the same Gazelake at both ends."
                )
        self.members = self._listed(contents.get("members"))
        self.manifest = self._manifest()
        self._check_names()

    def extract(self, folder: Path, progress: Callable[[int, int], None] | None) -> None:
        """Write every member below a folder."""
        done = 0
        for name in self.members:
            with storage_errors(folder):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                out = open(folder / name, "xb")  # noqa: SIM115 - closed below
            with out, self.member(name) as file:
                while chunk := file.read(CHUNK):
                    with storage_errors(folder):
                        out.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, self.total)
                with storage_errors(folder):
                    out.flush()
                    os.fsync(out.fileno())

    @contextmanager
    def member(self, name: str) -> Iterator[_Checked]:
        """Open a member; at its end its size and digest are held against the table of contents."""
        with self.archive.open(self._infos[name]) as file:
            yield _Checked(file, self.members[name], f"{self.path} {DAMAGED}.")

    def _check_infos(self, limit: int) -> None:
        infos = self.archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise BundleError(
                f"{self.path} holds {len(infos):,} files, more than any bundle does: it {FOREIGN}."
            )
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.total = 0
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            name = info.filename
            shown = repr(name[:80])
            if (
                name.startswith(("/", "\\"))
                or ".." in re.split(r"[/\\]", name)
                or re.match(r"[A-Za-z]:", name)
            ):
                raise BundleError(
                    f"{self.path} would write outside of its directory ({shown}): it {FOREIGN}."
                )
            if not stat.S_ISREG(info.external_attr >> 16) or info.orig_filename != name:
                raise BundleError(
                    f"{self.path} holds a link or something else that is no file ({shown}): it {FOREIGN}."
                )
            if name in self._infos:
                raise BundleError(f"{self.path} holds {shown} twice: it {FOREIGN}.")
            if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BundleError(f"{self.path} holds {shown} in a form that no bundle has: it {FOREIGN}.")
            if info.header_offset < end:
                raise BundleError(f"{self.path} holds files one within the other ({shown}): it {FOREIGN}.")
            end = info.header_offset + info.compress_size
            if info.file_size > SMALL and info.file_size > MAX_RATIO * info.compress_size:
                raise BundleError(f"{self.path} holds {shown}, which swells when it is opened: it {FOREIGN}.")
            self.total += info.file_size
            if self.total > limit:
                raise BundleError(
                    f"{self.path} takes more than {limit / 2**20:,.0f} MB when it is opened: ask for a smaller selection."
                )
            self._infos[name] = info

    def _listed(self, members: object) -> dict[str, dict[str, Any]]:
        """Return the table of contents, which names every other member and nothing besides."""
        if not isinstance(members, dict) or not all(_is_entry(entry) for entry in members.values()):
            raise BundleError(f"{self.path} {DAMAGED}.")
        odd = sorted(set(self._infos) ^ {*members, BUNDLE_NAME})
        if odd or BUNDLE_NAME in members:
            raise BundleError(
                f"{self.path} does not hold what its list says ({(odd or [BUNDLE_NAME])[0][:80]!r}): it {FOREIGN}."
            )
        if any(entry["bytes"] != self._infos[name].file_size for name, entry in members.items()):
            raise BundleError(f"{self.path} {DAMAGED}.")
        return members

    def _check_names(self) -> None:
        expected = {MANIFEST_NAME, REVIEWS_LINES}
        expected |= {f"{table}/{part.name}" for table, parts in self.manifest.parts.items() for part in parts}
        missing = expected - set(self.members)
        if missing:
            raise BundleError(f"{self.path} lacks {min(missing)[:80]!r}: ask for it to be made again.")
        for name in sorted(set(self.members) - expected):
            table, _, part = name.rpartition("/")
            if table != ORIGINALS or not PART_NAME.fullmatch(part):
                raise BundleError(
                    f"{self.path} holds {name[:80]!r}, which belongs to no bundle: it {FOREIGN}."
                )
        folded = [name.casefold() for name in self.members]
        if len(set(folded)) < len(folded):
            raise BundleError(f"{self.path} holds two files of one name: it {FOREIGN}.")

    def _manifest(self) -> Manifest:
        data = self._json(MANIFEST_NAME)
        try:
            manifest = Manifest.from_json(json.dumps(data), str(self.path))
            fine = ORIGINALS not in manifest.parts and all(
                TABLE_NAME.fullmatch(table)
                and all(type(p.rows) is int and type(p.bytes) is int for p in parts)
                for table, parts in manifest.parts.items()
            )
        except RunError as error:
            raise BundleError(f"{self.path} holds no run that can be read: it {FOREIGN}.") from error
        if not fine or manifest.retired:
            raise BundleError(f"{self.path} holds no run that can be read: it {FOREIGN}.")
        return manifest

    def _json(self, name: str) -> dict[str, Any]:
        info = self._infos.get(name)
        if info is None:
            raise BundleError(f"{self.path} lacks {name!r}: it {FOREIGN}.")
        if info.file_size > MAX_JSON:
            raise BundleError(f"{self.path} holds {name!r} of an impossible size: it {FOREIGN}.")
        with self.archive.open(info) as file:
            text = file.read(MAX_JSON + 1)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.path} {DAMAGED}.") from error
        if not isinstance(data, dict):
            raise BundleError(f"{self.path} {DAMAGED}.")
        return data


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"bytes", "sha256"}
        and type(entry["bytes"]) is int
        and isinstance(entry["sha256"], str)
        and _DIGEST.fullmatch(entry["sha256"]) is not None
    )


class _Checked:
    """Reads a member and refuses more bytes, fewer or others than were announced."""

    def __init__(self, file: IO[bytes], entry: dict[str, Any], refusal: str) -> None:
        self._file, self._left, self._expected = file, int(entry["bytes"]), str(entry["sha256"])
        self._refusal, self._digest = refusal, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return some bytes, none at the end."""
        return self._noted(self._file.read(size))

    def readline(self, limit: int) -> bytes:
        """Return a line, or a part of one that is longer than the limit; nothing at the end."""
        return self._noted(self._file.readline(limit))

    def _noted(self, data: bytes) -> bytes:
        self._left -= len(data)
        self._digest.update(data)
        if self._left < 0 or (not data and (self._left or self._digest.hexdigest() != self._expected)):
            raise BundleError(self._refusal)
        return data


def _merge(file: IO[bytes] | _Checked, reviews: Reviews, source: Path) -> Merged:
    def events() -> Iterator[Event]:
        while line := file.readline(MAX_LINE):
            if not line.endswith(b"\n"):
                raise BundleError(f"{source} holds a review that is too long: it {FOREIGN}.")
            yield Event.from_line(line.decode("utf-8", "replace"))

    return reviews.merge(events())
