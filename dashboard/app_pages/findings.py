"""Findings: the run in plain words, and its suspected shortcuts with the proof of each."""

from __future__ import annotations

import streamlit as st

from cache.catalog import Catalog
from cache.findings import Findings, basis_of, load_findings
from dashboard.data import ask
from dashboard.finding_detail import finding_detail
from dashboard.finding_list import chosen_of_url, finding_list
from dashboard.finding_summary import summary_of, summary_panel
from dashboard.notices import notices_of_run, plain, told
from dashboard.session import PageContext, page_context


def show() -> None:
    """Draw the page."""
    context = page_context()
    st.title("Findings")
    found = ask(context.catalog, list_of)
    if not found.discovered:
        _not_discovered(context)
        return
    with st.container(border=True, key="finding_summary"):
        summary_panel(summary_of(context))
    _state(context, found)
    if found.findings:
        chosen = chosen_of_url(found)
        left, right = st.columns([3, 8], gap="medium")
        with left:
            finding_list(found.findings, chosen)
        with right, told():  # one that cannot be shown leaves the others within reach
            finding_detail(context, chosen)
    else:
        st.info(
            "No suspected shortcut was found: nothing goes with errors, or leads to a class, beyond chance.",
            icon=":material/check_circle:",
        )
    for notice in found.notices:
        st.caption(f":material/info: {plain(notice)}")
    notices_of_run(context.manifest)


def list_of(catalog: Catalog) -> Findings:
    """Return a run's list of findings."""
    return load_findings(catalog.run)


def _not_discovered(context: PageContext) -> None:
    with st.container(key="notice"):
        st.markdown("### :material/troubleshoot: Nobody has looked for shortcuts yet")
        st.markdown(
            "Search the whole run for what goes with errors or leads to a class; it takes seconds to minutes:"
        )
        st.code(f"python -m engine discover {context.run_path}", language="shell", wrap_lines=True)
        st.markdown("Then prove or refute what is found, on the original images:")
        st.code(f"python -m engine verify {context.run_path}", language="shell", wrap_lines=True)


def _state(context: PageContext, found: Findings) -> None:
    """Say where the list is older than the run, where findings wait for their tests, and that no filter applies."""
    if context.filter:
        st.caption(
            ":material/filter_alt_off: Findings are about the whole run; the filter of the other pages is kept for them."
        )
    if found.basis and found.basis != basis_of(context.manifest):
        st.warning(
            f"The run has changed since it was searched. Search it again: `python -m engine discover {context.run_path}`; "
            "tests of findings that are found again are kept.",
            icon=":material/update:",
        )
    untested = sum(finding.verdict == "untested" for finding in found.findings)
    if untested:
        of = "None" if untested == len(found.findings) else f"{len(found.findings) - untested}"
        st.info(
            f"{of} of {len(found.findings)} findings {'has' if of in ('None', '1') else 'have'} been tested. Prove or refute "
            f"the others: `python -m engine verify {context.run_path}`",
            icon=":material/science:",
        )


show()
