from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from playwright.sync_api import Page

from cache.filters import Filter
from cache.findings import Findings, load_findings
from cache.run import Run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def found(runs: Any) -> Findings:
    return load_findings(Run.open(runs / "audited"))


def visit(page: Page, served: str, **params: str) -> None:
    page.goto(f"{served}/findings?{urlencode({'run': 'audited', **params})}")
    page.locator(".gl-finding-title").wait_for()
    page.locator(".st-key-findings_gallery .tile img").first.wait_for()
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_timeout(500)


def param(page: Page, name: str) -> str:
    return parse_qs(urlparse(page.url).query)[name][0]


def test_a_finding_is_chosen_by_its_card_and_kept_in_the_address(
    browser_page: Page, served: str, found: Findings
) -> None:
    visit(browser_page, served)
    second = found.findings[1]
    # A person points anywhere at the card, not at a button in it.
    browser_page.locator(".gl-card-facts").nth(1).click(force=True, position={"x": 4, "y": 4})
    browser_page.locator(".gl-finding-title", has_text=second.title).wait_for()
    assert param(browser_page, "finding") == second.key
    assert browser_page.locator(".gl-card.on .gl-rank").inner_text() == "2"
    browser_page.reload()
    browser_page.locator(".gl-finding-title", has_text=second.title).wait_for()
    browser_page.get_by_role("button", name="Finding 3, untested").press("Enter")
    browser_page.locator(".gl-finding-title", has_text=found.findings[2].title).wait_for()


def test_its_samples_and_its_region_are_a_click_away(
    browser_page: Page, served: str, found: Findings
) -> None:
    first = found.findings[0]
    visit(browser_page, served, finding=first.key)
    browser_page.get_by_role("button", name="Show me these samples").click()
    browser_page.wait_for_url("**/browse?**")
    assert Filter.from_param(param(browser_page, "filter")) == first.filter
    browser_page.get_by_text(f"{first.n} of 150 images").wait_for()
    browser_page.go_back()
    browser_page.locator(".gl-finding-title").wait_for()
    browser_page.get_by_role("button", name="Ask about its region").click()
    browser_page.wait_for_url("**/region?**")
    assert "box" in param(browser_page, "region")
    browser_page.get_by_role("heading", name="Region").wait_for()


def test_an_example_opens_among_its_kind(browser_page: Page, served: str, found: Findings) -> None:
    visit(browser_page, served, finding=found.findings[0].key)
    browser_page.locator(".st-key-findings_gallery .tile").first.click()
    browser_page.wait_for_url("**/sample?**")
    assert param(browser_page, "id") in found.findings[0].sample_ids
    assert len(Filter.from_param(param(browser_page, "filter")).conditions) == 3


def test_it_can_be_taken_away(browser_page: Page, served: str, found: Findings, tmp_path: Path) -> None:
    first = found.findings[0]
    visit(browser_page, served, finding=first.key)
    browser_page.get_by_role("button", name="Export").click()
    for name, words in (("JSON", first.key), ("CSV", first.sample_ids[0])):
        with browser_page.expect_download() as told:
            browser_page.get_by_role("button", name=name).click()
        path = tmp_path / told.value.suggested_filename
        told.value.save_as(path)
        assert first.key in path.name
        assert words in path.read_text()


def test_verdicts_are_told_by_a_word_and_a_sign_besides_the_colour(browser_page: Page, served: str) -> None:
    visit(browser_page, served)
    badges = browser_page.locator(".gl-card .gl-badge").all_inner_texts()
    assert {text.split("\n")[-1].strip("!•✓?–") for text in badges} == {f"{v}" for v in VERDICTS}


VERDICTS = ("shortcut", "relied on", "untested", "inconclusive", "refuted")
