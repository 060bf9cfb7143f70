import numpy as np
import pytest

from dashboard.intervals import newcombe, wilson
from tests.seeding import rng

proportion = pytest.importorskip("statsmodels.stats.proportion")


@pytest.mark.parametrize("shape", [(1,), (40,), (6, 5)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_statsmodels(shape, confidence):
    counts = rng.integers(1, 400, shape)
    hits = rng.integers(0, counts + 1)
    ours = wilson(hits, counts, confidence)
    low, high = proportion.proportion_confint(hits, counts, 1 - confidence, method="wilson")
    np.testing.assert_allclose(ours.estimate, hits / counts)
    np.testing.assert_allclose(ours.low, low, atol=1e-12)
    np.testing.assert_allclose(ours.high, high, atol=1e-12)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_newcombe_equals_statsmodels(confidence):
    n1, n2 = rng.integers(1, 300, (2, 60))
    k1, k2 = rng.integers(0, n1 + 1), rng.integers(0, n2 + 1)
    ours = newcombe(k1, n1, k2, n2, confidence)
    low, high = proportion.confint_proportions_2indep(
        k1, n1, k2, n2, method="newcomb", compare="diff", alpha=1 - confidence
    )
    np.testing.assert_allclose(ours.estimate, k1 / n1 - k2 / n2)
    np.testing.assert_allclose(ours.low, low, atol=1e-12)
    np.testing.assert_allclose(ours.high, high, atol=1e-12)


def test_newcombe_equals_the_papers_example():
    # Newcombe 1998, Statistics in Medicine 17:873, table II (a), method 10: 56/70 − 48/80.
    interval = newcombe(56, 70, 48, 80)
    np.testing.assert_allclose([interval.low, interval.high], [0.0524, 0.3339], atol=5e-5)
    assert interval.excludes_zero
    assert not newcombe(5, 70, 6, 80).excludes_zero


def test_nothing_counted_is_unknown_and_everything_stays_within_bounds():
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(newcombe(0, 0, 3, 5).low)
    assert not newcombe(0, 0, 3, 5).excludes_zero
    assert wilson(0, 7).low == 0
    assert wilson(7, 7).high == 1
