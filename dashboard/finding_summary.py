"""A run in plain words, at the top of pages."""

from __future__ import annotations

import html
import re

import streamlit as st

from cache.summaries import Summary, run_summary
from dashboard.data import ask
from dashboard.finding_words import VERDICTS
from dashboard.session import PageContext


def summary_of(context: PageContext) -> Summary:
    """Return the run in plain words.

    Raises:
        RunDamagedError: The list of findings cannot be read.
    """
    return ask(context.catalog, run_summary)


def summary_panel(summary: Summary, right: bool = True) -> None:
    """Show what the model gets right (where that is not shown already), its habits as a list, and what to look at next."""
    known = f"<p>{html.escape(' '.join(summary.right))}</p>" if right else ""
    habits = "".join(f"<li>{_sign(summary, at)}<span>{html.escape(text)}</span></li>" for at, text in enumerate(summary.habits))  # fmt: skip
    st.html(
        f'<div class="gl-summary">{known}<ul>{habits}</ul>'
        f'<p class="gl-next">{_commands(summary.next)}</p></div>'
    )


def _commands(text: str) -> str:
    """Escape a sentence, and set what stands between backticks as code: the page is HTML here, not Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _sign(summary: Summary, at: int) -> str:
    if at >= len(summary.shown):
        return ""
    look = VERDICTS[summary.shown[at].verdict]
    return f'<b class="gl-sign {look.style}" aria-hidden="true">{look.sign}</b>'
