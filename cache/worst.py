"""The worst mistakes of each class: wrong with the highest confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cache.catalog import Catalog
from cache.filters import Filter
from cache.selections import compiled

By = Literal["label", "pred"]
WORST = 10


@dataclass(frozen=True)
class WorstOfClass:
    """The most confident mistakes of one class.

    Attributes:
        index: The class: an output of the model.
        wrong: How many mistakes it has in all.
        rows: Its most confident ones, the surest first: sample_id, content, label, pred, correct,
            confidence, thumbnail_part and thumbnail_row.
    """

    index: int
    wrong: int
    rows: tuple[Mapping[str, Any], ...]


def worst_of_each(
    catalog: Catalog, filter_: Filter, by: By = "label", most: int = WORST
) -> list[WorstOfClass]:
    """Return the most confident mistakes of each class among a filter's samples, by one query.

    Args:
        catalog: The open generation.
        filter_: Which samples.
        by: Whether a class's mistakes are those of its own samples (``label``), or those called it (``pred``).
        most: Samples of a class at most.

    Returns:
        Classes that have mistakes, those with the most first; ties by the order of the outputs.
    """
    compiler, where = compiled(catalog, filter_)
    of = "s.pred" if by == "pred" else "s.label"
    limit = compiler.bind(max(int(most), 0))
    found = catalog.select(
        f"{of} AS class, count(*) OVER (PARTITION BY {of}) AS wrong, row_number() OVER (PARTITION BY {of} "
        "ORDER BY s.confidence DESC NULLS LAST, s.sample_id) AS place, s.sample_id, s.content, s.label, s.pred, s.correct, "
        "s.confidence, s.thumbnail_part, s.thumbnail_row",
        compiler,
        f"({where}) AND NOT s.correct",
        f"QUALIFY place <= {limit} ORDER BY wrong DESC, class, place",
    )
    classes: dict[int, list[dict[str, Any]]] = {}
    for row in found.to_pylist():
        classes.setdefault(row["class"], []).append(row)
    return [
        WorstOfClass(
            index,
            rows[0]["wrong"],
            tuple({k: v for k, v in row.items() if k not in ("class", "wrong", "place")} for row in rows),
        )
        for index, rows in classes.items()
    ]
