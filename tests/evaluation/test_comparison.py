"""Comparisons against scipy's binomial, closed forms, and models known to be alike or not."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.evaluation.comparison import compare, mcnemar, swap_test


def hits_of(b: int, c: int, both: int = 20) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, False, True], [b, c, both])
    return first, np.repeat([False, True, True], [b, c, both])


class TestMcNemar:
    @pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 9), (9, 3), (5, 5), (0, 12), (40, 21)])
    def test_is_the_binomial_sum(self, b: int, c: int) -> None:
        tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        assert mcnemar(*hits_of(b, c)) == {"b": b, "c": c, "p": pytest.approx(min(1.0, 2 * tail), abs=1e-12)}

    def test_models_that_never_part_are_alike(self) -> None:
        assert mcnemar(*hits_of(0, 0)) == {"b": 0, "c": 0, "p": 1.0}

    def test_the_textbook_s_table(self) -> None:
        # statsmodels.stats.contingency_tables.mcnemar([[10, 5], [16, 20]], exact=True).pvalue
        assert mcnemar(*hits_of(5, 16))["p"] == pytest.approx(0.0266037, abs=1e-6)


class TestDifference:
    def test_agrees_with_the_standard_error_of_paired_differences(self) -> None:
        rng = np.random.default_rng(0)
        labels = np.zeros(500, int)
        first, second = (rng.random(500) > 0.1).astype(int) ^ 1, (rng.random(500) > 0.2).astype(int) ^ 1
        found = compare(labels, first, second, resamples=4000)
        apart = (first == 0).astype(float) - (second == 0)
        error = 1.96 * apart.std() / np.sqrt(500)
        figure = found["difference"]
        assert figure["value"] == pytest.approx(apart.mean(), abs=1e-12)
        assert (figure["low"], figure["high"]) == pytest.approx((apart.mean() - error, apart.mean() + error), abs=0.004)
        assert found["first"]["value"] - found["second"]["value"] == pytest.approx(figure["value"])
        assert found["by_group"] is None

    def test_pairing_narrows_the_interval(self) -> None:
        labels, first = np.zeros(300, int), np.repeat([0, 1], [200, 100])
        second = first.copy()
        second[:6] = 1
        figure = compare(labels, first, second)["difference"]
        assert figure["value"] == pytest.approx(0.02) and figure["high"] - figure["low"] < 0.04

    def test_probabilities_are_taken_by_their_largest(self) -> None:
        probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
        found = compare([0, 1, 1], probabilities, [0, 0, 1])
        assert found["mcnemar"]["b"] == found["mcnemar"]["c"] == 1
        json.dumps(found, allow_nan=False)

    def test_one_lucky_patient_is_no_proof(self) -> None:
        """Twenty slices of one patient decide item by item, and say nothing patient by patient."""
        labels, groups = np.zeros(120, int), np.concatenate([np.zeros(20, int), np.arange(1, 101)])
        first, second = np.zeros(120, int), np.zeros(120, int)
        second[:20] = 1
        found = compare(labels, first, second, groups)
        assert found["mcnemar"]["p"] < 1e-5
        assert found["by_group"]["p"] == 1.0
        assert found["difference"]["low"] <= 0 < found["difference"]["value"]
        assert found["difference"]["method"] == "bootstrap_by_group"

    @pytest.mark.parametrize(
        ("labels", "first", "words"),
        [([0, 1], [0], "got"), ([], [], "N of at least 1"), ([0], [[np.nan, 1.0]], "hold NaN")],
    )
    def test_what_does_not_fit_is_refused(self, labels: list, first: list, words: str) -> None:
        with pytest.raises(InputError, match=words):
            compare(labels, first, labels)


def test_the_swap_test_of_single_items_is_mcnemar_s() -> None:
    first, second = hits_of(4, 13)
    apart = first.astype(float) - second
    found = swap_test(apart, np.arange(apart.size))["p"]
    assert found == pytest.approx(mcnemar(first, second)["p"], abs=0.008)
