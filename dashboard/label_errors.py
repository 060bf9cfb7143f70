"""Label errors as a list to mend: what somebody calls wrongly labelled, as a CSV for whoever keeps the dataset."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from cache.catalog import Catalog
from cache.review_events import Subject
from cache.reviewed_samples import label_errors
from dashboard.reviewing import asked_marks, reviews_of

COLUMNS = ("id", "label", "prediction", "suggested_label", "note", "author", "time")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def label_error_rows(catalog: Catalog) -> list[dict[str, str]]:
    """Return the label errors, a row a sample and reviewer, with `COLUMNS`; the note is that reviewer's.

    Raises:
        ReviewStoreError: The reviews cannot be read.
    """
    found = label_errors(reviews_of(catalog), catalog).to_pylist()
    said = asked_marks(catalog, [Subject.sample(row["content"]) for row in found])
    return [_row(row, [n.text for n in said[Subject.sample(row["content"])].notes if n.author == row["reviewer"]])
            for row in found]  # fmt: skip


def label_errors_csv(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as CSV; words that people typed are kept from being read as formulas by a spreadsheet."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(
        {**row, "note": _harmless(row["note"]), "author": _harmless(row["author"])} for row in rows
    )
    return out.getvalue()


def _row(row: Mapping[str, Any], notes: Sequence[str]) -> dict[str, str]:
    return {
        "id": str(row["sample_id"]),
        "label": str(row["label_name"] or ""),
        "prediction": str(row["pred_name"] or ""),
        "suggested_label": str(row["suggested_name"] or ""),
        "note": "\n".join(notes),
        "author": str(row["reviewer"]),
        "time": f"{row['time']:%Y-%m-%dT%H:%M:%SZ}",
    }


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
