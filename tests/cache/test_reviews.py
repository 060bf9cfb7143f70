"""Reviews: words that are kept whole whoever writes at once, folded alike whatever order they came in."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import review_views as shown
from cache.catalog import Catalog
from cache.errors import ReviewError, ReviewStoreError
from cache.filters import Filter, Is
from cache.manifest import Manifest
from cache.review_condition import VERDICTS
from cache.review_events import (
    ABOUT,
    LATEST,
    LINE_SUBJECTS,
    MAX_AUTHOR,
    MAX_NOTE,
    MAX_TAG,
    Event,
    Subject,
)
from cache.reviewed_samples import LABEL_ERRORS, label_errors, sample_ids
from cache.reviews import Merged, Reviews, reviews_path


def content(i: int) -> str:
    return hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest()


def images(*numbers: int) -> list[Subject]:
    return [Subject.sample(content(i)) for i in numbers]


ONE, TWO, THREE = images(1, 2, 3)
HOSTILE = [
    "<script>alert('x')</script>",
    "\"'; DROP TABLE events; --",
    "🐺" * 10,
    "שלום עולם",
    "a\u202egpj.exe",
    "line one\nline two\ttabbed",
    "ẞ" * 10_000,
    "{{ '%s' $tag ? }}",
]


@pytest.fixture
def reviews(tmp_path: Path) -> Reviews:
    return Reviews(tmp_path / "reviews.sqlite", wait=5)


def test_nothing_is_there_before_the_first_word(reviews: Reviews, tmp_path: Path) -> None:
    assert shown.tags(reviews) == []
    assert shown.views(reviews) == []
    assert shown.history(reviews) == []
    assert shown.reviewers(reviews) == []
    assert shown.reviewed(reviews, tag="x") == shown.reviewed(reviews, author="x") == []
    assert shown.marks(reviews, [ONE])[ONE] == shown.Marks()
    assert shown.last_action(reviews, "Ann") is None
    assert reviews.revision() == ("", 0)
    assert list(reviews.lines()) == []
    assert list(tmp_path.iterdir()) == []


def test_where_reviews_lie(tmp_path: Path) -> None:
    manifest = Manifest("m")
    assert reviews_path(tmp_path) == tmp_path / "reviews.sqlite"
    assert reviews_path(tmp_path, manifest, Path("/r")) == Path(f"/r/{manifest.run_id}.sqlite")


def test_a_tag_comes_goes_and_comes_back(reviews: Reviews) -> None:
    reviews.tag("Ann", [ONE, TWO, ONE], "  snow ")
    assert shown.tags(reviews) == [shown.Tag("snow", 2)]
    reviews.untag("Bo", [TWO], "snow")
    assert shown.reviewed(reviews, tag="snow") == [ONE.key]
    reviews.tag("Bo", [TWO], "snow")
    assert shown.marks(reviews, [ONE, TWO, THREE])[TWO].tags == ["snow"]
    assert shown.reviewed(reviews, tag="snow", author="Bo") == [TWO.key]
    assert shown.reviewed(reviews, tag="SNOW") == []


def test_undo_and_redo_whoever_did_it(reviews: Reviews) -> None:
    first = reviews.tag("Ann", [ONE, TWO], "snow")
    reviews.untag("Ann", [ONE], "snow")
    reviews.undo("Bo", first)
    assert shown.tags(reviews) == []
    with pytest.raises(ReviewError, match="undone already"):
        reviews.undo("Ann", first)
    undoing = reviews.redo("Ann", first)
    assert shown.reviewed(reviews, tag="snow") == [TWO.key]
    with pytest.raises(ReviewError, match="nothing to restore"):
        reviews.redo("Ann", first)
    reviews.undo("Ann", undoing)
    assert shown.tags(reviews) == []
    with pytest.raises(ReviewError, match="not among these"):
        reviews.undo("Ann", "f" * 32)
    entries = shown.history(reviews, subject=ONE)
    assert [(e.kind, e.undone) for e in entries] == [("untag", False), ("tag", True)]
    assert entries[1].subjects == 2


def test_undoing_step_by_step_goes_back_in_time(reviews: Reviews) -> None:
    made = [reviews.note("Ann", [ONE], f"note {i}") for i in range(3)]
    reviews.note("Bo", [ONE], "other")
    for expected in reversed(made):
        last = shown.last_action(reviews, "Ann")
        assert last is not None
        assert last.id == expected
        reviews.undo("Ann", last.id)
    assert shown.last_action(reviews, "Ann") is None
    assert [note.text for note in shown.marks(reviews, [ONE])[ONE].notes] == ["other"]


def test_everybody_has_a_verdict_of_their_own(reviews: Reviews) -> None:
    reviews.judge("Ann", [ONE, TWO], "shortcut")
    reviews.judge("Bo", [ONE], "wrong label", 2, "fox")
    reviews.judge("Ann", [TWO], "real feature")
    assert [
        (v.author, v.verdict, v.label, v.label_name) for v in shown.marks(reviews, [ONE])[ONE].verdicts
    ] == [
        ("Ann", "shortcut", None, ""),
        ("Bo", "wrong label", 2, "fox"),
    ]
    assert shown.verdicts(reviews) == {"shortcut": 1, "real feature": 1, "wrong label": 1, "unsure": 0}
    assert shown.reviewed(reviews, verdict="shortcut", author="Bo") == []
    reviews.judge("Ann", [ONE], None)
    assert shown.reviewed(reviews, verdict="shortcut") == []
    assert shown.reviewed(reviews, author="Ann") == [TWO.key]


def test_reviewed_takes_everything_that_is_given(reviews: Reviews) -> None:
    reviews.tag("Ann", [ONE, TWO], "snow")
    reviews.judge("Bo", [TWO, THREE], "unsure")
    reviews.note("Bo", [TWO], "Straße im SCHNEE")
    assert shown.reviewed(reviews, tag="snow", verdict="unsure") == [TWO.key]
    assert shown.reviewed(reviews, note="STRASSE") == [TWO.key]
    assert shown.reviewed(reviews, note="schnee", author="Ann") == []
    assert shown.reviewed(reviews, author="Bo") == sorted([TWO.key, THREE.key])
    assert shown.reviewed(reviews) == sorted([ONE.key, TWO.key, THREE.key])
    assert [(r.name, r.events) for r in shown.reviewers(reviews)] == [("Ann", 1), ("Bo", 2)]


def test_selections_and_findings_are_reviewed_apart_from_images(reviews: Reviews) -> None:
    wrong, finding = Subject.selection(Filter((Is("correct", False),))), Subject.finding("wolf/where/1")
    reviews.judge("Ann", [wrong], "shortcut")
    reviews.tag("Ann", [finding], "snow")
    assert shown.verdicts(reviews)["shortcut"] == 0
    assert shown.reviewed(reviews, verdict="shortcut", of="selection") == [wrong.key]
    assert Filter.from_param(wrong.key) == Filter((Is("correct", False),))
    assert shown.tags(reviews, "finding") == [shown.Tag("snow", 1)]
    both = shown.marks(reviews, [wrong, finding])
    assert [v.verdict for v in both[wrong].verdicts] == ["shortcut"]
    assert both[finding].tags == ["snow"]


def test_saved_views_keep_what_two_people_change_at_once(reviews: Reviews) -> None:
    a = reviews.save_view("Ann", name="Snow", url="/browse?filter=%7B%7D", order=2)
    b = reviews.save_view("Bo", name="Tags", url="/region", order=1, start=True)
    reviews.save_view("Bo", a, description="Look at the ground")
    reviews.save_view("Ann", a, name="Wolves on snow", start=True)
    first, second = shown.views(reviews)
    assert (first.id, second.id) == (b, a)
    assert (second.name, second.description, second.url) == (
        "Wolves on snow",
        "Look at the ground",
        "/browse?filter=%7B%7D",
    )
    assert (first.start, second.start) == (False, True)
    reviews.save_view("Ann", a, deleted=True)
    assert [view.id for view in shown.views(reviews)] == [b]
    last = shown.last_action(reviews, "Ann")
    assert last is not None
    reviews.undo("Ann", last.id)
    assert len(shown.views(reviews)) == 2
    reviews.save_view("Ann", a, start=False)
    assert not any(view.start for view in shown.views(reviews))
    for wrong in (
        {"url": "/x"},
        {"name": " ", "url": "/x"},
        {"name": "n", "url": "/x", "order": float("nan")},
    ):
        with pytest.raises(ReviewError):
            reviews.save_view("Ann", **wrong)
    with pytest.raises(ReviewError, match="wrong kind"):
        reviews.save_view("Ann", a, start=1)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_any_text_is_kept_as_it_is(reviews: Reviews, text: str, tmp_path: Path) -> None:
    reviews.note(text.split("\n", maxsplit=1)[0][:100], [ONE], text)
    (note,) = shown.marks(reviews, [ONE])[ONE].notes
    assert note.text == text
    assert note.author == text.split("\n", maxsplit=1)[0][:100]
    assert shown.reviewed(reviews, note=text) == [ONE.key]
    other = Reviews(tmp_path / "other.sqlite")
    other.merge(Event.from_line(line) for line in reviews.lines())
    assert shown.marks(other, [ONE])[ONE].notes == [note]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\0b", "NUL"),
        ("\ud800", "broken characters"),
        (" \u200b\n", "empty"),
        ("x" * (MAX_NOTE + 1), "20,001 characters"),
        (7, "is a text"),
    ],
)
def test_what_no_database_keeps_is_refused(reviews: Reviews, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match=said):
        reviews.note("Ann", [ONE], text)
    with pytest.raises(ReviewError):
        reviews.note(text, [ONE], "fine")
    with pytest.raises(ReviewError):
        reviews.tag("Ann", [ONE], text)
    assert list(tmp_path.iterdir()) == []


def test_what_makes_no_sense_is_refused(reviews: Reviews) -> None:
    def refused(said: str, call: object) -> None:
        assert callable(call)
        with pytest.raises(ReviewError, match=said):
            call()

    refused("Nothing is chosen", lambda: reviews.tag("Ann", [], "x"))
    refused("one line", lambda: reviews.tag("Ann", [ONE], "a\nb"))
    refused("100 are the most", lambda: reviews.tag("Ann", [ONE], "x" * 101))
    refused("no verdict", lambda: reviews.judge("Ann", [ONE], "guilty"))
    refused("choose that verdict", lambda: reviews.judge("Ann", [ONE], "shortcut", 1))
    refused("not one of the model's", lambda: reviews.judge("Ann", [ONE], "wrong label", -1))
    refused("not the key", lambda: reviews.tag("Ann", [Subject.sample("husky/1.jpg")], "x"))
    refused("cannot be about", lambda: reviews.tag("Ann", [Subject("view", "0" * 32)], "x"))
    assert reviews.revision()[1] == 0


def test_a_hundred_thousand_images_are_one_action(reviews: Reviews) -> None:
    event = reviews.tag("Ann", images(*range(100_000)), "snow")
    assert shown.tags(reviews) == [shown.Tag("snow", 100_000)]
    assert len(shown.reviewed(reviews, tag="snow")) == 100_000
    assert max(len(line) for line in reviews.lines()) < 50_000
    reviews.undo("Bo", event)
    assert shown.tags(reviews) == []
    assert [entry.subjects for entry in shown.history(reviews)] == [1, 100_000]


def test_the_revision_tells_of_every_change_by_whomever(reviews: Reviews) -> None:
    other = Reviews(reviews.path)
    seen = {reviews.revision()}
    for act in (reviews.tag, other.tag, reviews.untag, other.note):
        act("Ann", [ONE], "x")
        seen.add(reviews.revision())
        assert reviews.revision() == other.revision()
    assert len(seen) == 5


WRITER = """
import sys
from cache.reviews import Reviews
from cache.review_events import Subject
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
reviews = Reviews(path, wait=60)
for i in range(count):
    event = reviews.note(who, [Subject.sample(f"{i % 7:032x}")], f"{who} {i}")
    if i % 5 == 4:
        reviews.undo(who, event)
