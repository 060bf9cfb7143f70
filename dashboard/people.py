"""Who is looking: signed in by OpenID Connect where the configuration asks for it, else whoever says so.

`gate` stands before every page; `person` is asked again by whatever writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import streamlit as st

from cache.errors import ConfigError
from cache.locations import Url
from cache.review_events import MAX_AUTHOR
from dashboard.configuration import Access, Configuration, configuration_path, read_configuration
from dashboard.data import runs_folder
from dashboard.notices import plain

NAME = "reviewer_name"
"""Where the session keeps the name that somebody gave."""


@dataclass(frozen=True)
class Person:
    """Who is looking.

    Attributes:
        name: By which their reviews are known; empty where nobody has said yet.
        may_review: Whether they may change anything.
        signed_in: Whether a provider vouches for them.
    """

    name: str
    may_review: bool
    signed_in: bool = False


def configuration() -> Configuration:
    """Return the dashboard's configuration, read anew so that a change counts at once.

    Raises:
        ConfigError: The file cannot be used.
    """
    path = configuration_path(runs_folder())
    return Configuration() if path is None else read_configuration(path)


def person() -> Person:
    """Return who is looking and what they may do, by the configuration and the provider's word of this moment.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    access = configuration().access
    may_write = reviews_have_a_place()
    if access is None:
        return Person(str(st.session_state.get(NAME, "")), may_review=may_write and not _auth_is_set_up())
    claims = _claims()
    role = _role(access, claims)
    return Person(_author(claims), may_review=may_write and role == "reviewer", signed_in=role is not None)


def reviews_have_a_place() -> bool:
    """Tell whether reviews can be kept: beside runs of this machine, or in the folder that the configuration names.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    return not isinstance(runs_folder(), Url) or configuration().reviews is not None


def gate() -> None:
    """Let in whoever may look; to others say one sentence, and stop before anything of a run is read."""
    try:
        access = configuration().access
    except ConfigError as error:
        _closed("lock", "This dashboard is not set up rightly", plain(error))
    if access is None:
        if _auth_is_set_up():
            _closed(
                "lock",
                "Nobody is let in yet",
                "Signing in is set up in the secrets, but no configuration says who may look: list viewers and reviewers "
                "under [access] in gazelake\\.toml.",
            )
        return
    if not _auth_is_set_up():
        _closed(
            "lock",
            "Nobody can sign in yet",
            "The configuration asks people to sign in, but Streamlit's secrets have no [auth] section: add one as "
            "docs/reviewing\\.md shows.",
        )
    claims = _claims()
    if not claims.get("is_logged_in"):
        with st.container(key="notice"):
            st.markdown("### :material/lock: Sign in to look at this audit")
            st.markdown("It is shown to people whom its owner has listed.")
            st.button(
                "Sign in", type="primary", icon=":material/login:", on_click=st.login,
                args=(access.provider,) if access.provider else (),
            )  # fmt: skip
        st.stop()
    if _role(access, claims) is None:
        who = str(claims.get("email") or "An account without an e-mail address")[:MAX_AUTHOR]
        with st.container(key="notice"):
            st.markdown("### :material/lock: Not on the list")
            st.markdown(f"**{plain(who)}** may not look at this audit: ask its owner to be listed.")
            st.button("Sign out", icon=":material/logout:", on_click=st.logout)
        st.stop()


def _closed(icon: str, title: str, sentence: str) -> NoReturn:
    with st.container(key="notice"):
        st.markdown(f"### :material/{icon}: {title}")
        st.markdown(sentence)
    st.stop()


def badge() -> None:
    """Say in the sidebar who is looking; where nobody signs in, ask once for a name."""
    who = person()
    with st.container(key="reviewer"):
        if who.signed_in:
            st.caption(f"Signed in as **{plain(who.name)}**" + ("" if who.may_review else ", who may look"))
            st.button(
                "Sign out", key="sign_out", icon=":material/logout:", type="tertiary", on_click=st.logout
            )
        elif reviews_have_a_place():
            name_input("sidebar_reviewer", "Reviewing as")
        if not reviews_have_a_place():
            st.caption(
                ":material/visibility: These runs lie at a URL and can only be looked at: to review them, name a folder of this "
                "machine under `[reviews]` in the configuration given with `--config`."
            )


def name_input(key: str, label: str) -> None:
    """Draw a field for the reviewer's name, which the session keeps."""
    st.session_state[key] = st.session_state.get(NAME, "")

    def change() -> None:
        st.session_state[NAME] = " ".join(st.session_state[key].split())
        st.rerun()  # the whole page, from within a fragment too: it asks for the name in several places

    st.text_input(
        label,
        key=key,
        on_change=change,
        placeholder="your name",
        max_chars=MAX_AUTHOR,
        icon=":material/person:",
    )


def _auth_is_set_up() -> bool:
    return bool(st.secrets.load_if_toml_exists() and st.secrets.get("auth"))


def _claims() -> Mapping[str, Any]:
    """Return what the provider says of whoever is looking."""
    return dict(st.user)


def _role(access: Access, claims: Mapping[str, Any]) -> str | None:
    email = claims.get("email")
    # Anybody may claim an address at some providers: one that is said to be unverified is nobody's.
    if (
        not claims.get("is_logged_in")
        or not isinstance(email, str)
        or claims.get("email_verified") in (False, "false")
    ):
        return None
    return access.role(email)


def _author(claims: Mapping[str, Any]) -> str:
    """Return the name of somebody signed in, with the address that tells two people of a name apart."""
    email = str(claims.get("email") or "").strip().casefold()
    name = " ".join(str(claims.get("name") or "").split())
    return (
        email if not name or name.casefold() == email else f"{name[: MAX_AUTHOR - len(email) - 3]} ({email})"
    )
