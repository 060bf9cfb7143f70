"""Findings to take away: a finding as JSON, its samples as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from cache.catalog import Catalog
from cache.fields import class_title
from cache.findings import Finding
from cache.queries import page
from dashboard.finding_words import order_of

COLUMNS = ("sample_id", "uri", "label", "pred", "correct", "confidence", "attention in the region")


def finding_json(finding: Finding, classes: Sequence[str]) -> str:
    """Return a finding as `findings --json` prints it."""
    return json.dumps(finding.to_json(classes), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def samples_csv(catalog: Catalog, finding: Finding) -> str:
    """Return a finding's samples: what they are, what they were called, and their attention in its region.

    Raises:
        GazelakeError: The run cannot be read.
    """
    order = order_of(finding)
    rows = page(catalog, finding.filter, order, 0, finding.n).to_pylist()
    classes = catalog.classes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS if order.region is not None else COLUMNS[:-1])
    for row in rows:
        label = "" if row["label"] is None else class_title(classes, row["label"])
        correct = "" if row["correct"] is None else str(row["correct"]).lower()
        values = [
            row["sample_id"], row["uri"], label, class_title(classes, row["pred"]), correct,
            "" if row["confidence"] is None else f"{row['confidence']:.4f}",
        ]  # fmt: skip
        if order.region is not None:
            values.append("" if row["sort_value"] is None else f"{row['sort_value']:.4f}")
        writer.writerow(values)
    return text.getvalue()
