"""Gated attention: its scores by hand, and what arrays it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.metrics import PooledBy
from ct_xception.statistics.attention import GatedAttention, attention_weights
from ct_xception.statistics.pooling import fit_pooling, pool_slices, pool_units, slice_support

ARRAYS = {
    "tanh_weight": np.array([[1.0, 0.0], [0.5, -1.0]], np.float32),
    "tanh_bias": np.array([0.0, 0.25], np.float32),
    "gate_weight": np.array([[0.0, 2.0], [1.0, 1.0]], np.float32),
    "gate_bias": np.array([-1.0, 0.0], np.float32),
    "score_weight": np.array([2.0, -1.0], np.float32),
}
FEATURES = np.array([[1.0, 0.5], [0.0, -1.0]])


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_scores_by_hand() -> None:
    wanted = [
        2 * math.tanh(1.0) * logistic(0.0) - math.tanh(0.25) * logistic(1.5),
        2 * math.tanh(0.0) * logistic(-3.0) - math.tanh(1.25) * logistic(-1.0),
    ]
    found = GatedAttention.of(ARRAYS)(FEATURES)
    assert found == pytest.approx(wanted)
    weights = attention_weights(found)
    assert weights == pytest.approx(np.exp(wanted) / np.exp(wanted).sum())
    assert attention_weights([1000.0, -1000.0]) == pytest.approx([1, 0])


def test_a_head_over_attended_features_says_what_attended_answers_say() -> None:
    """Ilse et al. put a linear classifier over the mean of features; ours is a mean of its answers."""
    rng = np.random.default_rng(0)
    features, head, bias = rng.normal(0, 1, (6, 2)), rng.normal(0, 1, (3, 2)), rng.normal(0, 1, 3)
    logits = features @ head.T + bias
    each = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = GatedAttention.of(ARRAYS)(features)
    bag = attention_weights(scores) @ features
    wanted = np.exp(bag @ head.T + bias)
    assert pool_slices(each, "attention", attention=scores) == pytest.approx(wanted / wanted.sum())


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("tanh_weight", np.zeros((2, 3), np.float32), "shapes"),
        ("score_weight", np.zeros((0,), np.float32), "shapes"),
        ("score_weight", np.zeros((2, 1), np.float32), "shapes"),
        ("gate_bias", np.array([np.nan, 0], np.float32), "not finite"),
        ("gate_bias", np.array([1, 0]), "not finite"),
    ],
)
def test_other_arrays_are_refused(name: str, array: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GatedAttention.of(ARRAYS | {name: array})
    with pytest.raises(KeyError):
        GatedAttention.of({key: value for key, value in ARRAYS.items() if key != name})
    with pytest.raises(ValueError, match="got 3 features for an attention of 2"):
        GatedAttention.of(ARRAYS)(np.zeros((4, 3)))


TWO = np.array([[0.9, 0.1], [0.4, 0.6]])
SCORES = np.log([3.0, 1.0])  # weights of three quarters and one


def test_pooling_with_weights_by_hand() -> None:
    first, second = 0.9**0.75 * 0.4**0.25, 0.1**0.75 * 0.6**0.25
    assert pool_slices(TWO, "attention", attention=SCORES)[0] == pytest.approx(first / (first + second))
    assert pool_slices(TWO, "attention", attention=[5.0, 5.0]) == pytest.approx(pool_slices(TWO, "mean_log"))
    support = slice_support(TWO, 0, "attention", attention=SCORES)
    whole = math.log(first / (first + second))
    assert support == pytest.approx([whole - math.log(0.4), whole - math.log(0.9)])
    rule = PooledBy(unit="patient", method="attention", temperature=1.0)
    both = pool_units(np.concatenate([TWO, TWO]), ["b", "a", "b", "a"], rule, np.concatenate([SCORES, [0, 0]]))
    assert both.probabilities[1] == pytest.approx(pool_slices(TWO[[0, 0]], "attention", attention=[SCORES[0], 0.0]))


@pytest.mark.parametrize("scores", [None, [0.0, np.nan]])
def test_without_scores_it_says_so(scores: list[float] | None) -> None:
    with pytest.raises(InputError, match="no attention scores"):
        pool_slices(TWO, "attention", attention=scores)


def test_it_is_chosen_only_where_it_surely_helps() -> None:
    """Where each patient has one slice all pools are one, and equal scores are the mean of logits."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40) % 2, 4)
    told = np.tile([True, False, False, False], 40)
    logit = np.where(told, 3.0, 0.0) * np.where(labels == 0, 1, -1) + rng.normal(0, 1.5, 160)
    each, patients = np.stack([1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))], axis=1), np.repeat(np.arange(40), 4)
    good, useless = np.where(told, 4.0, 0.0), np.zeros(160)
    assert fit_pooling(each, labels, patients, attention=good)["method"] == "attention"
    assert fit_pooling(each, labels, patients, attention=useless)["method"] != "attention"
    assert "attention" not in fit_pooling(each, labels, patients)["losses"]
    alone = fit_pooling(each[told], labels[told], patients[told], attention=good[told])
    assert alone["method"] == "mean_log" and "losses" not in alone
