"""Filtering by reviews: one condition that is SQL, a link and a sentence, held against a slow reading of the marks."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import AllOf, AnyOf, Filter, Is, Not, Reviewed
from cache.review_condition import VERDICTS
from cache.review_events import Subject
from cache.review_views import Marks, marks
from cache.reviews import Reviews
from cache.run import Run
from tests.cache.slow_reference import SlowRun
from tests.synthetic import make_run

PEOPLE = ("Ann", "Bob", "שרה")
TAGS = ("snow", "tag in the corner", "'; DROP TABLE events; --", "🐺")
NOTES = ("The SNOW again", "looks at the fence\nnot at the dog")

texts = st.text(min_size=1, max_size=30).filter(lambda t: len(unicodedata.normalize("NFC", t).strip()) > 0)
any_reviewed = st.builds(
    Reviewed, st.none() | texts, st.none() | st.sampled_from(VERDICTS), st.none() | texts, st.none() | texts
)
near_reviewed = st.builds(
    Reviewed,
    st.none() | st.sampled_from([*TAGS, "nothing"]),
    st.none() | st.sampled_from(VERDICTS),
    st.none() | st.sampled_from([*PEOPLE, "nobody"]),
    st.none() | st.sampled_from(["snow", "FENCE\nnot", "cat"]),
)
acts = st.lists(
    st.tuples(
        st.sampled_from(["tag", "untag", "note", "judge", "withdraw"]),
        st.sampled_from(PEOPLE),
        st.integers(0, 3),
        st.sets(st.integers(0, 9), min_size=1),
    ),
    max_size=10,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("reviewed") / "run", 60, seed=3)


@pytest.fixture(scope="module")
def slow(run: Path) -> SlowRun:
    return SlowRun(run)


def act(reviews: Reviews, contents: list[str], what: str, author: str, which: int, about: set[int]) -> None:
    subjects = [Subject.sample(contents[i]) for i in about]
    match what:
        case "tag":
            reviews.tag(author, subjects, TAGS[which])
        case "untag":
            reviews.untag(author, subjects, TAGS[which])
        case "note":
            reviews.note(author, subjects, NOTES[which % 2])
        case "judge":
            reviews.judge(author, subjects, VERDICTS[which])
        case _:
            reviews.judge(author, subjects, None)


def holds(condition: Reviewed, said: Marks) -> bool:
    """Read the condition off what stands on an image; of tags, whose author marks do not say, without an author only."""
    by = condition.author
    verdicts = [v for v in said.verdicts if by in (None, v.author)]
    notes = [n for n in said.notes if by in (None, n.author)]
    wanted = [
        condition.tag is None or condition.tag in said.tags,
        condition.verdict is None or condition.verdict in [v.verdict for v in verdicts],
        condition.note is None or any(condition.note.casefold() in n.text.casefold() for n in notes),
        condition.words().keys() - {"author"} or bool(said.tags or verdicts or notes),
    ]
    return all(wanted)


@given(any_reviewed)
def test_a_condition_comes_back_from_its_link(condition: Reviewed) -> None:
    for filter_ in (Filter((condition,)), Filter((AnyOf((Not(condition), Is("correct", False))),))):
        back = Filter.from_param(filter_.to_param())
        assert back == filter_
        assert hash(back) == hash(filter_)
        assert filter_.about_reviews


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(done=acts, condition=near_reviewed)
def test_sql_selects_what_the_marks_say(
    tmp_path_factory: pytest.TempPathFactory, run: Path, slow: SlowRun, done: list[tuple[str, str, int, set[int]]],
    condition: Reviewed,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("file") / "reviews.sqlite"
    reviews, catalog = Reviews(path), _catalog(run, path)
    contents = [row["content"] for row in slow.samples]
    for one in done:
        act(reviews, contents, *one)
    said = marks(reviews, map(Subject.sample, contents))
    by_author = condition.author is not None
    # Whose tag it is the marks do not say: with an author, images that only bear tags are left open.
    unsure = {c for c in contents if by_author and said[Subject.sample(c)].tags}
    found, others = (set(queries.ids(catalog, Filter((c,)))) for c in (condition, Not(condition)))
    assert not found & others
    assert found | others == {row["sample_id"] for row in slow.samples}
    for row in slow.samples:
        if row["content"] not in unsure:
            assert (row["sample_id"] in found) == holds(condition, said[Subject.sample(row["content"])])


def _catalog(run: Path, reviews: Path) -> Catalog:
    return Catalog(Run.open(run), reviews)


def test_what_is_selected_follows_the_reviews(tmp_path: Path, run: Path, slow: SlowRun) -> None:
    reviews = Reviews(tmp_path / "r.sqlite")
    catalog = _catalog(run, reviews.path)
    tagged = Filter((Reviewed(tag="snow"),))
    first = slow.samples[5]
    assert queries.count(catalog, tagged).n == 0
    event = reviews.tag("Ann", [Subject.sample(first["content"])], "snow")
    assert first["sample_id"] in queries.ids(catalog, tagged)
    by_ann = Filter((Reviewed(tag="snow", author="Ann"), Not(Reviewed(author="Bob"))))
    assert queries.ids(catalog, by_ann) == queries.ids(catalog, tagged)
    assert queries.count(catalog, Filter((Reviewed(tag="snow", author="Bob"),))).n == 0
    reviews.undo("Bob", event)
    assert queries.count(catalog, tagged).n == 0
    both = Filter((AllOf((Reviewed(tag="snow"), Not(Reviewed()))),))
    assert queries.count(catalog, both).n == 0


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        (Reviewed(), "samples reviewed"),
        (Not(Reviewed()), "samples not reviewed"),
        (Reviewed(author="Ann"), "samples reviewed by Ann"),
        (Reviewed(tag="snow", author="Ann"), "samples tagged “snow” by Ann"),
        (Not(Reviewed(tag="snow")), "samples not tagged “snow”"),
        (Reviewed(verdict="wrong label"), "samples judged “wrong label”"),
        (Not(Reviewed("a", "unsure", None, "b\nc")), "samples not (tagged “a” and judged “unsure” and noted “b c”)"),
    ],
)  # fmt: skip
def test_sentences(catalog: Catalog, condition: Reviewed | Not, sentence: str) -> None:
    assert Filter((condition,)).sentence(catalog.manifest) == sentence


@pytest.mark.parametrize(
    "words",
    [
        {"tag": ""}, {"tag": "  "}, {"tag": 3}, {"tag": ["a"]}, {"tag": "x" * 1_001}, {"tag": "\ud800"},
        {"verdict": "right"}, {"verdict": "<script>"}, {"reviewer": "Ann"}, {"": ""}, {"tag": {"tag": "a"}},
    ],
)  # fmt: skip
def test_nonsense_is_one_sentence(words: object) -> None:
    with pytest.raises(FilterError) as caught:
        Filter.from_param(json.dumps({"v": 1, "all": [["reviewed", words]]}))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rest", [[], ["snow"], [None], [{}, {}], [[]]])
def test_other_forms_are_refused(rest: list[object]) -> None:
    with pytest.raises(FilterError):
        Filter.from_param(json.dumps({"v": 1, "all": [["reviewed", *rest]]}))
