"""Filters as sentences: what a person would say of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cache.conditions import AllOf, AnyOf, Condition, InGroup, Is, Not, OneOf, Range, RegionMass, Scalar, Text
from cache.contrasts import RegionContrast
from cache.errors import FilterError
from cache.fields import (
    CLASS_FIELDS,
    class_index,
    class_title,
    is_statistic,
    quote,
    sample_fields,
    statistic_fields,
)
from cache.manifest import Manifest
from cache.map_areas import InProjection
from cache.regions import percent
from cache.review_condition import Reviewed
from cache.schema import META_PREFIX, TARGET_TRUE, Field

MAX_LISTED = 6


def describe(conditions: Sequence[Condition], manifest: Manifest) -> str:
    """Say which samples meet all the conditions."""
    rest = list(conditions)
    noun = "samples"
    outcome = next(
        (c for c in rest if isinstance(c, Is) and c.field == "correct" and c.value is not None), None
    )
    predicted = next(
        (c for c in rest if isinstance(c, OneOf) and c.field == "pred" and None not in c.values), None
    )
    if outcome is not None:
        noun = "right predictions" if outcome.value else "wrong predictions"
    elif predicted is not None:
        noun = "predictions"
    if predicted is not None:
        noun += f" of {_any_of(_values(predicted, manifest))}"
    label = next(
        (c for c in rest if isinstance(c, OneOf) and c.field == "label" and None not in c.values), None
    )
    if label is not None and noun == "samples":
        noun = f"samples of {_any_of(_values(label, manifest))}"
        rest.remove(label)
    rest = [c for c in rest if c is not outcome and c is not predicted]
    if not rest:
        return "all samples" if noun == "samples" else noun
    return f"{noun} {join_clauses([clause(c, manifest) for c in rest])}"


def join_clauses(clauses: Sequence[str]) -> str:
    """Join what is said of the samples, saying a common first word ("with", "whose") once where clauses are plain."""
    groups: dict[str, list[str]] = {}
    for text in clauses:
        lead, _, tail = text.partition(" ")
        plain = lead in ("with", "whose", "without") and not any(
            word in text for word in (" or ", " either ")
        )
        groups.setdefault(lead if plain else text, []).append(tail if plain else "")
    said = []
    for lead, tails in groups.items():
        said.append(
            lead if tails == [""] else f"{lead} {_listed(tails, 'or' if lead == 'without' else 'and')}"
        )
    return _listed(said, "and") if len(said) > 2 else " and ".join(said) if _mixed(said) else " ".join(said)


def _mixed(said: Sequence[str]) -> bool:
    """Tell whether two clauses need an "and" between them: "in the test split with …" reads well without."""
    return len(said) == 2 and not said[0].startswith(("in the split", "whose label"))


def clause(condition: Condition, manifest: Manifest) -> str:  # noqa: PLR0911, PLR0912 - one return a kind
    """Say one condition so that it continues "samples …"."""
    match condition:
        case OneOf():
            return _one_of(condition, manifest, negated=False)
        case Is():
            return _is(condition, manifest)
        case Text(name, contains):
            return f"whose {_lower_title(name, manifest)} contains {quote(contains)}"
        case Range() | RegionMass() | RegionContrast():
            return f"with {_bounded(condition, manifest)}"
        case InGroup(_, group):
            return f"in group {group} of like attended content"
        case InProjection() | Reviewed():
            return condition.sentence()
        case AnyOf(conditions):
            return "either " + " or ".join(_nested(c, manifest) for c in conditions)
        case AllOf(conditions):
            return " and ".join(_nested(c, manifest) for c in conditions)
        case Not(OneOf() as inner):
            return _one_of(inner, manifest, negated=True)
        case Not(Is(name, bool(value), method, target)):
            return _is(Is(name, not value, method, target), manifest)
        case Not(Range() | RegionMass() | RegionContrast() as inner):
            return f"without {_bounded(inner, manifest)}"
        case Not(Text(name, contains)):
            return f"whose {_lower_title(name, manifest)} does not contain {quote(contains)}"
        case Not(InGroup(_, group)):
            return f"outside group {group} of like attended content"
        case Not(InProjection() | Reviewed() as inner):
            return inner.sentence(negated=True)
        case Not(inner):
            return f"that are not ({clause(inner, manifest)})"


def _nested(condition: Condition, manifest: Manifest) -> str:
    text = clause(condition, manifest)
    return f"({text})" if isinstance(condition, AnyOf | AllOf) else text


def _values(condition: OneOf, manifest: Manifest) -> list[str]:
    if condition.field not in CLASS_FIELDS:
        return ["unknown" if value is None else str(value) for value in condition.values]
    named = []
    for value in condition.values:
        try:
            named.append(
                "unknown"
                if value is None
                else class_title(manifest.classes, class_index(manifest.classes, value))
            )
        except FilterError:
            # The sentence of a filter that does not fit the run still says what was asked for.
            named.append(quote(value))
    return named


def _one_of(condition: OneOf, manifest: Manifest, negated: bool) -> str:
    values = _values(condition, manifest)
    said = _any_of(values)
    if condition.field == "pred":
        return f"not predicted {said}" if negated else f"predicted {said}"
    if condition.field == "label" and values == ["unknown"]:
        return "with a label" if negated else "without a label"
    if condition.field == "split" and "unknown" not in values:
        splits = f"split{'s' if len(values) > 1 else ''} {said}"
        return f"outside the {splits}" if negated else f"in the {splits}"
    if negated and len(values) > 1:
        return f"whose {_lower_title(condition.field, manifest)} is neither {_listed(values, 'nor')}"
    return f"whose {_lower_title(condition.field, manifest)} is {'not ' if negated else ''}{said}"


def _is(condition: Is, manifest: Manifest) -> str:
    phrases: dict[str, tuple[str, str, str]] = {
        "correct": (
            "that are predicted right",
            "that are predicted wrong",
            "of which nobody knows whether they are right",
        ),
        "labelled": ("with a label", "without a label", "that may have a label"),
        "masked": ("with a known object", "without a known object", "that may have a known object"),
    }
    if condition.field == "degenerate":
        shown = _map_title(condition.method, condition.target, manifest)
        phrase = (f"whose {shown} map is empty", f"whose {shown} map is not empty", f"without a {shown} map")
    elif condition.field in phrases:
        phrase = phrases[condition.field]
    else:
        title = _lower_title(condition.field, manifest)
        phrase = (f"with {title}", f"without {title}", f"whose {title} is unknown")
    return phrase[2] if condition.value is None else phrase[0] if condition.value else phrase[1]


def _bounded(condition: Range | RegionMass | RegionContrast, manifest: Manifest) -> str:
    if isinstance(condition, RegionContrast):
        return _contrasted(condition, manifest)
    if isinstance(condition, RegionMass):
        amount = _between(condition.low, condition.high, _share, "%")
        shown = _map_title(condition.method, condition.target, manifest)
        return f"{amount} of {shown} in {condition.region.sentence()}"
    statistic = is_statistic(manifest, condition.field, condition.method, condition.target)
    fields = (
        statistic_fields(manifest) if statistic else {k: f.field for k, f in sample_fields(manifest).items()}
    )
    declared = fields.get(condition.field)
    title = _title_of(declared, condition.field)
    if statistic:
        title += f" of {_map_title(condition.method, condition.target, manifest)}"
    unit = f" {declared.unit}" if declared is not None and declared.unit else ""
    return f"{title} {_between(condition.low, condition.high, _number, unit)}"


def _contrasted(condition: RegionContrast, manifest: Manifest) -> str:
    more, less = (
        _map_title(method, target, manifest)
        for method, target in (
            (condition.method, condition.target),
            (condition.than_method, condition.than_target),
        )
    )
    if condition.target not in (condition.than_target, TARGET_TRUE):
        more += " for the predicted class"
    elif condition.target != condition.than_target:
        less += " for the predicted class"
    return f"at least {_share(condition.least)} points more of {more} than of {less} in {condition.region.sentence()}"


def _between(low: Scalar | None, high: Scalar | None, written: Callable[[Scalar], str], unit: str) -> str:
    if low is None:
        return f"at most {written(high)}{unit}" if high is not None else ""
    if high is None:
        return f"at least {written(low)}{unit}"
    if low == high:
        return f"exactly {written(low)}{unit}"
    return f"{written(low)} to {written(high)}{unit}"


def _share(value: Scalar) -> str:
    return percent(float(value)) if not isinstance(value, str) else value


def _number(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _map_title(method: str | None, target: str | None, manifest: Manifest) -> str:
    name = manifest.default_method if method is None else method
    title = str(manifest.methods.get(name, {}).get("title", name))
    return f"{title} for the true class" if target == TARGET_TRUE else title


def _lower_title(name: str, manifest: Manifest) -> str:
    declared = sample_fields(manifest).get(name)
    return _title_of(declared.field if declared else None, name)


def _title_of(declared: Field | None, name: str) -> str:
    if declared is None:
        return quote(name)
    if name.startswith(META_PREFIX) or declared.title[1:2].isupper():
        return declared.title
    return declared.title[:1].lower() + declared.title[1:]


def _any_of(values: Iterable[str]) -> str:
    listed = list(values)
    if len(listed) > MAX_LISTED:
        return f"any of {len(listed)} classes" if listed else ""
    return _listed(listed, "or")


def _listed(items: Sequence[str], word: str) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"
