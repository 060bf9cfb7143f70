"""Halves, exact tests and q-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from engine.discovery.audited import halves
from engine.discovery.statistics import effect_of, familywise, permuted_outcomes, q_values
from tests.seeding import rng

multitest = pytest.importorskip("statsmodels.stats.multitest")


def test_halves_are_even_in_every_prediction_and_outcome() -> None:
    pred, label = rng.integers(0, 4, (2, 400)).astype(np.int32)
    label[:40] = -1
    contents = [f"{i:08x}" for i in range(400)]
    held = halves("run", contents, pred, label)
    for c in range(4):
        for right in (True, False):
            stratum = held[(pred == c) & (label >= 0) & ((label == pred) == right)]
            assert abs(stratum.sum() - (~stratum).sum()) <= 1
    assert abs(held.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(held, halves("run", contents, pred, label))
    assert (held != halves("another", contents, pred, label)).any()


def test_copies_of_an_image_are_in_the_same_half() -> None:
    contents = [f"{i // 2:08x}" for i in range(100)]
    held = halves("run", contents, np.zeros(100, np.int32), np.arange(100, dtype=np.int32) % 2)
    assert (held[::2] == held[1::2]).all()


def test_the_effect_and_its_exact_p_value() -> None:
    inside = np.arange(60) < 20
    wrong = np.isin(np.arange(60), [*range(14), 30, 31, 32, 33, 34])
    effect = effect_of(inside, wrong)
    assert effect.rate == 14 / 20
    assert effect.other_rate == 5 / 40
    assert effect.difference == pytest.approx(14 / 20 - 5 / 40)
    assert effect.p_value == pytest.approx(hypergeom.sf(13, 60, 19, 20))
    assert effect.low is not None
    assert effect.high is not None
    assert 0 < effect.low < effect.difference < effect.high
    assert effect_of(np.ones(5, bool), np.ones(5, bool)).p_value is None
    assert effect_of(np.zeros(0, bool), np.zeros(0, bool)).rate is None


def test_q_values_equal_statsmodels_and_pass_unknown_ones_by() -> None:
    p = rng.random(15).tolist()
    expected = multitest.multipletests(p, method="fdr_bh")[1]
    found = q_values([*p[:4], None, *p[4:]])
    assert found[4] is None
    np.testing.assert_allclose([q for q in found if q is not None], expected)
    assert q_values([]) == []
    assert q_values([None]) == [None]


def test_permutations_keep_the_outcome_s_frequency_and_p_values_count() -> None:
    outcome = np.arange(30) < 7
    drawn = permuted_outcomes(outcome, 50, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn[:, 0], outcome)
    assert (drawn.sum(axis=0) == 7).all()
    np.testing.assert_allclose(
        familywise(np.array([5.0, 2.5, 0.0]), np.array([1.0, 2.0, 3.0])), [1 / 4, 2 / 4, 1]
    )