print(len(list(reviews.lines())))
"""


def test_several_processes_write_at_once_and_no_word_is_lost(reviews: Reviews) -> None:
    command = [sys.executable, "-c", WRITER, str(reviews.path)]
    writers = [
        subprocess.Popen([*command, f"writer {n}", "40"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(6)
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=100)
        assert writer.returncode == 0, said.decode()
    subjects = [Subject.sample(f"{i:032x}") for i in range(7)]
    found = {note.text for mark in shown.marks(reviews, subjects).values() for note in mark.notes}
    assert found == {f"writer {n} {i}" for n in range(6) for i in range(40) if i % 5 != 4}
    assert {r.name: r.events for r in shown.reviewers(reviews)} == {f"writer {n}": 32 for n in range(6)}
    times = [json.loads(line)["time"] for line in reviews.lines()]
    assert len(set(times)) == len(times) == 6 * 48


KILLED = """
import os, sys
from cache.reviews import Reviews
from cache.review_events import Subject
import cache.reviews as module
reviews = Reviews(sys.argv[1])
reviews.tag("Ann", [Subject.sample("0" * 32)], "kept")
def half(connection, number, subjects):
    connection.executemany("INSERT INTO subjects VALUES (?, ?, ?)", ((s.type, s.key, number) for s in subjects))
    os.kill(os.getpid(), 9)
