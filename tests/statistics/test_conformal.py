"""Conformal sets against MAPIE, by hand, and by their promise on exchangeable data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin

from ct_xception.checkpoint_files import ConformalRule
from ct_xception.errors import InputError
from ct_xception.statistics.conformal import METHODS, conformal_figures, fit_conformal, set_members
from tests.evaluation.answers import draw_answers

NAMES = ["a", "b", "c", "d"]


class Echo(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose features are its probabilities."""

    def __init__(self) -> None:
        self.classes_ = np.arange(4)
        self.fitted_ = True

    def fit(self, *_: object) -> Echo:
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        return features

    def predict(self, features: np.ndarray) -> np.ndarray:
        return features.argmax(axis=1)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [72, 199])
def test_lac_is_mapie_s(n: int, coverage: float) -> None:
    (known, labels), (new, _) = draw_answers(n, seed=1), draw_answers(300, seed=2)
    peer = SplitConformalClassifier(Echo(), confidence_level=coverage, conformity_score="lac", prefit=True)
    _, theirs = peer.conformalize(known, labels).predict_set(new)
    rule = fit_conformal(known, labels, coverage, method="lac", never_empty=False)
    assert np.array_equal(set_members(new, rule), theirs[:, :, 0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_the_promise_is_kept_on_exchangeable_items(method: str, coverage: float) -> None:
    """Over many draws of 50 calibration items the mean coverage lies in [c, c + 1/51]; more only where sets never are
    empty."""
    rng = np.random.default_rng(0)
    probabilities, labels = draw_answers(4000, seed=3, sharpness=1.0)  # right about half of the time
    covered = []
    for _ in range(400):
        rows = rng.permutation(4000)[:150]
        rule = fit_conformal(probabilities[rows[:50]], labels[rows[:50]], coverage, method=method)
        covered.append(set_members(probabilities[rows[50:]], rule)[np.arange(100), labels[rows[50:]]].mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert coverage - 3 * error < np.mean(covered) < coverage + 1 / 51 + 3 * error


def test_the_threshold_is_the_finite_sample_quantile() -> None:
    own = np.linspace(0.05, 0.95, 19)
    probabilities = np.stack([own, 1 - own], axis=1)
    # ceil(20 * 0.9) = 18th smallest of the 19 scores 1 - p: the second largest, 1 - 0.10.
    rule = fit_conformal(probabilities, np.zeros(19, int), 0.9, method="lac")
    assert rule.threshold == pytest.approx(0.9)
    assert (rule.method, rule.coverage, rule.unit, rule.n, rule.n_groups) == ("lac", 0.9, "item", 19, 19)


@pytest.mark.parametrize(("n", "enough"), [(8, False), (9, True)])
def test_too_few_items_promise_nothing_and_say_so(n: int, enough: bool) -> None:
    probabilities, labels = draw_answers(n, seed=4)
    rule = fit_conformal(probabilities, labels, 0.9)
    assert (rule.threshold is not None) == enough
    if not enough:
        assert rule.reason == "8 independent validation items cannot promise a coverage of 0.9; at least 9 can"
        assert set_members(probabilities, rule).all()
        figures = conformal_figures(rule, probabilities, labels, NAMES)
        assert figures.mean_size.value == 4 and figures.within_expected is None


def test_rounding_does_not_move_the_quantile() -> None:
    own = np.arange(1, 10) / 10
    probabilities = np.stack([1 - own, own], axis=1)
    rule = fit_conformal(probabilities, np.zeros(9, int), 0.7, method="lac")  # (9 + 1) * 0.7 > 7 in floats
    assert rule.threshold == pytest.approx(0.7)


def test_a_group_weighs_as_one_however_large() -> None:
    probabilities, labels = draw_answers(40, seed=5)
    groups = np.arange(40).astype(str)
    alone = fit_conformal(probabilities, labels, 0.85, groups)
    assert alone == fit_conformal(probabilities, labels, 0.85).with_(unit="group")
    copies = np.where(np.arange(40) == 3, 25, 1)
    repeated = fit_conformal(
        np.repeat(probabilities, copies, axis=0), np.repeat(labels, copies), 0.85, np.repeat(groups, copies)
    )
    assert repeated.threshold == alone.threshold and repeated.n == 64 and repeated.n_groups == 40


def test_aps_and_raps_by_hand() -> None:
    probabilities = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]])
    aps = ConformalRule(method="aps", threshold=0.6, coverage=0.9)
    assert set_members(probabilities, aps).tolist() == [[False, True, True], [True, True, False]]
    raps = aps.with_(method="raps", penalty=0.2, free_ranks=1)  # scores 0, .6 + .2, .9 + .4
    assert set_members(probabilities, raps).tolist() == [[False, True, False], [True, False, False]]
    loose = raps.with_(threshold=0.8)
    assert set_members(probabilities, loose).tolist() == [[False, True, True], [True, True, False]]


