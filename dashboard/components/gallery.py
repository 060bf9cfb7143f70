"""The gallery component: thumbnails with attribution maps over them, switched in the browser without a round trip."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from dashboard.rendering import (
    COLOURS,
    MAP_LIMIT,
    OVERLAY_FLOOR,
    SIGNED_COLOURS,
    FloatMap,
    Pixels,
    quantise_all,
)
from dashboard.session import integer_param, param, set_params

SIZES = (90, 400)
OPACITIES = (10, 100)
DEFAULT_SIZE = 130
DEFAULT_OPACITY = 70

_TABLE, _SIGNED_TABLE = (
    base64.b64encode(table.tobytes()).decode("ascii") for table in (COLOURS, SIGNED_COLOURS)
)
_HERE = Path(__file__).resolve().parent
_PARTS = ("_paint", "_reviewing", "_keys", "_tiles", "_bar", "")
_MOUNT: ComponentRenderer = st.components.v2.component(
    "gazelake_gallery",
    html='<div class="gl"></div>',
    css=(_HERE / "gallery.css").read_text("utf-8"),
    # One module of several files: each knows the functions and builds upon the class of those before.
    js="".join((_HERE / f"gallery{part}.js").read_text("utf-8") for part in _PARTS),
)

EncodedMap = tuple[int, int, str, bool]
"""A map as the browser draws it: rows, columns, a byte a cell in base64, and whether it is signed."""


@dataclass(frozen=True)
class Tile:
    """One picture of a gallery.

    Attributes:
        id: What a click reports; the sample's id.
        image: Key of its picture among the gallery's images.
        text: Bold line under the picture.
        then: The rest of it, which has a line of its own where both do not stand in one.
        alt: What the picture shows, for those who do not see it.
        href: Where it leads; without one it is no link.
        maps: Encoded map by method; None where a map has nothing to show. None for a picture without maps.
        method: The only method the tile shows, whatever the toolbar says.
        mark: A sign and its colour before the text.
        value: Figure at the end of the line.
        note: Second, fainter line.
        title: What hovering shows.
        place: Where on the picture the maps lie: x0, y0, x1, y1 in its fractions.
        outline: Whether that place is outlined and the rest dimmed.
        shape: Key among the gallery's shapes of the object's outline, which lies in that place.
        badge: A word or two on the picture, and what hovering over it says.
        ratio: Width of the picture by its height, so that nothing jumps while it loads.
    """

    id: str
    image: str
    text: str
    alt: str
    then: str = ""
    href: str = ""
    maps: Mapping[str, EncodedMap | None] | None = None
    method: str = ""
    mark: tuple[str, str] | None = None
    value: str = ""
    note: str = ""
    title: str = ""
    place: tuple[float, float, float, float] | None = None
    outline: bool = False
    shape: str = ""
    badge: tuple[str, str] | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Group:
    """Tiles under one title.

    Attributes:
        tiles: The tiles.
        title: The title; it may be empty.
        heading: Heading above this group and those that follow until the next heading.
        note: A faint line after the title.
        more: What the button says that leads to all of it; empty for none.
    """

    tiles: Sequence[Tile]
    title: str = ""
    heading: str = ""
    note: str = ""
    more: str = ""


@dataclass(frozen=True)
class View:
    """How a gallery shows attention; all of it stands in the URL."""

    method: str
    overlay: bool = True
    opacity: int = DEFAULT_OPACITY
    size: int = DEFAULT_SIZE
    object: bool = True

    def params(self, default_method: str) -> dict[str, str | None]:
        """Return the view as parameters of the URL; what is as usual is left out."""
        return {
            "method": None if self.method == default_method else self.method,
            "overlay": None if self.overlay else "0",
            "opacity": None if self.opacity == DEFAULT_OPACITY else str(self.opacity),
            "tile": None if self.size == DEFAULT_SIZE else str(self.size),
            "object": None if self.object else "0",
        }

    @classmethod
    def of(cls, reported: Mapping[str, Any], methods: Sequence[str], fallback: View) -> View:
        """Read a view that the browser reports; what does not fit is taken from another view."""
        method, opacity, size = (reported.get(name) for name in ("method", "opacity", "size"))
        return cls(
            str(method) if method in methods else fallback.method,
            bool(reported.get("overlay", fallback.overlay)),
            _bounded(opacity, OPACITIES, fallback.opacity),
            _bounded(size, SIZES, fallback.size),
            bool(reported.get("object", fallback.object)),
        )


def _bounded(value: Any, bounds: tuple[int, int], fallback: int) -> int:
    return min(max(int(value), bounds[0]), bounds[1]) if isinstance(value, int | float) else fallback


def view_of_url(method: str) -> View:
    """Return the view that the URL asks for."""
    return View(
        method,
        param("overlay", "1") != "0",
        integer_param("opacity", DEFAULT_OPACITY, *OPACITIES),
        integer_param("tile", DEFAULT_SIZE, *SIZES),
        param("object", "1") != "0",
    )


def encoded(attribution: FloatMap | None, signed: bool = False, limit: int = MAP_LIMIT) -> EncodedMap | None:
    """Bring a map into the form that the browser draws, at most ``limit`` cells a side."""
    return (
        None if attribution is None else _written(quantise_all(attribution[None], signed, limit)[0], signed)
    )


def encoded_all(maps: Mapping[str, FloatMap], signed: bool = False) -> dict[str, EncodedMap | None]:
    """Bring maps into the form that the browser draws, all those of one shape at once."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, one in maps.items():
        alike.setdefault(one.shape, []).append(name)
    found: dict[str, EncodedMap | None] = {}
    for names in alike.values():
        cells = quantise_all(np.stack([maps[name] for name in names]), signed)
        found |= {name: _written(one, signed) for name, one in zip(names, cells, strict=True)}
    return found


