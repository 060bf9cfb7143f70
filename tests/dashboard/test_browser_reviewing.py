"""Reviewing as people do it: from the keyboard, over several tiles, shared by a saved view, and signed in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from cache import queries
from cache.catalog import Catalog
from cache.filters import Filter, Is, Reviewed
from cache.review_events import Subject
from cache.review_views import history, marks, views
from cache.reviews import Reviews
from cache.run import Run
from tests.dashboard.conftest import PAGE_TIMEOUT, START_SECONDS, free_port, serve
from tests.dashboard.steps import review_as, save_view, tag_in_gallery, tiles

pytestmark = pytest.mark.browser
expect.set_options(timeout=PAGE_TIMEOUT)
PEOPLE = {
    "ann": {"email": "ann@example.org", "name": "Ann Lee"},
    "bob": {"email": "bob@example.org", "name": "Bob"},
    "mallory": {"email": "mallory@evil.net", "name": "Mallory"},
}


def test_find_tag_filter_save_and_share(
    own_server: str, own_runs: Path, browser_page: Page, chromium: Browser
) -> None:
    page = browser_page
    reviews, catalog = Reviews.of_run(own_runs / "animals"), Catalog(Run.open(own_runs / "animals"))
    page.goto(f"{own_server}/browse?run=animals")
    tiles(page)
    page.get_by_text("Wrong", exact=True).click()
    expect(page.get_by_text("Wrong predictions —")).to_be_visible()
    review_as(page, "Ann Lee")
    expect(page.get_by_text("Review all")).to_be_visible()
    # From the keyboard: the first tile, the third one selected as well, a tag, and on with the arrows.
    page.locator("a.tile").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.get_by_text("2 images selected")).to_be_visible()
    tag_in_gallery(page, "tag in the corner")
    expect(page.locator(".badge", has_text="tag in the corner").nth(1)).to_be_visible()
    wrong = queries.page(catalog, Filter((Is("correct", False),)), limit=3).to_pylist()
    subjects = [Subject.sample(wrong[i]["content"]) for i in (0, 2)]
    assert [m.tags for m in marks(reviews, subjects).values()] == [["tag in the corner"]] * 2
    # A note on both through the bar, and undone again.
    page.get_by_role("button", name="Review 2 images").click()
    page.get_by_placeholder("the same note on each").fill("photographer's tag?")
    page.get_by_role("button", name="Add note").last.click()
    expect(page.get_by_text("Noted.")).to_be_visible()
    assert [len(m.notes) for m in marks(reviews, subjects).values()] == [1, 1]
    page.get_by_role("button", name="Undo").last.click()
    page.wait_for_timeout(1_500)
    assert [len(m.notes) for m in marks(reviews, subjects).values()] == [0, 0]
    page.keyboard.press("Escape")
    # Filter by the tag, save the view, and open it as somebody else.
    page.get_by_role("button", name="Reviews", exact=True).click()
    page.locator(".st-key-filter_reviewed_tag input").click()
    page.get_by_role("option", name="tag in the corner (2)").click()
    n = queries.count(catalog, Filter((Is("correct", False), Reviewed(tag="tag in the corner")))).n
    expect(page.get_by_text("of 150 images")).to_contain_text(f"{n} of 150")
    page.locator("h1").click()  # escape would empty the field that has the focus
    save_view(page, "The corner")
    (view,) = views(reviews)
    wanted = Filter((Is("correct", False), Reviewed(tag="tag in the corner")))
    assert view.name == "The corner"
    page.keyboard.press("Escape")
    expect(page.get_by_label("Name", exact=True)).to_be_hidden()
    page.get_by_test_id("stSidebar").get_by_role("link", name="Reviews").click()
    page.wait_for_url("**/reviews?**")
    link = page.locator("a", has_text=re.compile("The corner$"))
    expect(link).to_be_visible()
    address = str(link.evaluate("link => link.href"))
    other = chromium.new_context(viewport={"width": 1500, "height": 950})
    other.set_default_timeout(PAGE_TIMEOUT)
    visitor = other.new_page()
    visitor.goto(address)
    tiles(visitor)
    expect(visitor.locator("a.tile")).to_have_count(queries.count(catalog, wanted).n)
    badges = visitor.locator(".badge", has_text="tag in the corner")
    expect(badges).to_have_count(queries.count(catalog, wanted).n)
    other.close()


def test_clicks_select_and_a_nameless_person_is_asked(
    own_server: str, own_runs: Path, browser_page: Page
) -> None:
    page = browser_page
    page.goto(f"{own_server}/browse?run=animals")
    tiles(page)
    page.locator("a.tile").nth(1).click(modifiers=["Shift"])
    page.locator("a.tile").nth(4).click(modifiers=["Shift"])
    expect(page.get_by_text("4 images selected")).to_be_visible()
    page.keyboard.press("t")
    expect(page.get_by_text("Type your name under “Reviewing as” in the sidebar first")).to_be_visible()
    page.get_by_role("button", name="4 selected: select nothing").click()
    expect(page.get_by_text("4 images selected")).to_be_hidden()
    page.get_by_label("Select", exact=True).check()
    page.locator("a.tile").nth(2).click()
    expect(page.get_by_text("1 image selected")).to_be_visible()
    assert "/browse" in page.url
    assert history(Reviews.of_run(own_runs / "animals")) == []


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    """A real OpenID provider on loopback."""
    port = free_port()
    users = [json.dumps({"sub": name, **claims}) for name, claims in PEOPLE.items()]
    flags = [flag for user in users for flag in ("--user-claims", user)]
    with open(tmp_path / "provider.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), *flags],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/.well-known/openid-configuration", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(20)


@pytest.fixture
def guarded(own_runs: Path, tmp_path: Path, provider: str) -> Iterator[str]:
    """A dashboard at which people sign in: bob may look, ann may review."""
    port = free_port()
    (own_runs / "gazelake.toml").write_text(
        '[access]\nviewers = ["bob@example.org"]\nreviewers = ["ann@example.org"]\n'
    )
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{"s" * 48}"\n'
        f'client_id = "gazelake"\nclient_secret = "{"c" * 32}"\n'
        f'server_metadata_url = "{provider}/.well-known/openid-configuration"\n'
    )
    process, url = serve(own_runs, tmp_path / "log", port, {"STREAMLIT_SECRETS_FILES": str(secrets)})
    yield url
    process.terminate()
    process.wait(20)


def sign_in(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/browse?run=animals")
    expect(page.get_by_text("Sign in to look at this audit")).to_be_visible()
    assert page.locator("a.tile").count() == 0
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/oauth2/authorize**")
    page.locator("input[name=sub]").first.fill(name)
    page.locator("button[type=submit], input[type=submit]").first.click()
    page.wait_for_url(f"{url}/**")


def test_signing_in_as_reviewer_viewer_and_nobody(guarded: str, own_runs: Path, chromium: Browser) -> None:
    reviews = Reviews.of_run(own_runs / "animals")

    def fresh() -> tuple[BrowserContext, Page]:
        context = chromium.new_context(viewport={"width": 1500, "height": 950})
        context.set_default_timeout(PAGE_TIMEOUT)
        return context, context.new_page()

    context, page = fresh()
    sign_in(page, guarded, "ann")
    page.goto(f"{guarded}/browse?run=animals")
    tiles(page)
    expect(page.get_by_text("Signed in as Ann Lee")).to_be_visible()
    page.locator("a.tile").nth(9).focus()
    tag_in_gallery(page, "snow")
    expect(page.locator(".badge", has_text="snow")).to_have_count(1)
    (entry,) = history(reviews)
    assert entry.author == "Ann Lee (ann@example.org)"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="End session").click()
    page.goto(f"{guarded}/browse?run=animals")
    expect(page.get_by_text("Sign in to look at this audit")).to_be_visible()
    context.close()

    context, page = fresh()
    sign_in(page, guarded, "bob")
    page.goto(f"{guarded}/browse?run=animals")
    tiles(page)
    expect(page.get_by_text("who may look")).to_be_visible()
    expect(page.locator(".badge", has_text="snow")).to_have_count(1)
    expect(page.get_by_text("Save this view")).to_have_count(0)
    page.locator("a.tile").nth(1).focus()
    page.keyboard.press("t")
    expect(page.get_by_text("You may look at this audit but not review it")).to_be_visible()
    assert len(history(reviews)) == 1
    context.close()

    context, page = fresh()
    sign_in(page, guarded, "mallory")
    page.goto(f"{guarded}/browse?run=animals")
    expect(page.get_by_text("mallory@evil.net may not look at this audit")).to_be_visible()
    assert page.locator("a.tile").count() == 0
    assert page.get_by_test_id("stSidebar").count() == 0
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    context.close()
