"""The gallery of Browse: one page of the selection in its order, or its sections with the first row of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cache import queries
from cache.errors import FilterError
from cache.sections import Section, condition_of, groupings, section_title, sections
from dashboard.components.gallery import Group
from dashboard.data import ask
from dashboard.filter_fields import numbers
from dashboard.likeness import likeness_param
from dashboard.ordering import kept_params, percent_text, sort_of_url, value_text
from dashboard.parts import is_behind
from dashboard.review_selection import selected_bar, tagging
from dashboard.session import (
    PageContext,
    current_filter,
    integer_param,
    open_page,
    param,
    set_params,
)
from dashboard.tiles import TILE_COLUMNS, sample_gallery

SECTIONS = 10
"""Sections a page."""
ROW = 12
"""Pictures that a section carries: a row on a wide screen; what does not fit is cut."""


def grouping_of_url(context: PageContext) -> str | None:
    """Return what the gallery is grouped by; None for one gallery."""
    by = param("group")
    return by if by in groupings(context.manifest) else None


def gallery_view(context: PageContext, number: int, size: int, pages: int) -> None:
    """Draw one page of the selection.

    Args:
        context: The page's context.
        number: Of the page, from 1.
        size: Samples a page.
        pages: How many pages there are.
    """
    choices = numbers(context)
    key, sort = sort_of_url(context, choices)
    start = (number - 1) * size
    rows = ask(context.catalog, queries.page, context.filter, sort, start, size, TILE_COLUMNS).to_pylist()

    def note(row: Mapping[str, Any]) -> str:
        return value_text(choices, key, row["sort_value"]) or str(row["sample_id"])

    gallery = sample_gallery(context, rows, note, tagging(context, rows), **kept_params())
    gallery = replace(
        gallery,
        similar=_find_similar,
        turns=(number > 1, number < pages),
        page=number,
        behind=is_behind(context.filter),
        turn=lambda step: _turn(number + step),
    )
    opened = gallery.mount("gallery", context.method)
    selected_bar(context, gallery, rows, "gallery")
    if opened:
        open_page("sample", id=opened, **kept_params())


def section_pages(context: PageContext, by: str) -> tuple[int, int]:
    """Return how many sections the selection has, and how many pages of them there are."""
    total = ask(context.catalog, sections, context.filter, by, None, 0, 0, 1).total
    return total, math.ceil(total / SECTIONS)


def sections_view(context: PageContext, by: str, number: int) -> None:
    """Draw one page of the selection's sections, each with its name, count, error rate and first row.

    Args:
        context: The page's context.
        by: A key of `cache.sections.groupings`.
        number: Of the page, from 1.
    """
    choices = numbers(context)
    key, sort = sort_of_url(context, choices)
    offset = (number - 1) * SECTIONS
    found = ask(context.catalog, sections, context.filter, by, sort, ROW, offset, SECTIONS)
    rows = [row for section in found.shown for row in section.rows]

    def note(row: Mapping[str, Any]) -> str:
        return value_text(choices, key, row["sort_value"]) or str(row["sample_id"])

    flat = sample_gallery(context, rows, note, tagging(context, rows), **kept_params())
    tiles = iter(flat.groups[0].tiles)
    groups = [
        Group(
            [next(tiles) for _ in section.rows],
            section_title(context.manifest, by, section.values),
            note=_facts(section),
            more=f"Show all {section.n:,}",
        )
        for section in found.shown
    ]
    gallery = replace(
        flat, groups=groups, layout="row", similar=_find_similar,
        more=lambda at: _narrow(context, by, found.shown, at), page=number, behind=is_behind(context.filter),
    )  # fmt: skip
    opened = gallery.mount("gallery", context.method)
    selected_bar(context, gallery, rows, "gallery")
    if opened:
        open_page("sample", id=opened, **kept_params())


def _facts(section: Section) -> str:
    images = f"{section.n:,} image{'' if section.n == 1 else 's'}"
    if section.error_rate is None or section.wrong in (0, section.labelled):
        told_of = "" if section.error_rate is None else " · all wrong" if section.wrong else " · all right"
        return images + told_of
    return f"{images} · error rate {percent_text(section.error_rate, 1)} ({section.wrong:,} wrong)"


def _turn(number: int) -> None:
    set_params(page=None if number == 1 else str(number))


def _find_similar(sample_id: str) -> None:
    set_params(similar=likeness_param(sample_id), page=None, group=None)


def _narrow(context: PageContext, by: str, shown: Sequence[Section], at: int) -> None:
    """Put one section's conditions into the filter, and show it as one gallery."""
    try:
        chosen = current_filter()
    except FilterError:
        chosen = context.filter
    if 0 <= at < len(shown):
        for condition in condition_of(context.manifest, by, shown[at].values):
            chosen = chosen.with_(condition)
        set_params(filter=chosen.to_param(), page=None, group=None)


def page_of_url(pages: int) -> int:
    """Return the number of the page that the URL asks for."""
    return integer_param("page", 1, 1, max(pages, 1))
