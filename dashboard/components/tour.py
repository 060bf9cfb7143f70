"""The card of the first-run tour: beside the page, not over it; whether it was seen is kept by the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

_HERE = Path(__file__).resolve().parent
_MOUNT: ComponentRenderer = st.components.v2.component(
    "gazelake_tour",
    html='<div class="tour"></div>',
    css=(_HERE / "tour.css").read_text("utf-8"),
    js=(_HERE / "tour.js").read_text("utf-8"),
)


def tour_card(key: str, data: Mapping[str, Any], on_go: Callable[[], None]) -> int | None:
    """Put the card on the page; return the step that a person goes to, 0 to end, None where nothing was pressed.

    Args:
        key: Its key.
        data: ``steps`` with ``title``, ``text`` and ``target`` (a selector of what is meant); ``step``, the one under
            way, from 1, or 0; ``offered``, whether the first step may show itself to somebody who has not seen it.
        on_go: Called when somebody goes to a step; the step is in the state of the key under ``go``.
    """
    result = _MOUNT(key=key, data=dict(data), on_go_change=on_go)
    went = result.get("go")
    return int(went) if isinstance(went, int | float) else None
