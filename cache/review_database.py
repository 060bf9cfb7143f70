"""The SQLite file that holds reviews: opened for an instant at a time, so that many processes may write at once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from random import uniform
from time import monotonic, sleep
from typing import TypeVar
from urllib.parse import quote
from uuid import uuid4

from cache.errors import ReviewStoreError
from cache.locations import Url

APPLICATION = 0x475A5256
"""Marks an SQLite file as Gazelake's reviews."""
REVIEWS_VERSION = 1
WAIT = 15.0
"""Seconds that an action waits for its turn."""
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, author TEXT NOT NULL, time INTEGER NOT NULL,
    kind TEXT NOT NULL, payload TEXT NOT NULL
);
CREATE INDEX events_by_kind ON events (kind);
CREATE INDEX events_by_time ON events (time, id);
CREATE TABLE subjects (
    type TEXT NOT NULL, subject TEXT NOT NULL, event INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (type, subject, event)
) WITHOUT ROWID;
CREATE INDEX subjects_by_event ON subjects (event);
"""
Inode = tuple[int, int]
T = TypeVar("T")
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class NoDatabase:
    """The reviews of a run at a URL, which SQLite cannot keep there: none, and none can be written."""

    def __init__(self, place: Url) -> None:
        self.place = place

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give what there is while nobody has written anything."""
        yield None

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Refuse.

        Raises:
            ReviewStoreError: Always.
        """
        raise ReviewStoreError(
            f"{self.place.parent} can be looked at but not reviewed yet: reviews need a folder on a local disk, named under "
            "[reviews] in the configuration that is given with --config."
        )


class Database:
    """One file of reviews, which is made by the first action; safe between threads and processes.

    Every reading and every action opens the file anew. It is remembered which file was seen first, so that one that was
    deleted or exchanged meanwhile is never taken for reviews that were never written.
    """

    def __init__(self, path: Path, wait: float = WAIT) -> None:
        self.path = path
        self.wait = wait
        self._seen: str | None = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """Give one consistent state to read; None while nobody has written anything.

        Raises:
            ReviewStoreError: The file is locked, gone, damaged or of another version.
        """
        with self._errors("read"):
            connection = self._open_to_read()
            if connection is None:
                yield None
                return
            with closing(connection):
                connection.execute("BEGIN")
                if self._begun(connection):
                    yield connection
                else:
                    yield None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give one transaction to write in; all of it is kept, or none.

        Raises:
            ReviewStoreError: The file is locked, read-only, gone, damaged or of another version, or the disk is full.
        """
        with self._errors("written"):
            connection, inode = self._open_to_write()
            with closing(connection):
                try:
                    new = None if self._begun(connection) else self._create(connection)
                    yield connection
                    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
                    self._expect(inode)
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                self._seen = new or self._seen
                # A file that was deleted is written happily: the words would be lost without anybody knowing.
                self._expect(inode)

    def _open_to_read(self) -> sqlite3.Connection | None:
        if _inode(self.path) is None:
            if self._seen is not None or not self.path.parent.is_dir():
                raise self._gone()
            return None

        def look(mode: str = "mode=ro") -> sqlite3.Connection:
            connection = self._connect(mode)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return connection
            except BaseException:
                connection.close()
                raise

        writable = _may(self.path, os.W_OK) and _may(self.path.parent, os.W_OK)
        # Whoever closes the file last takes away what readers share, just as it is being opened here.
        passing = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) if writable else ()
        try:
            return self._patiently(look, (*BUSY, *passing))
        except sqlite3.OperationalError as error:
            log = self.path.with_name(self.path.name + "-wal")
            if writable or _code(error) in BUSY or (log.exists() and log.stat().st_size):
                raise
            # On a read-only disk there is no place for what readers share; without a log nobody is writing either.
            return look("immutable=1")

    def _open_to_write(self) -> tuple[sqlite3.Connection, Inode]:
        def begin() -> tuple[sqlite3.Connection, Inode]:
            before = _inode(self.path)
            if before is None and (self._seen is not None or not self.path.parent.is_dir()):
                raise self._gone()
            connection = self._connect("mode=rwc" if before is None else "mode=rw")
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                inode = _inode(self.path)
                if inode is None or (before is not None and inode != before):
                    raise self._gone()
                return connection, inode
            except BaseException:
                connection.close()
                raise

        return self._patiently(begin)

    def _connect(self, mode: str) -> sqlite3.Connection:
        name = f"file:{quote(str(self.path.absolute()))}?{mode}"
        return sqlite3.connect(
            name, timeout=self.wait, isolation_level=None, uri=True, check_same_thread=False
        )

    def _patiently(self, attempt: Callable[[], T], again: tuple[int, ...] = BUSY) -> T:
        """Try until it is this one's turn, for as long as `wait`."""
        deadline = monotonic() + self.wait
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if _code(error) not in again or monotonic() > deadline or not self.path.exists():
                    raise
                sleep(uniform(0.005, 0.05))

    def _begun(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the file holds reviews (not: is still empty), and that they are those seen before.

        Raises:
            ReviewStoreError: It holds something else, or reviews of another version.
        """
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not version and not application:
            if self._seen is not None:
                raise self._gone()
            return False
        if application != APPLICATION:
            raise ReviewStoreError(
                f"{self.path} is a database of something other than reviews: move it away and reload the page."
            )
        if version != REVIEWS_VERSION:
            remedy = "upgrade Gazelake to read them" if version > REVIEWS_VERSION else "move the file away"
            raise ReviewStoreError(
                f"The reviews in {self.path} have version {version}, and this Gazelake reads version {REVIEWS_VERSION}: {remedy}."
            )
        found = str(connection.execute("SELECT value FROM meta WHERE key = 'database'").fetchone()[0])
        if self._seen not in (None, found):
            raise self._gone()
        self._seen = found
        return True

    def _create(self, connection: sqlite3.Connection) -> str:
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {REVIEWS_VERSION}")
        new = uuid4().hex
        connection.execute("INSERT INTO meta VALUES ('database', ?), ('revision', 0)", (new,))
        return new

    def _expect(self, inode: Inode) -> None:
        if _inode(self.path) != inode:
            raise self._gone()

    def _gone(self) -> ReviewStoreError:
        if not self.path.parent.is_dir():
            return ReviewStoreError(
                f"The folder {self.path.parent}, where the reviews lie, is not there: bring it back and reload the page."
            )
        return ReviewStoreError(
            f"The reviews {self.path} were deleted or exchanged meanwhile, and the last action is not kept: bring the file "
            "back, or reload the page to begin anew."
        )

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Turn what goes wrong in SQLite into one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = _code(error)
            if self._seen is not None and not self.path.exists():
                raise self._gone() from error
            if code in BUSY:
                why = f"are locked by another program for more than {self.wait:.0f} seconds: close it and try again"
            elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
                why = f"may not be {done}: change the permissions, or say in the configuration where they go"
            elif code == sqlite3.SQLITE_FULL:
                why = "do not fit on the disk: free some space and try again"
            elif isinstance(error, sqlite3.DatabaseError) and code != sqlite3.SQLITE_IOERR:
                why = "are damaged: restore the file from a backup or from a bundle"
            else:
                why = f"cannot be {done} ({error}): check the disk and the permissions"
            raise ReviewStoreError(f"The reviews in {self.path} {why}.") from error


def _inode(path: Path) -> Inode | None:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_dev, stat.st_ino


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code; 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
