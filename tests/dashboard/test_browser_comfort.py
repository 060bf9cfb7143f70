"""The tour, the contact sheet, and what those need who use a keyboard or do not see, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.conftest import PAGE_TIMEOUT
from tests.dashboard.steps import settle

pytestmark = pytest.mark.browser
CARD = ".st-key-tour .card"
UNNAMED = """() => {
  const bad = [];
  const visit = (root) => {
    for (const image of root.querySelectorAll('img')) if (!image.hasAttribute('alt')) bad.push(image.outerHTML.slice(0, 200));
    for (const node of root.querySelectorAll('button, [role=button], a[href], input, select')) {
      const labelled = node.getAttribute('aria-label') || node.getAttribute('title') || node.getAttribute('aria-labelledby')
        || node.textContent.trim() || node.closest('label')?.textContent.trim() || (node.labels && node.labels.length)
        || node.placeholder || node.querySelector('img[alt]:not([alt=""])');
      if (!labelled && node.type !== 'hidden' && node.offsetParent) bad.push(node.outerHTML.slice(0, 200));
    }
    for (const node of root.querySelectorAll('*')) if (node.shadowRoot) visit(node.shadowRoot);
  };
  visit(document);
  return bad;
}"""


def test_the_tour_meets_a_first_visit_and_leads_through_three_pages(browser_page: Page, served: str) -> None:
    page = browser_page
    page.goto(served)
    card = page.locator(CARD)
    expect(card).to_contain_text("Start with what goes wrong", timeout=PAGE_TIMEOUT)
    card.get_by_role("button", name="Next").click()
    page.wait_for_url(re.compile("/browse"))
    expect(card).to_contain_text("Look where it looked")
    card.get_by_role("button", name="Next").click()
    page.wait_for_url(re.compile("/findings"))
    expect(card).to_contain_text("See what is proven")
    card.get_by_role("button", name="Back").click()
    page.wait_for_url(re.compile("/browse"))
    card.get_by_role("button", name="Next").click()
    page.wait_for_url(re.compile("/findings"))
    card.get_by_role("button", name="Done").click()
    expect(card).to_have_count(0)
    settle(page)
    page.goto(served)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    settle(page)
    expect(card).to_have_count(0)
    page.get_by_role("button", name="Take the tour").click()
    expect(card).to_contain_text("Start with what goes wrong")


def test_the_tour_is_skipped_by_the_keyboard_and_leaves_links_alone(browser_page: Page, served: str) -> None:
    page = browser_page
    page.goto(f"{served}/?run=animals")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    expect(page.locator(CARD)).to_have_count(0)
    page.goto(served)
    expect(page.locator(CARD)).to_be_visible()
    expect(page.locator(CARD)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(CARD)).to_have_count(0)
    settle(page)
    page.goto(served)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    settle(page)
    expect(page.locator(CARD)).to_have_count(0)


def test_the_contact_sheet_shows_rows_hides_attention_prints_and_leads_on(
    browser_page: Page, served: str
) -> None:
    page = browser_page
    page.goto(f"{served}/contact?run=animals&by=pred&overlay=0")
    tiles = page.locator(".tiles.sheet .tile")
    expect(tiles.first).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    first_row = page.locator(".tiles.sheet").first
    assert 0 < first_row.locator(".tile").count() <= 10
    expect(page.locator(".group h4").first).to_contain_text("called")
    expect(page.locator(".tile .map").first).to_be_hidden()
    page.get_by_role("switch", name="Attention").check(force=True)
    expect(page.locator(".tile .map").first).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator("section[data-testid=stSidebar]")).to_be_hidden()
    expect(page.locator(".tile img").first).to_be_visible()
    page.emulate_media(media="screen")
    wanted = tiles.first.get_attribute("data-id")
    tiles.first.click()
    page.wait_for_url(re.compile(r"/sample\?"))
    expect(page.get_by_role("heading", name=str(wanted))).to_be_visible()
    expect(page.get_by_role("button", name="Next")).to_be_enabled()


@pytest.mark.parametrize("path", ["", "findings", "browse", "region", "methods", "contact"])
def test_pictures_and_buttons_have_names_and_nothing_runs_off_the_page(
    browser_page: Page, served: str, path: str
) -> None:
    page = browser_page
    page.goto(f"{served}/{path}?run=audited")
    expect(page.locator("h1").first).to_be_visible(timeout=PAGE_TIMEOUT)
    settle(page)
    assert page.evaluate(UNNAMED) == []
    assert page.locator("[data-testid=stException]").count() == 0
    for width in (1280, 2560):
        page.set_viewport_size({"width": width, "height": 950})
        page.wait_for_timeout(250)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate(
            "(() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth <= main.clientWidth + 1; })()"
        )
