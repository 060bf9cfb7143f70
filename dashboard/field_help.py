"""What a number means, for people: unit, range, formula and what a high value suggests, from its declaration."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from cache.schema import Field
from dashboard.notices import plain

DIRECTIONS = {"higher": "high values", "lower": "low values", "none": ""}


def range_text(field: Field) -> str:
    """Write the range that a field's values can have."""
    low, high = (None if bound is None else f"{bound:.4g}" for bound in (field.low, field.high))
    if low is None and high is None:
        return "any"
    if high is None:
        return f"from {low} up"
    return f"up to {high}" if low is None else f"{low} to {high}"


def facts_of(field: Field) -> list[tuple[str, str]]:
    """Return what a field declares about its values, by heading; what it does not say is left out."""
    deserving = DIRECTIONS.get(field.direction, "")
    facts = [
        ("Unit", field.unit or "none"),
        ("Range", range_text(field)),
        ("Formula", field.formula),
        ("Worth a look", deserving),
    ]
    return [(name, text) for name, text in facts if text]


def field_help(field: Field) -> str:
    """Return a field's help as Markdown, for tooltips of widgets and columns."""
    facts = " · ".join(f"{name}: {plain(text)}" for name, text in facts_of(field) if name != "Formula")
    formula = f"**{plain(field.formula)}**" if field.formula else ""
    parts = (plain(field.description), plain(field.suggests), formula, facts)
    return "\n\n".join(part for part in parts if part)


def field_text(field: Field) -> str:
    """Return a field's help as plain text, line by line."""
    facts = [f"{name}: {text}" for name, text in facts_of(field)]
    return "\n".join(part for part in (field.description, field.suggests, *facts) if part)


def help_html(title: str, text: str) -> str:
    """Return a title that shows help under the pointer and when the keyboard comes to it."""
    if not text:
        return escape(title)
    said = escape(text, quote=True)
    return (
        f'<span class="gl-help" tabindex="0" role="note" aria-label="{escape(title, quote=True)}. {said}" '
        f'data-help="{said}">{escape(title)}</span>'
    )


def glossary_html(groups: Iterable[tuple[str, Iterable[Field]]]) -> str:
    """Return a table of fields under the headings of their groups; every text is escaped."""
    body = []
    for heading, fields in groups:
        rows = [_glossary_row(field) for field in fields]
        if rows:
            body.append(f'<tr><th colspan="3" scope="rowgroup">{escape(heading)}</th></tr>{"".join(rows)}')
    return f'<table class="gl-table gl-glossary"><tbody>{"".join(body)}</tbody></table>'


def _glossary_row(field: Field) -> str:
    unit = f" {field.unit}" if field.unit else ""
    formula = f"<code>{escape(field.formula)}</code>" if field.formula else ""
    about = " ".join(part for part in (field.description, field.suggests) if part)
    return (
        f"<tr><td><b>{escape(field.title)}</b><br><span class='gl-muted'>{escape(range_text(field) + unit)}</span></td>"
        f"<td>{escape(about)}</td><td>{formula}</td></tr>"
    )
