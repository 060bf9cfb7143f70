"""Saved views: a page with everything its address says, under a name; each is an address that is checked when opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import streamlit as st

from cache.errors import GazelakeError, ReviewError
from cache.filters import MAX_PARAM
from cache.locations import Location
from cache.review_events import MAX_VIEW_NAME
from cache.review_views import SavedView, views
from dashboard import data
from dashboard.notices import plain
from dashboard.people import person
from dashboard.reviewing import asked, confirm, write
from dashboard.session import PAGES, PageContext

PAGE = "page_shown"
"""Where the session keeps the name of the page that is shown."""
_STARTED = "started"
_PAGE_BY_PATH = {info.url_path: name for name, info in PAGES.items()}


def address(page: str, params: Mapping[str, str]) -> str:
    """Return a page's state as a view keeps it: without the run, whose name is another elsewhere."""
    query = urlencode({name: value for name, value in sorted(params.items()) if name != "run" and value})
    return f"{PAGES[page].url_path}{'?' if query else ''}{query}"


def opened(url: str) -> tuple[str, dict[str, str]] | None:
    """Return the page and the parameters of a kept address; None where it is none of this dashboard's.

    It may come from anybody's reviews, so that nothing but a page's own name and parameters is taken from it.
    """
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, max_num_fields=50)
    except ValueError:
        return None
    page = _PAGE_BY_PATH.get(parts.path)
    if page is None or parts.scheme or parts.netloc or len(url) > MAX_PARAM:
        return None
    return page, {name: value for name, value in pairs if name != "run"}


def start_page(run: str) -> None:
    """Go to the page that somebody chose to start with, where a person comes without any address."""
    if st.session_state.get(_STARTED) or run:
        st.session_state[_STARTED] = True
        return
    st.session_state[_STARTED] = True
    try:
        runs = data.list_runs()
        name = data.latest_run(runs)
        if name is None:
            return
        saved = asked(data.open_catalog(runs[name]), views)
    except GazelakeError:
        return  # the page itself says what is wrong
    start = next((view for view in saved if view.start), None)
    found = opened(start.url) if start else None
    if found:
        st.switch_page(PAGES[found[0]].file, query_params={"run": name, **found[1]})


def save_view(run_path: Location) -> None:
    """Draw the popover that saves what the page shows now."""
    page = str(st.session_state.get(PAGE, "overview"))
    if not person().may_review or page == "reviews":
        return
    name_key, text_key, start_key = "view_name", "view_text", "view_start"

    def save() -> None:
        url = address(page, {key: str(value) for key, value in st.query_params.items()})
        changes: dict[str, Any] = {"name": st.session_state[name_key], "url": url}
        if st.session_state[text_key].strip():
            changes["description"] = st.session_state[text_key].strip()
        if st.session_state[start_key]:
            changes["start"] = True
        catalog = data.open_catalog(run_path)
        if write(catalog, lambda reviews, author: reviews.save_view(author, **changes)) is not None:
            confirm(f"Saved the view “{plain(st.session_state[name_key])}”.")
            st.session_state.update({name_key: "", text_key: "", start_key: False})

    with st.popover("Save this view", icon=":material/bookmark_add:", width="stretch"):
        st.text_input("Name", key=name_key, max_chars=MAX_VIEW_NAME, placeholder="what is to be seen here")
        st.text_area("Description", key=text_key, height=110)
        st.checkbox("Start with this view", key=start_key)
        st.button("Save", key="view_save", type="primary", on_click=save)


def view_list(context: PageContext) -> None:
    """Draw the saved views with what opens, renames and deletes them."""
    try:
        saved = asked(context.catalog, views)
    except ReviewError as error:
        st.error(plain(error))
        return
    if not saved:
        st.caption("None yet: “Save this view” in the sidebar keeps what a page shows, under a name.")
    for view in saved:
        _view(context, view)


def _view(context: PageContext, view: SavedView) -> None:
    found = opened(view.url)
    with st.container(
        key=f"view_{view.id}", horizontal=True, vertical_alignment="center", gap="small", border=True
    ):
        with st.container(gap="xxsmall", width="stretch"):
            if found is None:
                st.markdown(f"**{plain(view.name)}** — its address is none of this dashboard's")
            else:
                st.page_link(
                    PAGES[found[0]].file, label=f"**{plain(view.name)}**", icon=PAGES[found[0]].icon,
                    query_params={"run": context.run, **found[1]},
                )  # fmt: skip
            if view.description:
                st.markdown(plain(view.description))
            page = f"{PAGES[found[0]].title} · " if found else ""
            start = " · :material/flag: starts here" if view.start else ""
            st.caption(f"{page}{plain(view.author)}, {view.time:%-d %b %Y}{start}")
        if person().may_review:
            _edit(context, view)


def _edit(context: PageContext, view: SavedView) -> None:
    name_key, text_key = f"view_name_{view.id}", f"view_text_{view.id}"

    def change(**changes: object) -> None:
        write(context.catalog, lambda reviews, author: reviews.save_view(author, view.id, **changes))

    def rename() -> None:
        said = {"name": st.session_state[name_key], "description": st.session_state[text_key].strip()}
        changed = {key: words for key, words in said.items() if words != getattr(view, key)}
        if changed:
            change(**changed)

    with st.popover("Edit", icon=":material/edit:", type="tertiary", key=f"view_edit_{view.id}"):
        st.text_input("Name", view.name, key=name_key, max_chars=MAX_VIEW_NAME)
        st.text_area("Description", view.description, key=text_key, height=110)
        with st.container(horizontal=True):
            st.button("Save", key=f"view_rename_{view.id}", type="primary", on_click=rename)
            st.button(
                "Do not start here" if view.start else "Make start page", key=f"view_start_{view.id}",
                on_click=change, kwargs={"start": not view.start},
            )  # fmt: skip
            st.button(
                "Delete", key=f"view_delete_{view.id}", icon=":material/delete:", on_click=change, kwargs={"deleted": True}
            )  # fmt: skip