module._add_subjects = half
reviews.tag("Ann", [Subject.sample(f"{i:032x}") for i in range(5000)], "lost")
"""


def test_a_killed_process_leaves_whole_actions(reviews: Reviews) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(reviews.path)], check=False)
    assert killed.returncode == -9
    assert shown.tags(reviews) == [shown.Tag("kept", 1)]
    reviews.tag("Ann", [ONE], "on")
    assert len(shown.tags(reviews)) == 2


def test_a_locked_file_is_said_and_nothing_is_written(reviews: Reviews) -> None:
    reviews.tag("Ann", [ONE], "before")
    impatient = Reviews(reviews.path, wait=0.2)
    holder = sqlite3.connect(reviews.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ReviewStoreError, match="locked by another program"):
        impatient.tag("Ann", [ONE], "meanwhile")
    assert shown.tags(impatient) == [shown.Tag("before", 1)]
    holder.execute("ROLLBACK")
    holder.close()
    impatient.tag("Ann", [ONE], "after")
    assert {tag.tag for tag in shown.tags(reviews)} == {"before", "after"}


def test_a_file_deleted_meanwhile_is_said_and_not_begun_anew(reviews: Reviews) -> None:
    reviews.tag("Ann", [ONE], "x")
    reviews.path.unlink()
    for act in (lambda: reviews.tag("Ann", [ONE], "y"), lambda: shown.tags(reviews), reviews.revision):
        with pytest.raises(ReviewStoreError, match="deleted or exchanged"):
            act()
    assert not reviews.path.exists()
    Reviews(reviews.path).tag("Bo", [ONE], "another's")
    with pytest.raises(ReviewStoreError, match="deleted or exchanged"):
        reviews.tag("Ann", [ONE], "y")


def test_a_file_deleted_during_the_action_is_said(tmp_path: Path) -> None:
    def act(reviews: Reviews) -> None:
        with reviews._database.writing():
            reviews.path.unlink()

    old, new = Reviews(tmp_path / "old.sqlite"), Reviews(tmp_path / "new.sqlite")
    old.tag("Ann", [ONE], "x")
    for reviews in (old, new):
        with pytest.raises(ReviewStoreError, match="deleted or exchanged"):
            act(reviews)
        assert not reviews.path.exists()


def test_a_folder_that_went_away_is_said(tmp_path: Path) -> None:
    away = Reviews(tmp_path / "gone" / "reviews.sqlite")
    for act in (lambda: away.tag("Ann", [ONE], "y"), lambda: shown.tags(away)):
        with pytest.raises(ReviewStoreError, match="is not there"):
            act()


@pytest.mark.parametrize(
    "data", [b"not a database at all, but long enough to be read as one" * 40, b"SQLite"]
)
def test_a_file_of_something_else_is_said_and_left(reviews: Reviews, data: bytes) -> None:
    reviews.path.write_bytes(data)
    for act in (lambda: reviews.tag("Ann", [ONE], "y"), lambda: shown.tags(reviews)):
        with pytest.raises(ReviewStoreError, match="damaged"):
            act()
    assert reviews.path.read_bytes() == data


def test_a_database_of_something_else_is_said_and_left(reviews: Reviews) -> None:
    with sqlite3.connect(reviews.path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    for act in (lambda: reviews.tag("Ann", [ONE], "y"), lambda: shown.tags(reviews)):
        with pytest.raises(ReviewStoreError, match="something other than reviews"):
            act()


def test_damaged_pages_are_said(reviews: Reviews) -> None:
    reviews.tag("Ann", images(*range(3000)), "x")
    data = bytearray(reviews.path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    reviews.path.write_bytes(data)
    for act in (lambda: reviews.tag("Ann", [ONE], "y"), lambda: shown.tags(reviews)):
        with pytest.raises(ReviewStoreError, match="damaged"):
            act()


def test_reviews_of_a_newer_version_are_said(reviews: Reviews) -> None:
    reviews.tag("Ann", [ONE], "x")
    with sqlite3.connect(reviews.path) as newer:
        newer.execute("PRAGMA user_version = 9")
    newer.close()
    for act in (lambda: reviews.tag("Ann", [ONE], "y"), lambda: shown.tags(reviews)):
        with pytest.raises(ReviewStoreError, match=r"version 9.*upgrade"):
            act()


READ_ONLY = """
import os, sys
from cache import review_views
from cache.errors import ReviewStoreError
from cache.review_events import Subject
from cache.reviews import Reviews
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
reviews = Reviews(sys.argv[1], wait=0.5)
print(review_views.tags(reviews))
try:
    reviews.tag("Ann", [Subject.sample("0" * 32)], "no")
