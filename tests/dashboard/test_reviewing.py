"""Reviewing in the pages: what people press becomes events, and what is shown follows them, whoever else is at it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, Not, Reviewed
from cache.review_events import Subject, moment
from cache.review_views import Marks, Note, Verdict, history, marks, views
from cache.reviews import Reviews
from cache.run import Run
from dashboard.components.gallery import Gallery, Group, Reviewing, Tile
from dashboard.data import RUNS_VARIABLE
from dashboard.label_errors import COLUMNS, label_errors_csv
from dashboard.people import NAME
from dashboard.review_panel import when
from dashboard.reviewing import badge_of
from dashboard.saved_views import address, opened
from tests.dashboard.conftest import OpenPage, texts

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "**bold** [a](javascript:x)",
    "שלום עולם",
    "🐺 :material/home:",
    "=1+1",
    "x" * 100,
]


@pytest.fixture
def reviews(own_runs: Path) -> Reviews:
    return Reviews.of_run(own_runs / "animals")


@pytest.fixture
def catalog(own_runs: Path) -> Catalog:
    return Catalog(Run.open(own_runs / "animals"))


def someone(app: AppTest, name: str) -> AppTest:
    return app.text_input(key="sidebar_reviewer").set_value(name).run()


def first(catalog: Catalog) -> tuple[str, Subject]:
    row = queries.page(catalog, Filter((Is("correct", False),)), limit=1).to_pylist()[0]
    return row["sample_id"], Subject.sample(row["content"])


def filter_of(app: AppTest) -> Filter:
    value = app.query_params.get("filter", "")
    return Filter.from_param(value if isinstance(value, str) else value[0])


def test_a_sample_is_tagged_judged_and_noted(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    sample, subject = first(catalog)
    app = open_page("sample", folder=own_runs, id=sample)
    assert "sample_tags" not in {one.key for one in app.multiselect}, "first a name"
    someone(app, "  Ann   Lee ")
    app.multiselect(key="sample_tags").set_value(["snow", "fence"]).run()
    app.multiselect(key="sample_tags").set_value(["fence"]).run()
    app.pills(key="sample_verdict").set_value("wrong label").run()
    app.selectbox(key="sample_right").set_value(2).run()
    app.text_area(key="sample_note").set_value("It is a fox.\nSee the tail.").run()
    app.button(key="sample_add_note").click().run()
    assert not app.exception
    said = marks(reviews, [subject])[subject]
    assert said.tags == ["fence"]
    assert [(v.author, v.verdict, v.label, v.label_name) for v in said.verdicts] == [
        ("Ann Lee", "wrong label", 2, "fox")
    ]
    assert [note.text for note in said.notes] == ["It is a fox.\nSee the tail."]
    assert app.text_area(key="sample_note").value == ""
    app.button(key="sample_undo").click().run()
    assert not marks(reviews, [subject])[subject].notes
    undone = next(entry for entry in history(reviews, subject) if entry.kind == "note")
    app.button(key=f"sample_{undone.id}_toggle").click().run()
    assert marks(reviews, [subject])[subject].notes
    again = open_page("sample", folder=own_runs, id=sample)
    assert "wrong label" in texts(again)


def test_two_people_at_one_sample_lose_nothing(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    sample, subject = first(catalog)
    ann, bob = (someone(open_page("sample", folder=own_runs, id=sample), name) for name in ("Ann", "Bob"))
    # Neither page has seen what the other person does; each sends its whole list of tags.
    ann.multiselect(key="sample_tags").set_value(["snow"]).run()
    bob.multiselect(key="sample_tags").set_value(["fence"]).run()
    ann.pills(key="sample_verdict").set_value("shortcut").run()
    bob.pills(key="sample_verdict").set_value("unsure").run()
    said = marks(reviews, [subject])[subject]
    assert said.tags == ["fence", "snow"]
    assert {(v.author, v.verdict) for v in said.verdicts} == {("Ann", "shortcut"), ("Bob", "unsure")}
    ann.run()
    assert ann.multiselect(key="sample_tags").value == ["fence", "snow"]
    assert "Bob" in texts(ann)
    bob.button(key="sample_undo").click().run()
    assert [v.author for v in marks(reviews, [subject])[subject].verdicts] == ["Ann"]


def test_a_whole_selection_is_reviewed_in_one_step(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    wrong = Filter((Is("correct", False),))
    # Selectboxes of AppTest choose among what is offered; a browser test types a new one.
    reviews.undo("Bob", reviews.tag("Bob", [first(catalog)[1]], "to look at"))
    reviews.tag("Bob", [Subject.finding("1")], "to look at")
    app = someone(open_page("browse", folder=own_runs, filter=wrong.to_param()), "Ann")
    app.selectbox(key="all_tag").set_value("to look at").run()
    app.button(key="all_add").click().run()
    assert not app.exception
    assert len(history(reviews)) == 4
    tagged = Filter((Reviewed(tag="to look at"),))
    expected = queries.contents(catalog, wrong)
    assert queries.contents(catalog, tagged) == expected
    assert history(reviews)[0].subjects == len(expected)
    app.button(key="all_undo").click().run()
    assert queries.count(catalog, tagged).n == 0


def test_more_than_a_thousand_want_a_second_look(
    open_page: OpenPage, own_runs: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.review_panel.MANY", 100)
    reviews.tag("Bob", [Subject.finding("1")], "all")
    app = someone(open_page("browse", folder=own_runs), "Ann")
    app.selectbox(key="all_tag").set_value("all").run()
    assert app.button(key="all_add").disabled
    app.checkbox(key="all_sure_150").check().run()
    app.button(key="all_add").click().run()
    assert history(reviews)[0].payload == {"tag": "all"}


def test_the_filter_bar_asks_for_reviews(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    some = queries.contents(catalog, Filter())[:5]
    reviews.tag("Ann", map(Subject.sample, some), "snow")
    reviews.judge("Bob", [Subject.sample(some[0])], "unsure")
    app = open_page("browse", folder=own_runs)
    app.selectbox(key="filter_reviewed_tag").set_value("snow").run()
    assert filter_of(app) == Filter((Reviewed(tag="snow"),))
    n = queries.count(catalog, filter_of(app)).n
    assert f"**{n}** of 150 images" in texts(app)
    app.selectbox(key="filter_reviewed_author").set_value("Bob").run()
    assert "No image meets all of this" in texts(app)
    app = open_page("browse", folder=own_runs)
    app.segmented_control(key="filter_reviewed").set_value("not").run()
    assert filter_of(app) == Filter((Not(Reviewed()),))
    rest = queries.count(catalog, filter_of(app)).n
    assert f"**{rest}** of 150 images" in texts(app)
    # What others do meanwhile changes the answer without anybody clearing a cache.
    reviews.note("Cy", [Subject.sample(queries.contents(catalog, filter_of(app))[0])], "seen")
    app.run()
    assert f"**{queries.count(catalog, filter_of(app)).n}** of 150 images" in texts(app)
    app.segmented_control(key="filter_reviewed").set_value(None).run()
    assert filter_of(app) == Filter()


def test_views_are_saved_renamed_started_and_deleted(
    open_page: OpenPage, own_runs: Path, reviews: Reviews
) -> None:
    wrong = Filter((Is("correct", False),)).to_param()
    app = someone(open_page("browse", folder=own_runs, filter=wrong, sort="-confidence"), "Ann")
    app.text_input(key="view_name").set_value("Sure and wrong").run()
    app.text_area(key="view_text").set_value("Where to begin").run()
    app.button(key="view_save").click().run()
    (view,) = views(reviews)
    assert (view.name, view.description, view.author) == ("Sure and wrong", "Where to begin", "Ann")
    assert opened(view.url) == ("browse", {"filter": wrong, "sort": "-confidence"})
    page = someone(open_page("reviews", folder=own_runs), "Bob")
    page.text_input(key=f"view_name_{view.id}").set_value("Begin here").run()
    page.button(key=f"view_rename_{view.id}").click().run()
    page.button(key=f"view_start_{view.id}").click().run()
    assert [(v.name, v.start) for v in views(reviews)] == [("Begin here", True)]
    start = open_page("overview", folder=own_runs, run=None)
    assert filter_of(start).to_param() == wrong
    page.button(key=f"view_delete_{view.id}").click().run()
    assert not views(reviews)
    page.button(key="reviews_undo").click().run()
    assert [v.name for v in views(reviews)] == ["Begin here"]
    assert not page.exception


@pytest.mark.parametrize(
    "url",
    ["https://evil.net/browse", "//evil.net/browse", "javascript:alert(1)", "admin?x=1", "http://[", "browse?" + "a=1&" * 60],
)  # fmt: skip
def test_a_views_address_leads_to_a_page_or_nowhere(url: str) -> None:
    assert opened(url) is None


def test_an_address_leaves_out_the_run() -> None:
    assert opened(address("region", {"run": "a", "filter": "é&=", "x": ""})) == ("region", {"filter": "é&="})
    assert opened("?run=other") == ("overview", {})


def test_label_errors_are_exported(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    sample, subject = first(catalog)
    reviews.judge("=Ann", [subject], "wrong label")
    reviews.note("=Ann", [subject], '=HYPERLINK("x")')
    reviews.note("Bob", [subject], "not hers")
    app = open_page("reviews", folder=own_runs)
    assert not app.exception
    assert app.dataframe[0].value["id"].to_list() == [sample]
    rows = list(csv.DictReader(io.StringIO(label_errors_csv(app.dataframe[0].value.to_dict("records")))))
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["author"], rows[0]["note"]) == ("'=Ann", '\'=HYPERLINK("x")')
    assert rows[0]["label"]
    assert rows[0]["prediction"]


def test_words_are_shown_as_they_are(
    open_page: OpenPage, own_runs: Path, catalog: Catalog, reviews: Reviews
) -> None:
    sample, subject = first(catalog)
    for words in HOSTILE:
        reviews.tag(words, [subject], words)
        reviews.note(words, [subject], words)
        reviews.judge(words, [subject], "unsure")
        reviews.save_view(words, name=words, url="browse", description=words)
    for page, params in (("sample", {"id": sample}), ("reviews", {}), ("browse", {})):
        app = someone(open_page(page, folder=own_runs, **params), HOSTILE[0])
        assert not app.exception
        assert "<img" not in "".join(str(html.value) for html in app.get("html") if hasattr(html, "value"))


def test_a_locked_or_damaged_file_is_said(open_page: OpenPage, own_runs: Path, catalog: Catalog) -> None:
    sample, _ = first(catalog)
    (own_runs / "animals" / "reviews.sqlite").write_bytes(b"nothing like a database" * 100)
    for page, params in (("sample", {"id": sample}), ("browse", {}), ("reviews", {})):
        app = open_page(page, folder=own_runs, **params)
        assert not app.exception
        assert any("damaged" in str(error.value) for error in app.error)


def test_the_configuration_names_the_folder_of_reviews(
    open_page: OpenPage, own_runs: Path, catalog: Catalog
) -> None:
    (own_runs / "kept").mkdir()
    (own_runs / "gazelake.toml").write_text('[reviews]\nfolder = "kept"\n')
    sample, subject = first(catalog)
    app = someone(open_page("sample", folder=own_runs, id=sample), "Ann")
    app.multiselect(key="sample_tags").set_value(["snow"]).run()
    kept = Reviews(own_runs / "kept" / f"{catalog.manifest.run_id}.sqlite")
    assert marks(kept, [subject])[subject].tags == ["snow"]
    assert not (own_runs / "animals" / "reviews.sqlite").exists()
    assert app.session_state[NAME] == "Ann"


def test_badges_say_the_gravest_first() -> None:
    now = moment(0)
    assert badge_of(Marks()) is None
    assert badge_of(Marks(notes=[Note("1", "Ann", "x", now)])) == ("note", "Ann: x")
    several = Marks(["a", "b"], [Verdict("Ann", "wrong label", now), Verdict("Bob", "unsure", now)])
    found = badge_of(several)
    assert found is not None
    assert found[0] == "label? +3"
    assert when(now).startswith("1 Jan 1970")


def test_a_gallery_hands_on_tags_of_its_own_tiles_only() -> None:
    done: list[tuple[list[str], str]] = []
    tiles = [Tile(name, "i", name, name) for name in "abc"]
    gallery = Gallery(
        [Group(tiles)], {"i": "data:,"}, [], "", reviewing=Reviewing(lambda ids, tag: done.append((ids, tag)))
    )
    for said in (
        {"ids": ["c", "a", "zzz", 3], "tag": "snow"},
        {"ids": "abc", "tag": "x"},
        {"ids": ["a"], "tag": 3},
        None,
        7,
    ):
        gallery._tag(said)
    assert done == [(["a", "c"], "snow")]


def _finding_page() -> None:
    from cache.review_events import Subject
    from dashboard.people import badge
    from dashboard.review_panel import review_panel
    from dashboard.session import page_context

    badge()
    context = page_context()
    review_panel(context, Subject.finding("where/wolf/1"), "one")
    review_panel(context, Subject.selection(context.filter), "two")


def test_any_page_can_draw_the_panel_of_any_subject(
    own_runs: Path, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, str(own_runs))
    app = AppTest.from_function(_finding_page, default_timeout=60)
    wrong = Filter((Is("correct", False),))
    app.query_params["filter"] = wrong.to_param()
    someone(app.run(), "Ann")
    app.pills(key="one_verdict").set_value("shortcut").run()
    app.pills(key="two_verdict").set_value("wrong label").run()
    app.text_area(key="one_note").set_value("The snow again").run()
    app.button(key="one_add_note").click().run()
    assert not app.exception
    finding, selection = Subject.finding("where/wolf/1"), Subject.selection(wrong)
    said = marks(reviews, [finding, selection])
    assert [v.verdict for v in said[finding].verdicts] == ["shortcut"]
    assert [note.text for note in said[finding].notes] == ["The snow again"]
    assert [v.verdict for v in said[selection].verdicts] == ["wrong label"]
    assert "one_right" not in {one.key for one in app.selectbox}, "the right label is of one image"
