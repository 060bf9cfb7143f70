"""A button that copies the page's address, which is the whole state of the screen."""

from __future__ import annotations

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

BUTTON_CSS = """
button { all: unset; box-sizing: border-box; width: 100%; text-align: center; cursor: pointer; font: 14px var(--st-font);
  line-height: 36px; color: var(--st-text-color); border: 1px solid var(--st-border-color); border-radius: 8px; white-space: nowrap; }
button:hover { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""
_JS = """
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
export default function ({ parentElement }) {
  const button = parentElement.querySelector("button");
  button.onclick = async () => {
    try {
      await copy(window.location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from the address bar";
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 1600);
  };
}
"""
_MOUNT: ComponentRenderer = st.components.v2.component(
    "gazelake_copy_link",
    html='<button type="button" aria-live="polite">Copy link</button>',
    css=BUTTON_CSS,
    js=_JS,
)


def copy_link(key: str) -> None:
    """Draw the button."""
    _MOUNT(key=key)