def test_lac_is_kept_from_empty_sets_where_the_network_is_surer_than_was_asked_for() -> None:
    probabilities, labels = draw_answers(400, seed=6, sharpness=8.0)
    bare, kept = (fit_conformal(probabilities, labels, 0.5, method="lac", never_empty=never) for never in (False, True))
    assert not set_members(probabilities, bare).any(axis=1).all()
    assert kept.threshold == 0.75 and set_members(np.full((1, 4), 0.25), kept).all()
    assert set_members(probabilities, kept).any(axis=1).all()
    figures = conformal_figures(kept, probabilities, labels, NAMES, resamples=1)
    assert figures.coverage.value > figures.expected.high and figures.within_expected is True
    exact = conformal_figures(kept.with_(threshold=0.76), probabilities, labels, NAMES, resamples=1)
    assert exact.within_expected is False


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_aps_is_never_empty_and_covers_what_the_network_gets_right(method: str) -> None:
    probabilities, labels = draw_answers(400, seed=6, sharpness=8.0)
    rule = fit_conformal(probabilities, labels, 0.5, method=method)
    members = set_members(probabilities, rule)
    assert rule.threshold == 0 and (members.sum(axis=1) == 1).all()


def test_figures_by_hand() -> None:
    rule = ConformalRule(method="lac", coverage=0.5, threshold=0.5, n=30, n_groups=30)
    probabilities = [[0.6, 0.4], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]
    figures = conformal_figures(rule, probabilities, [0, 1, 1, 1], ["x", "y"])
    assert figures.sizes == {"0": 0, "1": 3, "2": 1}
    assert figures.coverage.value == 0.75 and figures.mean_size.value == 1.25
    assert figures.per_class_coverage["x"].value == 1
    assert figures.per_class_coverage["y"].value == pytest.approx(2 / 3)
    json.dumps(figures.to_json(), allow_nan=False)


def test_the_expected_range_holds_exchangeable_coverage_and_not_another_population() -> None:
    within = []
    for seed in range(60):
        (known, labels), (new, truth) = draw_answers(72, seed=seed), draw_answers(200, seed=1000 + seed)
        rule = fit_conformal(known, labels, 0.9, method="lac")
        within.append(conformal_figures(rule, new, truth, NAMES, resamples=1).within_expected)
    assert np.mean(within) >= 0.88
    wrong = conformal_figures(rule, new, (truth + 1) % 4, NAMES, resamples=1)
    assert wrong.within_expected is False and wrong.expected.low > 0.75


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coverage": 1.0}, "coverage is 1.0; give a share above 0 and below 1"),
        ({"coverage": 0.9, "method": "magic"}, "'magic' is unknown; choose lac, aps, raps"),
        ({"coverage": 0.9, "penalty": -1}, "must not be negative"),
    ],
)
def test_bad_options_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_conformal([[0.5, 0.5]], [0], **options)


def test_sets_by_class_keep_their_promise_to_each() -> None:
    """A class that is rare and hard is covered too seldom by one threshold for all, and as often by its own."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = (rng.random(n) < 0.15).astype(int)
        right = np.where(truth == 0, rng.beta(9, 1, n), rng.beta(2, 2, n))
        return np.where(np.arange(2) == truth[:, None], right[:, None], 1 - right[:, None]), truth

    names = ["common", "rare"]
    fitted, asked = drawn(4000), drawn(4000)
    rules = [fit_conformal(*fitted, 0.9, by_class=by) for by in (None, names)]
    whole, own = (conformal_figures(rule, *asked, names, resamples=20) for rule in rules)
    assert whole.per_class_coverage["rare"].value < 0.7
    for name in names:
        assert own.per_class_coverage[name].value == pytest.approx(0.9, abs=0.04) or name == "common"
        assert own.per_class_coverage[name].value > 0.86
    assert own.within_expected is True and own.expected is None
    assert rules[1].threshold == rules[0].threshold and rules[1].n_by_class["rare"] == (fitted[1] == 1).sum()


def test_a_class_of_too_few_is_in_every_set() -> None:
    scores = np.array([[0.9, 0.1]] * 20 + [[0.3, 0.7]] * 2)
    labels = np.array([0] * 20 + [1] * 2)
    rule = fit_conformal(scores, labels, 0.9, by_class=["a", "b"])
    assert rule.thresholds["b"] is None and rule.thresholds["a"] == pytest.approx(0.5)
    assert set_members(np.array([[0.99, 0.01], [0.2, 0.8]]), rule, ["a", "b"]).tolist() == [[True, True], [False, True]]
    with pytest.raises(InputError, match="by class needs the classes' names"):
        set_members(scores, rule)
