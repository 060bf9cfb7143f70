"""The embedding map of Browse: the selection where the model's features put it, and areas of it as conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from cache import profiles, queries
from cache.errors import FilterError
from cache.map_areas import FEATURES, MAX_POINTS, InProjection
from cache.projections import latest_version
from cache.scatter import map_points
from dashboard.data import ask
from dashboard.figures import look_of
from dashboard.filter_fields import numbers
from dashboard.map_figure import TOLERANCE, Colouring, map_figure, simplified
from dashboard.notices import plain, told
from dashboard.ordering import kept_params, sort_of_url, value_text
from dashboard.session import PageContext, open_page, param, set_params, update_filter
from dashboard.tiles import TILE_COLUMNS, sample_gallery, without_confidence

FEATURE_TITLES = {"attended": "Attended content", "penultimate": "Whole images"}
OUTCOMES = {"correct": "Right or wrong", "label": "Class", "pred": "Predicted class"}
SHOWN = 8
TILE = 104
CHART = {"displaylogo": False, "displayModeBar": True, "scrollZoom": True}


def features_of_url(context: PageContext) -> str:
    """Return the features whose map is shown: those of the area in the filter, or of the URL, or the first there are."""
    area = context.filter.get("place")
    if isinstance(area, InProjection):
        return area.features
    if param("features") in FEATURE_TITLES:
        return param("features")
    there = [name for name in FEATURE_TITLES if latest_version(context.manifest, name)]
    return there[0] if there else "attended"


def map_controls(context: PageContext) -> None:
    """Draw what the map is of and what its colours mean; both stand in the URL."""
    titles = OUTCOMES | {key: choice.title for key, choice in numbers(context).items()}
    st.session_state["map_features"] = features_of_url(context)
    st.session_state["map_colour"] = param("colour") if param("colour") in titles else "correct"

    def change() -> None:
        # An area lies on one map: on the other one it would mean something else.
        update_filter("place", None)
        set_params(features=st.session_state["map_features"], point=None)

    def recolour() -> None:
        chosen = st.session_state["map_colour"]
        set_params(colour=None if chosen == "correct" else chosen)

    st.segmented_control(
        "Map of", list(FEATURE_TITLES), key="map_features", on_change=change, required=True,
        format_func=lambda name: FEATURE_TITLES[name],
    )  # fmt: skip
    st.selectbox(
        "Colour by", list(titles), key="map_colour", on_change=recolour, format_func=lambda name: titles[name],
        width=150,
    )  # fmt: skip


def map_view(context: PageContext) -> None:
    """Draw the map of the selection beside the first images of it."""
    features = features_of_url(context)
    area = context.filter.get("place")
    latest = latest_version(context.manifest, features)
    version = area.version if isinstance(area, InProjection) else latest
    if version is None:
        _missing(context, features)
        return
    left, right = st.columns([2.3, 1], gap="medium")
    with left, told():
        _chart(context, version, area if isinstance(area, InProjection) else None)
        if version != latest:
            st.caption(
                ":material/history: The area was drawn on an earlier map, which is shown; without the area it is the latest."
            )
    with right:
        _beside(context)


def _missing(context: PageContext, features: str) -> None:
    with st.container(key="notice"):
        st.markdown(f"### :material/scatter_plot: No map of {FEATURES[features]} yet")
        st.markdown(
            "The map places images that the model sees alike close together. Make it once, then reload this page:"
        )
        st.code(f"python -m engine project {context.run_path} --features {features}", language="shell")


def _colouring(context: PageContext) -> tuple[Colouring, tuple[str, str | None, str | None] | None]:
    name = param("colour")
    if name in OUTCOMES or not name:
        return Colouring(name or "correct", OUTCOMES[name or "correct"]), None
    choice = numbers(context).get(name)
    if choice is None:
        return Colouring("correct", OUTCOMES["correct"]), None
    source = (context.method, context.target) if choice.of_map else (None, None)
    return Colouring("value", choice.field.title), (choice.field.name, *source)


def _chart(context: PageContext, version: str, area: InProjection | None) -> None:
    colouring, field = _colouring(context)
    points = ask(context.catalog, map_points, version, context.filter, field)
    # Another selection is another chart: what the hand drew on the last one is the filter's area now.
    key = f"map_{version}_{hash(context.filter)}"

    def chosen() -> None:
        _choose(version, st.session_state[key].get("selection") or {})

    st.plotly_chart(
        map_figure(
            points, context.manifest.classes, colouring, look_of(st.context.theme.type), area, param("point")
        ),
        key=key,
        on_select=chosen,
        selection_mode=("points", "box", "lasso"),
        config=CHART,
        theme=None,
        alt=f"Map of the {FEATURES[version.partition('-')[0]]} of the selection",
    )
    parts = [
        "Draw around points to select them, turn the wheel to zoom; with the *Pan* tool, a click on one shows it"
    ]
    if points.placed > points.rows.num_rows:
        parts.append(f"{points.rows.num_rows:,} of {points.placed:,} images drawn, evenly chosen")
    if points.chosen > points.placed:
        parts.append(f"{points.chosen - points.placed:,} images have no place on this map")
    st.caption(
        " · ".join(parts) + ".",
        help="Images that are alike lie close together. The axes, and distances between far groups, mean nothing.",
    )


def _choose(version: str, selection: Mapping[str, Any]) -> None:
    """Make what was drawn on the map a condition of the filter, or what was clicked the image that is shown."""
    polygon = drawn_polygon(selection)
    if polygon is not None:
        try:
            update_filter("place", InProjection(version, tuple(polygon)))
        except FilterError as error:
            st.toast(plain(error))
        set_params(point=None)
        return
    points = [point for point in selection.get("points") or [] if point.get("customdata")]
    set_params(point=str(points[0]["customdata"][0]) if points else None)


def drawn_polygon(selection: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """Return the corners of the lasso or box that was drawn last, simplified; None where none was."""
    lassos: Sequence[Mapping[str, Any]] = selection.get("lasso") or []
    boxes: Sequence[Mapping[str, Any]] = selection.get("box") or []
    if lassos:
        line = list(zip(lassos[-1]["x"], lassos[-1]["y"], strict=True))
        tolerance = TOLERANCE
        polygon = simplified(line, tolerance)
        while len(polygon) > MAX_POINTS:
            tolerance *= 2
            polygon = simplified(line, tolerance)
        return polygon
    if boxes:
        (x0, x1), (y0, y1) = boxes[-1]["x"], boxes[-1]["y"]
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return None


@st.fragment
@told()
def _beside(context: PageContext) -> None:
    """Draw the image that was clicked, and the first of the selection in its order."""
    choices = numbers(context)
    key, sort = sort_of_url(context, choices)
    clicked = ask(context.catalog, profiles.sample, param("point")) if param("point") else None
    if clicked is not None:
        st.subheader(plain(clicked["sample_id"]), anchor=False)
        one = replace(
            sample_gallery(context, [clicked], **kept_params()),
            toolbar=False,
            layout="fixed",
            size=2 * TILE + 12,
        )
        opened = one.mount("map_point", context.method)
        if opened:
            open_page("sample", id=opened, **kept_params())
    st.subheader("First of the selection" if clicked is not None else "The selection", anchor=False)
    count = SHOWN // 2 if clicked is not None else SHOWN
    rows = ask(context.catalog, queries.page, context.filter, sort, 0, count, TILE_COLUMNS).to_pylist()
    gallery = sample_gallery(
        context,
        rows,
        lambda row: value_text(choices, key, row["sort_value"]) or str(row["sample_id"]),
        **kept_params(),
    )
    small = replace(without_confidence(gallery), toolbar=False, size=TILE)
    opened = small.mount("map_selection", context.method)
    if opened:
        open_page("sample", id=opened, **kept_params())
    st.button(
        "Show all in the gallery", icon=":material/grid_view:", key="map_gallery", type="tertiary",
        on_click=set_params, kwargs={"view": None, "page": None},
    )  # fmt: skip
