"""What the best of many is worth: chance alone must not look like a gain, and a true one must."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from ct_xception.errors import InputError
from ct_xception.statistics.calibration import apply_temperature, fit_temperature
from ct_xception.statistics.selection import judge_selection, weighted_scores


def guesses(rng: np.random.Generator, labels: np.ndarray, skill: float) -> np.ndarray:
    """Logits (N, 2) that are right with probability `skill`."""
    right = rng.random(labels.size) < skill
    named = np.where(right, labels, 1 - labels)
    return np.eye(2)[named] * rng.uniform(0.5, 2.0, (labels.size, 1))


@pytest.mark.parametrize("score", ["loss", "accuracy", "balanced_accuracy", "macro_f1", "auroc"])
def test_scores_are_those_of_scikit_learn_under_weights(score: str) -> None:
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 2, 40), rng.normal(size=(40, 2))
    weights = rng.integers(0, 3, (2, 40)).astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    named = logits.argmax(axis=1)
    theirs = {
        "loss": lambda w: log_loss(labels, chances, sample_weight=w),
        "accuracy": lambda w: np.average(named == labels, weights=w),
        "balanced_accuracy": lambda w: balanced_accuracy_score(labels, named, sample_weight=w),
        "macro_f1": lambda w: f1_score(labels, named, average="macro", sample_weight=w),
        "auroc": lambda w: roc_auc_score(labels, chances[:, 1], sample_weight=w),
    }[score]
    assert weighted_scores(logits, labels, score, weights) == pytest.approx([theirs(w) for w in weights], rel=1e-9)


def test_the_calibrated_loss_is_that_at_the_fitted_temperature_whatever_the_confidence() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 50)
    logits = np.eye(3)[np.where(rng.random(50) < 0.8, labels, (labels + 1) % 3)] + rng.normal(0, 0.3, (50, 3))
    counts = np.stack([np.ones(50, int), rng.integers(0, 3, 50)])
    fitted = []
    for row in counts:
        chances, truth = softmax(logits[np.repeat(np.arange(50), row)], axis=1), np.repeat(labels, row)
        fitted.append(log_loss(truth, apply_temperature(chances, fit_temperature(chances, truth))))
    for confidence in (0.3, 1.0, 4.0):
        found = weighted_scores(confidence * logits, labels, "calibrated_loss", counts.astype(float))
        assert found == pytest.approx(fitted, rel=1e-3)
        plain = weighted_scores(confidence * logits, labels, "loss", counts.astype(float))
        assert (found <= plain + 1e-9).all()
    assert np.isnan(weighted_scores(logits, labels, "calibrated_loss", np.zeros((1, 50)))[0])


def test_the_best_of_many_coins_is_worth_a_coin() -> None:
    """Twenty coins on 60 items: the luckiest looks like 0.6 and more, and is worth 0.5."""
    apparent, corrected = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 60)
        found = judge_selection([guesses(rng, labels, 0.5) for _ in range(20)], labels, None, "accuracy", resamples=200)
        apparent.append(found.apparent.value)
        corrected.append(found.corrected.value)
    assert np.mean(apparent) > 0.58
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.04)


def test_a_true_gain_is_seen_and_a_chance_one_is_not() -> None:
    rng = np.random.default_rng(3)
    labels, groups = rng.integers(0, 2, 400), np.repeat(np.arange(100), 4)
    coins = [guesses(rng, labels, 0.6) for _ in range(6)]
    without = judge_selection(coins, labels, groups, "accuracy", reference=0, resamples=400)
    assert not without.beats_reference
    better = judge_selection(
        [*coins, guesses(rng, labels, 0.85)], labels, groups, "accuracy", reference=0, resamples=400
    )
    assert better.best == 6
    assert better.beats_reference
    assert better.corrected.value == pytest.approx(0.85, abs=0.05)


def test_lower_is_better_for_the_loss_and_optimism_is_positive_where_it_flatters() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 80)
    trials = [guesses(rng, labels, 0.7) for _ in range(10)]
    found = judge_selection(trials, labels, None, "loss", resamples=200)
    losses = [weighted_scores(one, labels, "loss", np.ones((1, 80)))[0] for one in trials]
    assert found.best == int(np.argmin(losses))
    assert found.optimism == pytest.approx(found.corrected.value - found.apparent.value)
    assert found.optimism > 0


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(InputError, match="no trial with answers"):
        judge_selection([], np.zeros(3, int), None, "loss")
