"""Who: short rules over image statistics, map statistics and metadata that select samples with a raised error rate.

A beam search over quantile cuts and values, three terms at most. Each permutation of the outcome goes through the same search,
so that a rule is held against the best rule that chance could have found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.conditions import Condition, Is, OneOf, Range
from engine.discovery.audited import Audited, Column
from engine.discovery.candidates import LEAST_MEMBERS, Candidate, Question, questions, same_samples
from engine.discovery.statistics import FAMILYWISE, familywise, score
from engine.interventions import IMPOSE

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Numbers are cut at these quantiles of the population."""
FINE_CUTS = tuple(k / 100 for k in range(1, 100))
"""Quantiles at which the cuts of the rule that was found are set in the end."""
MOST_TERMS = 3
"""Terms of a rule: more do not read as a sentence."""
BEAM = 6
"""Rules of one length that longer ones are built from."""
WORTH_A_TERM = 1.2
"""A longer rule must score this many times as well as the shorter one: short rules are understood."""
RULE_ROWS = 2_000
"""Samples of a population that rules are searched on."""
RULE_PERMUTATIONS = 100
"""Permuted outcomes that go through the search: p-values are multiples of 1/101."""
LEAST_SUPPORT = 0.1
"""A rule is proposed where it holds for at least this share of the predictions of the class."""
LEAST_LIFT = 1.5
"""A rule is proposed where the outcome is at least this many times as frequent under it."""
MOST_RULES = 2
"""Rules proposed for a class and outcome."""


@dataclass(frozen=True)
class Term:
    """One term of a rule: its condition, how it reads, and which samples of the run meet it."""

    condition: Condition
    text: str
    column: Column
    holds: NDArray[np.bool_]

    @property
    def upwards(self) -> bool:
        """Whether it bounds a number from below."""
        return isinstance(self.condition, Range) and self.condition.low is not None


def terms(audited: Audited, rows: NDArray[np.int64], origins: tuple[str, ...]) -> list[Term]:
    """Return every term: cuts at quantiles of a population, and values."""
    made = []
    for column in audited.columns:
        if column.origin not in origins:
            continue
        for term in _levels(column) if column.levels else _cuts(column, rows):
            n = int(term.holds[rows].sum())
            if LEAST_MEMBERS <= n < len(rows):
                made.append(term)
    return made


def _levels(column: Column) -> list[Term]:
    made = []
    for code, level in enumerate(column.levels):
        holds = column.values == code
        if isinstance(level, bool):
            text = column.title if level else f"no {column.title}"
            made.append(Term(Is(column.name, level), text, column, holds))
        else:
            made.append(Term(OneOf(column.name, (level,)), f"{column.title} {level}", column, holds))
    return made


def _cuts(column: Column, rows: NDArray[np.int64], quantiles: tuple[float, ...] = CUTS) -> list[Term]:
    values = column.values[rows]
    values = values[np.isfinite(values)]
    if len(values) < 2 * LEAST_MEMBERS or values.min() == values.max():
        return []
    # Statistics of maps are those of the default method, asked for by the target.
    target = "pred" if column.origin == "map" else None
    made = []
    for bound in np.unique(np.quantile(values, quantiles)).tolist():
        # Few digits, so that the rule reads well; the samples follow from the rounded bound.
        cut = float(f"{bound:.3g}")
        stored = float(np.float32(cut)) if column.single else cut
        for low, high, word in ((cut, None, "at least"), (None, cut, "at most")):
            with np.errstate(invalid="ignore"):
                holds = column.values >= stored if high is None else column.values <= stored
            title = column.title[:1].lower() + column.title[1:]
            condition = Range(column.name, low, high, None, target)
            made.append(Term(condition, f"{title} {word} {cut:.3g}", column, holds))
    return made


Rule = tuple[int, ...]


def search(
    held: NDArray[np.float32], owner: NDArray[np.int64], outcomes: NDArray[np.float32]
) -> tuple[Rule, float, NDArray[np.float64]]:
    """Search rules for an outcome, and for its permutations in the same way.

    Args:
        held: Which terms each sample meets, (n, terms).
        owner: The column and direction that each term is about: a rule has one term of each at most.
        outcomes: The outcome and its permutations, one a column.

    Returns:
        The best rule with its score, and the largest score of each permutation.
    """
    singles = _scores(held, outcomes)
    rule, value = _longest(held, owner, outcomes[:, 0], singles[:, 0])
    # What rules of one term reach by chance, longer ones exceed: a rule that fails against those need not wait for these.
    shortest = singles[:, 1:].max(axis=0)
    if familywise(np.array([value]), shortest)[0] > FAMILYWISE:
        return rule, value, shortest
    permuted = range(1, outcomes.shape[1])
    largest = [_longest(held, owner, outcomes[:, k], singles[:, k])[1] for k in permuted]
    return rule, value, np.array(largest)


