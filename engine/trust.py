"""Trust in each map: numbers that a method knows about its own map, stored beside what the map measures."""

from __future__ import annotations

from collections.abc import Iterable

from cache.schema import AGREEMENT, Field
from engine.attribution.registry import MethodRequest

SURROGATE_R2 = Field(
    "surrogate_r2",
    "Local fit (R²)",
    "",
    None,
    1,
    "lower",
    "How well the linear surrogate explains the scores around the image, weighted as it was fitted.",
    "1 − Σ w (f − g)² / Σ w (f − f̄)²",
    "A low value suggests that its weights say little, a high one that they tell how the network scores nearby.",
)
ADDITIVITY_ERROR = Field(
    "additivity_error",
    "Additivity error",
    "",
    0,
    None,
    "higher",
    "How far the shares of a map fail to add up to the score they explain.",
    "|φ₀ + Σ φ − f(x)|, φ₀ the score of the baseline",
    "A high value suggests that they are unreliable.",
)
SEED_SPREAD = Field(
    "seed_spread",
    "Spread over seeds",
    "",
    0,
    1,
    "higher",
    "Share of the mass that moves when the draws are repeated with other seeds.",
    "mean over seeds of ½ Σ |p_s − p̄|",
    "A high value suggests too few samples: the map depends on the draw.",
)
AGREEMENT_FIELD = Field(
    AGREEMENT,
    "Agreement",
    "",
    -1,
    1,
    "lower",
    "Mean rank correlation of the map's grid with those of the run's other methods.",
    "mean over methods of Spearman's ρ of the cells of p",
    "A low value suggests that the methods tell different stories, a high one that they look at the same place.",
)
TRUST = {field.name: field for field in (SURROGATE_R2, ADDITIVITY_ERROR, SEED_SPREAD)}
"""Numbers that methods fill themselves, by name."""


def trust_names(request: MethodRequest) -> tuple[str, ...]:
    """Return the numbers of `TRUST` that come with the maps of a request."""
    seeds = request.parameters.get("seeds", 1)
    repeated = ("seed_spread",) if isinstance(seeds, int) and seeds > 1 else ()
    return (*request.method.trust, *repeated)


def trust_fields(requests: Iterable[MethodRequest]) -> list[Field]:
    """Return the fields that the maps of some requests fill, besides what every map measures."""
    wanted = list(requests)
    named = {name for request in wanted for name in trust_names(request)}
    fields = [field for name, field in TRUST.items() if name in named]
    return [*fields, AGREEMENT_FIELD] if len(wanted) > 1 else fields
