"""What is shown of the reviews: a view of their events, folded by time and then id, whatever order they came in.

A tag is on a subject where the last event about the two adds it; a person's verdict is their last one; a saved view has
each of its properties from the last event that names it. Events that are undone do not count.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cache.review_condition import VERDICTS
from cache.review_database import SCHEMA
from cache.review_events import Kind, Subject, SubjectType, moment
from cache.reviews import Reviews, undone_events

AT_ONCE = 500
"""Subjects looked up with one statement."""
PLACE = "printf('%016d', e.time) || e.id"
"""Where an event stands among all: by time, then by id."""
FROM_LIVE = (
    "FROM subjects AS s JOIN events AS e ON e.number = s.event "
    "WHERE e.id NOT IN (SELECT id FROM temp.undone) AND s.type = $type"
)


@dataclass(frozen=True)
class Verdict:
    """One person's verdict on a subject; label and label_name are what they suggest where the label is wrong."""

    author: str
    verdict: str
    time: datetime
    label: int | None = None
    label_name: str = ""


@dataclass(frozen=True)
class Note:
    """What somebody noted; its id undoes it."""

    id: str
    author: str
    text: str
    time: datetime


@dataclass
class Marks:
    """What stands on a subject now: tags in alphabetical order, verdicts by person, notes by time."""

    tags: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """An event as a list shows it: how many subjects it has, one of them, and whether it is undone."""

    id: str
    author: str
    kind: Kind
    payload: dict[str, Any]
    time: datetime
    subjects: int
    subject: Subject
    undone: bool


@dataclass(frozen=True)
class Tag:
    """A tag, and how many subjects bear it."""

    tag: str
    count: int


@dataclass(frozen=True)
class Reviewer:
    """A person, how many of their events count, and when the first and the last of those happened."""

    name: str
    events: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class SavedView:
    """A state of a page under a name, and who changed it last."""

    id: str
    name: str
    description: str
    url: str
    order: float
    start: bool
    author: str
    time: datetime


def marks(reviews: Reviews, subjects: Iterable[Subject]) -> dict[Subject, Marks]:
    """Return what stands on subjects, such as those of a page of the gallery; every one of them has an entry.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    found = {subject: Marks() for subject in subjects}
    with _reading(reviews) as connection:
        for kind in sorted({subject.type for subject in found}):
            keys = [subject.key for subject in found if subject.type == kind]
            for first in range(0, len(keys), AT_ONCE):
                _mark(connection, kind, keys[first : first + AT_ONCE], found)
    return found


def history(
    reviews: Reviews, subject: Subject | None = None, author: str | None = None, limit: int = 200
) -> list[Entry]:
    """Return the latest events, the last one first: about a subject, by an author, or all; undone ones are marked.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    where, values = ["TRUE"], {"limit": limit, "author": author, "type": "", "key": ""}
    if author is not None:
        where.append("e.author = $author")
    if subject is not None:
        where.append("e.number IN (SELECT event FROM subjects WHERE type = $type AND subject = $key)")
        values |= {"type": subject.type, "key": subject.key}
    with _reading(reviews) as connection:
        rows = connection.execute(
            "SELECT e.id, e.author, e.kind, e.payload, e.time, e.number, e.id IN (SELECT id FROM temp.undone) "
            f"FROM events AS e WHERE {' AND '.join(where)} ORDER BY e.time DESC, e.id DESC LIMIT $limit",
            values,
        ).fetchall()
        entries = []
        for identity, who, kind, payload, time, number, undone in rows:
            count, of, key = connection.execute(
                "SELECT count(*), min(type), min(subject) FROM subjects WHERE event = ?", (number,)
            ).fetchone()
            about = subject or Subject(of, key)
            entries.append(
                Entry(identity, who, kind, json.loads(payload), moment(time), count, about, bool(undone))
            )
        return entries


