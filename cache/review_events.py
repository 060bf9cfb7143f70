"""What people add to a run, as events that are never altered: who, when, what, about what; and their form in a file.

An event has one subject or many: tagging 100,000 images is one event, undone in one step. The kinds and what they carry::

    tag, untag   {"tag": TEXT}
    note         {"text": TEXT}
    verdict      {"verdict": one of `VERDICTS` or null, "label": INDEX, "label_name": TEXT}   the label where it is wrong
    view         any of {"name", "description", "url", "order", "start", "deleted"}           what changed of a saved view
    undo         {}                                                                           its subjects are events
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any, Literal, cast

from cache.errors import ReviewError
from cache.filters import MAX_PARAM, Filter
from cache.review_condition import VERDICTS, WRONG_LABEL
from cache.schema import CONTENT_HEX

SubjectType = Literal["sample", "selection", "finding", "view", "event"]
Kind = Literal["tag", "untag", "note", "verdict", "view", "undo"]
ABOUT: dict[Kind, tuple[SubjectType, ...]] = {
    **dict.fromkeys(("tag", "untag", "note", "verdict"), ("sample", "selection", "finding")),
    "view": ("view",),
    "undo": ("event",),
}
"""What each kind of event may be about."""
MAX_AUTHOR = 200
MAX_TAG = 100
MAX_NOTE = 20_000
MAX_VIEW_NAME = 200
MAX_SUBJECTS = 1_000_000
"""Subjects of one event."""
MAX_FINDING = 500
LATEST = 4_102_444_800_000_000
"""The year 2100: a later time is no time at which anybody reviewed anything."""
LINE_SUBJECTS = 1_000
"""Subjects in one line of a file; an event of more takes several lines."""
MAX_LINE = 1 << 22
"""Bytes of a line."""
_IDENTITY = re.compile(r"[0-9a-f]{32}")
_CONTENT = re.compile(rf"[0-9a-f]{{{CONTENT_HEX}}}")
_VIEW: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "description": str,
    "url": str,
    "order": (int, float),
    "start": bool,
    "deleted": bool,
}


@dataclass(frozen=True, order=True)
class Subject:
    """What an event is about.

    Attributes:
        type: What kind of thing: see `SubjectType`.
        key: A sample's content key, a selection's filter as its link has it, a finding's key, a view's or event's id.
    """

    type: SubjectType
    key: str

    @classmethod
    def sample(cls, content: str) -> Subject:
        """Return an image, by its content key."""
        return cls("sample", content)

    @classmethod
    def selection(cls, filter_: Filter) -> Subject:
        """Return a selection, by its filter."""
        return cls("selection", filter_.to_param())

    @classmethod
    def finding(cls, key: str) -> Subject:
        """Return a finding, by its key."""
        return cls("finding", key)


@dataclass(frozen=True)
class Event:
    """Something that one person did at one moment; never altered.

    Attributes:
        id: Random, 32 hexadecimal digits.
        author: Who did it.
        time: When, in microseconds since 1970, UTC.
        kind: What was done.
        payload: With which words: see the module.
        subjects: About what, without doubles; those of an event read from one line of a file may be a part of them.
    """

    id: str
    author: str
    time: int
    kind: Kind
    payload: dict[str, Any]
    subjects: tuple[Subject, ...]

    @property
    def when(self) -> datetime:
        """When it happened."""
        return moment(self.time)

    def lines(self) -> Iterator[str]:
        """Yield the event as lines of JSON, of `LINE_SUBJECTS` subjects each."""
        head = {"id": self.id, "author": self.author, "time": self.time, "kind": self.kind}
        rest = iter(sorted(set(self.subjects)))
        while some := list(islice(rest, LINE_SUBJECTS)):
            about = {kind: [s.key for s in of] for kind, of in groupby(some, lambda s: s.type)}
            yield json.dumps({**head, "payload": self.payload, "subjects": about}, ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Event:
        """Read what `lines` wrote.

        Raises:
            ReviewError: It is no event.
        """
        try:
            data = json.loads(line, parse_constant=_refuse_constant)
            about = [Subject(kind, key) for kind, keys in data.pop("subjects").items() for key in keys]
            event = cls(**data, subjects=tuple(about))
        except (ValueError, TypeError, AttributeError, RecursionError, KeyError) as error:
            raise ReviewError(
                "A line of the reviews is no review: ask for them to be exported again."
            ) from error
        check_event(event)
        return event


def moment(time: int) -> datetime:
    """Return a time as a date in UTC; past `LATEST` there is none."""
    return datetime.fromtimestamp(min(time, LATEST) / 1_000_000, UTC)


def plain(value: object, what: str, limit: int, lines: bool = False) -> str:
    """Return a text as it may be kept: without space around it, in composed form.

    Args:
        value: What was typed.
        what: What it is, for the sentence.
        limit: Characters at most.
        lines: Whether it may hold line breaks and other control characters.

    Raises:
        ReviewError: It is empty, too long, or holds what no database keeps whole.
    """
    if not isinstance(value, str):
        raise ReviewError(f"{what} is a text: type some.")
    check_text(value, what, limit)
    text = unicodedata.normalize("NFC", value).strip()
    if not any(unicodedata.category(c)[0] not in "CZ" for c in text):
        raise ReviewError(f"{what} is empty: type some text.")
    if not lines and any(unicodedata.category(c) == "Cc" for c in text):
        raise ReviewError(f"{what} is one line of text: remove the line breaks and control characters.")
    check_text(text, what, limit)
    return text


def check_text(text: object, what: str, limit: int) -> None:
    """Refuse a text that is too long or that a database and a file would not keep whole.

    Raises:
        ReviewError: It is.
    """
    if not isinstance(text, str):
        raise ReviewError(f"{what} is not a text: type some.")
    if len(text) > limit:
        raise ReviewError(f"{what} has {len(text):,} characters, and {limit:,} are the most: shorten it.")
    if "\0" in text:
        raise ReviewError(f"{what} holds a NUL character, which no text needs: remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ReviewError(f"{what} holds broken characters: type it again.") from error


def check_event(event: Event) -> None:
    """Refuse an event that this module would not have made, wherever it comes from.

    Raises:
        ReviewError: It is none.
    """
    if not (isinstance(event.id, str) and _IDENTITY.fullmatch(event.id)):
        raise ReviewError("A review has no proper id: ask for the reviews to be exported again.")
    if type(event.time) is not int or not 0 <= event.time <= LATEST:
        raise ReviewError(
            "A review was made at no possible time: set the clock of the machine it comes from."
        )
    if not isinstance(event.kind, str) or event.kind not in ABOUT or not isinstance(event.payload, dict):
        raise ReviewError(
            f"A review is of a kind that this Gazelake does not know ({str(event.kind)[:40]!r}): upgrade it."
        )
    check_text(event.author, "The reviewer's name", MAX_AUTHOR)
    if not event.author:
        raise ReviewError("A review has no author: say who reviews.")
    check_payload(event.kind, event.payload)
    check_subjects(event.kind, event.subjects)


def check_subjects(kind: Kind, subjects: Iterable[Subject]) -> None:
    """Refuse subjects that a kind of event cannot be about.

    Raises:
        ReviewError: There are none, too many, or one is not of the kind or has no proper key.
    """
    count = 0
    for count, subject in enumerate(subjects, 1):  # noqa: B007 - counted
        key = subject.key
        check_text(key, "What a review is about", MAX_PARAM)
        if subject.type not in ABOUT[kind]:
            raise ReviewError(f"A {kind} cannot be about a {str(subject.type)[:40]}: choose something else.")
        hexadecimal = {"sample": _CONTENT, "view": _IDENTITY, "event": _IDENTITY}.get(subject.type)
        if hexadecimal is not None and not hexadecimal.fullmatch(key):
            raise ReviewError(f"{key[:60]!r} is not the key of a {subject.type}: reload the page.")
        if subject.type == "finding" and not 0 < len(key) <= MAX_FINDING:
            raise ReviewError("A finding's key is a short text: reload the page.")
    if not count:
        raise ReviewError("Nothing is chosen: choose at least one image.")
    if count > (1 if kind == "view" else MAX_SUBJECTS):
        raise ReviewError(f"{count:,} are too many for one action: choose {MAX_SUBJECTS:,} at most.")


def check_payload(kind: Kind, payload: dict[str, Any]) -> None:
    """Refuse words that do not belong to a kind of event.

    Raises:
        ReviewError: They do not.
    """
    keys = set(payload)
    match kind:
        case "tag" | "untag" if keys == {"tag"}:
            return _check_said(payload["tag"], "A tag", MAX_TAG)
        case "note" if keys == {"text"}:
            return _check_said(payload["text"], "A note", MAX_NOTE)
        case "verdict" if "verdict" in keys and keys <= {"verdict", "label", "label_name"}:
            return _check_verdict(payload)
        case "view" if keys and keys <= set(_VIEW):
            return _check_view(payload)
        case "undo" if not keys:
            return None
    raise ReviewError(
        f"A {kind} does not say what a {kind} says: upgrade Gazelake, or export the reviews again."
    )


def _check_said(text: object, what: str, limit: int) -> None:
    check_text(text, what, limit)
    if not text:
        raise ReviewError(f"{what} is empty: type some text.")


def _check_verdict(payload: dict[str, Any]) -> None:
    verdict, label = payload["verdict"], payload.get("label")
    if verdict is not None and verdict not in VERDICTS:
        raise ReviewError(f"{str(verdict)[:40]!r} is no verdict: choose one of {', '.join(VERDICTS)}.")
    if "label_name" in payload:
        check_text(payload["label_name"], "A label", MAX_PARAM)
    if (label is not None or "label_name" in payload) and verdict != WRONG_LABEL:
        raise ReviewError("A right label is suggested where the label is wrong: choose that verdict.")
    if label is not None and (type(label) is not int or not 0 <= label < 2**31):
        raise ReviewError("The suggested label is not one of the model's classes: choose one that is.")


def _check_view(payload: dict[str, Any]) -> None:
    for key, value in payload.items():
        kind = _VIEW[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ReviewError(f"The {key} of a saved view is of the wrong kind: save the view again.")
    check_text(payload.get("name", ""), "A view's name", MAX_VIEW_NAME)
    check_text(payload.get("description", ""), "A view's description", MAX_NOTE)
    check_text(payload.get("url", ""), "A view's address", MAX_PARAM)
    order = cast("float", payload.get("order", 0))
    if not abs(order) < 1e15:
        raise ReviewError("A view's place in the list is a small number: move the view again.")


def _refuse_constant(name: str) -> object:
    raise ValueError(name)