def _written(cells: Pixels | None, signed: bool) -> EncodedMap | None:
    if cells is None:
        return None
    return cells.shape[0], cells.shape[1], base64.b64encode(cells.tobytes()).decode("ascii"), signed


@dataclass(frozen=True)
class Reviewing:
    """What people may do with a gallery's tiles besides looking.

    Attributes:
        tag: Called with the ids of tiles and the tag that was typed for them.
        tags: Suggested tags, most frequent first.
        refusal: Why nobody may tag just now; empty where they may.
    """

    tag: Callable[[list[str], str], None]
    tags: Sequence[str] = ()
    refusal: str = ""


@dataclass
class _Sent:
    """What a mounted gallery was told and has told, so that its own news are not sent back to it."""

    view: View
    reported: View
    serial: int = 0


@dataclass(frozen=True)
class Gallery:
    """A gallery ready to be mounted.

    Attributes:
        groups: Its tiles.
        images: Picture by key, as a URL.
        methods: Name and title of each method that the toolbar offers, in the order of the digits.
        default_method: The run's default, which the URL need not name.
        toolbar: Whether the toolbar and the hint about keys are shown; without it only the scales of colours are.
        layout: ``fill`` rows with tiles, show one ``row`` of each group and cut the rest, set the few of each
            group ``across`` in one row while their size is the usual one, ``fit`` few tiles to the width, keep them at a ``fixed`` size, put each group on a card of its own, or ten in a row on a ``sheet`` that can be
            printed.
        size: Width of tiles where neither the URL nor a toolbar sets one.
        largest: Width up to which the toolbar enlarges them.
        families: Family of each method, by which a long list of them is ordered.
        partial: Whether tiles carry the maps of some methods only, and more come when they are asked for.
        shapes: Outlines of objects by key, as SVG paths in fractions of the tile's place.
        shape_source: Where the outlines come from, for the legend.
        legend: Whether the scales of colours are shown where there is no toolbar.
        reviewing: What reviewing in it needs: tiles can be selected and, from the keyboard, tagged; None where not.
        similar: Called with the id of the tile whose like somebody wants to see; None where nobody can ask.
        more: Called with the place of the group that somebody wants to see all of.
        turn: Called with 1 or -1 for the next page or the one before.
        turns: Whether there is a page before, and a next one.
        page: Number of the page: the browser shows another one from its beginning.
        behind: Whether the rest of the page shows another selection still: the browser asks for all of it when nothing has
            been pressed for a moment.
    """

    groups: Sequence[Group]
    images: Mapping[str, str]
    methods: Sequence[tuple[str, str]]
    default_method: str
    toolbar: bool = True
    layout: Literal["fill", "row", "across", "fit", "fixed", "cards", "sheet"] = "fill"
    size: int | None = None
    largest: int = SIZES[1]
    families: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    shapes: Mapping[str, str] = field(default_factory=dict)
    shape_source: str = ""
    legend: bool = False
    reviewing: Reviewing | None = None
    similar: Callable[[str], None] | None = None
    more: Callable[[int], None] | None = None
    turn: Callable[[int], None] | None = None
    turns: tuple[bool, bool] = (False, False)
    page: int = 1
    behind: bool = False

    def data(self, view: View, serial: int) -> dict[str, Any]:
        """Return what the browser is sent."""
        groups = [
            {
                "title": g.title,
                "heading": g.heading,
                "note": g.note,
                "more": g.more,
                "tiles": [_plain(t) for t in g.tiles],
            }
            for g in self.groups
        ]
        methods = [
            {"name": name, "title": title, "family": self.families.get(name, "")}
            for name, title in self.methods
        ]
        rest = [
            self.toolbar,
            self.layout,
            self.legend,
            self.partial,
            dict(self.shapes),
            self.shape_source,
            self.reviewing is None,
            self.similar is None,
        ]
        shown = json.dumps([groups, methods, sorted(self.images), *rest])
        lengths = "".join(str(len(url)) for url in self.images.values())
        return {
            "key": hashlib.blake2b((shown + lengths).encode(), digest_size=12).hexdigest(),
            "groups": groups,
            "images": dict(self.images),
            "methods": methods,
            "toolbar": self.toolbar,
            "layout": self.layout,
            "legend": self.legend,
            "partial": self.partial,
            "shapes": dict(self.shapes),
            "shapeSource": self.shape_source,
            "colours": _TABLE,
            "signedColours": _SIGNED_TABLE,
            "floor": OVERLAY_FLOOR,
            "reviewing": self.reviewing
            and {"tags": list(self.reviewing.tags), "refusal": self.reviewing.refusal},
            "similar": self.similar is not None,
            "turns": list(self.turns),
            "page": self.page,
            "behind": self.behind,
            "largest": self.largest,
            "usual": {"opacity": DEFAULT_OPACITY, "size": None if self.size else DEFAULT_SIZE},
            "serial": serial,
            "view": {
                "method": view.method,
                "overlay": view.overlay,
                "opacity": view.opacity,
                "size": self.size or view.size,
                "object": view.object,
            },
        }

    def mount(self, key: str, method: str) -> str | None:
        """Put the gallery on the page and return the id of the tile that was just opened, if any.

        Args:
            key: Its key, one a page.
            method: What is shown where the URL names no method that the gallery offers.
        """
        names = [name for name, _ in self.methods]
        # The URL is read anew: within a fragment the page's context is that of the page's last full run.
        asked = param("method", self.default_method)
        wanted = view_of_url(asked if asked in names else method)
        memo = f"{key}_sent"
        sent: _Sent | None = st.session_state.get(memo) if key in st.session_state else None
        if sent is None:
            sent = _Sent(wanted, wanted)
        elif wanted != sent.reported:
            sent = _Sent(wanted, wanted, sent.serial + 1)
        st.session_state[memo] = sent

        def report() -> None:
            state: _Sent = st.session_state[memo]
            view = View.of(st.session_state[key].get("view") or {}, names, state.reported)
            if self.size:
                view = replace(view, size=state.reported.size)
            state.reported = view
            set_params(**view.params(self.default_method))

        result = _MOUNT(
            key=key,
            data=self.data(sent.view, sent.serial),
            on_view_change=report,
            on_open_change=_nothing,
            on_selected_change=_nothing,
            on_tag_change=lambda: self._tag(st.session_state[key].get("tag")),
            on_similar_change=lambda: self._like(st.session_state[key].get("similar")),
            on_more_change=lambda: self._all(st.session_state[key].get("more")),
            on_turn_change=lambda: self._turn(st.session_state[key].get("turn")),
            on_whole_change=_nothing,
        )
        # The address is another one now. Turning the page concerns those alone who draw the gallery, and they have read it anew.
        if any(result.get(name) is not None for name in ("similar", "more", "whole")):
            st.rerun()
        opened = result.get("open")
        return str(opened) if opened else None

    def selected(self, key: str) -> list[str]:
        """Return the ids of the tiles that are selected in the browser, of those that the gallery has."""
        state = st.session_state.get(key)
        return self._own(state.get("selected") if isinstance(state, Mapping) else None)

    def _own(self, ids: object) -> list[str]:
        """Return those of the ids that the browser names which are tiles of this gallery, in its order."""
        named = {one for one in ids if isinstance(one, str)} if isinstance(ids, list) else set()
        return [tile.id for group in self.groups for tile in group.tiles if tile.id in named]

    def _like(self, asked: object) -> None:
        """Hand on which tile's like somebody wants to see."""
        for sample_id in self._own([asked]):
            if self.similar is not None:
                self.similar(sample_id)

    def _all(self, asked: object) -> None:
        """Hand on which group somebody wants to see all of."""
        if self.more is not None and isinstance(asked, int | float) and 0 <= asked < len(self.groups):
            self.more(int(asked))

    def _turn(self, step: object) -> None:
        """Hand on that somebody turned the page, where there is another."""
        if self.turn is not None and step in (-1, 1) and self.turns[step == 1]:
            self.turn(1 if step == 1 else -1)

    def _tag(self, said: object) -> None:
        """Hand on a tag that was typed in the browser."""
        if self.reviewing is not None and isinstance(said, Mapping) and isinstance(said.get("tag"), str):
            ids = self._own(said.get("ids"))
            if ids:
                self.reviewing.tag(ids, said["tag"])


def _nothing() -> None:
    """Have a click rerun the page; what it means is read where the gallery is mounted."""


def _plain(tile: Tile) -> dict[str, Any]:
    values = {
        "id": tile.id, "image": tile.image, "text": tile.text, "then": tile.then, "alt": tile.alt, "href": tile.href,
        "method": tile.method, "value": tile.value, "note": tile.note, "title": tile.title,
        "mark": list(tile.mark) if tile.mark else None, "outline": tile.outline, "ratio": tile.ratio, "shape": tile.shape,
        "place": list(tile.place) if tile.place else None, "badge": list(tile.badge) if tile.badge else None,
        "maps": None if tile.maps is None else {name: list(m) if m else None for name, m in tile.maps.items()},
    }  # fmt: skip
    return {name: value for name, value in values.items() if value not in (None, "", False)}
