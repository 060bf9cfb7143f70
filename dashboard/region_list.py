"""The conditions that stand beside the region on the canvas: in groups of "and" and "or", each to edit or to remove."""

from __future__ import annotations

import html
from collections.abc import Callable

import streamlit as st

from cache.conditions import Condition, Not, RegionMass
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.filter_text import clause
from cache.regions import Region
from dashboard.attention import AT_LEAST, AT_MOST
from dashboard.notices import plain
from dashboard.object_conditions import HALF, bound_of, knows_objects, object_range, on_object
from dashboard.region_board import JOINS, Board, Question, question_of
from dashboard.region_pictures import region_path, svg_url
from dashboard.region_question import question_params
from dashboard.rendering import PALETTE
from dashboard.session import PageContext, integer_param, param, set_params

WORDS = {"all": "and", "any": "or"}
THUMBNAIL = 34


def board_of_url() -> tuple[Board, int]:
    """Return the conditions of the URL and the group that the region on the canvas belongs to; says what is wrong with them."""
    try:
        board = Board.from_param(param("regions"))
    except FilterError as error:
        st.warning(f"The regions in the link were not read: {plain(error)}", icon=":material/gesture:")
        board = Board()
    return board, integer_param("group", 0, 0, len(board.groups))


def _set(board: Board, **changes: str | None) -> None:
    try:
        set_params(regions=board.to_param(), **changes)
    except FilterError as error:
        st.toast(str(error), icon=":material/filter_alt:")


def conditions_list(
    context: PageContext, board: Board, group: int, region: Region | None, question: Question
) -> None:
    """Draw the conditions with what can be done with them."""
    drawn = None if region is None else question.about(region)
    if board:
        with st.container(border=True, key="region_list", gap="small"):
            _join(board)
            groups = list(board.groups)
            if drawn is not None and group >= len(groups):
                groups.append(())
            for number, conditions in enumerate(groups):
                if number:
                    st.caption(f"**{WORDS[board.between]}**")
                with st.container(border=len(groups) > 1, gap="xsmall"):
                    for index, condition in enumerate(conditions):
                        _row(context, board, number, index, condition, (region, question, group))
                    if drawn is not None and number == group:
                        st.html(_told(context, drawn, "on the canvas"))
    _adding(context, board, group, region, question)


def _join(board: Board) -> None:
    st.session_state["region_within"] = board.within

    def change() -> None:
        _set(Board(board.groups, st.session_state["region_within"]))

    many = len(board.groups) > 1
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "How the conditions are joined", list(JOINS), key="region_within", on_change=change, required=True,
            format_func=lambda join: JOINS[join], label_visibility="collapsed",
        )  # fmt: skip
        if many:
            st.caption(f"within a group; groups are joined with **{WORDS[board.between]}**")


def _told(context: PageContext, condition: Condition, note: str = "") -> str:
    """Return a condition with the thumbnail of its region as HTML."""
    words = html.escape(clause(condition, context.manifest))
    tail = f' <span style="opacity:.62">({note})</span>' if note else ""
    return (
        '<div style="display:flex;gap:.6rem;align-items:center;min-height:2.3rem">'
        f'{thumbnail(condition)}<span style="overflow-wrap:anywhere">{words}{tail}</span></div>'
    )


def thumbnail(condition: Condition) -> str:
    """Draw the shape of a condition's region as a small picture; an object stands for the known one."""
    inner = condition.condition if isinstance(condition, Not) else condition
    colour = PALETTE.wrong if isinstance(condition, Not) else PALETTE.right
    if isinstance(inner, RegionMass | RegionContrast):
        shape, alt = (
            f'<path fill-rule="evenodd" d="{region_path(inner.region, 32)}"/>',
            inner.region.sentence(),
        )
    else:
        shape, alt = '<circle cx="16" cy="17" r="8"/>', "the known object"
    picture = svg_url(f'<g fill="{colour}">{shape}</g>', 32)
    return (
        f'<img src="{picture}" width="{THUMBNAIL}" height="{THUMBNAIL}" alt="{html.escape(alt)}" '
        'style="flex:none;border-radius:4px;background:color-mix(in srgb, currentColor 16%, transparent)">'
    )


