"""The sidebar: the pages, the run, and what the run is about."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.navigation.page import Page

from cache.errors import GazelakeError
from cache.locations import Location
from cache.manifest import Manifest
from dashboard import data, people, saved_views
from dashboard.notices import plain
from dashboard.session import choose_newest, param, set_params, shared_params
from dashboard.tour import help_buttons

MENU = ("overview", "findings", "browse", "region", "methods", "reviews")
_PICKER = "sidebar_run"
_LINKS = "sidebar_links"


@dataclass
class _Links:
    """The links to the pages: where they stand, and whether this run of the script has drawn them."""

    place: DeltaGenerator
    pages: Mapping[str, Page]
    drawn: bool = False


def draw(pages: Mapping[str, Page], with_links: bool = True) -> None:
    """Draw the sidebar.

    Args:
        pages: Every page by its name.
        with_links: Whether the links are drawn at once; else the page calls `links`, within the fragment that changes what they keep.
    """
    runs: Mapping[str, Location] = {}
    with suppress(GazelakeError):  # the page itself says what is wrong
        runs = data.list_runs()
    if runs and not param("run"):
        choose_newest(runs)
    with st.sidebar:
        st.html('<div class="gl-brand"><span class="gl-mark"></span>Gazelake</div>')
        st.session_state[_LINKS] = _Links(st.container(key="menu", gap="xxsmall"), pages)
        if with_links:
            links()
        name = param("run")
        if len(runs) > 1 or (runs and name and name not in runs):
            st.session_state[_PICKER] = name if name in runs else None
            st.selectbox(
                "Run",
                list(runs),
                key=_PICKER,
                on_change=_choose_run,
                placeholder="Choose a run",
                filter_mode=None,
            )
        path = runs.get(name)
        people.badge()
        catalog = None
        if path is not None:
            saved_views.save_view(path)
            with suppress(GazelakeError):  # the page itself says what is wrong
                catalog = data.open_catalog(path)
                _facts(catalog.manifest)
        help_buttons(catalog)


def links() -> None:
    """Draw the links to the pages, which keep the run, the filter and the method."""
    menu: _Links = st.session_state[_LINKS]
    menu.drawn = True
    with menu.place:
        for name in MENU:
            page = menu.pages[name]
            st.page_link(
                page, label=page.title, icon=page.icon, width="stretch", query_params=shared_params()
            )


def missing_links() -> None:
    """Draw the links where a page that draws them itself did not come to it."""
    if not st.session_state[_LINKS].drawn:
        links()


_OF_ONE_RUN = (
    "filter", "method", "target", "show", "page", "id", "regions", "region", "on", "than", "group",
    "finding", "similar", "point", "columns", "colour",
)  # fmt: skip
"""Parameters of the address that belong to one run."""


def _choose_run() -> None:
    chosen = st.session_state[_PICKER]
    if chosen:
        # What another run's page was asked means nothing in this one.
        set_params(run=chosen, **dict.fromkeys(_OF_ONE_RUN))


def _facts(manifest: Manifest) -> None:
    rows: list[tuple[str, str]] = [
        ("Run", manifest.name),
        ("Images", f"{manifest.rows('samples'):,}"),
        ("Classes", f"{len(manifest.classes):,}"),
        ("Model", str(manifest.model.get("architecture") or manifest.model.get("source") or "")),
        ("Layer", str(manifest.model.get("target_layer") or "")),
        ("Input", _input(manifest)),
        ("Updated", _day(manifest.updated)),
    ]
    lines = [f"| {plain(k)} | {plain(v)} |" for k, v in rows if v]
    with st.container(key="facts"):
        st.markdown("\n".join(["| | |", "|:--|:--|", *lines]))


def _input(manifest: Manifest) -> str:
    size = manifest.preprocessing.get("size")
    return f"{size[1]} × {size[0]} px" if isinstance(size, list) and len(size) == 2 else ""


def _day(moment: str) -> str:
    try:
        return datetime.fromisoformat(moment).strftime("%-d %b %Y, %H:%M\N{NO-BREAK SPACE}UTC")
    except ValueError:
        return ""
