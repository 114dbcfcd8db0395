"""Intervals and p values of a study, against scipy's tests."""

import math

import numpy as np
import pytest
from reproduction.statistics import difference, estimate, holm, paired
from scipy import stats

RNG = np.random.default_rng(0)
ONE, OTHER = RNG.normal(1.0, 2.0, 8), RNG.normal(0.5, 0.5, 5)


def test_a_mean_has_its_t_interval() -> None:
    found, test = estimate(list(ONE)), stats.ttest_1samp(ONE, 0.0)
    low, high = test.confidence_interval(0.95)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((ONE.mean(), low, high, test.pvalue))
    assert found.count == 8


def test_one_seed_has_no_interval() -> None:
    found = estimate([3.0])
    assert (found.mean, found.count) == (3.0, 1)
    assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.p)


def test_equal_values_are_sure() -> None:
    found = estimate([2.0, 2.0, 2.0])
    assert (found.low, found.high, found.p) == (2.0, 2.0, 0.0)
    assert estimate([0.0, 0.0]).p == 1.0


def test_arms_are_paired_by_the_seeds_that_both_have() -> None:
    reference = {seed: float(value) for seed, value in enumerate(ONE)}
    rival = {seed: float(value) for seed, value in zip((7, 2, 5, 4, 99), OTHER, strict=True)}
    test = stats.ttest_rel([ONE[seed] for seed in (2, 4, 5, 7)], [rival[seed] for seed in (2, 4, 5, 7)])
    found = paired(reference, rival)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (found.p, found.count) == (pytest.approx(test.pvalue), 4)
    assert paired(reference, {3: 1.0}) is None


def test_independent_means_are_compared_by_welch() -> None:
    test = stats.ttest_ind(ONE, OTHER, equal_var=False)
    found = difference(estimate(list(ONE)), estimate(list(OTHER)))
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.p == pytest.approx(test.pvalue)


def test_holm() -> None:
    # by hand: 0.01 · 4, then 0.02 · 3, then 0.03 · 2 no less than that, then 0.9
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []
