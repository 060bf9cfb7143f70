"""What is said of findings, and of which samples: plain functions from a finding to words, numbers and filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cache.conditions import AllOf, Condition, Not, RegionMass
from cache.fields import class_title
from cache.filters import Filter
from cache.findings import Finding, Verdict
from cache.queries import Sort
from cache.regions import Region

KINDS = {"where": "A place", "what": "Like content", "who": "A rule"}
"""What a finding was found as."""


@dataclass(frozen=True)
class VerdictLook:
    """How a verdict is told: its sign and class of style, so that colour is never alone, and its meaning."""

    sign: str
    style: str
    meaning: str


VERDICTS: Mapping[Verdict, VerdictLook] = {
    "shortcut": VerdictLook(
        "!", "shortcut", "The model relies on it, it makes other images {name}, and it is not the object."
    ),
    "relied on": VerdictLook(
        "•", "relied", "The model relies on it; whether it belongs to {name} is for people to say."
    ),
    "refuted": VerdictLook("✓", "refuted", "The model hardly uses it: errors go with it for another reason."),
    "inconclusive": VerdictLook("?", "inconclusive", "The tests could not decide whether the model uses it."),
    "untested": VerdictLook("–", "untested", "Suspected: nobody has tested it on the images yet."),
}


def meaning(finding: Finding, classes: Sequence[str]) -> str:
    """Say what the verdict means, in a sentence."""
    return VERDICTS[finding.verdict].meaning.format(name=class_title(classes, finding.class_index))


def errors_text(finding: Finding) -> str:
    """Say how often its images are wrong against the rest of the class; empty where nobody knows."""
    here, rest = finding.evidence.get("error_rate"), finding.evidence.get("error_rate_rest")
    if here is None:
        return ""
    return f"{here:.0%} wrong" + ("" if rest is None else f", {rest:.0%} elsewhere")


def effect_text(finding: Finding) -> tuple[str, str]:
    """Return the effect, and its interval and q-value."""
    if finding.effect is None:
        return "–", "too few labels to tell"
    told = []
    if finding.ci is not None:
        told.append(f"95% {_points(finding.ci[0])} to {_points(finding.ci[1])}")
    if finding.q_value is not None:
        told.append(q_text(finding.q_value))
    if finding.evidence.get("by_other_classes"):
        told.append("against the most error-prone other class")
    return f"{_points(finding.effect)} pts", ", ".join(told)


def q_text(value: float) -> str:
    """Return a q-value."""
    return "q < 0.001" if value < 0.001 else f"q = {value:.3f}"


def share_text(value: float | None) -> str:
    """Return a share as whole per cent; a dash where it is not known."""
    return "–" if value is None else f"{value:.0%}"


def _points(value: float) -> str:
    return f"{100 * value:+.0f}".replace("-", "−")


def region_of(finding: Finding) -> Region | None:
    """Return the region of a finding, None where it has none."""
    return None if finding.box is None else Region.box(*finding.box)


def rest_of_class(finding: Finding) -> Filter | None:
    """Return the samples predicted to be of the class that are not of the finding; None where its filter is the class."""
    about, others = _parted(finding.filter)
    if not others:
        return None
    return Filter((*about, Not(others[0] if len(others) == 1 else AllOf(others))))


def class_of(finding: Finding) -> Filter:
    """Return the samples predicted to be of the class."""
    return Filter(_parted(finding.filter)[0])


def _parted(filter_: Filter) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """Part a finding's conditions into those on the prediction and the others."""
    about = tuple(c for c in filter_.conditions if c.subject == "pred")
    return about, tuple(c for c in filter_.conditions if c.subject != "pred")


def order_of(finding: Finding) -> Sort:
    """Return the order that shows a finding best: the most attention in its region first, else the surest prediction."""
    region = next((c for c in finding.filter.conditions if isinstance(c, RegionMass)), None)
    if region is not None:
        return Sort(descending=True, region=region)
    return Sort("confidence", descending=True)
