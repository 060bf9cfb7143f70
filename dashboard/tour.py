"""The first-run tour: three steps through the pages, for somebody who opened the dashboard without a link to anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from cache.catalog import Catalog
from cache.fields import sample_fields
from cache.schema import META_PREFIX, SAMPLE_FIELDS, Field
from dashboard.components.tour import tour_card
from dashboard.field_help import glossary_html
from dashboard.session import PAGES, open_page

_STEP = "tour_step"
_OFFERED = "tour_offered"
_CARD = "tour_card"


@dataclass(frozen=True)
class Step:
    """A step of the tour.

    Attributes:
        page: The page it speaks of.
        title: What it is about.
        text: What there is to see and to do.
        target: Selector of what is outlined.
    """

    page: str
    title: str
    text: str
    target: str


STEPS = (
    Step(
        "overview",
        "Start with what goes wrong",
        "How good the model is, which classes it confuses, and whether it looks elsewhere when it errs. "
        "Every cell, bar and row is a door: click it for its images.",
        ".st-key-overview_confusion",
    ),
    Step(
        "browse",
        "Look where it looked",
        "Filter the images, then see the attention over them: space shows and hides it, digits switch the method. "
        "Under Region, draw a box on the picture to find everything the model decided by that place.",
        ".st-key-filter_bar",
    ),
    Step(
        "findings",
        "See what is proven",
        "Suspected shortcuts by rank. Each was tested on the images: what it stands on was covered, and pasted elsewhere, "
        "against control patches. The address holds all you see, so a link shows others the same.",
        ".st-key-finding_list",
    ),
)


def note_visit() -> None:
    """Remember, before anything writes the address, whether somebody came without a link to anything."""
    # Whoever follows a link wants what it shows: only an address without parameters is a first visit.
    st.session_state.setdefault(_OFFERED, not st.query_params)


def draw(url_path: str) -> None:
    """Draw the card where the tour is under way, or is offered."""
    state = st.session_state
    page = next((name for name, info in PAGES.items() if info.url_path == url_path), "")
    step = int(state.get(_STEP, 0))
    data: dict[str, Any] = {
        "steps": [
            {"title": s.title, "text": s.text, "target": s.target, "here": s.page == page} for s in STEPS
        ],
        "step": step,
        "offered": state[_OFFERED],
    }
    with st.container(key="tour"):
        went = tour_card(_CARD, data, _note)
    if went and STEPS[went - 1].page != page:
        open_page(STEPS[went - 1].page)


def _note() -> None:
    go = st.session_state[_CARD].get("go")
    step = int(go) if isinstance(go, int | float) and 0 <= go <= len(STEPS) else 0
    st.session_state[_STEP] = step
    st.session_state[_OFFERED] = False


def help_buttons(catalog: Catalog | None) -> None:
    """Offer the tour and what the numbers mean, at the foot of the sidebar."""
    with st.container(key="help", gap="xxsmall"):
        if st.button("Take the tour", key="tour_take", icon=":material/explore:", type="tertiary"):
            st.session_state[_STEP] = 1
            open_page(STEPS[0].page)
        if catalog is not None and st.button(
            "Glossary",
            key="glossary",
            help="What the numbers mean",
            icon=":material/menu_book:",
            type="tertiary",
        ):
            _glossary(catalog)


@st.dialog("What the numbers mean", width="large")
def _glossary(catalog: Catalog) -> None:
    st.html(glossary_html(groups(catalog)))


def groups(catalog: Catalog) -> list[tuple[str, list[Field]]]:
    """Return the run's numbers by what they are about: attention, the prediction, the image."""
    manifest = catalog.manifest
    of_prediction = [field for field in SAMPLE_FIELDS if field.unit != "px"]
    named = {field.name for field in of_prediction}
    of_image = [
        entry.field
        for name, entry in sample_fields(manifest).items()
        if entry.kind == "number" and name not in named and not name.startswith(META_PREFIX)
    ]
    return [
        ("Attention: shares of a map's positive part", list(manifest.statistics)),
        ("Prediction", of_prediction),
        ("Image", of_image),
    ]