except ReviewStoreError as error:
    print(error)
"""


def test_a_read_only_disk_is_read_and_said() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Reviews(folder / "reviews.sqlite").tag("Ann", [ONE], "snow")
        before = (folder / "reviews.sqlite").read_bytes()
        (folder / "reviews.sqlite").chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder / "reviews.sqlite")],
            capture_output=True,
            text=True,
            check=False,
        )
        folder.chmod(0o755)
        assert done.returncode == 0, done.stderr
        assert "Tag(tag='snow', count=1)" in done.stdout
        assert "may not be written" in done.stdout
        assert (folder / "reviews.sqlite").read_bytes() == before


def test_a_full_disk_is_said_and_nothing_is_half_written(
    reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviews.tag("Ann", [ONE], "x")
    connect = reviews._database._connect

    def small(mode: str) -> sqlite3.Connection:
        connection = connect(mode)
        connection.execute("PRAGMA max_page_count = 20")
        return connection

    monkeypatch.setattr(reviews._database, "_connect", small)
    with pytest.raises(ReviewStoreError, match="do not fit"):
        reviews.tag("Ann", images(*range(50_000)), "many")
    assert shown.tags(Reviews(reviews.path)) == [shown.Tag("x", 1)]


def test_label_errors_are_listed_until_they_are_mended(catalog: Catalog, reviews: Reviews) -> None:
    rows = catalog.query("SELECT sample_id, content, label, pred FROM samples ORDER BY sample").to_pylist()
    twins = [row for row in rows if row["content"] == rows[0]["content"]]
    assert len(twins) == 2
    first, other = rows[0], rows[5]
    right = (first["label"] + 1) % 4
    assert label_errors(reviews, catalog).num_rows == 0
    reviews.judge("Ann", [Subject.sample(first["content"])], "wrong label", right, catalog.classes[right])
    reviews.judge("Bo", [Subject.sample(other["content"])], "wrong label", 77, "fox")
    reviews.judge("Cy", [Subject.sample(other["content"])], "wrong label")
    reviews.judge("Di", [Subject.sample(other["content"])], "wrong label", other["label"])
    reviews.judge("Di", [Subject.sample(content(1))], "wrong label", 1)
    found = label_errors(reviews, catalog)
    assert found.schema.equals(LABEL_ERRORS)
    listed = [
        (r["sample_id"], r["label"], r["label_name"], r["suggested"], r["suggested_name"], r["reviewer"])
        for r in found.to_pylist()
    ]
    name, fox = catalog.classes[other["label"]], catalog.classes.index("fox")
    expected = [
        (r["sample_id"], r["label"], catalog.classes[r["label"]], right, catalog.classes[right], "Ann")
        for r in twins
    ]
    if other["label"] != fox:
        expected.append((other["sample_id"], other["label"], name, fox, "fox", "Bo"))
    expected.append((other["sample_id"], other["label"], name, None, None, "Cy"))
    assert listed == sorted(expected, key=lambda row: (row[0], row[5]))
    assert sample_ids(catalog, [first["content"], content(1)]) == sorted(r["sample_id"] for r in twins)
    assert isinstance(found, pa.Table)


LINE = next(iter(Event("0" * 32, "Ann", 5, "tag", {"tag": "x"}, (ONE,)).lines()))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../x"},
        {"time": -1},
        {"time": LATEST + 1},
        {"time": True},
        {"time": "now"},
        {"author": ""},
        {"author": "a\0"},
        {"author": 3},
        {"kind": "drop"},
        {"kind": ["tag"]},
        {"kind": "undo"},
        {"payload": {}},
        {"payload": {"tag": 1}},
        {"payload": {"tag": "x", "more": 1}},
        {"payload": []},
        {"subjects": {}},
        {"subjects": {"sample": ["x"]}},
        {"subjects": {"sample": [1]}},
        {"subjects": {"sample": 1}},
        {"subjects": {"nobody": ["x"]}},
        {"subjects": []},
        {"more": 1},
    ],
    ids=str,
)
def test_an_event_from_elsewhere_that_is_none_leaves_nothing(
    reviews: Reviews, change: dict[str, object]
) -> None:
    bad = json.dumps({**json.loads(LINE), **change})

    def events() -> Iterator[Event]:
        yield Event("1" * 32, "Bo", 4, "tag", {"tag": "y"}, (TWO,))
        yield Event.from_line(bad)

    with pytest.raises(ReviewError):
        reviews.merge(events())
    assert shown.history(reviews) == []
    assert reviews.merge([Event.from_line(LINE)]) == Merged(1)


@pytest.mark.parametrize(
    "line", ["", "[]", "null", "{", "[" * 100_000, '{"subjects": {}}', LINE.replace("5", "NaN")]
)
def test_a_line_that_is_no_event_is_a_sentence(line: str) -> None:
    with pytest.raises(ReviewError):
        Event.from_line(line)


def test_words_here_are_never_altered_from_elsewhere(reviews: Reviews) -> None:
    reviews.merge([Event("1" * 32, "Ann", 4, "note", {"text": "mine"}, (ONE,))])
    forged = Event("1" * 32, "Ann", 4, "note", {"text": "forged"}, (ONE, TWO))
    assert reviews.merge([forged]) == Merged(0, 1, 1)
    assert [n.text for n in shown.marks(reviews, [ONE])[ONE].notes] == ["mine"]
    assert shown.marks(reviews, [TWO])[TWO].notes == []


def test_what_a_person_does_counts_after_what_they_saw(reviews: Reviews) -> None:
    ahead = LATEST - 10
    reviews.merge([Event("1" * 32, "clock ahead", ahead, "tag", {"tag": "x"}, (ONE,))])
    reviews.untag("Ann", [ONE], "x")
    assert shown.tags(reviews) == []


def test_undoings_in_a_circle_do_not_hold(reviews: Reviews) -> None:
    tag = Event("1" * 32, "Ann", 1, "tag", {"tag": "x"}, (ONE,))
    a = Event("a" * 32, "Ann", 2, "undo", {}, (Subject("event", "b" * 32), Subject("event", tag.id)))
    b = Event("b" * 32, "Ann", 3, "undo", {}, (Subject("event", "a" * 32),))
    itself = Event("c" * 32, "Ann", 3, "undo", {}, (Subject("event", "c" * 32), Subject("event", tag.id)))
    reviews.merge([tag, a, b, itself])
    assert shown.tags(reviews) == [shown.Tag("x", 1)]


def test_the_page_says_what_an_event_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
    text = page.partition("\n## Reviews\n")[2].partition("\n## ")[0]
    for word in (*ABOUT, *VERDICTS, *(name for kinds in ABOUT.values() for name in kinds)):
        assert f"`{word}`" in text, word
    for limit in (MAX_AUTHOR, MAX_TAG, MAX_NOTE, LINE_SUBJECTS):
        assert f"{limit:,} " in text, limit
    for name in Event.__dataclass_fields__:
        assert f"`{name}`" in text, name


AUTHORS, TAGS = ("Ann", "Bo"), ("snow", "tag")
SUBJECTS = images(1, 2, 3)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw events as several people may have made them: at equal times too, undone and redone."""
    events: list[Event] = []
    for number in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["tag", "untag", "note", "verdict", "view", "undo"]))
        about = tuple(draw(st.lists(st.sampled_from(SUBJECTS), min_size=1, unique=True)))
        payload: dict[str, object] = {}
        if kind in ("tag", "untag"):
            payload = {"tag": draw(st.sampled_from(TAGS))}
        elif kind == "note":
            payload = {"text": f"note {number}"}
        elif kind == "verdict":
            payload = {"verdict": draw(st.sampled_from([None, *VERDICTS]))}
        elif kind == "view":
            about = (Subject("view", f"{draw(st.integers(0, 1)):032x}"),)
            changes = {"name": f"v{number}", "url": "/x", "start": True, "deleted": draw(st.booleans())}
            keys = draw(st.lists(st.sampled_from(sorted(changes)), min_size=1, unique=True))
            payload = {key: changes[key] for key in keys}
        elif events:
            targets = draw(
                st.lists(st.sampled_from(events), min_size=1, max_size=2, unique_by=lambda e: e.id)
            )
            about = tuple(Subject("event", event.id) for event in targets)
        else:
            continue
        identity = draw(
            st.integers(0, 2**128 - 1).filter(lambda i: f"{i:032x}" not in {e.id for e in events})
        )
        time = draw(st.integers(1, 6))
        events.append(Event(f"{identity:032x}", draw(st.sampled_from(AUTHORS)), time, kind, payload, about))
    return events


