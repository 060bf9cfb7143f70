"""The part of a page that shows a changed filter by itself; the rest follows once nobody has pressed anything for a moment.

Most of what a browser draws after a choice on Browse is what the choice changed nothing of, or changed where nobody looks: of a
hundred classes each list of them takes 50 ms, for counts in a menu that is closed.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cache.errors import FilterError
from cache.filters import Filter, compile_filter
from dashboard.session import PageContext, current_filter

_SHOWN = "filter_of_page"


def drawn_for(filter_: Filter) -> None:
    """Note that the whole page is drawn for a filter."""
    st.session_state[_SHOWN] = filter_.to_param()


def is_behind(filter_: Filter) -> bool:
    """Tell whether the rest of the page shows another filter still."""
    return bool(st.session_state.get(_SHOWN, filter_.to_param()) != filter_.to_param())


def with_current_filter(context: PageContext) -> PageContext:
    """Return a page's context with the filter of this moment: a fragment's is that of the page's last full run.

    A filter that cannot be applied leaves it at that one, which the page has spoken of.
    """
    try:
        chosen = current_filter()
        compile_filter(chosen, context.manifest)
    except FilterError:
        return context
    return replace(context, filter=chosen)
