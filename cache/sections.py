"""A selection in sections: by class, predicted class, confusion pair, or a field of few values, with the first of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cache.catalog import Catalog
from cache.conditions import Condition, Is, OneOf
from cache.errors import FilterError
from cache.fields import class_title, quote, sample_fields
from cache.filter_sql import SAMPLES, Compiler, identifier
from cache.filters import Filter
from cache.manifest import Manifest
from cache.queries import Sort, order_by, page_columns, sort_key, sort_tables
from cache.selections import LABELLED, WRONG, compiled

CONFUSION = "confusion"
"""What a selection is grouped by to have a section each pair of label and prediction."""
WANTED = "wanted_sections"


@dataclass(frozen=True)
class Section:
    """The samples of a selection that share a value.

    Attributes:
        values: The value, or label and prediction; None where unknown.
        n: How many there are.
        labelled: Those whose true class is known.
        wrong: Labelled ones whose prediction is not the label.
        rows: The first of them in order, as `cache.queries.page` has them.
    """

    values: tuple[Any, ...]
    n: int
    labelled: int
    wrong: int
    rows: tuple[dict[str, Any], ...]

    @property
    def error_rate(self) -> float | None:
        """Share of the labelled samples that are wrong; None without labels."""
        return self.wrong / self.labelled if self.labelled else None


@dataclass(frozen=True)
class Sections:
    """Some sections, and how many there are in all."""

    shown: tuple[Section, ...]
    total: int


def groupings(manifest: Manifest) -> dict[str, str]:
    """Return what a selection can be grouped by: title by name."""
    found = {"label": "Class", "pred": "Predicted class", CONFUSION: "Confusion pair"}
    for name, entry in sample_fields(manifest).items():
        if entry.kind in ("text", "boolean") and name not in ("sample_id", "labelled"):
            found[name] = entry.field.title
    return found


def sections(
    catalog: Catalog,
    filter_: Filter,
    by: str,
    sort: Sort | None = None,
    tiles: int = 12,
    offset: int = 0,
    limit: int = 12,
) -> Sections:
    """Return the sections of a selection, the largest first, from the one at ``offset`` on.

    Confusion pairs begin with the most frequent mistake; right predictions come after all mistakes.

    Args:
        catalog: The run.
        filter_: The selection.
        by: A key of `groupings`.
        sort: The order within each section.
        tiles: Samples of each that are wanted.
        offset: Sections passed over.
        limit: Sections wanted.

    Raises:
        FilterError: The run cannot be grouped by that, or lacks what the sort names.
    """
    if by not in groupings(catalog.manifest):
        raise FilterError(
            f"Samples cannot be grouped by {quote(by)}: choose one of {', '.join(groupings(catalog.manifest))}."
        )
    order = sort or Sort()
    compiler, where = compiled(catalog, filter_)
    keys = _keys(compiler, by)
    named = ", ".join(f"{expression} AS g{i}" for i, expression in enumerate(keys))
    listed = ", ".join(f"g{i}" for i in range(len(keys)))
    # Every label's mistakes come before what is right, which nobody groups by pairs for.
    mistakes_first = "(g0 IS NOT DISTINCT FROM g1), " if by == CONFUSION else ""
    counted = catalog.select(
        f"{named}, count(*) AS n, {LABELLED} AS labelled, {WRONG} AS wrong, count(*) OVER () AS total",
        compiler,
        where,
        f"GROUP BY {', '.join(keys)} ORDER BY {mistakes_first}n DESC, {listed} "
        f"LIMIT {max(int(limit), 0)} OFFSET {max(int(offset), 0)}",
    )
    if not counted.num_rows:
        return Sections((), 0)
    first = _first_rows(
        catalog, filter_, by, order, tiles, counted.select([f"g{i}" for i in range(len(keys))])
    )
    found = counted.to_pylist()
    shown = [
        Section(
            tuple(row[f"g{i}"] for i in range(len(keys))), row["n"], row["labelled"], row["wrong"],
            tuple(first.get(at, ())),
        )
        for at, row in enumerate(found)
    ]  # fmt: skip
    return Sections(tuple(shown), found[0]["total"])


def condition_of(manifest: Manifest, by: str, values: tuple[Any, ...]) -> tuple[Condition, ...]:
    """Return the conditions that select one section of a selection."""
    if by == CONFUSION:
        return OneOf("label", (_class(manifest, values[0]),)), OneOf("pred", (_class(manifest, values[1]),))
    if by in ("label", "pred"):
        return (OneOf(by, (_class(manifest, values[0]),)),)
    if sample_fields(manifest)[by].kind == "boolean":
        return (Is(by, values[0]),)
    return (OneOf(by, (values[0],)),)


def section_title(manifest: Manifest, by: str, values: tuple[Any, ...]) -> str:
    """Name a section for people."""
    if by == CONFUSION or by in ("label", "pred"):
        names = ["unlabelled" if v is None else class_title(manifest.classes, v) for v in values]
        if by == CONFUSION:
            return f"{names[0]}, predicted rightly" if values[0] == values[1] else " → ".join(names)
        return names[0]
    value = values[0]
    known = {True: "yes", False: "no", None: "unknown"}
    if by == "correct":
        known |= {True: "Predicted right", False: "Predicted wrong"}
    return known[value] if value is None or isinstance(value, bool) else str(value)


def _class(manifest: Manifest, index: int | None) -> str | int | None:
    if index is None or manifest.classes.count(manifest.classes[index]) > 1:
        return index
    return manifest.classes[index]


def _keys(compiler: Compiler, by: str) -> list[str]:
    return [compiler.value(name) for name in (("label", "pred") if by == CONFUSION else (by,))]


def _first_rows(
    catalog: Catalog, filter_: Filter, by: str, order: Sort, tiles: int, wanted: pa.Table
) -> dict[int, list[dict[str, Any]]]:
    """Return the first rows of each wanted section, by the section's place among them."""
    compiler, where = compiled(catalog, filter_)
    keys = _keys(compiler, by)
    key = sort_key(compiler, order)
    alike = " AND ".join(f"w.g{i} IS NOT DISTINCT FROM {expression}" for i, expression in enumerate(keys))
    section = f"(SELECT w.section FROM {WANTED} AS w WHERE {alike})"
    placed = f"row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {order_by(compiler, key, order)})"
    sections_ = pa.array(range(wanted.num_rows), pa.int64())
    tables = {WANTED: wanted.append_column("section", sections_)}
    chosen = catalog.select(
        f"{SAMPLES}.sample AS sample, {key} AS sort_value, {section} AS section, {placed} AS place",
        compiler,
        f"({where}) AND EXISTS (SELECT 1 FROM {WANTED} AS w WHERE {alike})",
        f"QUALIFY {placed} <= {max(int(tiles), 0)}",
        tables,
        sort_tables(catalog, order),
    )
    columns = ", ".join(f"s.{identifier(name)}" for name in page_columns(catalog))
    chosen = chosen.sort_by([("section", "ascending"), ("place", "ascending")])
    rows = catalog.rows_by_position(chosen["sample"].to_pylist(), columns).drop_columns(["sample"])
    rows = rows.append_column("sort_value", chosen["sort_value"]).append_column("section", chosen["section"])
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row.pop("section"), []).append(row)
    return found
