"""Reviewing a thing: tags, a verdict, notes, who said what and when, undo, and the history.

`review_panel` draws all of it for one subject of a review, wherever a page wants it::

    from cache.review_events import Subject
    from dashboard.review_panel import review_panel

    review_panel(context, Subject.finding(key), key="finding_3")

`review_many` draws the actions alone, for many images at once. Whatever is done goes through `dashboard.reviewing.write`,
which refuses viewers; the panel shows them the reviews without the means to change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape

import streamlit as st

from cache.catalog import Catalog
from cache.errors import ReviewError
from cache.fields import class_titles
from cache.review_condition import VERDICTS, WRONG_LABEL
from cache.review_events import Subject
from cache.review_views import Marks, Note, history, tags
from dashboard.notices import plain
from dashboard.people import Person, name_input, person
from dashboard.reviewing import (
    VERDICT_ICONS,
    asked,
    confirm,
    entry_text,
    marks_of,
    redo,
    say,
    undo,
    undo_button,
    write,
)
from dashboard.session import PageContext

MANY = 1_000
"""More subjects than this are reviewed at once only after a second look."""
SHOWN_HISTORY = 50


def review_panel(context: PageContext, subject: Subject, key: str) -> None:
    """Draw the reviews of one subject, and what adds to them.

    Args:
        context: The page's context.
        subject: What is reviewed: ``Subject.sample(content)``, ``Subject.selection(filter)`` or ``Subject.finding(key)``.
        key: Sets the panel's widgets apart from those of other panels of the page.
    """
    said = marks_of(context.catalog, [subject])[subject]
    who = person()
    with st.container(key=f"review_{key}", gap="small"):
        if who.may_review and not who.name:
            name_input(f"{key}_who", "Say who you are to review")
        if who.may_review and who.name:
            _verdict(context, subject, key, said, who)
            _tags(context.catalog, subject, key, said)
        else:
            st.html(_tags_html(said.tags))
        _said(said, who, key)
        _notes(context.catalog, subject, key, said.notes, who)
        undo_button(context, f"{key}_undo")
        _history(context.catalog, subject, key, who)


def known_tags(catalog: Catalog) -> list[str]:
    """Return the tags in use, of images, selections and findings, the most frequent first."""
    try:
        found = {
            one.tag: None for kind in ("sample", "finding", "selection") for one in asked(catalog, tags, kind)
        }
    except ReviewError as error:
        say(str(error))
        return []
    return list(found)


def review_many(
    context: PageContext, subjects: Callable[[], Sequence[Subject]], count: int, key: str, noun: str = "image"
) -> None:
    """Draw what tags, judges and notes many subjects in one action each, which is undone in one step.

    Args:
        context: The page's context.
        subjects: Gives them when something is done.
        count: How many of what people see that is.
        key: Sets the widgets apart.
        noun: What they are, in the singular.
    """
    who = person()
    if not who.may_review:
        st.caption("You may look at this audit but not review.")
        return
    if not who.name:
        name_input(f"{key}_who", "Say who you are to review")
        return
    of = f"{count:,} {noun}{'' if count == 1 else 's'}"
    sure = True
    if count > MANY:
        sure = st.checkbox(f"Yes, all {of} at once", key=f"{key}_sure_{count}")
    _many_tags(context.catalog, subjects, key, sure)
    _many_verdicts(context.catalog, subjects, key, sure, of)
    _many_notes(context.catalog, subjects, key, sure)
    undo_button(context, f"{key}_undo")


def _done(done: object, words: str) -> None:
    if done is not None:
        confirm(words)


def _many_tags(catalog: Catalog, subjects: Callable[[], Sequence[Subject]], key: str, sure: bool) -> None:
    chosen = st.selectbox(
        "Tag", known_tags(catalog), index=None, key=f"{key}_tag", accept_new_options=True, placeholder="choose or type",
    )  # fmt: skip

    def change(remove: bool) -> None:
        tag = str(chosen)
        done = write(
            catalog,
            lambda reviews, name: (reviews.untag if remove else reviews.tag)(name, subjects(), tag),
        )
        _done(done, f"Removed “{plain(tag)}”." if remove else f"Tagged “{plain(tag)}”.")

    with st.container(horizontal=True):
        off = not chosen or not sure
        st.button("Add tag", key=f"{key}_add", type="primary", disabled=off, on_click=change, args=(False,))
        st.button("Remove tag", key=f"{key}_remove", disabled=off, on_click=change, args=(True,))


def _many_verdicts(
    catalog: Catalog, subjects: Callable[[], Sequence[Subject]], key: str, sure: bool, of: str
) -> None:
    chosen = st.selectbox(
        "Your verdict", VERDICTS, index=None, key=f"{key}_verdict", placeholder="none",
        format_func=lambda verdict: verdict[:1].upper() + verdict[1:],
    )  # fmt: skip

    def judge() -> None:
        done = write(catalog, lambda reviews, name: reviews.judge(name, subjects(), chosen))
        _done(done, f"Judged {of}.")

    st.button(f"Judge {of}", key=f"{key}_judge", disabled=not chosen or not sure, on_click=judge)


def _many_notes(catalog: Catalog, subjects: Callable[[], Sequence[Subject]], key: str, sure: bool) -> None:
    field = f"{key}_note"
    st.text_area("Note", key=field, height=80, placeholder="the same note on each")

    def add() -> None:
        done = write(catalog, lambda reviews, name: reviews.note(name, subjects(), st.session_state[field]))
        if done is not None:
            st.session_state[field] = ""
        _done(done, "Noted.")

    st.button("Add note", key=f"{key}_add_note", disabled=not sure, on_click=add)


def _verdict(context: PageContext, subject: Subject, key: str, said: Marks, who: Person) -> None:
    own = next((v for v in said.verdicts if v.author == who.name), None)
    field = f"{key}_verdict"
    st.session_state[field] = own.verdict if own else None

    def judge() -> None:
        write(context.catalog, lambda reviews, name: reviews.judge(name, [subject], st.session_state[field]))

    st.pills(
        "Your verdict", VERDICTS, key=field, on_change=judge,
        format_func=lambda verdict: f"{VERDICT_ICONS[verdict]} {verdict[:1].upper()}{verdict[1:]}",
    )  # fmt: skip
    if own is None or own.verdict != WRONG_LABEL or subject.type != "sample":
        return
    titles = class_titles(context.manifest.classes)
    right = f"{key}_right"
    at = own.label if own.label is not None and own.label < len(titles) else None
    st.session_state[right] = at

    def suggest() -> None:
        label = st.session_state[right]
        name_of = "" if label is None else context.manifest.classes[label]
        write(
            context.catalog, lambda reviews, name: reviews.judge(name, [subject], WRONG_LABEL, label, name_of)
        )

    st.selectbox(
        "The right label", list(range(len(titles))), index=None, key=right, on_change=suggest,
        format_func=lambda index: titles[index], placeholder="if you know it",
    )  # fmt: skip


def _tags(catalog: Catalog, subject: Subject, key: str, said: Marks) -> None:
    field = f"{key}_tags"
    drawn = list(said.tags)
    st.session_state[field] = drawn

    def change() -> None:
        # Against what was on the screen: a tag that somebody else adds meanwhile is not taken away.
        now = [str(tag) for tag in st.session_state[field]]
        for tag in [tag for tag in now if tag not in drawn]:
            write(catalog, lambda reviews, name, tag=tag: reviews.tag(name, [subject], tag))  # type: ignore[misc]
        for tag in [tag for tag in drawn if tag not in now]:
            write(catalog, lambda reviews, name, tag=tag: reviews.untag(name, [subject], tag))  # type: ignore[misc]

    options = list(dict.fromkeys([*drawn, *known_tags(catalog)]))
    st.multiselect(
        "Tags",
        options,
        key=field,
        on_change=change,
        accept_new_options=True,
        placeholder="choose or type a tag",
    )


def _tags_html(listed: Sequence[str]) -> str:
    pills = "".join(f"<span class='gl-pill'>{escape(tag)}</span>" for tag in listed)
    return f"<div>{pills or '<span class=gl-muted>no tags</span>'}</div>"


def _said(said: Marks, who: Person, key: str) -> None:
    """Show what others judged, and one's own where it is not to be seen otherwise."""
    mine = who.name if who.may_review else ""
    for verdict in said.verdicts:
        if verdict.author != mine:
            right = f", rightly **{plain(verdict.label_name)}**" if verdict.label_name else ""
            st.markdown(
                f"{VERDICT_ICONS[verdict.verdict]} **{plain(verdict.verdict)}**{right} — {plain(verdict.author)}, "
                f"{when(verdict.time)}"
            )


