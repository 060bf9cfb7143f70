"""The list of findings: a card each, with its verdict; one of them is chosen by its key in the address."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from cache.findings import Finding, Findings
from dashboard.finding_words import VERDICTS, errors_text
from dashboard.notices import plain
from dashboard.session import param, set_params


def badge(finding: Finding) -> str:
    """Return a verdict as HTML: its sign, its colour and its word."""
    look = VERDICTS[finding.verdict]
    return f'<span class="gl-badge {look.style}"><b>{look.sign}</b>{finding.verdict}</span>'


def chosen_of_url(found: Findings) -> Finding:
    """Return the finding that the address names, or the first; says so where the list has no such finding."""
    key = param("finding")
    finding = found.find(key) if key else None
    if key and finding is None:
        st.warning(
            f"This list has no finding {plain(key[:40])}: it was made anew since the link was made, and what the link "
            "meant was not found again. The first finding is shown.",
            icon=":material/search_off:",
        )
    return finding or found.findings[0]


def finding_list(findings: Sequence[Finding], chosen: Finding) -> None:
    """Draw the cards, the chosen one marked."""
    with st.container(key="finding_list", gap="small"):
        for finding in findings:
            with st.container(key=f"finding_card_{finding.rank}"):
                st.html(_card(finding, finding is chosen))
                # The button lies over the whole card, unseen: people point at the card, and screen readers name it.
                st.button(
                    f"Finding {finding.rank}, {finding.verdict}: {plain(finding.title)}",
                    key=f"finding_open_{finding.rank}",
                    on_click=set_params,
                    kwargs={"finding": finding.key},
                )


def _card(finding: Finding, on: bool) -> str:
    errors = errors_text(finding)
    facts = f"{finding.n:,} images" + (f" · {errors}" if errors else "")
    return (
        f'<div class="gl-card{" on" if on else ""}" aria-hidden="true">'
        f'<div class="gl-card-top"><span class="gl-rank">{finding.rank}</span>{badge(finding)}</div>'
        f'<div class="gl-card-title">{html.escape(finding.title)}</div>'
        f'<div class="gl-card-facts">{html.escape(facts)}</div></div>'
    )
