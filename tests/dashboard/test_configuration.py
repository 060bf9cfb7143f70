"""Who may look and review: what the file may say, and that nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import ConfigError
from cache.filters import Filter
from cache.review_views import history
from cache.reviews import Reviews
from cache.run import Run
from dashboard import __main__ as command
from dashboard import people
from dashboard.configuration import (
    CONFIG_VARIABLE,
    Access,
    Configuration,
    configuration_path,
    read_configuration,
)
from tests.dashboard.conftest import OpenPage, texts

LISTED = '[access]\nviewers = ["*@example.org", "eve@elsewhere.net"]\nreviewers = ["Ann@Example.org"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "gazelake.toml"
    path.write_text(text)
    return path


def test_a_file_says_who_may_do_what(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    said = read_configuration(write(tmp_path, LISTED + '[reviews]\nfolder = "kept"\n'))
    assert said.reviews == tmp_path / "kept"
    access = said.access
    assert access is not None
    assert access.role("ann@example.org") == "reviewer"
    assert access.role(" ANN@example.ORG ") == "reviewer"
    assert access.role("bob@example.org") == "viewer"
    assert access.role("eve@elsewhere.net") == "viewer"


@pytest.mark.parametrize(
    "address",
    [
        "", "ann", "@example.org", "ann@", "ann@example.org.evil.net", "ann@sub.example.org", "*@example.org",
        "x@y@example.org", "ann@example.org\nbob@example.org", "other@elsewhere.net", "ann example@example.org",
    ],
)  # fmt: skip
def test_others_may_do_nothing(address: str) -> None:
    access = Access(("*@example.org", "eve@elsewhere.net"), ("ann@example.org",))
    assert access.role(address) is None


@pytest.mark.parametrize(
    "text",
    [
        "[access", "[acess]\nviewers = []", '[access]\nviewer = ["a@b.c"]', "[access]\n", "[access]\nviewers = []",
        '[access]\nviewers = "a@b.c"', "[access]\nviewers = [3]", '[access]\nviewers = ["*"]', 'access = "all"',
        '[access]\nviewers = ["a b@c.d"]', '[access]\nviewers = ["a@b.c"]\nprovider = 3', '[reviews]\nfolder = ""',
        "[reviews]\nfolder = 3", '[reviews]\nfolder = "not there"', '[reviews]\nplace = "x"', "\x00",
        "a = " + "[" * 5_000,
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_configuration(write(tmp_path, text))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    with pytest.raises(ConfigError):
        command.check_configuration(tmp_path, None)


def test_the_file_lies_beside_the_runs_or_is_named(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    assert configuration_path(tmp_path) is None
    path = write(tmp_path, LISTED)
    assert configuration_path(tmp_path) == path
    # What lies within a run came with it, and says nothing about this dashboard.
    assert configuration_path(runs / "animals") is None
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "other.toml"))
    assert configuration_path(tmp_path) == tmp_path / "other.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        command.check_configuration(runs, tmp_path / "missing.toml")


def signed_in(monkeypatch: pytest.MonkeyPatch, email: str | None, **claims: Any) -> None:
    given: Mapping[str, Any] = {"is_logged_in": email is not None, "email": email, **claims}
    monkeypatch.setattr(people, "_claims", lambda: given)
    monkeypatch.setattr(people, "_auth_is_set_up", lambda: True)
    access = Access(("*@example.org",), ("ann@example.org",))
    monkeypatch.setattr(people, "configuration", lambda: Configuration(None, access))


def test_people_who_are_not_listed_see_a_sentence_only(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for email, claims in (
        ("mallory@evil.net", {}),
        ("ann@example.org", {"email_verified": False}),
        (None, {}),
    ):
        signed_in(monkeypatch, email, **claims)
        app = open_page("browse")
        assert not app.exception
        assert [button.label for button in app.button] == ["Sign out" if email else "Sign in"]
        assert "animals" not in texts(app)
        assert not app.multiselect


def test_signing_in_without_a_list_or_a_provider_lets_nobody_in(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "_auth_is_set_up", lambda: True)
    assert "Nobody is let in yet" in texts(open_page("browse"))
    signed_in(monkeypatch, "ann@example.org")
    monkeypatch.setattr(people, "_auth_is_set_up", lambda: False)
    assert "Nobody can sign in yet" in texts(open_page("browse"))


def test_a_configuration_that_became_wrong_lets_nobody_in(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(write(tmp_path, "[access")))
    app = open_page("browse")
    assert not app.exception
    assert "not set up rightly" in texts(app)
    assert not app.multiselect


def test_a_viewer_changes_nothing_even_with_what_a_reviewer_was_shown(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, own_runs: Path
) -> None:
    reviews = Reviews.of_run(own_runs / "animals")
    signed_in(monkeypatch, "ann@example.org", name="Ann Lee")
    app = open_page("sample", folder=own_runs, id=_any_sample(own_runs))
    shown = app.pills(key="sample_verdict")
    before = len(history(reviews))
    # The list changes while the page is open: what was drawn for a reviewer is pressed by a viewer.
    signed_in(monkeypatch, "bob@example.org", name="Bob")
    shown.set_value("shortcut").run()
    assert len(history(reviews)) == before
    assert "You may look at this audit but not change it" in texts(app).replace("\\", "")
    viewer = open_page("sample", folder=own_runs, id=_any_sample(own_runs))
    assert "sample_verdict" not in {one.key for one in viewer.pills}
    assert not [button for button in viewer.button if button.label in ("Add note", "Save")]


def test_a_signed_in_reviewer_signs_with_name_and_address(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, own_runs: Path
) -> None:
    signed_in(monkeypatch, "Ann@example.org", name="Ann Lee")
    app = open_page("sample", folder=own_runs, id=_any_sample(own_runs))
    app.pills(key="sample_verdict").set_value("unsure").run()
    entry = history(Reviews.of_run(own_runs / "animals"))[0]
    assert (entry.author, entry.payload["verdict"]) == ("Ann Lee (ann@example.org)", "unsure")


def _any_sample(runs: Path) -> str:
    return queries.ids(Catalog(Run.open(runs / "animals")), Filter(), limit=1)[0]
