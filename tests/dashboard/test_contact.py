"""The contact sheet without a browser: what it holds, and that its state is its address."""

from __future__ import annotations

from typing import Any

import pytest

from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf
from cache.run import Run
from cache.worst import worst_of_each
from dashboard.components import gallery
from dashboard.components.gallery import Gallery
from dashboard.drilldown import mistakes_filter
from tests.dashboard.conftest import OpenPage, texts


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Gallery]:
    """The galleries that pages mount."""
    seen: list[Gallery] = []
    mount = gallery.Gallery.mount

    def noted(self: Gallery, *args: Any, **kwargs: Any) -> Any:
        seen.append(self)
        return mount(self, *args, **kwargs)

    monkeypatch.setattr(gallery.Gallery, "mount", noted)
    return seen


@pytest.mark.parametrize("by", ["label", "pred"])
def test_the_sheet_holds_the_surest_mistakes_of_each_class(
    open_page: OpenPage, runs: Any, mounted: list[Gallery], by: Any
) -> None:
    catalog = Catalog(Run.open(runs / "animals"))
    app = open_page("contact", by=by)
    assert not app.exception
    expected = worst_of_each(catalog, Filter(), by)
    (sheet,) = mounted
    assert [[tile.id for tile in group.tiles] for group in sheet.groups] == [
        [row["sample_id"] for row in one.rows] for one in expected
    ]
    names = [catalog.classes[one.index] for one in expected]
    assert [group.title.removeprefix("called ") for group in sheet.groups] == names
    for group, one in zip(sheet.groups, expected, strict=True):
        assert f"{one.wrong:,} wrong" in group.note
        narrowed = mistakes_filter(Filter(), catalog.classes, by, one.index)
        assert all(f"id={tile.id.split('/')[0]}" in tile.href for tile in group.tiles)
        assert all("sort=-confidence" in tile.href for tile in group.tiles)
        assert narrowed.get("correct") == Is("correct", False)
        assert narrowed.get(by) == OneOf(by, (catalog.classes[one.index],))
    assert sheet.layout == "sheet"


def test_choosing_by_what_writes_the_address(open_page: OpenPage) -> None:
    app = open_page("contact")
    assert app.segmented_control(key="contact_by").value == "label"
    app.segmented_control(key="contact_by").set_value("pred").run()
    assert app.query_params["by"] in ("pred", ["pred"])
    app.segmented_control(key="contact_by").set_value("label").run()
    assert "by" not in app.query_params


def test_it_says_where_there_is_nothing_to_show(open_page: OpenPage, mounted: list[Gallery]) -> None:
    assert "nobody knows which predictions are wrong" in "".join(
        str(info.value) for info in open_page("contact", run="unlabelled").info
    )
    right = Filter((Is("correct", True),))
    app = open_page("contact", filter=right.to_param())
    assert "No image of this selection is classified wrongly" in "".join(str(s.value) for s in app.success)
    nobody = Filter((OneOf("sample_id", ("nowhere",)),))
    assert "No image meets all of this" in texts(open_page("contact", filter=nobody.to_param()))
    assert mounted == []


@pytest.mark.parametrize("params", [{"by": "'; DROP TABLE samples"}, {"page": "-9"}, {"page": "x"}])
def test_nonsense_in_the_address_is_no_matter(
    open_page: OpenPage, mounted: list[Gallery], params: dict[str, str]
) -> None:
    assert not open_page("contact", **params).exception
    assert mounted


def test_overview_and_browse_lead_to_it(open_page: OpenPage) -> None:
    chosen = Filter((OneOf("pred", ("wolf",)),)).to_param()
    for page, key in (("overview", "overview_contact"), ("browse", "browse_contact")):
        app = open_page(page, filter=chosen)
        app.button(key=key).click().run()
        assert [title.value for title in app.title] == ["Contact sheet"]
        assert app.query_params["filter"] in (chosen, [chosen])
