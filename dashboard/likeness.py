"""What Browse is ordered by likeness to, as the URL has it, and how people call the ways of being alike."""

from __future__ import annotations

from cache import profiles
from cache.similarity import KINDS, Kind, Likeness
from dashboard.data import ask
from dashboard.session import PageContext, param

LIKENESS_KEY = "likeness"
TITLES: dict[Kind, str] = {
    "attended": "What it looked at",
    "where": "Where it looked",
    "whole": "Whole image",
}
MEANINGS: dict[Kind, str] = {
    "attended": "the content that the model attended to, wherever it lies",
    "where": "the areas of the view that the model attended to",
    "whole": "the image as a whole, as the model's last layer sees it",
}


def likeness_param(sample_id: str, kind: Kind = "attended") -> str:
    """Return how the URL says what Browse is ordered by likeness to."""
    return f"{sample_id}:{kind}"


def likeness_asked() -> tuple[str, Kind] | None:
    """Return the sample and the kind that the URL names, whether or not the run has the sample."""
    sample_id, _, asked = param("similar").rpartition(":")
    kind = next((known for known in KINDS if known == asked), None)
    return (sample_id, kind) if sample_id and kind else None


def likeness_of_url(context: PageContext) -> Likeness | None:
    """Return what Browse is ordered by likeness to; None without one, and where the run has no such sample."""
    asked = likeness_asked()
    if asked is None or ask(context.catalog, profiles.sample, asked[0]) is None:
        return None
    return Likeness(*asked)


def likeness_text(value: float | None) -> str:
    """Write how alike two samples are."""
    return "likeness unknown" if value is None else f"{value:.2f} alike"
