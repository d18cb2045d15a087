"""Intervals: closed forms, coverage, and what happens at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.metrics import ABSENT
from ct_xception.statistics.intervals import (
    bootstrap_figure,
    bootstrap_weights,
    describe_metric,
    effective_size,
    group_indices,
    mean_figure,
    proportion_figure,
    wilson_interval,
)
from tests.metrics import metric


class TestWilson:
    @pytest.mark.parametrize(
        ("hits", "n", "low", "high"),
        [
            (9, 10, 0.59585, 0.98212),  # statsmodels.stats.proportion.proportion_confint(9, 10, method="wilson")
            (0, 20, 0.0, 0.16113),
            (20, 20, 0.83887, 1.0),
            (300, 315, 0.92294, 0.97092),
        ],
    )
    def test_matches_known_values(self, hits: int, n: int, low: float, high: float) -> None:
        assert wilson_interval(hits / n, n) == pytest.approx((low, high), abs=2e-5)

    def test_ninety_per_cent_of_315(self) -> None:
        assert [round(100 * bound, 1) for bound in wilson_interval(284 / 315, 315)] == [86.4, 93.0]

    @pytest.mark.parametrize("n", [1, 2, 7, 1000])
    def test_contains_its_proportion_and_stays_in_range(self, n: int) -> None:
        for hits in range(n + 1):
            low, high = wilson_interval(hits / n, n)
            assert 0 <= low <= hits / n <= high <= 1 and high > low


class TestEffectiveSize:
    def test_independent_items_count_fully(self) -> None:
        hits = np.tile([True, True, True, False], 50)
        assert effective_size(hits, np.arange(200)) == 200

    def test_copies_of_an_item_count_once(self) -> None:
        hits = np.repeat([True, False, True, True, False], 8)
        assert effective_size(hits, np.repeat(np.arange(5), 8)) == pytest.approx(5)

    def test_all_right_is_judged_by_group_sizes(self) -> None:
        assert effective_size(np.ones(40, bool), np.repeat(np.arange(5), 8)) == pytest.approx(5)

    def test_grouped_wilson_covers_where_the_plain_one_does_not(self) -> None:
        rng = np.random.default_rng(0)
        group = np.repeat(np.arange(40), 6)
        plain = grouped = 0
        for _ in range(300):
            skill = rng.beta(2.4, 0.6, 40)  # mean 0.8, very unequal patients
            hits = rng.random(240) < skill[group]
            figure = proportion_figure(hits, group, "")
            grouped += figure.low <= 0.8 <= figure.high
            low, high = wilson_interval(hits.mean(), 240)
            plain += low <= 0.8 <= high
        assert grouped >= 0.91 * 300
        assert plain <= 0.88 * 300


class TestFewGroups:
    """Twenty items a group, and groups that differ: both intervals must cover about as often as they say."""

    @pytest.mark.parametrize(
        ("groups", "least_share", "least_mean"), [(5, 0.91, 0.88), (8, 0.91, 0.9), (20, 0.91, 0.91)]
    )
    def test_intervals_cover(self, groups: int, least_share: float, least_mean: float) -> None:
        rng = np.random.default_rng(5)
        group, share, mean = np.repeat(np.arange(groups), 20), 0, 0
        for trial in range(300):
            hits = rng.random(len(group)) < rng.beta(1.2, 0.8, groups)[group]  # 0.6 of the items on average
            figure = proportion_figure(hits, group, "")
            share += figure.low <= 0.6 <= figure.high
            figure = mean_figure(hits.astype(float).tolist(), group.tolist(), "", seed=trial)
            mean += figure.low is not None and figure.low <= 0.6 <= figure.high
        assert share >= least_share * 300 and mean >= least_mean * 300

    def test_many_groups_are_left_as_they_were(self) -> None:
        hits = np.tile([True, True, True, False], 500)
        group = np.repeat(np.arange(1000), 2)
        figure = proportion_figure(hits, group, "")
        size = effective_size(hits, group)
        assert (figure.low, figure.high) == pytest.approx(wilson_interval(0.75, size), abs=2e-4)


class TestProportion:
    def test_no_item_gives_the_reason(self) -> None:
        figure = proportion_figure(np.array([], bool), np.array([], int), "nothing there")
        assert figure.to_json() == {
            "value": None, "n": 0, "low": None, "high": None, "method": None, "reason": "nothing there"
        }  # fmt: skip

    def test_method_says_whether_groups_counted(self) -> None:
        hits = np.array([True, True, False, True])
        assert proportion_figure(hits, np.arange(4), "").method == "wilson"
        assert proportion_figure(hits, np.array([0, 0, 1, 1]), "").method == "wilson_by_group"


class TestDescribeFigure:
    def test_with_and_without_interval(self) -> None:
        hits = np.arange(20) > 1
        whole = proportion_figure(hits, np.arange(20), "")
        assert describe_metric(whole) == "0.900 (95 % interval 0.699 to 0.972, n = 20)"
        collapsed = bootstrap_figure(np.ones(100), 30, np.arange(30), "")
        assert describe_metric(collapsed).startswith("1.000 (n = 30; no interval: every resample")
        assert describe_metric(proportion_figure(hits[:0], np.arange(0), "no item")) == "none (no item)"
        assert describe_metric(metric(-0.0001, -0.0004, 0.1, n=20)) == "0.000 (95 % interval 0.000 to 0.100, n = 20)"
        assert describe_metric(ABSENT) == "none (no file was read)"


class TestBootstrap:
    def test_first_row_is_the_data_and_groups_stay_whole(self) -> None:
        group = group_indices(["b", "a", "a", "c", "a"], 5)
        weights = np.concatenate(list(bootstrap_weights(group, 50, seed=3)))
        assert weights.shape == (51, 5)
        assert (weights[0] == 1).all()
        assert (weights[:, 1] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
        assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all()

    def test_blocks_do_not_change_the_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = np.concatenate(list(bootstrap_weights(np.arange(7), 20, seed=1)))
        monkeypatch.setattr("ct_xception.statistics.intervals._CELLS_PER_BLOCK", 21)
        blocks = list(bootstrap_weights(np.arange(7), 20, seed=1))
        assert len(blocks) == 1 + 7
        assert (np.concatenate(blocks) == whole).all()

    def test_agrees_with_the_standard_error_of_a_mean(self) -> None:
        values = np.random.default_rng(0).normal(10, 2, 400)
        weights = np.concatenate(list(bootstrap_weights(np.arange(400), 2000, seed=0)))
        figure = bootstrap_figure(weights @ values / 400, 400, np.arange(400), "")
        error = values.std() / 20
        assert figure.low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
        assert figure.high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)

    def test_a_collapsed_interval_is_not_given(self) -> None:
        figure = bootstrap_figure(np.ones(100), 30, np.arange(30), "")
        assert (figure.value, figure.low, figure.high) == (1.0, None, None)
        assert figure.reason == "every resample gives the same figure"

    def test_a_mean_leaves_out_what_is_none_and_keeps_patients_whole(self) -> None:
        figure = mean_figure([1.0, 1.0, 0.0, None], ["a", "a", "b", "b"], "")
        assert figure.value == pytest.approx(2 / 3) and figure.n == 3
        assert (figure.low, figure.high) == (0, 1) and figure.method == "bootstrap_by_group"
        assert mean_figure([1.0, 0.0], ["a", "a"], "").reason == "one group only: nothing to resample"
        assert mean_figure([0.5, 0.5], None, "").reason == "every resample gives the same figure"
        assert mean_figure([None], None, "no map").reason == "no map"

    def test_one_group_cannot_be_resampled(self) -> None:
        figure = bootstrap_figure(np.full(10, 0.5), 4, np.zeros(4, int), "")
        assert figure.value == 0.5 and figure.low is None and "one group" in figure.reason
