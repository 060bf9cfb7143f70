"""Sharing as people do it: a report opened without a network, files fetched from the page, a bundle opened elsewhere."""

from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from cache import queries, review_views
from cache.catalog import Catalog
from cache.filters import Filter, Is
from cache.review_events import Subject
from cache.reviews import Reviews
from cache.run import Run
from dashboard.report import build_report, write_report
from tests.dashboard.audits import make_audit
from tests.dashboard.conftest import PAGE_TIMEOUT
from tests.dashboard.steps import opened, prepare

pytestmark = pytest.mark.browser
WRONG = Filter((Is("correct", False),))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run = make_audit(folder)
    write_report(build_report(Catalog(Run.open(run)), Reviews.of_run(run)), folder / "audit.html")
    return folder / "audit.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_without_a_network(chromium: Browser, report: Path, scheme: str) -> None:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900},
        offline=True,
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: None if request.url.startswith("data:") else asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    assert asked == [report.as_uri()]
    assert said == []
    assert page.title().endswith("Gazelake")  # nobody's class name ran
    shown = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert len(shown) > 40
    assert all(shown)
    expect(page.get_by_role("heading", name="Findings")).to_be_visible()
    expect(page.get_by_role("img", name="Confusion matrix of 4 classes")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 28)"
    assert dark == (scheme == "dark")
    overlay = page.locator(".finding .tiles .map").first
    expect(overlay).to_be_visible()
    page.get_by_text("Attention", exact=True).first.click()
    expect(overlay).to_be_hidden()
    context.close()


def test_a_report_prints_and_fits_a_telephone(chromium: Browser, report: Path) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800}, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")
    context.close()


def test_a_selection_is_fetched_and_opened_elsewhere(
    browser_page: Page, served: str, runs: Path, tmp_path: Path
) -> None:
    page = browser_page
    wrong = queries.ids(Catalog(Run.open(runs / "animals")), WRONG)
    page.goto(f"{served}/browse?run=animals&filter={quote(WRONG.to_param())}")
    page.get_by_role("button", name="Share").click()
    table = prepare(page, "Table", tmp_path)
    assert table.name == "animals-selection.csv"
    assert len(table.read_text().splitlines()) == len(wrong) + 1
    html = prepare(page, "Report", tmp_path)
    assert f"{len(wrong):,} (" in html.read_text()
    bundle = prepare(page, "Bundle", tmp_path)
    assert zipfile.is_zipfile(bundle)

    with opened(bundle, tmp_path / "there", tmp_path / "log") as url:
        page.goto(f"{url}/browse?run=there")
        expect(page.locator(".tile img").first).to_be_visible(timeout=PAGE_TIMEOUT)
        expect(page.locator(".st-key-sentence")).to_contain_text(f"{len(wrong)} images")
    # What is said there comes back.
    content = Catalog(Run.open(tmp_path / "there")).query("SELECT content FROM samples")["content"][0].as_py()
    Reviews.of_run(tmp_path / "there").tag("Bo", [Subject.sample(content)], "seen elsewhere")
    here = Reviews(tmp_path / "here.sqlite")
    here.merge(Reviews.of_run(tmp_path / "there"))
    assert [tag.tag for tag in review_views.tags(here)] == ["seen elsewhere"]
