"""Scores: what an audit said, held against what was planted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.findings import Finding, Findings
from cache.run import Run
from engine.discovery.audited import read_audited
from engine.discovery.candidates import searched_classes
from engine.discovery.spray import spray

HELD = 0.5
"""A box is about the plant where half of it is planted, or half of the plant lies in it."""
ABOUT = 0.5
"""Content without a box is about the plant where so many of its samples carry it."""


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        plant: Its kind, or ``clean``.
        class_index: The class that it leads to; None for a clean control.
        carriers: Samples that carry it.
        where: How often each pixel is planted, as rows; None where the plant is the whole picture.
        facts: What else is known of the case, for its table.
    """

    plant: str
    class_index: int | None
    carriers: list[str]
    where: list[list[float]] | None
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """Keep it beside the case's run."""
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Truth:
        """Read what `write` kept."""
        return cls(**json.loads(file.read_text()))


def score_findings(truth: Truth, run: Run, found: Findings) -> dict[str, Any]:
    """Return the scores of a list of findings.

    ``rank`` is that of the first finding about the plant, 0 without one; precision and recall are of the finding at rank 1
    where that is about the plant's class, recall of the planted samples that the model calls the class; ``false_shortcuts``
    counts the verdicts on anything but the plant.
    """
    carriers = set(truth.carriers)
    flipped = _called(run, truth.class_index) & carriers
    about = [_about(truth, finding, carriers) for finding in found.findings]
    first = found.findings[0] if found.findings else None
    scores: dict[str, Any] = {
        "findings": len(found.findings),
        "called": len(flipped),
        "rank": next((f.rank for f, yes in zip(found.findings, about, strict=True) if yes), 0),
        "false_shortcuts": [
            f.title for f in found.findings if f.verdict == "shortcut" and _precision(f, carriers) < ABOUT
        ],
        "verdict": None if first is None else first.verdict,
        "title": None if first is None else first.title,
        "precision": None,
        "recall": None,
    }
    if first is not None and first.class_index == truth.class_index:
        shared = len(flipped.intersection(first.sample_ids))
        scores |= {
            "precision": _precision(first, carriers),
            "recall": shared / len(flipped) if flipped else None,
        }
    return scores


def _precision(finding: Finding, carriers: set[str]) -> float:
    return len(carriers.intersection(finding.sample_ids)) / finding.n if finding.n else 0.0


def _about(truth: Truth, finding: Finding, carriers: set[str]) -> bool:
    """Tell whether a finding is about the plant: its class, and its region, its property or its samples."""
    if truth.class_index is None or finding.class_index != truth.class_index:
        return False
    if finding.box is not None:
        return truth.where is not None and overlaps(np.array(truth.where), finding.box)
    if finding.property is not None and truth.where is not None:
        return False
    return _precision(finding, carriers) >= ABOUT


def overlaps(where: NDArray[np.float64], box: tuple[float, float, float, float]) -> bool:
    """Tell whether half of a box is planted, or half of the plant lies in it.

    Args:
        where: How often each pixel is planted.
        box: x0, y0, x1, y1 in fractions.
    """
    height, width = where.shape
    x0, y0, x1, y1 = box
    inside = where[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
    if not inside.size or not where.any():
        return False
    return bool(inside.mean() >= HELD or inside.sum() >= HELD * where.sum())


def _called(run: Run, class_index: int | None) -> set[str]:
    if class_index is None:
        return set()
    query = f"SELECT s.sample_id FROM samples AS s WHERE s.pred = {int(class_index)}"
    return set(Catalog(run).query(query)["sample_id"].to_pylist())


def score_maps(truth: Truth, catalog: Catalog) -> dict[str, Any]:
    """Return the same scores for map clustering alone: the most conspicuous cluster of all classes is its first finding."""
    audited = read_audited(catalog)
    ids = [str(sample_id) for sample_id in audited.sample_ids]
    carriers = np.isin(ids, truth.carriers)
    first: tuple[tuple[float, int], int, NDArray[np.bool_]] | None = None
    for class_index in searched_classes(audited):
        for members in spray(audited, class_index)[:1]:
            told = members & audited.labelled
            rate = float(audited.wrong[told].mean()) if told.any() else 0.0
            order = (-rate, int(members.sum()))
            if first is None or order < first[0]:
                first = order, class_index, members
    if first is None or truth.class_index is None:
        return {"rank": 0, "precision": None, "recall": None}
    _, class_index, members = first
    flipped = carriers & (audited.pred == truth.class_index)
    precision = float(carriers[members].mean())
    right = class_index == truth.class_index and precision >= ABOUT
    recall = float((flipped & members).sum() / flipped.sum()) if flipped.any() else None
    return {"rank": int(right), "precision": precision, "recall": recall}
