"""Sample: one image, what the model made of it, and where it looked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from cache import profiles, queries
from cache.catalog import Catalog
from cache.fields import class_title
from cache.profiles import Attribution
from cache.schema import TARGET_TRUE
from dashboard.components.copy_link import copy_link
from dashboard.components.gallery import EncodedMap, Gallery, Group, Tile, encoded
from dashboard.data import ask
from dashboard.filter_fields import numbers
from dashboard.notices import notices_of_run, plain, unknown_sample
from dashboard.ordering import sort_of_url
from dashboard.originals import crop_place, read_original
from dashboard.rendering import data_url, image_bytes
from dashboard.sample_tables import facts_html, standings_html, top_html, verdict_html
from dashboard.session import PageContext, link_to, open_page, page_context, param, set_params
from dashboard.tiles import gallery_methods, outcome_mark, sample_gallery

NEAREST = 12
LARGE, MEDIUM, SMALL = 200, 132, 112
PICTURES = {"original": "On the original", "view": "On the model's view"}
Row = Mapping[str, Any]


def show() -> None:
    """Draw the page."""
    context = page_context()
    sample_id = param("id")
    row = ask(context.catalog, profiles.sample, sample_id) if sample_id else None
    if row is None:
        unknown_sample(sample_id, link_to("browse"))
        return
    _header(context, row)
    attributions = ask(context.catalog, profiles.attributions_of, sample_id)
    left, right = st.columns([2.55, 1], gap="large")
    with left:
        _large(context, row, attributions)
        _every_method(context, row, attributions)
    with right:
        st.html(verdict_html(context.manifest, row))
        st.html(top_html(context.manifest, row))
        st.subheader("About this image")
        st.html(facts_html(context.manifest, row))
    left, right = st.columns([1.3, 1], gap="large")
    with left:
        _standings(context, row, attributions)
    with right:
        _nearest(context, row)
    notices_of_run(context.manifest)


def _header(context: PageContext, row: Row) -> None:
    _, sort = sort_of_url(context, numbers(context))
    place = ask(context.catalog, queries.position, context.filter, sort, row["sample_id"])
    with st.container(horizontal=True, vertical_alignment="center", key="sample_header"):
        if st.button("Gallery", icon=":material/arrow_back:", help="Back to the gallery"):
            open_page("browse", sort=param("sort") or None)
        if place.index is not None:
            st.button(
                "Previous", icon=":material/chevron_left:", disabled=place.previous is None, shortcut="Left",
                on_click=set_params, kwargs={"id": place.previous}, key="previous",
            )  # fmt: skip
            st.button(
                "Next", icon=":material/chevron_right:", icon_position="right", disabled=place.next is None,
                shortcut="Right", on_click=set_params, kwargs={"id": place.next}, key="next",
            )  # fmt: skip
            of = f" {plain(context.filter.sentence(context.manifest))}" if context.filter else ""
            st.caption(f"{place.index + 1:,} of {place.total:,}{of}")
        else:
            st.caption(f"Not among the {place.total:,} {plain(context.filter.sentence(context.manifest))}")
        with st.container(width=120):
            copy_link("copy_link")
    st.title(plain(row["sample_id"]), anchor=False)


def _by_target(attributions: list[Attribution]) -> dict[int, dict[str, EncodedMap | None]]:
    found: dict[int, dict[str, EncodedMap | None]] = {}
    for attribution in attributions:
        shown = None if attribution.degenerate else encoded(attribution.map)
        found.setdefault(attribution.target, {})[attribution.method] = shown
    return found


def _targets(context: PageContext, row: Row, attributions: list[Attribution]) -> list[tuple[int, str]]:
    """Return the explained classes with their headings: the predicted, the true, then any others."""
    classes = context.manifest.classes
    targets = [row["pred"]]
    if row["label"] is not None and row["label"] != row["pred"]:
        targets.append(row["label"])
    headings = [f"For the predicted class: {class_title(classes, row['pred'])}"]
    headings += [f"For the true class: {class_title(classes, target)}" for target in targets[1:]]
    for target in sorted({a.target for a in attributions} - set(targets)):
        targets.append(target)
        headings.append(f"For {class_title(classes, target)}")
    return list(zip(targets, headings, strict=True))


def _large(context: PageContext, row: Row, attributions: list[Attribution]) -> None:
    sample_id = str(row["sample_id"])
    original = ask(context.catalog, _original, sample_id)
    thumbnail = ask(context.catalog, profiles.thumbnails, (sample_id,)).get(sample_id)
    images = {"view": data_url(thumbnail)} if thumbnail else {}
    wanted = "original" if original[0] else "view"
    if original[0]:
        images["original"] = original[0]
        st.session_state["picture"] = wanted = "view" if param("picture") == "view" else "original"
        st.segmented_control(
            "Picture", list(PICTURES), key="picture", on_change=_choose_picture, required=True,
            format_func=lambda name: PICTURES[name], label_visibility="collapsed",
        )  # fmt: skip
    else:
        st.caption(f":material/info: {plain(original[1])}")
    on_original = wanted == "original"
    size = context.manifest.preprocessing.get("size") or [1, 1]
    ratio = row["width"] / row["height"] if on_original else size[1] / size[0]
    place = crop_place(row) if on_original else None
    mark = outcome_mark(row["correct"])
    tiles = [
        Tile(
            "", wanted, "The original" if on_original else "The model's view",
            f"{sample_id}, without attention", place=place, outline=on_original, note="bright: what the model saw" if on_original else "",
            ratio=ratio,
        )
    ]  # fmt: skip
    found = _by_target(attributions)
    tiles += [
        Tile(
            "", wanted, heading, f"{sample_id}. {heading}", maps=found.get(target, {}), place=place, ratio=ratio,
            mark=mark if target == row["pred"] else None,
        )
        for target, heading in _targets(context, row, attributions)
    ]  # fmt: skip
    methods = gallery_methods(context)
    gallery = Gallery(
        [Group(tiles)], images, methods, context.manifest.default_method, layout="fit", size=LARGE
    )
    gallery.mount("sample_large", context.method)


def _choose_picture() -> None:
    set_params(picture="view" if st.session_state["picture"] == "view" else None)


def _original(catalog: Catalog, sample_id: str) -> tuple[str, str]:
    """Return the original as a URL, or an empty text and the reason."""
    row = profiles.sample(catalog, sample_id)
    if row is None:
        return "", ""
    original = read_original(catalog.manifest, row)
    return ("" if original.pixels is None else data_url(image_bytes(original.pixels))), original.reason


def _every_method(context: PageContext, row: Row, attributions: list[Attribution]) -> None:
    if len(context.manifest.methods) < 2:
        return
    sample_id = str(row["sample_id"])
    thumbnail = ask(context.catalog, profiles.thumbnails, (sample_id,)).get(sample_id)
    found = _by_target(attributions)
    titles = {name: str(entry.get("title", name)) for name, entry in context.manifest.methods.items()}
    size = context.manifest.preprocessing.get("size") or [1, 1]
    st.subheader("Every method")
    groups = [
        Group(
            [
                Tile(
                    "", "view", titles[method], f"{titles[method]}. {heading}", maps=maps, method=method,
                    ratio=size[1] / size[0],
                )
                for method, maps in ((m, found.get(target, {})) for m in titles)
            ],
            heading,
        )
        for target, heading in _targets(context, row, attributions)
    ]  # fmt: skip
    gallery = Gallery(
        groups, {"view": data_url(thumbnail)} if thumbnail else {}, [], context.manifest.default_method,
        toolbar=False, layout="fixed", size=MEDIUM,
    )  # fmt: skip
    gallery.mount("sample_methods", context.method)


def _standings(context: PageContext, row: Row, attributions: list[Attribution]) -> None:
    title = str(context.manifest.methods.get(context.method, {}).get("title", context.method))
    predicted = plain(class_title(context.manifest.classes, row["pred"]))
    whose = " for the true class" if context.target == TARGET_TRUE else ""
    st.subheader(f"{plain(title)}{whose} among the images predicted {predicted}")
    standings = ask(context.catalog, profiles.standing, row["sample_id"], context.method, context.target)
    explained = row["label"] if context.target == TARGET_TRUE else row["pred"]
    if any(a.degenerate for a in attributions if (a.method, a.target) == (context.method, explained)):
        st.caption("This map has no positive attention, so it has no shares.")
    st.html(standings_html(standings))


def _nearest(context: PageContext, row: Row) -> None:
    st.subheader("Nearest by what the model attended to")
    found = ask(context.catalog, profiles.nearest, row["sample_id"], "attended", NEAREST)
    if not found:
        st.caption("This run has no attended features of this image, because its map is empty.")
        return
    similarity = dict(found)
    rows = [
        sample for key in similarity if (sample := ask(context.catalog, profiles.sample, key)) is not None
    ]
    gallery = sample_gallery(
        context, rows, lambda near: f"similarity {similarity[str(near['sample_id'])]:.2f}"
    )
    opened = Gallery(
        gallery.groups, gallery.images, gallery.methods, gallery.default_method, False, "fixed", SMALL
    ).mount("sample_nearest", context.method)
    if opened:
        open_page("sample", id=opened)


show()
