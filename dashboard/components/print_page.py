"""A button that prints the page."""

from __future__ import annotations

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from dashboard.components.copy_link import BUTTON_CSS

_JS = """
export default function ({ parentElement }) {
  parentElement.querySelector("button").onclick = () => window.print();
}
"""
_MOUNT: ComponentRenderer = st.components.v2.component(
    "gazelake_print", html='<button type="button">Print</button>', css=BUTTON_CSS, js=_JS
)


def print_page(key: str) -> None:
    """Draw the button."""
    with st.container(width=90):
        _MOUNT(key=key)