def _notes(catalog: Catalog, subject: Subject, key: str, notes: Sequence[Note], who: Person) -> None:
    for note in notes:
        with st.container(horizontal=True, vertical_alignment="top", key=f"{key}_note_{note.id}"):
            st.html(
                f"<div class='gl-note'><div dir='auto'>{escape(note.text)}</div>"
                f"<small>{escape(note.author)} · {when(note.time)}</small></div>",
                width="stretch",
            )
            if who.may_review and note.author == who.name:
                st.button(
                    "", key=f"{key}_drop_{note.id}", icon=":material/close:", type="tertiary", help="Remove this note",
                    on_click=undo, args=(catalog, note.id), width="content",
                )  # fmt: skip
    if not who.may_review or not who.name:
        return
    field = f"{key}_note"

    def add() -> None:
        if write(catalog, lambda reviews, name: reviews.note(name, [subject], st.session_state[field])):
            st.session_state[field] = ""

    st.text_area(
        "Note",
        key=field,
        height=70,
        placeholder="what you see here",
        label_visibility="collapsed",
    )
    st.button("Add note", key=f"{key}_add_note", icon=":material/add_comment:", on_click=add)


def _history(catalog: Catalog, subject: Subject, key: str, who: Person) -> None:
    try:
        entries = asked(catalog, history, subject, None, SHOWN_HISTORY)
    except ReviewError as error:
        st.error(plain(error))
        return
    if not entries:
        return
    with st.expander(f"History · {len(entries)}"):
        for entry in entries:
            history_line(catalog, entry.id, f"{key}_{entry.id}", who, entry_text(entry), entry.author, entry.time,
                         entry.undone, entry.kind == "undo")  # fmt: skip


def history_line(
    catalog: Catalog,
    event: str,
    key: str,
    who: Person,
    words: str,
    author: str,
    time: datetime,
    undone: bool,
    is_undo: bool,
) -> None:
    """Draw one event with the button that undoes or restores it; undoings are restored by their event."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        text = f"~~{plain(words)}~~" if undone else plain(words)
        st.markdown(f"{plain(author)} {text} · :gray[{when(time)}]", width="stretch")
        if is_undo or not who.may_review or not who.name:
            return
        st.button(
            "", key=f"{key}_toggle", type="tertiary", width="content",
            icon=":material/redo:" if undone else ":material/undo:", help="Restore" if undone else "Undo",
            on_click=redo if undone else undo, args=(catalog, event),
        )  # fmt: skip


def when(time: datetime) -> str:
    """Write when something happened: the more exactly the more recent it is."""
    passed = (datetime.now(UTC) - time).total_seconds()
    if passed < 60:
        return "just now"
    if passed < 3_600:
        return f"{int(passed // 60)} min ago"
    return time.strftime("%-d %b %Y, %H:%M UTC")
