"""Candidates that mean the same samples become one, and the held-back half says what each is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.discovery.audited import Audited
from engine.discovery.candidates import CONTAINED, Candidate, same_samples
from engine.discovery.comparison import Comparison
from engine.discovery.extent import ALL_OVER
from engine.discovery.statistics import Effect
from engine.discovery.who import family_of

GOES_WITH_ERRORS = 0.01
"""A candidate found by being called the class goes with errors where Fisher's p on the discovery half is at most this."""
ALIKE_REGION = 0.3
"""A region that goes with being called the class alone is carried over from this likeness on: others are where the class's
own features lie."""
NAMED = 1.2
"""Weight of the score of a rule of one term of metadata, when one speaks for all that mean the same samples: it has a name."""
UNCLEAR = 0.6
"""Weight of a rule over statistics of maps: it describes how a map looks, not what is looked at."""
SPEAKS = 0.7
"""A region speaks for what means the same samples where it tells wrong predictions from right ones at least this share as well as
the best of them: stickers lie at one edge now and then, and that edge is not the story."""
BEYOND_THE_CLASS = 0.5
"""A value of metadata is said of a finding where it holds for more of its samples than of the class's by this part of what is left:
where five of six predictions of the class have snow, most groups of them have."""
MOST_A_CLASS = 4
"""Findings carried over for a class: so many about content, and so many about properties of the whole image."""
MOST_FINDINGS = 24
"""Findings carried over for a run: each costs the model's time to verify."""


@dataclass
class Merged:
    """Candidates that mean the same samples.

    Attributes:
        best: The one that speaks for all.
        others: The rest.
        effect: Of the best, on the held-back half.
        weight: How much it deserves a look; larger is more.
    """

    best: Candidate
    others: list[Candidate] = field(default_factory=list)
    effect: Effect = field(default_factory=lambda: Effect(None, None, 0, None, None, None, None))
    weight: tuple[float, ...] = ()

    @property
    def shows_as(self) -> tuple[str, ...]:
        """The properties by which the content shows in the whole image, the clearest first, one of each family."""
        told = [one for one in self.others if one.in_part and one.evidence.get("most_shown", 0.0) >= ALL_OVER]
        names: dict[object, str] = {}
        for one in sorted(told, key=lambda one: -one.score) if self.best.property is None else ():
            names.setdefault(family_of(one.property or ""), one.property or "")
        return tuple(names.values())

    @property
    def outcomes(self) -> set[str]:
        """What the candidates go with: ``wrong``, ``called``, ``alike``."""
        return {one.outcome for one in (self.best, *self.others)}


def worth_merging(
    audited: Audited, candidates: Sequence[Candidate], comparison: Comparison
) -> list[Candidate]:
    """Leave out regions that are where a class's own features lie: they go with being called it, and with nothing else."""
    kept = []
    for candidate in candidates:
        effect = comparison.measured(candidate, held_back=False)
        errors = effect.p_value is not None and effect.p_value <= GOES_WITH_ERRORS
        rule_without_labels = candidate.kind == "who" and not audited.labelled.any()
        alike = (candidate.likeness or 0) >= ALIKE_REGION
        if candidate.outcome != "called" or errors or rule_without_labels or alike:
            kept.append(candidate)
    return kept


def merge(audited: Audited, candidates: Sequence[Candidate]) -> list[Merged]:
    """Merge the candidates of one class that say the same of the same samples; the clearest speaks for them."""
    yardstick = {id(c): _clarity(audited, c) for c in candidates}
    parts = {id(c) for c in candidates if c.kind == "where" and _a_part(audited, c, candidates)}

    # A region is the clearest thing that can be said, and the only one that a person sees at once.
    # A property that shows in a part only speaks where no content does.
    def order(c: Candidate) -> tuple[bool, bool, bool, float]:
        return c.in_part, c.kind != "where" or id(c) in parts, c.outcome == "alike", -yardstick[id(c)]

    merged: list[Merged] = []
    for candidate in sorted(candidates, key=order):
        for one in merged:
            if _same_claim(candidate, one.best):
                one.others.append(candidate)
                break
        else:
            merged.append(Merged(candidate))
    return _told_by_name(audited, merged)


def _told_by_name(audited: Audited, merged: list[Merged]) -> list[Merged]:
    """Have a rule in the dataset's own words speak for several findings of which it holds: what they have in common has a name.

    Some of the images with snow may be told by how little of the map lies inside the object, others by their content; neither
    means the other's samples, and both are the snow. Only rules that go with errors themselves are left here. A region speaks for itself.
    """
    rules = [c for one in merged for c in (one.best, *one.others) if named(c)]
    for rule in sorted(rules, key=lambda c: -_clarity(audited, c)):
        told = [
            one.best.kind != "where" and (_among(rule, one) or _holds(audited, rule, one)) for one in merged
        ]
        if sum(told) > 1:
            united = [
                c
                for one, is_told in zip(merged, told, strict=True)
                if is_told
                for c in (one.best, *one.others)
            ]
            kept = [one for one, is_told in zip(merged, told, strict=True) if not is_told]
            merged = [*kept, Merged(rule, [c for c in united if c is not rule])]
    return merged


