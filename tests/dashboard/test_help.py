"""Help on numbers and the tour, without a browser."""

from __future__ import annotations

from typing import Any

import pytest

from cache.catalog import Catalog
from cache.run import Run
from cache.schema import SAMPLE_FIELDS, Field
from dashboard import tour
from dashboard.field_help import facts_of, field_help, field_text, glossary_html, help_html, range_text
from tests.dashboard.conftest import OpenPage
from tests.synthetic import IMAGE_STATISTICS, STATISTICS

HOSTILE = "<img src=x onerror=alert(1)>\"' 🦊"
FIELDS = (*SAMPLE_FIELDS, *STATISTICS, *IMAGE_STATISTICS)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_help_tells_unit_range_formula_and_what_a_high_value_suggests(field: Field) -> None:
    text = field_text(field)
    assert field.description in text
    assert field.suggests in text
    assert f"Unit: {field.unit or 'none'}" in text
    assert f"Range: {range_text(field)}" in text
    assert not field.formula or f"Formula: {field.formula}" in text
    assert "Range" in field_help(field)


@pytest.mark.parametrize("field", SAMPLE_FIELDS, ids=lambda field: field.name)
def test_numbers_of_every_run_say_what_a_high_value_suggests(field: Field) -> None:
    assert field.suggests.endswith(".")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0, 1, "0 to 1"), (0, None, "from 0 up"), (None, 1, "up to 1"), (None, None, "any"), (0, 0.5**0.5, "0 to 0.7071")],
)  # fmt: skip
def test_ranges_are_written_out(low: float | None, high: float | None, said: str) -> None:
    assert range_text(Field("x", "X", "", low, high, "none", "")) == said


def test_texts_of_a_run_are_shown_as_text() -> None:
    field = Field(HOSTILE, HOSTILE, HOSTILE, 0, 1, "none", HOSTILE, HOSTILE, HOSTILE)
    for html in (help_html(field.title, field_text(field)), glossary_html([(HOSTILE, [field])])):
        assert "<img" not in html
        assert "🦊" in html
    assert "\\<img" in field_help(field)  # escaped for Markdown
    assert facts_of(Field("x", "X", "", None, None, "none", "")) == [("Unit", "none"), ("Range", "any")]


def test_the_widgets_carry_the_help(open_page: OpenPage) -> None:
    app = open_page("browse", sort="-map.border_mass@gradcam:pred")
    border = next(field for field in STATISTICS if field.name == "border_mass")
    assert app.selectbox(key="sort_key").help == field_help(border)
    assert app.slider(key="filter_confidence").help == field_help(SAMPLE_FIELDS[0])


def test_the_glossary_knows_every_number(open_page: OpenPage, runs: Any) -> None:
    catalog = Catalog(Run.open(runs / "animals"))
    named = [field.name for _, fields in tour.groups(catalog) for field in fields]
    assert set(named) >= {f.name for f in (*STATISTICS, *IMAGE_STATISTICS, *SAMPLE_FIELDS)}
    app = open_page("overview")
    app.button(key="glossary").click().run()
    assert not app.exception


def test_only_an_address_without_parameters_is_offered_the_tour(open_page: OpenPage) -> None:
    assert open_page("overview", run=None).session_state["tour_offered"]
    assert not open_page("overview").session_state["tour_offered"]
    assert not open_page("browse", run=None, filter="x").session_state["tour_offered"]


def test_the_tour_is_taken_again_from_the_sidebar(open_page: OpenPage) -> None:
    app = open_page("browse")
    app.button(key="tour_take").click().run()
    assert app.session_state["tour_step"] == 1
    assert [title.value for title in app.title] == ["Overview"]
    assert not app.exception
