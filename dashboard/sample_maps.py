"""The maps of one sample: large over the original, every method side by side, and the superpixels that speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from cache import profiles
from cache.catalog import Catalog
from cache.fields import class_title
from cache.profiles import Attribution
from dashboard.components.gallery import EncodedMap, Gallery, Group, Tile, encoded
from dashboard.data import ask
from dashboard.method_choice import by_family, choose_methods, family_titles, method_title
from dashboard.notices import plain
from dashboard.ordering import number_text
from dashboard.originals import OriginalError, crop_place, read_original
from dashboard.outlines import object_path
from dashboard.rendering import data_url, decode_image, image_bytes
from dashboard.session import PageContext, param, set_params
from dashboard.superpixels import strongest, superpixel_html, superpixel_picture
from dashboard.tiles import gallery_methods, is_signed, outcome_mark

LARGE, CARD = 200, 150
LARGEST = 1_000
"""Width to which the toolbar enlarges: one picture then takes all the room there is."""
LARGE_CELLS, CARD_CELLS = 96, 56
"""Cells a side at most of the maps that are shown large and of those on cards."""
PICTURES = {"original": "On the original", "view": "On the model's view"}
STRONGEST = (3, 5, 8, 12)
"""How many superpixels of each side may be shown."""
DEFAULT_STRONGEST = 5
Row = Mapping[str, Any]
Maps = Mapping[int, Mapping[str, EncodedMap | None]]


def encoded_by_target(catalog: Catalog, sample_id: str, limit: int) -> Maps:
    """Return every map of a sample as the browser draws it, by class and method."""
    found: dict[int, dict[str, EncodedMap | None]] = {}
    for attribution in profiles.attributions_of(catalog, sample_id):
        signed = is_signed(catalog.manifest, attribution.method)
        # A signed map without anything for the class still shows what speaks against it.
        empty = attribution.degenerate and not signed
        shown = None if empty else encoded(attribution.map, signed, limit)
        found.setdefault(attribution.target, {})[attribution.method] = shown
    return found


def targets_of(context: PageContext, row: Row, attributions: Sequence[Attribution]) -> list[tuple[int, str]]:
    """Return the explained classes with what they are: the predicted, the true, then any others."""
    targets = [(int(row["pred"]), "predicted")]
    if row["label"] is not None and row["label"] != row["pred"]:
        targets.append((int(row["label"]), "true"))
    others = {a.target for a in attributions} - {target for target, _ in targets}
    return targets + [(target, "") for target in sorted(others)]


def _heading(context: PageContext, target: int, role: str) -> str:
    title = class_title(context.manifest.classes, target)
    return f"For the {role} class: {title}" if role else f"For {title}"


def _view_ratio(context: PageContext) -> float:
    size = context.manifest.preprocessing.get("size") or [1, 1]
    return float(size[1]) / float(size[0])


def _view(context: PageContext, row: Row) -> bytes | None:
    sample_id = str(row["sample_id"])
    return ask(context.catalog, profiles.thumbnails, (sample_id,)).get(sample_id)


def large_maps(context: PageContext, row: Row, attributions: Sequence[Attribution]) -> None:
    """Show the picture, and on it the map of one method for each class."""
    sample_id = str(row["sample_id"])
    url, reason = _original(context, sample_id)
    thumbnail = _view(context, row)
    images = {"view": data_url(thumbnail)} if thumbnail else {}
    wanted = "original" if url else "view"
    if url:
        images["original"] = url
        st.session_state["picture"] = wanted = "view" if param("picture") == "view" else "original"
        st.segmented_control(
            "Picture", list(PICTURES), key="picture", on_change=_choose_picture, required=True,
            format_func=lambda name: PICTURES[name], label_visibility="collapsed",
        )  # fmt: skip
    else:
        st.caption(f":material/info: {plain(reason)}")
    on_original = wanted == "original"
    ratio = row["width"] / row["height"] if on_original else _view_ratio(context)
    place = crop_place(row) if on_original else None
    mark = outcome_mark(row["correct"])
    path, source = object_path(row)
    tiles = [
        Tile(
            "", wanted, "The original" if on_original else "The model's view",
            f"{sample_id}, without attention", place=place, outline=on_original, shape="object",
            note="bright: what the model saw" if on_original else "", ratio=ratio,
        )
    ]  # fmt: skip
    found = ask(context.catalog, encoded_by_target, sample_id, LARGE_CELLS)
    for target, role in targets_of(context, row, attributions):
        heading = _heading(context, target, role)
        tiles.append(
            Tile(
                "", wanted, heading, f"{sample_id}. {heading}", maps=found.get(target, {}), place=place, ratio=ratio,
                shape="object", mark=mark if role == "predicted" else None,
            )
        )  # fmt: skip
    Gallery(
        [Group(tiles)],
        images,
        gallery_methods(context),
        context.manifest.default_method,
        layout="fit",
        size=LARGE,
        largest=LARGEST,
        families=family_titles(context.manifest),
        shapes={"object": path} if path else {},
        shape_source=source,
    ).mount("sample_large", context.method)


def _choose_picture() -> None:
    set_params(picture="view" if st.session_state["picture"] == "view" else None)


def _original(context: PageContext, sample_id: str) -> tuple[str, str]:
    """Return the original as a URL, or an empty text and the reason; what may be there next time is asked for again."""
    try:
        return ask(context.catalog, _read_original, sample_id)
    except OriginalError as error:
        return "", str(error)


def _read_original(catalog: Catalog, sample_id: str) -> tuple[str, str]:
    row = profiles.sample(catalog, sample_id)
    if row is None:
        return "", ""
    original = read_original(catalog.manifest, row)
    return ("" if original.pixels is None else data_url(image_bytes(original.pixels))), original.reason


def every_method(context: PageContext, row: Row, attributions: Sequence[Attribution]) -> None:
    """Show the methods side by side, a card each with its map for every class, by family."""
    manifest = context.manifest
    if len(manifest.methods) < 2:
        return
    sample_id = str(row["sample_id"])
    targets = targets_of(context, row, attributions)
    with st.container(horizontal=True, vertical_alignment="center", key="every_method"):
        st.subheader("Every method", width="content")
        shown = choose_methods(context, "sample_show")
    if not shown:
        st.caption("No method is chosen.")
        return
    thumbnail = _view(context, row)
    path, source = object_path(row)
    found = ask(context.catalog, encoded_by_target, sample_id, CARD_CELLS)
    groups = []
    for family, names in by_family(manifest, shown).items():
        for number, method in enumerate(names):
            told = targets if manifest.methods[method].get("class_dependent", True) else targets[:1]
            tiles = [
                Tile(
                    "", "view", class_title(manifest.classes, target),
                    f"{method_title(manifest, method)}. {_heading(context, target, role)}",
                    maps=found.get(target, {}), method=method, ratio=_view_ratio(context), shape="object",
                    note=role if len(told) == len(targets) else "for every class",
                )
                for target, role in told
            ]  # fmt: skip
            groups.append(Group(tiles, method_title(manifest, method), "" if number else family))
    Gallery(
        groups,
        {"view": data_url(thumbnail)} if thumbnail else {},
        [],
        manifest.default_method,
        toolbar=False,
        layout="cards",
        size=CARD,
        shapes={"object": path} if path else {},
        shape_source=source,
        legend=True,
    ).mount("sample_methods", context.method)


def superpixel_panel(context: PageContext, row: Row, attributions: Sequence[Attribution]) -> None:
    """Show the superpixels that speak most for and against each class, where a method weighed some."""
    found: dict[str, dict[int, profiles.Superpixels | None]] = {}
    targets = targets_of(context, row, attributions)
    for method, entry in context.manifest.methods.items():
        if entry.get("family") == "perturbation":
            answers = {
                target: ask(context.catalog, profiles.superpixels, row["content"], method, target)
                for target, _ in targets
            }
            found |= {method: answers} if any(answers.values()) else {}
    if not found:
        return
    method, k = _superpixel_choice(context, list(found))
    thumbnail = _view(context, row)
    pixels = None if thumbnail is None else decode_image(thumbnail)
    told = [(target, role) for target, role in targets if found[method].get(target) is not None]
    for column, (target, role) in zip(st.columns(max(len(told), 2), gap="medium"), told, strict=False):
        explained = found[method][target]
        assert explained is not None
        heading = _heading(context, target, role)
        favour, against = strongest(explained.weights, k)
        alt = f"{heading}: {len(favour)} superpixels for it and {len(against)} against it"
        picture = data_url(image_bytes(superpixel_picture(pixels, explained, k)))
        with column:
            st.markdown(f"**{plain(heading)}**")
            st.html(superpixel_html(explained, k, picture, alt))
            st.caption(_fit_words(attributions, method, target, explained))


def _superpixel_choice(context: PageContext, offered: list[str]) -> tuple[str, int]:
    """Choose the method and how many superpixels are shown; both stand in the URL."""
    method = param("superpixels")
    method = method if method in offered else offered[0]
    k = next((n for n in STRONGEST if str(n) == param("k")), DEFAULT_STRONGEST)
    st.subheader("What speaks for and against")
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(offered) > 1:
            st.session_state["superpixel_method"] = method
            st.segmented_control(
                "Method", offered, key="superpixel_method", required=True, label_visibility="collapsed",
                format_func=lambda name: method_title(context.manifest, name),
                on_change=lambda: set_params(superpixels=st.session_state["superpixel_method"]),
            )  # fmt: skip
        st.session_state["superpixel_count"] = k
        st.segmented_control(
            "Superpixels of each side", STRONGEST, key="superpixel_count", required=True, label_visibility="collapsed",
            format_func=lambda n: f"{n} each",
            on_change=lambda: set_params(k=str(st.session_state["superpixel_count"])),
        )  # fmt: skip
    st.caption(
        f"The superpixels to which {plain(method_title(context.manifest, method))} gives the most weight: red ones (1, 2, "
        "…) speak for the class, blue ones (A, B, …) against it."
    )
    return method, k


def _fit_words(
    attributions: Sequence[Attribution], method: str, target: int, found: profiles.Superpixels
) -> str:
    """Say how many superpixels there are, and what is known of how far to trust their weights."""
    own = next((a for a in attributions if (a.method, a.target) == (method, target)), None)
    told = [
        f"{len(found.weights):,} superpixels",
        f"sum of weights {number_text(float(np.sum(found.weights)))}",
    ]
    if found.intercept is not None:
        told.append(f"without any of them {number_text(found.intercept)}")
    for name, words in (("surrogate_r2", "local fit R²"), ("additivity_error", "additivity error")):
        value = own.statistics.get(name) if own else None
        if value is not None:
            told.append(f"{words} {number_text(value)}")
    return plain(" · ".join(told))