def _longest(
    held: NDArray[np.float32],
    owner: NDArray[np.int64],
    outcome: NDArray[np.float32],
    singles: NDArray[np.float64],
) -> tuple[Rule, float]:
    """Return the best rule for an outcome that is as long as its terms are worth, with its score."""
    beam: list[tuple[Rule, float]] = [((int(t),), float(singles[t])) for t in np.argsort(-singles)[:BEAM]]
    best = beam[0]
    for _ in range(MOST_TERMS - 1):
        beam = _extend(held, owner, outcome, beam)
        if not beam or beam[0][1] < WORTH_A_TERM * best[1]:
            break
        best = beam[0]
    return best


def _extend(
    held: NDArray[np.float32],
    owner: NDArray[np.int64],
    outcome: NDArray[np.float32],
    beam: list[tuple[Rule, float]],
) -> list[tuple[Rule, float]]:
    found: dict[Rule, float] = {}
    for rule, _ in beam:
        inside = held[:, list(rule)].all(axis=1)
        # Only samples that meet the rule can meet a longer one; the others count as not meeting it.
        counts = held[inside].sum(axis=0, dtype=np.float64)
        caught = outcome[inside] @ held[inside]
        values = _values(caught[:, None].astype(np.float64), counts, float(outcome.sum()), len(outcome))[:, 0]
        for t in rule:
            values[owner == owner[t]] = -np.inf
        for t in np.argsort(-values)[:BEAM].tolist():
            if np.isfinite(values[t]):
                found[tuple(sorted((*rule, t)))] = float(values[t])
    return sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:BEAM]


def _scores(held: NDArray[np.float32], outcomes: NDArray[np.float32]) -> NDArray[np.float64]:
    hits = float(outcomes[:, 0].sum())
    return _values(
        (held.T @ outcomes).astype(np.float64), held.sum(axis=0, dtype=np.float64), hits, len(held)
    )


def _values(
    caught: NDArray[np.float64], counts: NDArray[np.float64], hits: float, n: int
) -> NDArray[np.float64]:
    """Return the score test of the outcome inside and outside each term; −∞ where too few samples are inside."""
    share = counts / n
    deviation = np.sqrt(np.maximum(share * (1 - share), 1e-12))
    values = score(caught, counts, deviation, int(hits), n)
    values[(counts < LEAST_MEMBERS) | (counts >= n)] = -np.inf
    return values


def find_who(audited: Audited, class_index: int) -> list[Candidate]:
    """Return the rules worth testing for a class."""
    found = []
    for question in questions(audited, class_index, np.ones(audited.n, dtype=bool)):
        asked = question
        # Where labels are known, a rule that leads to a class is one that calls other things by its name: what the
        # class itself has in common (foxes are orange) is no reason for suspicion.
        if question.outcome == "called" and audited.labelled.any():
            others = audited.labelled[question.rows] & (audited.label[question.rows] != class_index)
            asked = Question(class_index, "called", question.rows[others], question.happened[others])
            if min(asked.happened.sum(), (~asked.happened).sum()) < LEAST_MEMBERS:
                continue
        found += _rules(audited, asked)
    return found


def _rules(audited: Audited, question: Question) -> list[Candidate]:
    rng = audited.rng("who", question.outcome, question.class_index)
    rows, happened = question.rows, question.happened
    if len(rows) > RULE_ROWS:
        kept = np.sort(rng.choice(len(rows), RULE_ROWS, replace=False))
        rows, happened = rows[kept], happened[kept]
    hits = int(happened.sum())
    if min(hits, len(rows) - hits) < 3:
        return []
    # Map statistics of another prediction say where another class lies: only images and metadata compare across classes.
    origins = ("image", "meta") if question.outcome == "called" else ("image", "meta", "map")
    available = terms(audited, rows, origins)
    asked = Question(question.class_index, question.outcome, rows, happened)
    permuted = [rng.permutation(happened) for _ in range(RULE_PERMUTATIONS)]
    outcomes = np.column_stack([happened, *permuted]).astype(np.float32)
    found: list[Candidate] = []
    rest = available
    while rest and len(found) < MOST_RULES:
        chosen, candidate = _best(audited, question, asked, outcomes, rest)
        if not chosen:
            break
        found += [candidate] if candidate is not None else []
        used = {term.column.name for term in chosen}
        rest = [term for term in rest if term.column.name not in used]
    if question.outcome == "called":
        found += _by_property(audited, question, asked, outcomes, available, found)
    return found


def _by_property(
    audited: Audited,
    question: Question,
    asked: Question,
    outcomes: NDArray[np.float32],
    available: list[Term],
    found: list[Candidate],
) -> list[Candidate]:
    """Return rules that say in another property of the whole image what one of the found says.

    A tint lowers the contrast, and the contrast may tell the false calls best; but only imposing the one and the other shows
    which of the two the model uses.
    """
    properties = [one for one in found if one.property is not None]
    if not properties:
        return []
    families: dict[object, list[Term]] = {}
    for term in available:
        if term.column.origin == "image":
            families.setdefault(family_of(term.column.name), []).append(term)
    for one in properties:
        if len({family_of(name) for name in _fields(one)}) == 1:
            families.pop(family_of(one.property or ""), None)
    more = []
    for family in families.values():
        _, candidate = _best(audited, question, asked, outcomes, family)
        if candidate is not None and any(same_samples(candidate.members, one.members) for one in properties):
            more.append(candidate)
    return more


