"""Verdicts: what the causal tests of a finding prove, by thresholds that were fixed before anything was measured."""

from __future__ import annotations

from collections.abc import Iterable

from cache.findings import REFUTED, RELIED_ON, Finding, Rate, Verdict, ranked

BEYOND_CLASS = 0.0
"""Beyond the rest of the class: the 95 % lower bound of (rate − class rate) exceeds this."""
SIGNIFICANT = 0.05
"""Errors go with a finding where the q-value on the held-back half lies below this, and the effect above 0."""
OUTSIDE_OBJECT = 0.7
"""Outside the object: at least this share of the attended mass lies outside the known object."""
NEAR_IDENTICAL = 0.6
"""Near-identical: the likeness from image to image is at least this, as stamps have it and living things have not."""
MOVING_IDENTICAL = 0.5
"""The same for content that moves about: even the same sticker is not found again in every window."""
ORDER: tuple[Verdict, ...] = ("shortcut", "relied on", "untested", "inconclusive", "refuted")
"""What is listed first."""


def judge(finding: Finding, name: str = "the class") -> tuple[Verdict, tuple[str, ...]]:
    """Return a finding's verdict from its tests, effect, likeness and place, with the reasons in sentences.

    *Relied on*: the lower bound of (rate − control) exceeds `RELIED_ON` in a test. *Shortcut*: so it does where the
    content is transplanted (a whole-image property imposed), beyond what the rest of the class attends to, and there
    is evidence that it is not the object. *Refuted*: both tests were made and their upper bounds lie below `REFUTED`.
    Else *inconclusive*; *untested* where no image could be tested.

    Args:
        finding: With the results of its tests.
        name: What the class is called.
    """
    removal = finding.deletion
    transfers = [test for test in (finding.transplant, finding.imposed) if test is not None and test.n]
    if not transfers and (removal is None or not removal.n):
        return "untested", ("No image could be tested.",)
    whole = finding.property is not None
    reasons = [_removal(removal, whole)]
    reasons += [_transfer(finding.transplant, name, "Pasting it onto")] * (not whole)
    if whole or finding.imposed is not None:
        what = f"its {finding.shows_as[0]}" if finding.shows_as and not whole else "it"
        reasons += [_transfer(finding.imposed, name, f"Imposing {what} on")]
    relied = [test for test in transfers if _relied(test)]
    if relied:
        reasons += [_beyond_class(test, name) for test in relied]
        evidence = not_the_object(finding)
        reasons += evidence or ["Nothing shows that it is not the object itself."]
        # Of colours that are imposed the likeness and the place of the content say nothing: an object has its colours too.
        proven = (makes_the_class(finding.transplant) and evidence) or (
            makes_the_class(finding.imposed) and goes_with_errors(finding)
        )
        return ("shortcut" if proven else "relied on"), tuple(reasons)
    if _relied(removal):
        reasons += ["The model relies on it, but it does not make other images of the class."]
        return "relied on", tuple(reasons)
    made = [*transfers, *([removal] if removal is not None and removal.n else [])]
    bounds = [test.high for test in made if test.high is not None]
    if transfers and len(bounds) == 1 + len(transfers) and max(bounds) < REFUTED:
        reasons += [f"Both differences lie below {REFUTED:.0%}: the model hardly uses it."]
        return "refuted", tuple(reasons)
    reasons += [
        f"Neither difference is surely above {RELIED_ON:.0%}, and not both are surely below {REFUTED:.0%}."
    ]
    return "inconclusive", tuple(reasons)


def makes_the_class(test: Rate | None) -> bool:
    """Tell whether what was pasted or imposed surely makes images the class, beyond controls and the rest of the class."""
    return _relied(test) and test is not None and (test.class_low or 0.0) > BEYOND_CLASS


