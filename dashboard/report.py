"""The report: one HTML file that says what an audit found and opens anywhere, without internet.

It has no script and asks for nothing: pictures are in it, figures are drawn into it, and its content policy forbids
the rest. Jinja escapes every text; only drawings of `dashboard.report_figures` and the style sheet go in as they are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cache import queries
from cache.catalog import Catalog
from cache.disk import storage_errors
from cache.errors import ConfigError
from cache.filters import Filter, Is
from cache.findings import load_findings
from cache.intervals import wilson
from cache.progress import Progress, steps
from cache.reviews import Reviews
from cache.summaries import Totals, summary_sentences
from dashboard.confusions import confusion_view
from dashboard.fact_text import known_facts, short_text
from dashboard.rendering import data_url, emblem, image_bytes
from dashboard.report_content import Asked, Gatherer, Section
from dashboard.report_figures import confusion_svg, reliability_svg
from dashboard.report_pictures import scale_url

TEMPLATES = Path(__file__).resolve().parent / "templates"
GENERATOR = b'<meta name="generator" content="Gazelake">'
MATRIX_CLASSES = 20
TABLE_CLASSES = 40
SHOWN_FAILURES = 8


@dataclass(frozen=True)
class Contents:
    """What a report holds besides the run's summary.

    Attributes:
        title: Its heading; empty for the run's name.
        selections: Selections, first.
        findings: Whether the findings follow.
        views: Whether the saved views follow.
        reviews: Whether a section shows what reviewers said of images.
    """

    title: str = ""
    selections: tuple[Asked, ...] = ()
    findings: bool = True
    views: bool = True
    reviews: bool = True


def build_report(
    catalog: Catalog, reviews: Reviews, contents: Contents | None = None, progress: Progress | None = None
) -> str:
    """Return the report of a run as HTML.

    Args:
        catalog: The run.
        reviews: Its reviews.
        contents: What goes in; everything there is unless it says otherwise.
        progress: Told how many parts of how many are done; raising in it cancels.

    Raises:
        FilterError: A selection names something that the run does not have.
        RunDamagedError: A part of the run cannot be read.
        ReviewStoreError: The reviews cannot be read.
    """
    asked = contents or Contents()
    gatherer = Gatherer(catalog, reviews)
    found = load_findings(catalog.run).findings
    views = gatherer.views() if asked.views else []
    total = 3 + len(asked.selections) + len(views) + (len(found) if asked.findings else 0)
    step = steps(total, progress)

    def sections(selections: Sequence[Asked], kind: str) -> list[Section]:
        shown = []
        for number, one in enumerate(selections, 1):
            shown.append(gatherer.selection(one, number, kind))
            step()
        return shown

    findings, notices, discovered = gatherer.findings(step) if asked.findings else ([], [], True)
    totals = Totals.of(catalog)
    sentences = summary_sentences(found, totals, catalog.classes) if discovered or found else ()
    values: dict[str, Any] = {
        "title": gatherer.said(asked.title or catalog.manifest.name),
        "run_name": gatherer.said(catalog.manifest.name),
        "made": datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        "summary": [gatherer.said(sentence) for sentence in sentences],
        "selections": sections(asked.selections, "selection"),
        "views": sections(views, "view"),
        "findings": findings,
        "with_findings": asked.findings,
        "discovered": discovered,
        "finding_notices": notices,
        **_overview(catalog),
    }
    step()
    tiles, marked = gatherer.reviewed() if asked.reviews else ([], 0)
    values |= {
        "reviewed": tiles,
        "marked": marked,
        "review_counts": gatherer.review_counts() if asked.reviews else {},
    }
    step()
    values |= _provenance(gatherer)
    values["mistakes"] = None
    if not asked.selections and gatherer.whole.wrong:
        worst = Asked(Filter((Is("correct", False),)), "The surest mistakes")
        values["mistakes"] = gatherer.selection(worst, 1, "mistakes")
    values |= {"icon": data_url(image_bytes(np.asarray(emblem())), "image/webp"), "scale": scale_url()}
    html = str(_template().render(values))
    step()
    return html


def write_report(html: str, target: str | os.PathLike[str]) -> int:
    """Write a report in one step; return its size in bytes. An older report is replaced, another file never.

    Raises:
        ConfigError: Something else lies there, or there is no such folder.
        RunStorageError: The disk refuses.
    """
    path = check_report_target(target)
    data = html.encode("utf-8", "replace")
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.writing")
    try:
        with storage_errors(path.parent):
            temporary.write_bytes(data)
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return len(data)


def check_report_target(target: str | os.PathLike[str]) -> Path:
    """Return where a report may be written.

    Raises:
        ConfigError: Something that is no report lies there, or there is no such folder.
    """
    path = Path(target)
    try:
        if not path.parent.is_dir():
            raise ConfigError(
                f"There is no folder {path.parent} to write the report into: make it, or name another with -o."
            )
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file for the report with -o.")
        if path.exists():
            with open(path, "rb") as file:
                if GENERATOR not in file.read(1000):
                    raise ConfigError(f"{path} exists and is no report: name another file with -o.")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}): name another file with -o."
        ) from error
    return path


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    environment.filters["day"] = lambda time: f"{time:%-d %b %Y}"
    return environment.get_template("report.html")


def _overview(catalog: Catalog) -> dict[str, Any]:
    """Return the headline, the confusions, the reliability and the classes of a run."""
    everything = Filter()
    counts = queries.count(catalog, everything)
    failed = queries.errors(catalog)
    pairs = queries.confusion(catalog, everything)
    label, pred, n = (pairs[column].to_numpy() for column in ("label", "pred", "n"))
    view = confusion_view(label, pred, n, catalog.classes, MATRIX_CLASSES)
    accuracy = wilson(counts.right, counts.labelled)
    known = counts.labelled > 0
    metrics = [("Images", f"{counts.n:,}", f"{len(catalog.classes):,} classes")]
    if known:
        metrics += [
            (
                "Accuracy",
                f"{float(accuracy.estimate):.1%}",
                f"{float(accuracy.low):.1%} to {float(accuracy.high):.1%}",
            ),
            ("Wrong", f"{counts.wrong:,}", f"of {counts.labelled:,} labelled"),
        ]
    else:
        metrics.append(("Accuracy", "–", "no labels"))
    metrics.append(
        (
            "Failures",
            f"{failed.num_rows:,}",
            "could not be explained" if failed.num_rows else "every image was explained",
        )
    )
    return {
        "metrics": metrics,
        "labelled": known,
        "confusion": confusion_svg(view) if known else None,
        "confusion_note": _confusion_note(view) if known else "",
        **_reliability(catalog, known),
        **_classes(catalog, known),
        "failures": [
            (kind.replace("_", " "), n)
            for kind, n in failed.to_pandas()["kind"].value_counts().head(SHOWN_FAILURES).items()
        ],
    }


def _confusion_note(view: Any) -> str:
    if view.classes_met > len(view.classes):
        return (
            f"The {len(view.classes)} classes of the most frequent confusions, out of {view.classes_met:,}: "
            f"{view.errors_shown:,} of {view.errors:,} errors."
        )
    return f"All {view.errors:,} errors; each row adds up to its class."


def _reliability(catalog: Catalog, known: bool) -> dict[str, Any]:
    if not known:
        return {"reliability": None, "calibration": 0.0, "overconfident": True}
    table = queries.reliability(catalog, Filter())
    low, high, n = (table[name].to_numpy() for name in ("low", "high", "n"))
    confidence, accuracy = (
        table[name].to_numpy(zero_copy_only=False).astype(float) for name in ("mean_confidence", "accuracy")
    )
    right = np.rint(np.nan_to_num(accuracy) * n)
    gap = float(np.nansum((confidence - accuracy) * n))
    return {
        "reliability": reliability_svg(low, high, n, confidence, right),
        "calibration": queries.expected_calibration_error(table) or 0.0,
        "overconfident": gap > 0,
    }


def _classes(catalog: Catalog, known: bool) -> dict[str, Any]:
    rows = queries.per_class(catalog, Filter()).to_pylist()
    names = {row["class"]: row["name"] for row in rows}
    if known:
        rows.sort(key=lambda row: (row["recall"] is None, row["recall"] or 0.0, row["name"]))
    else:
        rows.sort(key=lambda row: -row["predicted"])
    for row in rows:
        row["confused_name"] = names.get(row["most_confused_with"], "")
        row["wrong"] = 0 if row["recall"] is None else round(row["n"] * (1 - row["recall"]))
    return {"classes": rows[:TABLE_CLASSES], "class_count": len(rows)}


def _provenance(gatherer: Gatherer) -> dict[str, Any]:
    """Return how the run was made, as titles with rows of facts."""
    data = gatherer.privacy.manifest(gatherer.manifest)
    dataset = {key: value for key, value in data["dataset"].items() if key not in ("root", "config")}
    run = {
        "name": data["name"],
        "run": data["run_id"],
        "generation": data["generation"],
        "created": data["created"],
        "updated": data["updated"],
        "state": data["state"],
        "schema version": data["schema_version"],
    }
    groups = [
        ("Run", run),
        ("Data", dataset),
        ("Model", data["model"]),
        ("Preprocessing", data["preprocessing"]),
        ("Software", data["versions"]),
    ]
    return {
        "facts": [(title, rows) for title, found in groups if (rows := known_facts(found))],
        "methods": [
            {
                "title": str(entry.get("title", name)),
                "name": name,
                "family": str(entry.get("family", "")),
                "parameters": short_text(entry.get("parameters") or {}),
                "reference": str(entry.get("reference", "")),
            }
            for name, entry in data["methods"].items()
        ],
        "history": [known_facts(entry) for entry in data["history"]],
        "notices": data["notices"],
    }
