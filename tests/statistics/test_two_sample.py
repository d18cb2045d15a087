"""Two samples told apart: the tests against scipy and by hand, the correction, and how often it fires at nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from ct_xception.statistics.two_sample import compare_samples, holm, least_chance


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0]) and holm([0.02]) == pytest.approx([0.02])
    assert len(holm([])) == 0


def test_numbers_by_kolmogorov_and_smirnov_and_shares_by_fisher() -> None:
    rng = np.random.default_rng(0)
    here, there = rng.normal(0, 1, 40), rng.normal(2, 1, 30)
    yes, no = np.array([1.0] * 9 + [0.0]), np.zeros(10)
    number, share = compare_samples([("grey", here, np.append(there, np.nan)), ("png", yes, no)])
    wanted = ks_2samp(here, there)
    assert (number.distance, number.chance) == pytest.approx((wanted.statistic, wanted.pvalue))
    assert (number.here, number.there) == pytest.approx((np.median(here), np.median(there)))
    assert (share.here, share.there, share.distance) == pytest.approx((0.9, 0.0, 0.9))
    assert share.chance == pytest.approx(2 * math.comb(10, 9) / math.comb(20, 9))  # both tails, by counting
    smaller = min(number.chance, share.chance)
    assert min(number.corrected, share.corrected) == pytest.approx(2 * smaller)


def test_what_one_side_does_not_have_is_left_out() -> None:
    assert compare_samples([("noise", [np.nan, np.nan], [1.0, 2.0])]) == []
    assert compare_samples([]) == []


def test_nothing_differs_in_few_of_many_draws() -> None:
    rng, fired = np.random.default_rng(1), 0
    for _ in range(100):
        found = compare_samples((str(k), rng.normal(0, 1, 30), rng.normal(0, 1, 20)) for k in range(15))
        fired += min(one.corrected for one in found) < 0.05
    assert fired <= 10  # of 5 expected at most


def test_the_least_chance_is_that_of_samples_wholly_apart() -> None:
    found = compare_samples([("a", np.arange(8.0), np.arange(8.0) + 100), ("b", np.zeros(8) + 3, np.zeros(8) + 3)])
    assert min(one.corrected for one in found) == pytest.approx(least_chance(2, 8, 8))