def folded(events: Iterable[Event]) -> dict[str, object]:
    """Fold events the slow way."""
    known = {event.id: event for event in events}

    def undone(identity: str) -> bool:
        return any(
            not undone(e.id)
            for e in known.values()
            if e.kind == "undo" and Subject("event", identity) in e.subjects
        )

    tags: dict[tuple[str, str], bool] = {}
    verdicts: dict[tuple[str, str], str | None] = {}
    notes: list[tuple[str, str]] = []
    views: dict[str, dict[str, object]] = {}
    start = None
    for event in sorted(known.values(), key=lambda e: (e.time, e.id)):
        if undone(event.id):
            continue
        for subject in event.subjects:
            match event.kind:
                case "tag" | "untag":
                    tags[subject.key, event.payload["tag"]] = event.kind == "tag"
                case "verdict":
                    verdicts[subject.key, event.author] = event.payload["verdict"]
                case "note":
                    notes.append((subject.key, event.payload["text"]))
                case "view":
                    views.setdefault(subject.key, {}).update(event.payload)
                    start = subject.key if event.payload.get("start") else start
    return {
        "tags": sorted(pair for pair, on in tags.items() if on),
        "verdicts": sorted((*pair, verdict) for pair, verdict in verdicts.items() if verdict),
        "notes": sorted(notes),
        "views": sorted(
            (view, now.get("name", ""), view == start)
            for view, now in views.items()
            if "url" in now and not now.get("deleted")
        ),
    }