def not_the_object(finding: Finding) -> list[str]:
    """Return the evidence that what a finding is about is not the class's object, in sentences; empty without any."""
    found = []
    effect, q = finding.effect, finding.q_value
    if effect is not None and q is not None and goes_with_errors(finding):
        against = " against as much of the most error-prone other class" * bool(
            finding.evidence.get("by_other_classes")
        )
        found.append(
            f"Errors go with it on the held-back half: {100 * effect:.0f} points more frequent{against} "
            f"(q {'< 0.001' if q < 0.001 else f'= {q:.3f}'})."
        )
    if finding.property is not None:
        return found  # a property of the whole image lies nowhere: what the maps say is about something else
    if finding.outside_object is not None and finding.outside_object >= OUTSIDE_OBJECT:
        found.append(f"{finding.outside_object:.0%} of the attention lies outside the known object.")
    if near_identical(finding):
        found.append(
            f"It is near-identical from image to image (likeness {finding.likeness:.2f}), as stamps are and living "
            "things are not."
        )
    return found


def goes_with_errors(finding: Finding) -> bool:
    """Tell whether errors go with a finding on the held-back half."""
    effect, q = finding.effect, finding.q_value
    return effect is not None and effect > 0 and q is not None and q < SIGNIFICANT


def near_identical(finding: Finding) -> bool:
    """Tell whether a finding's content is as alike from image to image as stamps are."""
    fixed = finding.box is not None or finding.evidence.get("along_edges")
    least = NEAR_IDENTICAL if fixed else MOVING_IDENTICAL
    return finding.likeness is not None and finding.likeness >= least


def reranked(findings: Iterable[Finding], wrong: int) -> tuple[Finding, ...]:
    """Return findings in the order that puts first what matters: proof, harm and unlikeness to the object.

    First by verdict, as `ORDER` lists them, then by `weight`; what ties stays in the order in which it was found.

    Args:
        findings: In their present order.
        wrong: Wrong predictions of the whole run.
    """
    return ranked(sorted(findings, key=lambda f: (ORDER.index(f.verdict), -round(weight(f, wrong), 6))))


def weight(finding: Finding, wrong: int) -> float:
    """Return how much a finding matters, 0 to 3: harm + proof + unlikeness.

    Harm is the share of the run's errors that it explains (effect × samples / errors), proof the lower bound of
    (rate − control) where the content was transplanted or imposed, of the deletion where it was not, and unlikeness
    the larger of its share outside the object and its likeness from image to image, 0 for a whole-image property. Each is
    within 0 and 1.
    """
    harm = max(finding.effect or 0.0, 0.0) * finding.n / wrong if wrong else 0.0
    test = finding.transfer or finding.deletion
    proof = max(test.low or 0.0, 0.0) if test is not None else 0.0
    unlike = max(finding.outside_object or 0.0, finding.likeness or 0.0, 0.0)
    if finding.property is not None:
        unlike = 0.0
    return min(harm, 1.0) + proof + min(unlike, 1.0)


def _relied(test: Rate | None) -> bool:
    return test is not None and test.low is not None and test.low > RELIED_ON


def _beyond_class(test: Rate, name: str) -> str:
    if test.class_low is None or test.class_rate is None:
        return f"There was nothing else that the model attends to in {name} to compare it with."
    return (
        f"What else the model attends to in {name} makes {test.class_rate:.0%} of them {name}: "
        f"{'less than this does' if makes_the_class(test) else 'not surely less than this does'} "
        f"({_interval(test.class_low, test.class_high)})."
    )


def _removal(test: Rate | None, whole: bool) -> str:
    what = "Changing it towards the rest of the data" if whole else "Covering it"
    against = "changing it within the finding" if whole else "equal areas elsewhere"
    if test is None or not test.n:
        return f"{what} could not be tried."
    return (
        f"{what} in {_images(test.n)} changed {_share(test.rate)} of the predictions; {against} changed "
        f"{_share(test.control_rate)} (difference {_interval(test.low, test.high)})."
    )


def _transfer(test: Rate | None, name: str, what: str) -> str:
    if test is None or not test.n:
        return f"{what} images of other classes could not be tried: none was classified rightly with room for it."
    control = "control patches of its size" if what.startswith("Pasting") else "that of other images"
    return (
        f"{what} {_images(test.n)} of other classes made {_share(test.rate)} of them {name}; {control} made "
        f"{_share(test.control_rate)} (difference {_interval(test.low, test.high)})."
    )


def _images(n: int) -> str:
    return f"{n} image{'s' if n != 1 else ''}"


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.0%}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "unknown"
    return f"95 % interval {_signed(low)} to {_signed(high)}"


def _signed(value: float) -> str:
    return f"{value:.0%}".replace("-", "−")
