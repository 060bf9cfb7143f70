"""Reading and writing reviews from the pages: answers remembered until somebody reviews, and one function that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from cache.catalog import Catalog
from cache.errors import ConfigError, ReviewError
from cache.review_condition import VERDICTS, WRONG_LABEL
from cache.review_events import Subject
from cache.review_views import Entry, Marks, last_action, marks
from cache.reviews import Reviews
from dashboard.data import answers
from dashboard.notices import plain
from dashboard.people import person, reviews_have_a_place
from dashboard.session import PageContext

P = ParamSpec("P")
T = TypeVar("T")
_SAID = "review_said"
_DONE = "review_done"
_KEPT = "review_files"
_DRAWN = "review_drawn"
VERDICT_ICONS = dict(
    zip(
        VERDICTS,
        (":material/warning:", ":material/verified:", ":material/label_off:", ":material/help:"),
        strict=True,
    )
)
SHORT = 40


def reviews_of(catalog: Catalog) -> Reviews:
    """Return the reviews of a run, kept for the session so that a file exchanged meanwhile is noticed."""
    path = catalog.reviewed.path
    kept: dict[str, Reviews] = st.session_state.setdefault(_KEPT, {})
    return kept.setdefault(str(path), Reviews(path))


def asked(
    catalog: Catalog, view: Callable[Concatenate[Reviews, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Ask a view of `cache.review_views`, once a revision; its arguments must be hashable.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    reviews = reviews_of(catalog)
    key = (str(reviews.path), reviews.revision(), view.__qualname__, args, tuple(sorted(kwargs.items())))
    return answers().get(key, lambda: view(reviews, *args, **kwargs))


def asked_marks(catalog: Catalog, subjects: Sequence[Subject]) -> dict[Subject, Marks]:
    """Return what stands on subjects.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    return asked(catalog, marks, tuple(subjects))


def marks_of(catalog: Catalog, subjects: Sequence[Subject]) -> dict[Subject, Marks]:
    """Return what stands on subjects; nothing on any of them where the reviews cannot be read, which is said."""
    try:
        return asked_marks(catalog, subjects)
    except ReviewError as error:
        say(str(error))
        return {subject: Marks() for subject in subjects}


def write(catalog: Catalog, action: Callable[[Reviews, str], T]) -> T | None:
    """Do what changes reviews; the only way in which a page does.

    Whether the person may is decided here and at this moment, whatever was drawn. What goes wrong is said by `messages`.

    Args:
        catalog: Of the run.
        action: Called with the reviews and the reviewer's name.

    Returns:
        What the action returned; None where it was refused.
    """
    try:
        who = person()
        if not reviews_have_a_place():
            say(
                "These runs lie at a URL and can only be looked at: name a folder for reviews in the configuration."
            )
        elif not who.may_review:
            say("You may look at this audit but not change it: ask its owner to list you as a reviewer.")
        elif not who.name:
            say("Reviews bear a name: type yours under “Reviewing as” in the sidebar, then do this again.")
        else:
            return action(reviews_of(catalog), who.name)
    except (ReviewError, ConfigError) as error:
        say(str(error))
    return None


def drawn(catalog: Catalog) -> None:
    """Remember that the whole page shows the reviews as they are now."""
    with suppress(ReviewError):
        st.session_state[_DRAWN] = reviews_of(catalog).revision()


def follow(catalog: Catalog) -> None:
    """Within a fragment, draw the whole page anew where somebody reviewed something since: counts and filters changed."""
    with suppress(ReviewError):
        if st.session_state.get(_DRAWN) != reviews_of(catalog).revision():
            st.rerun()


def say(sentence: str) -> None:
    """Have a sentence shown by the next `messages`."""
    said: list[str] = st.session_state.setdefault(_SAID, [])
    if sentence not in said:
        said.append(sentence)


def confirm(words: str) -> None:
    """Have it said in passing that something was done; callbacks may not draw anything themselves."""
    st.session_state.setdefault(_DONE, []).append(words)


def messages() -> None:
    """Show what was done and what went wrong since the last time: at the top of every page, and in fragments that write."""
    for words in st.session_state.pop(_DONE, []):
        st.toast(words, icon=":material/check:")
    for sentence in st.session_state.pop(_SAID, []):
        st.error(plain(sentence), icon=":material/error:")


def last_of(catalog: Catalog) -> Entry | None:
    """Return what the person's "undo" would undo."""
    name = person().name
    try:
        return asked(catalog, last_action, name) if name else None
    except ReviewError as error:
        say(str(error))
        return None


def undo_button(context: PageContext, key: str) -> None:
    """Draw the button that undoes the person's last action, which its tooltip names; nothing without one."""
    last = last_of(context.catalog)
    if last is None or not person().may_review:
        return
    st.button(
        "Undo", key=key, icon=":material/undo:", type="tertiary",
        help=f"Undo: {plain(entry_text(last))}", on_click=undo, args=(context.catalog, last.id),
    )  # fmt: skip


def undo(catalog: Catalog, event: str) -> None:
    """Undo an event."""
    write(catalog, lambda reviews, name: reviews.undo(name, event))


def redo(catalog: Catalog, event: str) -> None:
    """Let an undone event count again."""
    write(catalog, lambda reviews, name: reviews.redo(name, event))


def entry_text(entry: Entry) -> str:
    """Say what somebody did, without who and when."""
    said = entry.payload
    match entry.kind:
        case "tag":
            words = f"tagged “{_brief(said['tag'])}”"
        case "untag":
            words = f"removed the tag “{_brief(said['tag'])}”"
        case "note":
            words = f"noted “{_brief(said['text'])}”"
        case "verdict":
            words = f"judged “{said['verdict']}”" if said["verdict"] else "withdrew a verdict"
            if said.get("label_name"):
                words += f", rightly {_brief(said['label_name'])}"
        case "view":
            return _view_text(said)
        case _:
            return "undid an action"
    kind = {"sample": "image", "selection": "selection", "finding": "finding"}.get(
        entry.subject.type, "thing"
    )
    return f"{words} on {entry.subjects:,} {kind}{'' if entry.subjects == 1 else 's'}"


def _view_text(said: dict[str, Any]) -> str:
    if said.get("deleted"):
        return "deleted a view"
    if said.get("start") is not None and "url" not in said:
        return "chose the page to start with" if said["start"] else "took away the page to start with"
    name = f" “{_brief(said['name'])}”" if "name" in said else ""
    return f"saved the view{name}" if "url" in said else f"changed a view{name}"


def badge_of(said: Marks) -> tuple[str, str] | None:
    """Return what a tile's badge shows of an image's reviews, and what hovering over it says; None without any."""
    verdicts = sorted({verdict.verdict for verdict in said.verdicts}, key=VERDICTS.index)
    shorter = {WRONG_LABEL: "label?", "real feature": "real"}
    parts = [shorter.get(verdict, verdict) for verdict in verdicts] + said.tags
    if not parts and said.notes:
        parts = ["note"]
    lines = [f"{v.verdict}, says {v.author}" for v in said.verdicts]
    lines += [f"tags: {', '.join(said.tags)}"] if said.tags else []
    lines += [f"{note.author}: {_brief(note.text)}" for note in said.notes]
    if not parts:
        return None
    more = f" +{len(parts) - 1}" if len(parts) > 1 else ""
    return f"{parts[0]}{more}", "\n".join(lines)


def _brief(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= SHORT else f"{line[: SHORT - 1]}…"
