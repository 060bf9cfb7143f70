"""How many samples of a selection have each value of a field: of several fields at once, in one pass."""

from __future__ import annotations

from typing import Any

from cache.catalog import Catalog
from cache.filters import Filter
from cache.selections import compiled


def value_counts(catalog: Catalog, fields: tuple[str, ...], filter_: Filter) -> dict[str, dict[Any, int]]:
    """Count the samples of a filter by the values of each field.

    Args:
        catalog: The open generation.
        fields: Names of fields of samples; classes are counted by index.
        filter_: Which samples.

    Returns:
        By field, the number of samples by value; None stands for those without one. Values that no sample of the
        filter has are left out.

    Raises:
        FilterError: The run has no such field, or cannot answer the filter.
    """
    found: dict[str, dict[Any, int]] = {field: {} for field in fields}
    if not fields:
        return found
    compiler, where = compiled(catalog, filter_)
    values = [compiler.value(field) for field in fields]
    # A row belongs to the one field whose values were not rolled up in it: NULL alone would not tell.
    columns = [f"{value} AS value_{at}, GROUPING({value}) AS other_{at}" for at, value in enumerate(values)]
    sets = ", ".join(f"({value})" for value in values)
    rows = catalog.select(
        ", ".join([*columns, "count(*) AS n"]), compiler, where, f"GROUP BY GROUPING SETS ({sets})"
    )
    for row in rows.to_pylist():
        at = next(at for at in range(len(fields)) if not row[f"other_{at}"])
        found[fields[at]][row[f"value_{at}"]] = row["n"]
    return found
