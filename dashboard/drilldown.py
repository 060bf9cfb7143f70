"""From a click on a figure or a table to the samples behind it: plain functions from selections to filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cache.filters import Filter, Is, OneOf, Range


def class_value(classes: Sequence[str], index: int) -> str | int:
    """Return what a filter calls a class: its name, or its index where two outputs share the name."""
    name = classes[index]
    return name if classes.count(name) == 1 else index


def pair_filter(base: Filter, classes: Sequence[str], label: int, pred: int) -> Filter:
    """Narrow a filter to the samples of one class that were called another, or the same."""
    truth = OneOf("label", (class_value(classes, label),))
    return base.without("correct").with_(truth).with_(OneOf("pred", (class_value(classes, pred),)))


def class_filter(base: Filter, classes: Sequence[str], row: Mapping[str, Any], column: str) -> Filter:
    """Narrow a filter to what a cell of the class table counts.

    Args:
        base: The filter of the page.
        classes: Names of the model's outputs.
        row: The class's row: ``class``, and ``most_confused_with`` as an index or None.
        column: Which cell: the counts and shares of predictions mean the predicted class, the others the true one.
    """
    index, confused = int(row["class"]), row.get("most_confused_with")
    if column == "most_confused_with" and confused is not None:
        return pair_filter(base, classes, index, int(confused))
    value = class_value(classes, index)
    if column in ("precision", "predicted", "mean_confidence") or not row.get("n"):
        return base.with_(OneOf("pred", (value,)))
    chosen = base.with_(OneOf("label", (value,)))
    return chosen.with_(Is("correct", False)) if column == "wrong" else chosen


def mistakes_filter(base: Filter, classes: Sequence[str], by: str, index: int) -> Filter:
    """Narrow a filter to the mistakes of one class: of its own samples (``label``), or of those called it (``pred``)."""
    return base.with_(Is("correct", False)).with_(OneOf(by, (class_value(classes, index),)))


def range_filter(
    base: Filter, field: str, low: float, high: float, method: str | None = None, target: str | None = None
) -> Filter:
    """Narrow a filter to a range of a field."""
    return base.with_(Range(field, low, high, method, target))


def points_of(event: Any) -> list[Mapping[str, Any]]:
    """Return the points of a figure's selection, none where nothing was clicked."""
    selection = _selection(event)
    return list(selection.get("points") or [])


def dragged_range(event: Any) -> tuple[float, float] | None:
    """Return the horizontal extent of a dragged selection, None where nothing was dragged."""
    boxes = _selection(event).get("box") or []
    ends = [float(x) for box in boxes for x in box.get("x", [])]
    return (min(ends), max(ends)) if len(ends) >= 2 and min(ends) < max(ends) else None


def cell_of(event: Any) -> tuple[int, str] | None:
    """Return the row and the column of a clicked cell of a table, None where none was clicked."""
    cells = _selection(event).get("cells") or []
    return (int(cells[0][0]), str(cells[0][1])) if cells else None


def _selection(event: Any) -> Mapping[str, Any]:
    selection = event.get("selection") if isinstance(event, Mapping) else None
    return selection if isinstance(selection, Mapping) else {}