def seen(reviews: Reviews) -> dict[str, object]:
    marks = shown.marks(reviews, SUBJECTS)
    found = {
        "tags": sorted((s.key, tag) for s, mark in marks.items() for tag in mark.tags),
        "verdicts": sorted((s.key, v.author, v.verdict) for s, mark in marks.items() for v in mark.verdicts),
        "notes": sorted((s.key, note.text) for s, mark in marks.items() for note in mark.notes),
        "views": sorted((view.id, view.name, view.start) for view in shown.views(reviews)),
    }
    for tag in TAGS:
        assert shown.reviewed(reviews, tag=tag) == sorted(key for key, name in found["tags"] if name == tag)
    for verdict in VERDICTS:
        keys = sorted({key for key, _, given_ in found["verdicts"] if given_ == verdict})
        assert shown.reviewed(reviews, verdict=verdict) == keys
        assert shown.verdicts(reviews)[verdict] == len(keys)
    return found


FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@given(histories(), st.randoms(use_true_random=False))
def test_what_is_shown_is_a_fold_of_the_events_in_any_order(events: list[Event], dice: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        reviews = Reviews(Path(folder) / "a.sqlite")
        shuffled = list(events)
        dice.shuffle(shuffled)  # type: ignore[attr-defined]
        for event in shuffled:
            reviews.merge([event])
        assert seen(reviews) == folded(events)


@FEW
@given(histories(), st.data())
def test_merging_is_a_union(events: list[Event], data: st.DataObject) -> None:
    # Each of three people has some events, and of some of those some subjects only.
    parts = []
    for _ in range(3):
        held = data.draw(st.lists(st.sampled_from(events), unique_by=lambda e: e.id)) if events else []
        cut = data.draw(st.integers(1, 3))
        parts.append([Event(e.id, e.author, e.time, e.kind, e.payload, e.subjects[:cut]) for e in held])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def made(label: str, *sources: Reviews | list[Event]) -> Reviews:
            target = Reviews(folder / f"{label}.sqlite")
            for source in sources:
                target.merge(source)
            return target

        a, b, c = (made(label, part) for label, part in zip("abc", parts, strict=True))
        ab, ba = made("ab", a, b), made("ba", b, a)
        bc = made("bc", b, c)
        union = list(ab.lines())
        assert union == list(ba.lines())
        assert list(made("ab-c", ab, c).lines()) == list(made("a-bc", a, bc).lines())
        ab.merge(a)
        ab.merge(ab.lines() and (Event.from_line(line) for line in union))
        assert list(ab.lines()) == union
        assert seen(ab) == seen(ba)
