"""Entry of the dashboard: ``streamlit run dashboard/app.py``, or ``python -m dashboard serve``."""

from __future__ import annotations

import sys
from pathlib import Path

# Streamlit puts only this folder on the import path; the rooms lie one above.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

import streamlit as st  # noqa: E402

from dashboard import notices, people, reviewing, saved_views, sidebar, styles, tour  # noqa: E402
from dashboard.rendering import emblem_png  # noqa: E402
from dashboard.session import PAGES  # noqa: E402


def main() -> None:
    """Draw the sidebar and the page that the URL names."""
    st.set_page_config("Gazelake", page_icon=emblem_png(), layout="wide")
    styles.apply()
    pages = {
        name: st.Page(
            info.file,
            title=info.title,
            icon=info.icon,
            url_path=info.url_path or None,
            default=not info.url_path,
        )
        for name, info in PAGES.items()
    }
    page = st.navigation(list(pages.values()), position="hidden")
    people.gate()
    tour.note_visit()
    st.session_state[saved_views.PAGE] = next(
        name for name, one in pages.items() if one is page or one.url_path == page.url_path
    )
    if st.session_state[saved_views.PAGE] == "overview":
        saved_views.start_page("".join(st.query_params))
    sidebar.draw(pages, with_links=page.url_path != PAGES["browse"].url_path)
    tour.draw(page.url_path)
    said = st.container()
    try:
        with notices.told():
            page.run()
    finally:
        sidebar.missing_links()
        with said:
            reviewing.messages()


main()