def given_verdicts(reviews: Reviews, of: SubjectType = "sample") -> list[tuple[str, Verdict]]:
    """Return every verdict that stands, with its subject's key.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    with _reading(reviews) as connection:
        rows = connection.execute(_verdicts(), {"type": of}).fetchall()
    said = ((key, _verdict(author, payload, time)) for key, author, payload, time, _ in rows)
    return [(key, verdict) for key, verdict in said if verdict is not None]


def last_action(reviews: Reviews, author: str) -> Entry | None:
    """Return what an author's "undo" would undo: the last of their events that counts and is no undoing itself.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    with _reading(reviews) as connection:
        row = connection.execute(
            "SELECT e.id, e.kind, e.payload, e.time, count(*), min(s.type), min(s.subject) "
            "FROM events AS e JOIN subjects AS s ON s.event = e.number WHERE e.number = ("
            "SELECT number FROM events WHERE author = $author AND kind != 'undo' "
            "AND id NOT IN (SELECT id FROM temp.undone) ORDER BY time DESC, id DESC LIMIT 1) GROUP BY e.number",
            {"author": author},
        ).fetchone()
        if row is None:
            return None
        identity, kind, payload, time, count, of, key = row
        return Entry(
            identity, author, kind, json.loads(payload), moment(time), count, Subject(of, key), False
        )


def tags(reviews: Reviews, of: SubjectType = "sample") -> list[Tag]:
    """Return the tags in use with the number of subjects that bear them, the most frequent first.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    with _reading(reviews) as connection:
        rows = connection.execute(
            f"SELECT tag, count(*) AS n FROM ({_all_tags()}) WHERE kind = 'tag' GROUP BY tag ORDER BY n DESC, tag",
            {"type": of},
        )
        return [Tag(tag, count) for tag, count in rows]


def verdicts(reviews: Reviews, of: SubjectType = "sample") -> dict[str, int]:
    """Return how many subjects somebody has given each of `VERDICTS`; a subject may count under several.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    with _reading(reviews) as connection:
        rows = connection.execute(
            "SELECT json_extract(payload, '$.verdict') AS verdict, count(DISTINCT subject) "
            f"FROM ({_verdicts()}) GROUP BY verdict",
            {"type": of},
        )
        counts = dict(rows.fetchall())
    return {verdict: counts.get(verdict, 0) for verdict in VERDICTS}


def reviewed(
    reviews: Reviews,
    tag: str | None = None,
    verdict: str | None = None,
    author: str | None = None,
    note: str | None = None,
    of: SubjectType = "sample",
) -> list[str]:
    """Return the keys of the subjects, for images their contents, that satisfy everything that is given, sorted.

    Args:
        reviews: The reviews.
        tag: They bear the tag.
        verdict: Somebody's verdict on them is this.
        author: It is this author who tagged, judged or noted so; alone, anything by them that stands.
        note: One of the notes on them contains this text, in upper or lower case.
        of: What kind of subject.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    values = {"type": of, "tag": tag, "verdict": verdict, "author": author}
    by = "" if author is None else " AND author = $author"
    sets: list[set[str]] = []

    def select(sql: str) -> set[str]:
        return {row[0] for row in connection.execute(sql, values)}

    with _reading(reviews) as connection:
        if tag is not None:
            only = _all_tags("AND json_extract(payload, '$.tag') = $tag")
            sets.append(select(f"SELECT subject FROM ({only}) WHERE kind = 'tag'{by}"))
        if verdict is not None:
            given = _verdicts()
            sets.append(
                select(
                    f"SELECT subject FROM ({given}) WHERE json_extract(payload, '$.verdict') = $verdict{by}"
                )
            )
        if note is not None:
            wanted = note.casefold()
            rows = connection.execute(_notes("" if author is None else "AND e.author = $author"), values)
            sets.append({row[0] for row in rows if wanted in json.loads(row[3])["text"].casefold()})
        if not sets:
            sets.append(
                select(f"SELECT subject FROM ({_all_tags()}) WHERE kind = 'tag'{by}")
                | select(
                    f"SELECT subject FROM ({_verdicts()}) "
                    f"WHERE json_extract(payload, '$.verdict') IS NOT NULL{by}"
                )
                | select(
                    f"SELECT subject FROM (SELECT s.subject, e.author {FROM_LIVE} AND e.kind = 'note') WHERE TRUE{by}"
                )
            )
    return sorted(set.intersection(*sets))


def reviewers(reviews: Reviews) -> list[Reviewer]:
    """Return who has reviewed, by name.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    with _reading(reviews) as connection:
        rows = connection.execute(
            "SELECT author, count(*), min(time), max(time) FROM events "
            "WHERE kind != 'undo' AND id NOT IN (SELECT id FROM temp.undone) GROUP BY author ORDER BY author"
        )
        return [Reviewer(name, count, moment(first), moment(last)) for name, count, first, last in rows]