def _fields(candidate: Candidate) -> list[str]:
    return [c.field for c in candidate.conditions if isinstance(c, Range)]


def family_of(name: str) -> object:
    """Return what image statistics share that are imposed in the same way: hue and saturation are both the colours."""
    return IMPOSE.get(name, name)


def _best(
    audited: Audited,
    question: Question,
    asked: Question,
    outcomes: NDArray[np.float32],
    available: list[Term],
) -> tuple[list[Term], Candidate | None]:
    """Return the best rule made of some terms, and the candidate that it makes; no terms where chance does as well.

    Args:
        audited: The run.
        question: What is asked, over its whole population.
        asked: The same over the samples that are searched.
        outcomes: Their outcome and its permutations, one a column.
        available: The terms.
    """
    held = np.column_stack([term.holds[asked.rows] for term in available]).astype(np.float32)
    keys = [(term.column.name, term.upwards) for term in available]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    rule, value, largest = search(held, np.array([numbers[key] for key in keys]), outcomes)
    p_value = float(familywise(np.array([value]), largest)[0])
    if p_value > FAMILYWISE:
        return [], None
    chosen = _refined([available[t] for t in rule], asked.rows, asked.happened)
    return chosen, _candidate(audited, question, chosen, value, p_value)


def _refined(chosen: list[Term], rows: NDArray[np.int64], happened: NDArray[np.bool_]) -> list[Term]:
    """Move each cut of a rule, by hundredths of the population, to where the rule tells the outcome best."""
    outcome = happened.astype(np.float32)
    for i, term in enumerate(chosen):
        condition = term.condition
        if not isinstance(condition, Range):
            continue
        tried = [other for other in _cuts(term.column, rows, FINE_CUTS) if other.upwards == term.upwards]
        rest = [other.holds[rows] for k, other in enumerate(chosen) if k != i]
        held = np.column_stack(
            [np.logical_and.reduce([*rest, other.holds[rows]]) for other in (term, *tried)]
        )
        scores = _scores(held.astype(np.float32), outcome[:, None])[:, 0]
        chosen[i] = (term, *tried)[int(scores.argmax())]
    return chosen


def _conditions(chosen: list[Term]) -> tuple[Condition, ...]:
    """Return the conditions of a rule; two bounds of one field are one condition."""
    made: dict[str, Condition] = {}
    for term in chosen:
        condition, before = term.condition, made.get(term.column.name)
        if isinstance(condition, Range) and isinstance(before, Range):
            low = condition.low if before.low is None else before.low
            high = condition.high if before.high is None else before.high
            condition = replace(condition, low=low, high=high)
        made[term.column.name] = condition
    return tuple(made.values())


def _texts(chosen: list[Term]) -> list[str]:
    """Return how the terms of a rule read; the second bound of a field does not name it again."""
    said: list[str] = []
    named: set[str] = set()
    for term in sorted(
        chosen, key=lambda term: [other.column.name for other in chosen].index(term.column.name)
    ):
        title = term.column.title[:1].lower() + term.column.title[1:]
        said.append(term.text.removeprefix(f"{title} ") if term.column.name in named else term.text)
        named.add(term.column.name)
    return said


def _candidate(
    audited: Audited, question: Question, chosen: list[Term], value: float, p_value: float
) -> Candidate | None:
    holds = np.logical_and.reduce([term.holds for term in chosen])
    inside, happened = holds[question.rows], question.happened
    rate, other = float(happened[inside].mean()), float(happened.mean())
    if rate < LEAST_LIFT * other:
        return None
    called = audited.pred == question.class_index
    members = holds & called
    here = ~audited.held_back
    if (members & here).sum() < max(LEAST_MEMBERS, LEAST_SUPPORT * (called & here).sum()):
        return None
    images = [term.column.name for term in chosen if term.column.origin == "image"]
    evidence = {"support": float(inside.mean()), "lift": rate / other if other else float("nan")}
    if any(term.column.origin == "map" for term in chosen):
        evidence["map_terms"] = float(sum(term.column.origin == "map" for term in chosen))
    whole = images[0] if len(images) == len(chosen) else None
    by_calls = whole is not None and question.outcome == "called" and audited.labelled.any()
    if by_calls:
        evidence["by_false_calls"] = 1.0  # what the effect is measured by
    return Candidate(
        "who",
        question.class_index,
        question.outcome,
        members,
        value,
        p_value,
        _conditions(chosen),
        says="with " + " and ".join(_texts(chosen)),
        property=whole,
        holds=holds
        if whole is not None and question.outcome == "called" and audited.labelled.any()
        else None,
        evidence=evidence,
    )
