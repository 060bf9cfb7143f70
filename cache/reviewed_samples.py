"""Reviews and the samples of a run together: which samples bear a mark, and whose labels are to be mended."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from cache.catalog import Catalog
from cache.review_condition import WRONG_LABEL
from cache.review_views import Verdict, given_verdicts
from cache.reviews import Reviews

LABEL_ERRORS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("content", pa.string()),
        ("label", pa.int32()),
        ("label_name", pa.string()),
        ("pred", pa.int32()),
        ("pred_name", pa.string()),
        ("suggested", pa.int32()),
        ("suggested_name", pa.string()),
        ("reviewer", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
    ]
)
"""Columns of the list of label errors."""


def sample_ids(catalog: Catalog, contents: Sequence[str]) -> list[str]:
    """Return the samples of a run whose images have the contents, sorted; images that the run lacks are passed by.

    Raises:
        RunDamagedError: A part of the run is missing or cannot be read.
        RunNotFoundError: The run went away.
    """
    wanted = pa.table({"content": pa.array(contents, pa.string())})
    found = catalog.query(
        "SELECT sample_id FROM samples WHERE content IN (SELECT content FROM wanted) ORDER BY sample_id",
        tables={"wanted": wanted},
    )
    return [str(sample) for sample in found["sample_id"].to_pylist()]


def label_errors(reviews: Reviews, catalog: Catalog) -> pa.Table:
    """Return the samples whose label somebody calls wrong, with the label suggested: one row a sample and reviewer.

    A sample that has the suggested label by now is left out: it is mended. The columns are `LABEL_ERRORS`.

    Raises:
        ReviewStoreError: The reviews cannot be read.
        RunDamagedError: A part of the run is missing or cannot be read.
        RunNotFoundError: The run went away.
    """
    given = [(key, said) for key, said in given_verdicts(reviews) if said.verdict == WRONG_LABEL]
    right = [_suggested(catalog.classes, said) for _, said in given]
    suggested = pa.table(
        {
            "content": pa.array([key for key, _ in given], pa.string()),
            "reviewer": pa.array([said.author for _, said in given], pa.string()),
            "time": pa.array([said.time for _, said in given], pa.timestamp("us", "UTC")),
            "at": pa.array([at for at, _ in right], pa.int32()),
            "name": pa.array([name for _, name in right], pa.string()),
        }
    )
    named = pa.table({"at": pa.array(range(len(catalog.classes)), pa.int32()), "name": catalog.classes})
    found = catalog.query(
        "SELECT s.sample_id, s.content, s.label, l.name AS label_name, s.pred, p.name AS pred_name, "
        "g.at AS suggested, g.name AS suggested_name, g.reviewer, g.time FROM suggested AS g "
        "JOIN samples AS s ON s.content = g.content LEFT JOIN named AS l ON l.at = s.label "
        "LEFT JOIN named AS p ON p.at = s.pred WHERE s.label IS DISTINCT FROM g.at OR g.at IS NULL "
        "ORDER BY s.sample_id, g.reviewer",
        tables={"suggested": suggested, "named": named},
    )
    return found.cast(LABEL_ERRORS)


def _suggested(classes: Sequence[str], said: Verdict) -> tuple[int | None, str | None]:
    """Return the class suggested, where this run has it: by its index, or by its name where only one class bears it."""
    at, name = said.label, said.label_name or None
    if at is not None and at < len(classes) and name in (None, classes[at]):
        return at, classes[at]
    if name is not None and list(classes).count(name) == 1:
        return list(classes).index(name), name
    return None, name