def _among(candidate: Candidate, one: Merged) -> bool:
    return any(candidate is other for other in (one.best, *one.others))


def _holds(audited: Audited, rule: Candidate, one: Merged) -> bool:
    """Tell whether a rule holds of a finding about content, and more than of the class that it is in."""
    best = one.best
    if best.property is not None:
        return False
    share = (rule.members & best.members).sum() / best.members.sum()
    usual = rule.members.sum() / (audited.pred == best.class_index).sum()
    # A value that all of the class have tells nothing of a part of it.
    return bool(usual < 1 and share >= CONTAINED and share - usual >= BEYOND_THE_CLASS * (1 - usual))


def _a_part(audited: Audited, region: Candidate, candidates: Sequence[Candidate]) -> bool:
    """Tell whether a region is a part of a larger story: others that mean its samples tell the errors much better."""
    others = [c for c in candidates if c.kind != "where" and not c.in_part and _same_claim(c, region)]
    best = max((_clarity(audited, c) for c in others if c.outcome != "alike"), default=0.0)
    told = _told(audited, region)
    return told is not None and told < SPEAKS * best


def named(candidate: Candidate) -> bool:
    """Tell whether a candidate is a rule of one term of metadata: it says in the dataset's own words what is wrong."""
    rule = candidate.kind == "who" and candidate.property is None and len(candidate.conditions) == 1
    return rule and "map_terms" not in candidate.evidence


def _clarity(audited: Audited, candidate: Candidate) -> float:
    """Return a score in which candidates of one class compare, whatever they were found by.

    Regions and properties by their own score. Groups and other rules by how well they tell wrong predictions of the class from right ones.
    """
    if candidate.kind == "where" or candidate.holds is not None:
        return candidate.score
    weight = 1.0
    if "map_terms" in candidate.evidence:
        weight = UNCLEAR
    elif named(candidate):
        weight = NAMED
    told = _told(audited, candidate)
    return weight * (candidate.score if told is None else told)


def _told(audited: Audited, candidate: Candidate) -> float | None:
    """Return how well a candidate tells wrong predictions of its class from right ones; None where nothing can be told."""
    rows = ~audited.held_back & audited.labelled & (audited.pred == candidate.class_index)
    inside, wrong = candidate.members[rows], audited.wrong[rows]
    n, hits, caught = len(inside), wrong.sum(), (inside & wrong).sum()
    size = inside.sum()
    if not n or not 0 < size < n or not 0 < hits < n:
        return None
    difference = caught / size - (hits - caught) / (n - size)
    share = hits / n
    return float(difference / np.sqrt(share * (1 - share) * (1 / size + 1 / (n - size))))


def _same_claim(first: Candidate, second: Candidate) -> bool:
    """Tell whether two candidates say the same of the same samples.

    What lies in images and a property of the whole of them are two claims even about the same samples, with two tests: a tint
    may go with what is looked at, and only imposing the tint tells. They are one where the property shows in a part of the
    images only: snow is bright, beside the object. Two properties that are imposed in different ways are two claims as
    well: a tint lowers the contrast.
    """
    if first.property is None or second.property is None:
        content = second if first.in_part else first
        in_part = (first.in_part or second.in_part) and content.kind != "who"
        same_kind = first.property == second.property or in_part
    else:
        same_kind = family_of(first.property) == family_of(second.property)
    return same_kind and same_samples(first.members, second.members)


def rank(audited: Audited, merged: Sequence[Merged]) -> list[Merged]:
    """Order what is carried over, the gravest first, and cut off what nobody would verify.

    First the findings whose effect excludes zero on the held-back half, by the errors that they explain for sure (lower limit
    of the effect × labelled samples), twice that where they also go with being called the class, and half as much again for
    content that is near-identical or lies outside the object. Then the others, by likeness, by score.
    """
    for one in merged:
        effect, best = one.effect, one.best
        sure = effect.low if effect.low is not None else 0.0
        labelled = int((best.members & audited.labelled).sum())
        suspicion = max(best.likeness or 0.0, best.evidence.get("outside_object", 0.0))
        lead = 2.0 if "called" in one.outcomes else 1.0
        harm = max(sure, 0.0) * labelled * lead * (1 + suspicion / 2)
        one.weight = (harm, best.likeness or 0.0, suspicion, best.score)
    ordered = sorted(merged, key=lambda one: one.weight, reverse=True)
    kept: list[Merged] = []
    for one in ordered:
        whole = one.best.property is not None
        same_class = sum(
            other.best.class_index == one.best.class_index and (other.best.property is not None) == whole
            for other in kept
        )
        if same_class < MOST_A_CLASS and len(kept) < MOST_FINDINGS:
            kept.append(one)
    return kept