def _row(
    context: PageContext,
    board: Board,
    group: int,
    index: int,
    condition: Condition,
    canvas: tuple[Region | None, Question, int],
) -> None:
    key = f"{group}_{index}"
    words, buttons = st.columns([5, 2.4], vertical_alignment="center", gap="small")
    words.html(_told(context, condition))
    with buttons.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="right", gap="xxsmall"
    ):
        negated = isinstance(condition, Not)
        st.button(
            "not", key=f"region_negate_{key}", type="primary" if negated else "secondary",
            help="Drop the “not”" if negated else "Turn it into its opposite",
            on_click=lambda: _set(
                board.replaced(group, index, condition.condition if isinstance(condition, Not) else Not(condition))
            ),
        )  # fmt: skip
        if question_of(condition, context.manifest) is not None:
            st.button(
                "", icon=":material/edit:", key=f"region_edit_{key}", help="Edit it on the canvas",
                on_click=lambda: _edit(context, board, group, index, *canvas),
            )  # fmt: skip
        elif on_object(condition) is not None:
            with st.popover("", icon=":material/edit:", key=f"region_edit_{key}", help="Edit it"):
                _object_widgets(
                    context, condition, key, lambda changed: _set(board.replaced(group, index, changed))
                )
        st.button(
            "", icon=":material/close:", key=f"region_remove_{key}", help="Remove it",
            on_click=lambda: _set(board.without(group, index)),
        )  # fmt: skip


def _edit(
    context: PageContext,
    board: Board,
    group: int,
    index: int,
    region: Region | None,
    question: Question,
    drawn_in: int,
) -> None:
    """Put a condition on the canvas, and what is on the canvas where it belongs in the list."""
    found = question_of(board.groups[group][index], context.manifest)
    if found is None:
        return
    # The one on the canvas first, so that a group never goes while its number is still needed.
    rest = board if region is None else board.with_(question.about(region), drawn_in)
    emptied = len(rest.groups[group]) == 1
    rest = rest.without(group, index)
    _set(
        rest,
        **question_params(found[1], found[0]),
        group=str(len(rest.groups) if emptied else group),
    )


def _adding(
    context: PageContext, board: Board, group: int, region: Region | None, question: Question
) -> None:
    """Offer to keep the region on the canvas and draw another one, and to ask for the known object."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if region is not None:
            kept = board.with_(question.about(region), group)
            st.button(
                "Another region", icon=":material/add:", key="region_add",
                help="Keep this region in the list, and draw one more to combine with it",
                on_click=lambda: _set(kept, region=None, **{"not": None}),
            )  # fmt: skip
            if board:
                st.button(
                    "In a new group", icon=":material/playlist_add:", key="region_add_group",
                    help=f"Keep this region, and draw one that is joined with “{WORDS[board.between]}”",
                    on_click=lambda: _set(kept, region=None, group=str(len(kept.groups)), **{"not": None}),
                )  # fmt: skip
        if board:
            st.button(
                "Remove all", key="region_clear_list", type="tertiary", on_click=set_params,
                kwargs={"regions": None, "group": None},
            )  # fmt: skip
        if knows_objects(context):
            for title, operator, icon in (
                ("Looks at the object", AT_LEAST, "center_focus_strong"),
                ("Looks elsewhere", AT_MOST, "center_focus_weak"),
            ):
                asked = object_range(operator, HALF, question.method, question.target)
                st.button(
                    title, icon=f":material/{icon}:", key=f"region_object_{operator}",
                    help=f"{'At least' if operator == AT_LEAST else 'At most'} half of the attention on the known object",
                    on_click=_set, args=(board.with_(asked, group),),
                )  # fmt: skip


def _object_widgets(
    context: PageContext, condition: Condition, key: str, change: Callable[[Condition], None]
) -> None:
    inner = on_object(condition)
    assert inner is not None
    operator_key, share_key = f"region_object_op_{key}", f"region_object_share_{key}"
    st.session_state[operator_key], st.session_state[share_key] = bound_of(inner)

    def changed() -> None:
        asked = object_range(
            st.session_state[operator_key],
            st.session_state[share_key],
            inner.method,
            inner.target or context.target,
            isinstance(condition, Not),
        )
        change(asked)

    st.segmented_control(
        "Attention on the known object", [AT_LEAST, AT_MOST], key=operator_key, on_change=changed, required=True,
        format_func=lambda name: "At least" if name == AT_LEAST else "At most",
    )  # fmt: skip
    st.number_input("Percent", 0.0, 100.0, step=5.0, format="%g", key=share_key, on_change=changed)
