"""The reviews of a run: what people add, as events in one SQLite file that several processes may write at once.

Here are the actions; what is shown for them is a view of the events, in `cache.review_views`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any
from uuid import uuid4

from cache.errors import ReviewError
from cache.locations import Location, Url, located
from cache.manifest import Manifest
from cache.review_database import WAIT, Database, NoDatabase
from cache.review_events import (
    LATEST,
    LINE_SUBJECTS,
    MAX_AUTHOR,
    MAX_NOTE,
    MAX_TAG,
    MAX_VIEW_NAME,
    Event,
    Kind,
    Subject,
    check_event,
    check_payload,
    check_subjects,
    plain,
)

REVIEWS_NAME = "reviews.sqlite"
Undone = dict[str, list[str]]
"""The events that are undone, each with the undoings that hold."""


@dataclass(frozen=True)
class Merged:
    """What came of taking in other reviews.

    Attributes:
        added: Events that were not known here.
        known: Events that were.
        differing: Known events whose words are others there: those here stay.
    """

    added: int = 0
    known: int = 0
    differing: int = 0


def reviews_path(run: Location, manifest: Manifest | None = None, folder: Path | None = None) -> Location:
    """Return where a run's reviews lie: in the run, or in the folder that a configuration names for those of all runs.

    Below a URL there are none, and none can be written.
    """
    if folder is None or manifest is None:
        return run / REVIEWS_NAME
    return folder / f"{manifest.run_id}.sqlite"


class Reviews:
    """Reviews in one file; safe between threads and processes, to be kept for as long as a person's session lasts.

    Every action is one transaction: kept whole when it returns, or not at all.
    """

    def __init__(self, path: str | os.PathLike[str] | Url, wait: float = WAIT) -> None:
        """Name the file; it is made by the first action.

        Args:
            path: The SQLite file, on a local disk; below a URL there are no reviews, and none can be written.
            wait: Seconds that an action waits for its turn.
        """
        self.path = located(path)
        self._database = NoDatabase(self.path) if isinstance(self.path, Url) else Database(self.path, wait)

    @classmethod
    def of_run(cls, run: str | os.PathLike[str] | Url) -> Reviews:
        """Return the reviews that lie in a run's directory."""
        return cls(reviews_path(located(run)))

    def tag(self, author: str, subjects: Iterable[Subject], tag: str) -> str:
        """Add a tag to subjects, a million of them at most, in one action; return the event's id.

        Raises:
            ReviewError: The words cannot be kept.
            ReviewStoreError: The file cannot be written.
        """
        return self._add(author, "tag", {"tag": plain(tag, "A tag", MAX_TAG)}, subjects)

    def untag(self, author: str, subjects: Iterable[Subject], tag: str) -> str:
        """Take a tag away from subjects; return the event's id (raises as `tag` does)."""
        return self._add(author, "untag", {"tag": plain(tag, "A tag", MAX_TAG)}, subjects)

    def note(self, author: str, subjects: Iterable[Subject], text: str) -> str:
        """Add a note to subjects; return the event's id, by which it can be undone (raises as `tag` does)."""
        return self._add(author, "note", {"text": plain(text, "A note", MAX_NOTE, lines=True)}, subjects)

    def judge(
        self,
        author: str,
        subjects: Iterable[Subject],
        verdict: str | None,
        label: int | None = None,
        label_name: str = "",
    ) -> str:
        """Give the author's verdict on subjects, in place of an earlier one; return the event's id.

        Args:
            author: Who judges.
            subjects: On what.
            verdict: One of `VERDICTS`, or None to withdraw the author's own.
            label: Where the label is wrong, the index of the right class, if known.
            label_name: The name of that class.

        Raises:
            ReviewError: There is no such verdict, or a label is suggested with another one.
            ReviewStoreError: The file cannot be written.
        """
        payload: dict[str, Any] = {"verdict": verdict}
        if label is not None:
            payload["label"] = label
        if label_name:
            payload["label_name"] = label_name
        return self._add(author, "verdict", payload, subjects)

    def save_view(self, author: str, view: str | None = None, **changes: Any) -> str:
        """Save a view, or change a saved one; return the view's id.

        Args:
            author: Who saves.
            view: The id of the view to change; None for a new one, which needs a name and a url.
            changes: Any of name, description, url (the page's address), order (its place in the list), start (whether
                it is the page to start with) and deleted. What is not named stays, so that two people may change two
                things at once.

        Raises:
            ReviewError: The words cannot be kept.
            ReviewStoreError: The file cannot be written.
        """
        if view is None and not {"name", "url"} <= set(changes):
            raise ReviewError("A view is saved with a name and its address: give it a name.")
        if "name" in changes:
            changes["name"] = plain(changes["name"], "A view's name", MAX_VIEW_NAME)
        view = view or uuid4().hex
        self._add(author, "view", changes, [Subject("view", view)])
        return view

    def undo(self, author: str, event: str) -> str:
        """Undo an event of whatever kind; return the id of the event that says so.

        Raises:
            ReviewError: There is no such event, or it is undone already.
            ReviewStoreError: The file cannot be written.
        """

        def target(connection: sqlite3.Connection) -> list[str]:
            if not connection.execute("SELECT 1 FROM events WHERE id = ?", (event,)).fetchone():
                raise ReviewError("What is to be undone is not among these reviews: reload the page.")
            if event in undone_events(connection):
                raise ReviewError("This is undone already: reload the page.")
            return [event]

        return self._undo(author, target)

    def redo(self, author: str, event: str) -> str:
        """Let an undone event count again; return the id of the event that says so.

        Raises:
            ReviewError: The event is not undone.
            ReviewStoreError: The file cannot be written.
        """

        def targets(connection: sqlite3.Connection) -> list[str]:
            undoings = undone_events(connection).get(event)
            if not undoings:
                raise ReviewError("This is not undone, so that there is nothing to restore: reload the page.")
            return undoings

        return self._undo(author, targets)

    def revision(self) -> tuple[str, int]:
        """Return what changes with every action, to remember answers by; the same for every process.

        Raises:
            ReviewStoreError: The file cannot be read.
        """
        with self.reading() as connection:
            if connection is None:
                return "", 0
            found = dict(connection.execute("SELECT key, value FROM meta").fetchall())
            return str(found["database"]), int(found["revision"])

    def reading(self) -> AbstractContextManager[sqlite3.Connection | None]:
        """Give one consistent state to `cache.review_views`; None while there are no reviews."""
        return self._database.reading()

    def lines(self, contents: Callable[[Sequence[str]], Iterable[str]] | None = None) -> Iterator[str]:
        """Yield the events as lines of JSON, by time and id, with a few subjects at a time in memory.

        Args:
            contents: Leaves of content keys those to keep; with it only what is about images is given, and what undid it.

        Raises:
            ReviewStoreError: The file cannot be read.
        """
        with self.reading() as connection:
            if connection is not None:
                yield from _lines(connection, contents)

    def merge(self, other: Reviews | Iterable[Event]) -> Merged:
        """Take in the events of others: a union, so that neither order nor repetition matters.

        An event that is here already stays as it is: nobody's words are altered from elsewhere.

        Raises:
            ReviewError: Something among them is no event; then nothing is taken in.
            ReviewStoreError: A file cannot be read or written.
        """
        if isinstance(other, Reviews):
            if other.path.absolute() == self.path.absolute():
                raise ReviewError("The two reviews are the same file: name another one.")
            other = (Event.from_line(line) for line in other.lines())
        added: set[str] = set()
        known: set[str] = set()
        differing: set[str] = set()
        with self._database.writing() as connection:
            for event in other:
                check_event(event)
                number, outcome = _take_in(connection, event)
                if outcome == "added":
                    added.add(event.id)
                elif event.id not in added:
                    (known if outcome == "known" else differing).add(event.id)
                if outcome != "differing":
                    _add_subjects(connection, number, event.subjects)
        return Merged(len(added), len(known | differing), len(differing))

    def _add(self, author: str, kind: Kind, payload: dict[str, Any], subjects: Iterable[Subject]) -> str:
        author = plain(author, "The reviewer's name", MAX_AUTHOR)
        about = sorted(set(subjects))
        check_payload(kind, payload)
        check_subjects(kind, about)
        with self._database.writing() as connection:
            return _insert(connection, author, kind, payload, about)

    def _undo(self, author: str, targets: Callable[[sqlite3.Connection], list[str]]) -> str:
        author = plain(author, "The reviewer's name", MAX_AUTHOR)
        with self._database.writing() as connection:
            about = [Subject("event", target) for target in sorted(targets(connection))]
            return _insert(connection, author, "undo", {}, about)


