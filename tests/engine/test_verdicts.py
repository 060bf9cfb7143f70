"""Verdicts, intervals and ranks: pure functions, tried at every edge."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from cache.findings import Finding, Rate
from cache.intervals import newcombe, wilson
from engine.verifying.intervals import Outcome, difference, paired_newcombe, rate_of
from engine.verifying.trials import EARLY, LOOKS, Trial, conduct, decided
from engine.verifying.verdicts import (
    MOVING_IDENTICAL,
    NEAR_IDENTICAL,
    OUTSIDE_OBJECT,
    REFUTED,
    RELIED_ON,
    SIGNIFICANT,
    judge,
    not_the_object,
    reranked,
    weight,
)
from tests.engine.habits import finding

TINY = 1e-6


def rate(low: float, high: float, class_low: float | None = None) -> Rate:
    known = class_low is not None
    return Rate(0.5, 0.1, 50, low, high, 0.2 if known else None, class_low, 0.9 if known else None)


STRONG, WEAK, NONE = rate(0.3, 0.9, 0.1), rate(0.05, 0.3, 0.1), rate(-0.05, 0.05, -0.05)
PROOF = {"effect": 0.4, "q_value": 0.01}


def verdict(found: Finding) -> str:
    return judge(found, "red")[0]


@pytest.mark.parametrize("test", ["transplant", "imposed"])
def test_a_shortcut_needs_the_transfer_the_class_and_the_evidence(test: str) -> None:
    for removal, transfer, proof in product((None, NONE, WEAK, STRONG), (NONE, WEAK, STRONG), (True, False)):
        found = finding(("a",), deletion=removal, **{test: transfer}, **(PROOF if proof else {}))
        if transfer is STRONG:
            expected = "shortcut" if proof else "relied on"
        elif removal is STRONG:
            expected = "relied on"
        elif removal is NONE and transfer is NONE:
            expected = "refuted"
        else:
            expected = "inconclusive"
        assert verdict(found) == expected, (removal, transfer, proof)


def test_content_may_be_proven_by_what_it_shows_as() -> None:
    found = finding(("a",), box=None, transplant=WEAK, deletion=WEAK, shows_as=("brightness",), **PROOF)
    assert verdict(found) == "inconclusive"
    imposed = replace(found, imposed=STRONG)
    assert verdict(imposed) == "shortcut"
    assert any(
        reason.startswith("Imposing its brightness on 50 images") for reason in judge(imposed, "red")[1]
    )
    assert any(reason.startswith("Pasting it onto 50 images") for reason in judge(imposed, "red")[1])
    assert weight(imposed, 100) > weight(found, 100)
    alike = replace(imposed, effect=0.0, likeness=0.99)
    assert verdict(alike) == "relied on", "an object that is alike has its colours too"
    assert verdict(replace(alike, transplant=STRONG, imposed=None)) == "shortcut"
    assert verdict(replace(found, transplant=NONE, deletion=NONE, imposed=WEAK)) == "inconclusive"
    assert verdict(replace(found, transplant=NONE, deletion=NONE, imposed=NONE)) == "refuted"


def test_along_the_edges_content_must_be_as_alike_as_in_a_box() -> None:
    found = finding(("a",), box=None, transplant=STRONG, deletion=STRONG, likeness=MOVING_IDENTICAL)
    assert verdict(found) == "shortcut"
    framed = replace(found, evidence={"along_edges": 1.0})
    assert verdict(framed) == "relied on"
    assert verdict(replace(framed, likeness=NEAR_IDENTICAL)) == "shortcut"


def test_the_edges_of_every_threshold() -> None:
    def with_(**values: object) -> str:
        return verdict(finding(("a",), **{"transplant": STRONG, **PROOF, **values}))

    assert with_() == "shortcut"
    assert with_(transplant=rate(RELIED_ON, 0.9, 0.1)) == "inconclusive"
    assert with_(transplant=rate(RELIED_ON + TINY, 0.9, 0.1)) == "shortcut"
    assert with_(transplant=rate(0.5, 0.9, 0.0)) == "relied on"
    assert with_(transplant=rate(0.5, 0.9, TINY)) == "shortcut"
    assert with_(transplant=rate(0.5, 0.9)) == "relied on"  # nothing to compare with
    assert with_(q_value=SIGNIFICANT) == "relied on"
    assert with_(q_value=SIGNIFICANT - TINY) == "shortcut"
    assert with_(q_value=None) == "relied on"
    assert with_(effect=None) == "relied on"
    assert with_(effect=0.0) == "relied on"
    assert with_(effect=-0.4) == "relied on"  # fewer errors are no evidence
    nothing = {"effect": None, "q_value": None}
    assert with_(**nothing, outside_object=OUTSIDE_OBJECT) == "shortcut"
    assert with_(**nothing, outside_object=OUTSIDE_OBJECT - TINY) == "relied on"
    assert with_(**nothing, likeness=NEAR_IDENTICAL) == "shortcut"
    assert with_(**nothing, likeness=NEAR_IDENTICAL - TINY) == "relied on"
    assert with_(**nothing, box=None, likeness=MOVING_IDENTICAL) == "shortcut"
    assert with_(**nothing, box=None, likeness=MOVING_IDENTICAL - TINY) == "relied on"


def test_refuted_needs_both_tests_below_the_threshold() -> None:
    below, at = rate(-0.1, REFUTED - TINY), rate(-0.1, REFUTED)
    assert verdict(finding(("a",), deletion=below, transplant=below)) == "refuted"
    assert verdict(finding(("a",), deletion=below, imposed=below)) == "refuted"
    assert verdict(finding(("a",), deletion=below, transplant=at)) == "inconclusive"
    assert verdict(finding(("a",), deletion=at, transplant=below)) == "inconclusive"
    assert verdict(finding(("a",), deletion=below)) == "inconclusive"
    assert verdict(finding(("a",), transplant=below)) == "inconclusive"


def test_without_images_nothing_is_said() -> None:
    empty = Rate(None, None, 0, None, None)
    assert verdict(finding(("a",))) == "untested"
    assert verdict(finding(("a",), deletion=empty, transplant=empty)) == "untested"
    assert verdict(finding(("a",), deletion=NONE, transplant=empty)) == "inconclusive"
    assert verdict(finding(("a",), deletion=STRONG, transplant=empty)) == "relied on"


def test_reasons_are_sentences_with_the_numbers() -> None:
    _, reasons = judge(finding(("a",), deletion=WEAK, transplant=STRONG, likeness=0.9, **PROOF), "red")
    assert all(reason.endswith(".") for reason in reasons)
    text = " ".join(reasons)
    assert "Pasting it onto 50 images of other classes made 50% of them red" in text
    assert "95 % interval 30% to 90%" in text
    assert "Errors go with it on the held-back half: " in text
    assert "points more frequent" in text
    assert "near-identical" in text
    _, whole = judge(finding(("a",), property="hue", deletion=WEAK, imposed=STRONG), "red")
    assert "Imposing it on" in " ".join(whole)
    assert "Nothing shows" in " ".join(whole)
    assert not_the_object(finding(("a",))) == []


def test_the_published_example_of_the_paired_interval() -> None:
    """Newcombe 1998b, table II, (36, 12, 2, 0): method 10 gives 0.0569 to 0.3404."""
    assert paired_newcombe(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def slow_paired(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """Method 10 written out, with the Wilson limits of statsmodels."""
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    l1, u1 = proportion_confint(both + first, n, method="wilson")
    l2, u2 = proportion_confint(both + second, n, method="wilson")
    a = both * neither - first * second
    if a > n / 2:
        a -= n / 2
    elif a >= 0:
        a = 0
    under = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = a / np.sqrt(under) if under else 0.0
    lower = np.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    upper = np.sqrt((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u1 - p1) + (u1 - p1) ** 2)
    return p1 - p2 - lower, p1 - p2 + upper


def test_the_paired_interval_against_a_slow_reference() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        counts = rng.integers(0, rng.integers(2, 60), 4).tolist()
        if sum(counts):
            slow = np.clip(slow_paired(*counts), -1, 1)
            assert paired_newcombe(*counts) == pytest.approx(tuple(slow), abs=1e-9)


def test_without_correlation_it_is_the_unpaired_interval() -> None:
    for first, second, n in ((7, 3, 40), (0, 0, 12), (40, 0, 40), (1, 1, 1)):
        found = newcombe(first, n, second, n)
        # All or none of one sample changing leaves no correlation to take in.
        if first in (0, n) or second in (0, n):
            both = min(first, second)
            limits = paired_newcombe(both, first - both, second - both, n - first - second + both)
            assert limits == pytest.approx((float(found.low), float(found.high)), abs=1e-12)


def test_the_paired_interval_covers_what_it_should() -> None:
    rng = np.random.default_rng(0)
    for p, q, shared in ((0.5, 0.1, 0.0), (0.6, 0.4, 0.5), (0.05, 0.02, 0.0), (0.3, 0.3, 0.8)):
        missed = 0
        for _ in range(600):
            same = rng.uniform(size=60) < shared
            u, v = rng.uniform(size=60), rng.uniform(size=60)
            low, high = difference((u < p).tolist(), (np.where(same, u, v) < q).tolist())
            missed += not low <= p - q <= high
        assert missed / 600 < 0.08


def test_the_interval_swaps_and_stays_within_bounds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        a, b, c, d = rng.integers(0, 12, 4).tolist()
        if a + b + c + d:
            low, high = paired_newcombe(a, b, c, d)
            other = paired_newcombe(a, c, b, d)
            assert (low, high) == pytest.approx((-other[1], -other[0]), abs=1e-12)
            assert -1 <= low <= (b - c) / (a + b + c + d) <= high <= 1
    with pytest.raises(ValueError, match="at least one"):
        paired_newcombe(0, 0, 0, 0)


def test_rates_count_what_happened() -> None:
    outcomes = [Outcome(True, False, True), Outcome(True, True, False), Outcome(False, False, None)]
    found = rate_of(outcomes)
    assert (found.rate, found.control_rate, found.n) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 3)
    assert found.class_rate == pytest.approx(1 / 2)
    assert (found.low, found.high) == difference([True, True, False], [False, True, False])
    assert (found.class_low, found.class_high) == difference([True, True], [True, False])
    assert rate_of([]) == Rate(None, None, 0, None, None)
    assert rate_of([Outcome(True, False)]).class_low is None


def trials(hits: list[bool], controls: list[bool]) -> list[Trial]:
    view = np.zeros((1, 1, 1), np.uint8)

    def decide(predicted: np.ndarray) -> Outcome:
        return Outcome(bool(predicted[0]), bool(predicted[1]))

    return [
        Trial([view + int(hit), view + int(control)], decide)
        for hit, control in zip(hits, controls, strict=True)
    ]


def predict(views: list[np.ndarray]) -> np.ndarray:
    return np.array([int(view[0, 0, 0]) for view in views])


def test_a_test_ends_where_it_is_decided_and_not_before() -> None:
    clear = trials([True] * 300, [False] * 300)
    assert len(conduct(iter(clear), predict)) == LOOKS[0]
    nothing = trials([False] * 300, [False] * 300)
    assert (
        len(conduct(iter(nothing), predict)) == 80
    )  # 40 leave an upper bound of 0.14 at the stricter confidence
    between = trials([i % 4 == 0 for i in range(300)], [False] * 300)
    assert len(conduct(iter(between), predict)) == LOOKS[-1]
    assert len(conduct(iter(clear[:17]), predict)) == 17
    assert conduct(iter([]), predict) == []


def test_early_ends_are_stricter() -> None:
    assert pytest.approx(0.99) == EARLY
    wide = wilson(0, 40, EARLY)
    assert float(wide.high) > REFUTED
    assert decided(rate(0.3, 0.9))
    assert decided(rate(-0.2, 0.05))
    assert not decided(rate(0.1, 0.3))
    assert decided(rate(0.3, 0.9, 0.1))
    assert not decided(rate(0.3, 0.9, -0.1))
    assert decided(replace(rate(0.3, 0.9, -0.5), class_high=-0.1))
    assert not decided(Rate(None, None, 0, None, None))


def test_ranks_put_proof_then_harm_first() -> None:
    def found(title: str, verdict: str, **known: object) -> Finding:
        return finding(("a",), title=title, verdict=verdict, **{"n": 10, **known})

    harmful = found("harmful", "shortcut", transplant=STRONG, effect=0.8)
    harmless = found("harmless", "shortcut", transplant=STRONG)
    listed = [
        found("cleared", "refuted"),
        found("waiting", "untested", effect=0.9),
        found("open", "inconclusive"),
        harmless,
        found("used", "relied on", effect=0.9),
        harmful,
    ]
    ordered = reranked(listed, wrong=20)
    assert [f.title for f in ordered] == ["harmful", "harmless", "used", "waiting", "open", "cleared"]
    assert [f.rank for f in ordered] == [1, 2, 3, 4, 5, 6]
    assert weight(harmful, 20) == pytest.approx(0.8 * 10 / 20 + 0.3)
    assert weight(harmless, 0) == pytest.approx(0.3)
    assert weight(replace(harmless, likeness=0.9, outside_object=0.2), 0) == pytest.approx(1.2)
    assert weight(replace(harmful, effect=9.0), 1) <= 3
