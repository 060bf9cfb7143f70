"""What failed in a run, and how the run was made."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cache import queries
from dashboard.data import ask
from dashboard.fact_text import known_facts
from dashboard.notices import plain
from dashboard.session import PageContext


def failures(context: PageContext) -> None:
    """List the images of the run that could not be explained, with the reasons."""
    table = ask(context.catalog, queries.errors).to_pandas()
    if table.empty:
        return
    with st.container(border=True):
        kinds = table["kind"].value_counts()
        st.subheader("Failures")
        told = ", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in kinds.items())
        st.caption(
            f"{len(table):,} images of the run could not be explained: {told}. All others are unaffected."
        )
        st.dataframe(
            table[["sample_id", "stage", "kind", "message", "uri"]],
            hide_index=True,
            height="content" if len(table) <= 7 else 300,
            column_config={
                "sample_id": "Sample",
                "stage": "Stage",
                "kind": "Kind",
                "message": st.column_config.TextColumn("What happened", width="large"),
                "uri": "Path",
            },
        )


def provenance(context: PageContext) -> None:
    """Say what the run was made of: data, preprocessing, model, methods, versions and history."""
    manifest = context.manifest
    with st.expander("How this run was made", icon=":material/history:"):
        left, middle, right = st.columns(3)
        with left:
            _facts("Dataset", manifest.dataset)
            _facts("Preprocessing", manifest.preprocessing)
        with middle:
            _facts("Model", manifest.model)
            _facts("Versions", manifest.versions)
        with right:
            for name, method in manifest.methods.items():
                _facts(
                    str(method.get("title", name)),
                    {k: method[k] for k in ("family", "parameters", "reference") if method.get(k)},
                )
        if manifest.history:
            st.markdown("**History**")
            st.dataframe(
                [{key: str(value) for key, value in entry.items()} for entry in manifest.history],
                hide_index=True,
            )


def _facts(title: str, facts: dict[str, Any]) -> None:
    rows = [f"| {plain(key)} | {plain(value)} |" for key, value in known_facts(facts)]
    if rows:
        st.markdown("\n".join([f"**{plain(title)}**", "", "| | |", "|:--|:--|", *rows]))