def undone_events(connection: sqlite3.Connection) -> Undone:
    """Return the events that are undone, each with the undoings that hold.

    An undoing holds unless it is undone itself. Undoings that undo each other in a circle, which nobody's clicks make,
    do not hold.
    """
    undoings: dict[str, list[str]] = {}
    targets: dict[str, list[str]] = {}
    for undoing, target in connection.execute(
        "SELECT e.id, s.subject FROM events AS e JOIN subjects AS s ON s.event = e.number WHERE e.kind = 'undo'"
    ):
        undoings.setdefault(target, []).append(undoing)
        targets.setdefault(undoing, []).append(target)
    waiting = {undoing: len(undoings.get(undoing, ())) for undoing in targets}
    ready = [undoing for undoing, count in waiting.items() if not count]
    undone: Undone = {}
    while ready:
        undoing = ready.pop()
        for target in targets[undoing]:
            if undoing not in undone:
                undone.setdefault(target, []).append(undoing)
            if target in waiting:
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
    return undone


def _insert(
    connection: sqlite3.Connection,
    author: str,
    kind: Kind,
    payload: dict[str, Any],
    subjects: Sequence[Subject],
) -> str:
    # What a person does comes after everything that was there to be seen, also where another machine's clock is ahead.
    latest = connection.execute("SELECT max(time) FROM events").fetchone()[0]
    time = min(max(time_ns() // 1000, (latest or 0) + 1), LATEST)
    event = Event(uuid4().hex, author, time, kind, payload, ())
    number, _ = _take_in(connection, event)
    _add_subjects(connection, number, subjects)
    return event.id


def _take_in(connection: sqlite3.Connection, event: Event) -> tuple[int, str]:
    """Write an event's words unless they are there; return its number and whether it is added, known or differing."""
    words = (
        event.author,
        event.time,
        event.kind,
        json.dumps(event.payload, ensure_ascii=False, sort_keys=True, allow_nan=False),
    )
    found = connection.execute(
        "SELECT number, author, time, kind, payload FROM events WHERE id = ?", (event.id,)
    ).fetchone()
    if found is not None:
        return int(found[0]), "known" if found[1:] == words else "differing"
    added = connection.execute(
        "INSERT INTO events (id, author, time, kind, payload) VALUES (?, ?, ?, ?, ?)", (event.id, *words)
    )
    return int(added.lastrowid or 0), "added"


def _add_subjects(connection: sqlite3.Connection, number: int, subjects: Iterable[Subject]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO subjects VALUES (?, ?, ?)", ((s.type, s.key, number) for s in subjects)
    )


def _lines(
    connection: sqlite3.Connection, contents: Callable[[Sequence[str]], Iterable[str]] | None
) -> Iterator[str]:
    given: set[str] = set()
    reading = connection.execute(
        "SELECT number, id, author, time, kind, payload FROM events ORDER BY time, id"
    )
    for number, identity, author, time, kind, payload in reading:
        about = connection.execute(
            "SELECT type, subject FROM subjects WHERE event = ? ORDER BY type, subject", (number,)
        )
        while some := about.fetchmany(LINE_SUBJECTS):
            subjects = [Subject(of, key) for of, key in some]
            if contents is not None:
                kept = set(contents([s.key for s in subjects if s.type == "sample"]))
                # An undoing is later than what it undoes, in one file and by what `_insert` sees to.
                kept |= {s.key for s in subjects if s.type == "event" and s.key in given}
                subjects = [s for s in subjects if s.key in kept and s.type in ("sample", "event")]
            if subjects:
                given.add(identity)
                yield from Event(identity, author, time, kind, json.loads(payload), tuple(subjects)).lines()