def views(reviews: Reviews) -> list[SavedView]:
    """Return the saved views in the order of their list; at most one of them is the page to start with.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    state: dict[str, dict[str, Any]] = {}
    start = ""
    with _reading(reviews) as connection:
        for view, author, time, payload in connection.execute(
            f"SELECT s.subject, e.author, e.time, e.payload {FROM_LIVE} AND e.kind = 'view' ORDER BY e.time, e.id",
            {"type": "view"},
        ):
            changes = json.loads(payload)
            state.setdefault(view, {}).update(changes, author=author, time=moment(time))
            if changes.get("start"):
                start = view
    saved = [
        SavedView(
            view,
            now.get("name", ""),
            now.get("description", ""),
            now["url"],
            now.get("order", 0),
            view == start and bool(now.get("start")),
            now["author"],
            now["time"],
        )
        for view, now in state.items()
        if "url" in now and not now.get("deleted")
    ]
    return sorted(saved, key=lambda view: (view.order, view.name, view.id))


def _verdict(author: str, payload: str, time: int) -> Verdict | None:
    """Read a verdict; None where the author withdrew it."""
    said = json.loads(payload)
    if said["verdict"] is None:
        return None
    return Verdict(author, said["verdict"], moment(time), said.get("label"), said.get("label_name", ""))


def _tags(among: str = "") -> str:
    """Return the SELECT of each subject's tags: subject, tag, author, and kind, the last event's about the two."""
    return (
        f"SELECT s.subject, json_extract(e.payload, '$.tag') AS tag, e.author, e.kind, max({PLACE}) "
        f"{FROM_LIVE} AND e.kind IN ('tag', 'untag') {among} GROUP BY s.subject, tag"
    )


def _all_tags(among: str = "") -> str:
    """Return the same SELECT over all subjects: events are put in order once, not again for each of their subjects."""
    return (
        "WITH placed AS MATERIALIZED (SELECT number, author, kind, json_extract(payload, '$.tag') AS tag, "
        "row_number() OVER (ORDER BY time, id) AS place FROM events "
        f"WHERE kind IN ('tag', 'untag') AND id NOT IN (SELECT id FROM temp.undone) {among}) "
        "SELECT s.subject, e.tag, e.author, e.kind, max(e.place) FROM placed AS e "
        "CROSS JOIN subjects AS s ON s.event = e.number AND s.type = $type GROUP BY s.subject, e.tag"
    )


def _verdicts(among: str = "") -> str:
    """Return the SELECT of each person's last verdict on each subject: subject, author, payload, time."""
    return (
        f"SELECT s.subject, e.author, e.payload, e.time, max({PLACE}) "
        f"{FROM_LIVE} AND e.kind = 'verdict' {among} GROUP BY s.subject, e.author"
    )


def _notes(among: str = "") -> str:
    """Return the SELECT of notes in the order of time: subject, id, author, payload, time."""
    return (
        f"SELECT s.subject, e.id, e.author, e.payload, e.time {FROM_LIVE} AND e.kind = 'note' {among} "
        "ORDER BY e.time, e.id"
    )


def _mark(
    connection: sqlite3.Connection, kind: SubjectType, keys: list[str], found: dict[Subject, Marks]
) -> None:
    among = f"AND s.subject IN ({', '.join(f'$k{i}' for i in range(len(keys)))})"
    values = {"type": kind, **{f"k{i}": key for i, key in enumerate(keys)}}
    for key, tag, _, last, _ in connection.execute(_tags(among) + " ORDER BY tag", values):
        if last == "tag":
            found[Subject(kind, key)].tags.append(tag)
    for key, author, payload, time, _ in connection.execute(_verdicts(among) + " ORDER BY e.author", values):
        verdict = _verdict(author, payload, time)
        if verdict is not None:
            found[Subject(kind, key)].verdicts.append(verdict)
    for key, identity, author, payload, time in connection.execute(_notes(among), values):
        found[Subject(kind, key)].notes.append(
            Note(identity, author, json.loads(payload)["text"], moment(time))
        )


@contextmanager
def _reading(reviews: Reviews) -> Iterator[sqlite3.Connection]:
    """Give one consistent state with ``temp.undone``, the ids of events that do not count; without reviews, an empty one."""
    with reviews.reading() as opened, closing(sqlite3.connect(":memory:")) as empty:
        connection = opened
        if connection is None:
            empty.executescript(SCHEMA)
            connection = empty
        undone = undone_events(connection)
        connection.execute("CREATE TEMP TABLE undone (id TEXT PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT INTO temp.undone VALUES (?)", ((identity,) for identity in undone))
        yield connection
