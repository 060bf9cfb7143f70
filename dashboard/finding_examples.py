"""Examples of a finding and counter-examples, as a gallery with attention over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from cache import queries
from cache.fields import class_title
from cache.filters import Filter, Is
from cache.findings import Finding
from cache.queries import Sort
from cache.regions import percent
from dashboard.components.gallery import Group
from dashboard.data import ask
from dashboard.finding_words import order_of, rest_of_class
from dashboard.notices import told
from dashboard.session import PageContext, open_page
from dashboard.tiles import TILE_COLUMNS, sample_gallery

SHOWN = 5
"""Examples of each kind."""


@dataclass(frozen=True)
class Kind:
    """Images that are shown together: what they are, and which."""

    title: str
    filter: Filter
    sort: Sort


def kinds_of(finding: Finding, name: str, labelled: bool) -> list[Kind]:
    """Return what is shown of a finding: its wrong and right images, and the rest of its class.

    Args:
        finding: The finding.
        name: What its class is called.
        labelled: Whether the run has labels, so that wrong and right are known.
    """
    order, rest = order_of(finding), rest_of_class(finding)
    if not labelled:
        shown = [Kind("Examples", finding.filter, order)]
        if rest is not None:
            shown.append(Kind(f"Counter-examples: called {name} without it", rest, Sort("confidence", True)))
        return shown
    shown = [
        Kind(f"Examples: wrongly called {name}", finding.filter.with_(Is("correct", False)), order),
        Kind(f"Counter-examples: the same, and rightly called {name}", finding.filter.with_(Is("correct", True)), order),
    ]  # fmt: skip
    if rest is not None:
        right = rest.with_(Is("correct", True))
        shown.append(Kind(f"Counter-examples: rightly called {name} without it", right, Sort("confidence", True)))  # fmt: skip
    return shown


@st.fragment
@told()
def examples(context: PageContext, finding: Finding, labelled: bool) -> None:
    """Show a few images of each kind; a click opens the sample among those of its kind."""
    name = class_title(context.manifest.classes, finding.class_index)
    groups: list[Group] = []
    images: dict[str, str] = {}
    owners: dict[str, Filter] = {}
    gallery = None
    for kind in kinds_of(finding, name, labelled):
        rows = ask(context.catalog, queries.page, kind.filter, kind.sort, 0, SHOWN, TILE_COLUMNS).to_pylist()
        if not rows:
            continue
        total = ask(context.catalog, queries.count, kind.filter).n
        gallery = sample_gallery(context, rows, _note(kind), filter=kind.filter)
        tiles = gallery.groups[0].tiles
        groups.append(Group(tiles, kind.title, note=_of(len(rows), total)))
        images |= gallery.images
        owners |= {tile.id: kind.filter for tile in tiles}
    if gallery is None:
        st.caption("No image of it is left in the run.")
        return
    gallery = replace(gallery, groups=groups, images=images, layout="across")
    opened = gallery.mount("findings_gallery", context.method)
    if opened in owners:
        open_page("sample", id=opened, filter=owners[opened])


def _of(shown: int, total: int) -> str:
    return f"{shown} of {total:,}" if shown < total else f"all {total:,}" if total > 1 else "the only one"


def _note(kind: Kind) -> Any:
    def note(row: Mapping[str, Any]) -> str:
        value = row["sort_value"]
        if kind.sort.region is None or value is None:
            return str(row["sample_id"])
        return f"{percent(value)}% in the box"

    return note
