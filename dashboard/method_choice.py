"""Choosing methods: the one that a page asks about with its target, and those that stand side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import streamlit as st

from cache.manifest import Manifest
from dashboard.session import TARGETS, PageContext, param, set_params

FAMILIES = {"activation": "Activation", "gradient": "Gradient", "perturbation": "Perturbation"}
"""Families in the order that pages show them; others follow."""
NONE = "none"
"""What the URL says where no method is to be shown."""


def method_title(manifest: Manifest, method: str) -> str:
    """Return what a method is called."""
    return str(manifest.methods.get(method, {}).get("title") or method)


def family_titles(manifest: Manifest) -> dict[str, str]:
    """Return the family of each method, as pages call it."""
    families = {name: str(entry.get("family") or "") for name, entry in manifest.methods.items()}
    return {name: FAMILIES.get(family, family.capitalize() or "Other") for name, family in families.items()}


def by_family(manifest: Manifest, methods: Iterable[str]) -> dict[str, list[str]]:
    """Order methods by family, and within one as the manifest lists them."""
    titles = family_titles(manifest)
    chosen = set(methods)
    found: dict[str, list[str]] = {title: [] for title in (*FAMILIES.values(), *titles.values())}
    for name in manifest.methods:
        if name in chosen:
            found[titles[name]].append(name)
    return {title: names for title, names in found.items() if names}


def source_of_url(context: PageContext) -> tuple[str, str]:
    """Return the method and the target of the URL, which a fragment reads afresh."""
    method, target = param("method", context.method), param("target", context.target)
    return (
        method if method in context.manifest.methods else context.method,
        target if target in TARGETS else context.target,
    )


def source_pickers(
    context: PageContext,
    key: str,
    label: Literal["visible", "collapsed"] = "visible",
    method: bool = True,
    target: bool = True,
) -> tuple[str, str]:
    """Choose the method and the target; both stand in the URL.

    Args:
        context: The page's context.
        key: What the widgets' keys start with.
        label: Visibility of the labels, as Streamlit has it.
        method: Whether the method is offered.
        target: Whether the target is offered; without labels there is only the predicted class.
    """
    chosen, explained = source_of_url(context)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if method:
            st.session_state[f"{key}_method"] = chosen
            st.selectbox(
                "Method",
                [
                    name
                    for names in by_family(context.manifest, context.manifest.methods).values()
                    for name in names
                ],
                format_func=lambda name: method_title(context.manifest, name),
                key=f"{key}_method",
                on_change=lambda: set_params(method=st.session_state[f"{key}_method"]),
                label_visibility=label,
                width=190,
            )
        if target:
            st.session_state[f"{key}_target"] = explained
            st.segmented_control(
                "Map of the",
                list(TARGETS),
                format_func=lambda name: TARGETS[name],
                key=f"{key}_target",
                on_change=lambda: set_params(target=st.session_state[f"{key}_target"]),
                label_visibility=label,
                required=True,
            )
    return chosen, explained if target else "pred"


def shown_methods(context: PageContext) -> list[str]:
    """Return the methods that stand side by side, by family; all of them unless the URL names some."""
    methods = context.manifest.methods
    asked = param("show")
    named = methods if not asked else [name for name in asked.split(",") if name in methods]
    return [name for names in by_family(context.manifest, named).values() for name in names]


def choose_methods(context: PageContext, key: str) -> list[str]:
    """Offer which methods stand side by side, a row of them a family, and return those that do."""
    shown = shown_methods(context)
    families = by_family(context.manifest, context.manifest.methods)
    keys = {f"{key}_{number}": names for number, names in enumerate(families.values())}

    def change() -> None:
        chosen = [name for field in keys for name in st.session_state[field] or []]
        everything = len(chosen) == len(context.manifest.methods)
        set_params(show=None if everything else ",".join(chosen) or NONE)

    total = len(context.manifest.methods)
    told = f"All {total} methods" if len(shown) == total else f"{len(shown)} of {total} methods"
    with st.popover(told, icon=":material/checklist:", width=190):
        for (family, names), field in zip(families.items(), keys, strict=True):
            st.session_state[field] = [name for name in names if name in shown]
            st.pills(
                family,
                names,
                format_func=lambda name: method_title(context.manifest, name),
                selection_mode="multi",
                key=field,
                on_change=change,
            )
        with st.container(horizontal=True):
            st.button("All", key=f"{key}_all", on_click=set_params, kwargs={"show": None})
            st.button("None", key=f"{key}_none", on_click=set_params, kwargs={"show": NONE})
    return shown
