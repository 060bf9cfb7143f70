"""The table of Browse: the page of the selection that the gallery shows, as rows with the columns that people choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd
import streamlit as st

from cache import profiles, queries
from cache.fields import class_title, sample_fields
from cache.schema import META_PREFIX
from dashboard.data import ask
from dashboard.drilldown import cell_of
from dashboard.filter_fields import Choice, numbers
from dashboard.likeness import LIKENESS_KEY
from dashboard.notices import told
from dashboard.ordering import REGION_KEY, kept_params, sort_of_url
from dashboard.session import PageContext, open_page, param, set_params
from dashboard.tiles import pictures_of, sample_gallery

USUAL = ("label", "pred", "confidence")
PICTURE, SAMPLE, OUTCOME = "picture", "sample_id", "outcome"
OUTCOMES = {True: "✓ right", False: "✗ wrong", None: "– unlabelled"}
ROW_HEIGHT = 52
HEADER_HEIGHT = 38
MOST_HEIGHT = 760
LOWER_HEIGHT = 38 + 52 * 8
"""Of a table above the images of its ticked rows."""
Field = tuple[str, str | None, str | None]


def column_titles(context: PageContext) -> dict[str, str]:
    """Return the columns that a table can have besides picture, id and outcome: title by name."""
    found = {
        name: entry.field.title
        for name, entry in sample_fields(context.manifest).items()
        if name not in (SAMPLE, "correct")
    }
    return found | {key: choice.title for key, choice in numbers(context).items() if choice.of_map}


def columns_of_url(context: PageContext) -> list[str]:
    """Return the columns that the URL asks for; the usual ones where it asks for none."""
    known = column_titles(context)
    asked = [unquote(name) for name in param("columns").split(",")] if param("columns") else list(USUAL)
    return [name for name in dict.fromkeys(asked) if name in known]


def columns_chooser(context: PageContext) -> None:
    """Draw the choice of columns; it stands in the URL."""
    titles = column_titles(context)
    chosen = columns_of_url(context)
    st.session_state["table_columns"] = chosen

    def change() -> None:
        names = st.session_state["table_columns"]
        usual = tuple(names) == USUAL
        # A table without any of them is told apart from the usual one by a name that nothing has.
        set_params(columns=None if usual else ",".join(quote(name, safe="._-") for name in names) or "-")

    with st.popover(f"Columns · {len(chosen)}", icon=":material/view_column:", width="content"):
        st.multiselect(
            "Columns", list(titles), key="table_columns", on_change=change, format_func=lambda name: titles[name],
            placeholder="picture and name only",
        )  # fmt: skip
        st.button(
            "The usual ones", key="table_usual", type="tertiary", on_click=set_params, kwargs={"columns": None},
            disabled=not param("columns"),
        )  # fmt: skip


@st.fragment
@told()
def table_view(context: PageContext, number: int, size: int) -> None:
    """Draw one page of the selection as a table; a click on a row opens its sample.

    Args:
        context: The page's context.
        number: Of the page, from 1.
        size: Samples a page.
    """
    choices = numbers(context)
    key, sort = sort_of_url(context, choices)
    rows = ask(context.catalog, queries.page, context.filter, sort, (number - 1) * size, size).to_pylist()
    columns = columns_of_url(context)
    if (key in choices or key in (REGION_KEY, LIKENESS_KEY)) and key not in columns:
        columns.append(key)
    frame = _frame(context, rows, columns, choices)
    table = f"table_{number}_{size}_{param('sort')}_{param('similar')}"
    marked = [at for at in _rows(st.session_state.get(table)) if at < len(rows)]
    event = st.dataframe(
        frame,
        key=table,
        hide_index=True,
        row_height=ROW_HEIGHT,
        height=min(LOWER_HEIGHT if marked else MOST_HEIGHT, HEADER_HEIGHT + ROW_HEIGHT * len(frame)),
        column_config=_config(context, columns, choices),
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        alt="The samples of the selection, one a row",
    )
    cell = cell_of(event)
    if cell is not None and cell[0] < len(rows):
        open_page("sample", id=rows[cell[0]]["sample_id"], **kept_params())
    if not marked:
        st.caption(
            "Click a cell to open its sample, tick rows to see them side by side. A heading sorts the page alone; *Sort by* "
            "sorts the whole selection."
        )
        return
    gallery = sample_gallery(
        context, [rows[at] for at in marked], lambda row: str(row[SAMPLE]), **kept_params()
    )
    opened = replace(gallery, layout="fixed").mount("table_marked", context.method)
    if opened:
        open_page("sample", id=opened, **kept_params())


def _rows(state: Any) -> list[int]:
    """Return the rows that are ticked."""
    return [int(at) for at in state.selection.get("rows", [])] if state is not None else []


def _frame(
    context: PageContext,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    choices: Mapping[str, Choice],
) -> pd.DataFrame:
    ids = tuple(str(row[SAMPLE]) for row in rows)
    images = pictures_of(context.catalog, rows)
    of_maps = tuple(name for name in columns if name in choices and choices[name].of_map)
    fields = tuple((choices[name].field.name, context.method, context.target) for name in of_maps)
    measured = ask(context.catalog, profiles.values, ids, fields) if fields else [{}] * len(rows)
    data: dict[str, Any] = {
        PICTURE: [images.get(sample_id) for sample_id in ids],
        SAMPLE: ids,
        OUTCOME: [OUTCOMES[row["correct"]] for row in rows],
    }
    classes = context.manifest.classes
    for name in columns:
        if name in of_maps:
            place = of_maps.index(name)
            data[name] = pd.array([values.get(place) for values in measured], dtype="Float64")
        elif name in ("label", "pred"):
            data[name] = [None if row[name] is None else class_title(classes, row[name]) for row in rows]
        elif name in (REGION_KEY, LIKENESS_KEY):
            data[name] = pd.array([row["sort_value"] for row in rows], dtype="Float64")
        elif name == "confidence":
            data[name] = [None if row[name] is None else 100 * row[name] for row in rows]
        else:
            data[name] = [row[name] for row in rows]
    return pd.DataFrame(data)


def _config(context: PageContext, columns: Sequence[str], choices: Mapping[str, Choice]) -> dict[str, Any]:
    titles = column_titles(context) | {REGION_KEY: "In the region", LIKENESS_KEY: "Alike"}
    config: dict[str, Any] = {
        PICTURE: st.column_config.ImageColumn("", width=64, pinned=True),
        SAMPLE: st.column_config.TextColumn("Sample", width="medium", pinned=True),
        OUTCOME: st.column_config.TextColumn("Outcome", width=90, help="Whether the prediction is the label"),
    }
    for name in columns:
        field = choices[name].field if name in choices else None
        title = titles[name].rpartition(" · ")[2]
        config[name] = title
        if name == "confidence":
            config[name] = st.column_config.ProgressColumn(title, min_value=0, max_value=100, format="%.0f%%")
        elif field is not None and name in choices and choices[name].kind == "number":
            form = "percent" if field.unit == "share" else "%.4g"
            config[name] = st.column_config.NumberColumn(title, format=form, help=field.description)
        elif name in (REGION_KEY, LIKENESS_KEY):
            config[name] = st.column_config.NumberColumn(
                title, format="percent" if name == REGION_KEY else "%.2f"
            )
        elif name.startswith(META_PREFIX) and field is not None:
            config[name] = st.column_config.DatetimeColumn(title, format="YYYY-MM-DD HH:mm")
    return config
