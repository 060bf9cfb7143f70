"""The tables of the Sample page as HTML; every text of the run is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cache.fields import SampleField, class_title, sample_fields
from cache.manifest import Manifest
from cache.profiles import Standing
from cache.schema import META_PREFIX
from dashboard.field_help import field_text, help_html
from dashboard.ordering import number_text, percent_text
from dashboard.rendering import PALETTE
from dashboard.tiles import outcome_mark

Row = Mapping[str, Any]


def verdict_html(manifest: Manifest, row: Row) -> str:
    """Say in one line what the sample is and what it was taken for."""
    sign, colour = outcome_mark(row["correct"])
    predicted = escape(class_title(manifest.classes, row["pred"]))
    if row["correct"] is None:
        words = f"Predicted {predicted}"
    elif row["correct"]:
        words = f"Rightly predicted {predicted}"
    else:
        words = f"{escape(class_title(manifest.classes, row['label']))}, wrongly predicted {predicted}"
    return f'<div class="gl-verdict"><b style="background:{colour}">{sign}</b><span>{words}</span></div>'


def top_html(manifest: Manifest, row: Row) -> str:
    """Show the most probable classes as bars; the predicted and the true class have their colours."""
    lines = []
    for index, probability in zip(row["top_classes"] or [], row["top_probabilities"] or [], strict=True):
        colour = PALETTE.neutral
        if index == row["label"]:
            colour = PALETTE.right
        elif index == row["pred"] and row["correct"] is False:
            colour = PALETTE.wrong
        name = escape(class_title(manifest.classes, index))
        true = " <span class='gl-muted'>true</span>" if index == row["label"] else ""
        lines.append(
            f"<tr><td>{name}{true}</td><td style='width:45%'><div class='gl-bar'>"
            f"<i style='width:{100 * probability:.1f}%;background:{colour}'></i></div></td>"
            f"<td class='figure'>{percent_text(probability, 1)}</td></tr>"
        )
    return f'<table class="gl-table"><tbody>{"".join(lines)}</tbody></table>'


def facts_html(manifest: Manifest, row: Row) -> str:
    """List a sample's numbers and metadata."""
    lines = []
    for name, entry in sample_fields(manifest).items():
        if name in (
            "label",
            "pred",
            "correct",
            "labelled",
            "masked",
            "sample_id",
            "width",
            "height",
            "confidence",
        ):
            continue
        value = row.get(name)
        if value is None and not name.startswith(META_PREFIX):
            continue
        text = ("yes" if value else "no") if isinstance(value, bool) else number_text(value, entry.field.unit)
        lines.append((entry.field.title, text, _about(entry)))
    lines.append(("Original", f"{row['width']} × {row['height']} px", "Size of the upright original."))
    lines.append(("File", str(row["uri"]), "Where the original lies, below the dataset's root."))
    body = "".join(
        f'<tr><td class="name">{help_html(title, about)}</td><td>{escape(text)}</td></tr>'
        for title, text, about in lines
    )
    return f'<table class="gl-table"><tbody>{body}</tbody></table>'


def _about(entry: SampleField) -> str:
    """Say what a value means; of texts and answers there is no range to tell."""
    return field_text(entry.field) if entry.kind == "number" else entry.field.description


def standings_html(standings: Sequence[Standing]) -> str:
    """Show where each statistic stands in its class: value, place between lowest and highest, median."""
    lines = []
    for standing in standings:
        field = standing.field
        if standing.percentile is None:
            strip, place = "", "–"
        else:
            share = 100 * standing.percentile
            strip = f'<div class="gl-strip"><i style="left:{share:.1f}%"></i></div>'
            place = percent_text(standing.percentile)
        value, median = (
            "–" if number is None else escape(number_text(number, field.unit))
            for number in (standing.value, standing.median)
        )
        lines.append(
            f'<tr><td class="name">{help_html(field.title, field_text(field))}</td><td class="figure">{value}</td>'
            f'<td style="width:40%">{strip}</td><td class="figure">{place}</td><td class="figure">{median}</td></tr>'
        )
    head = (
        "<tr><th>Statistic</th><th class='figure'>Value</th><th>Lowest to highest of the class</th>"
        "<th class='figure'>Above</th><th class='figure'>Median</th></tr>"
    )
    return f'<table class="gl-table"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table>'
