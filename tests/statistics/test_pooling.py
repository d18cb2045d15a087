"""Slices pooled into one answer, and the rule by which that is done chosen and calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from ct_xception.errors import InputError
from ct_xception.metrics import PooledBy
from ct_xception.statistics.pooling import (
    DEFAULT,
    POOLS,
    fit_pooling,
    members_of,
    pool_slices,
    pool_units,
    slice_support,
    unit_labels,
)

TWO = np.array([[0.9, 0.1], [0.4, 0.6]])


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("mean_log", (np.sqrt(0.9 * 0.4), np.sqrt(0.1 * 0.6))),
        ("mean", (0.65, 0.35)),
        ("noisy_or", (1 - 0.1 * 0.6, 1 - 0.9 * 0.4)),
        ("top_1", (0.9, 0.6)),
        ("top_3", (np.sqrt(0.9 * 0.4), np.sqrt(0.1 * 0.6))),  # there are only two
    ],
)
def test_each_pool_by_hand(method: str, scores: tuple[float, float]) -> None:
    wanted = np.array(scores) / sum(scores)
    assert pool_slices(TWO, method) == pytest.approx(wanted)
    tempered = np.array(scores) ** 2 / (np.array(scores) ** 2).sum()
    assert pool_slices(TWO, method, 0.5) == pytest.approx(tempered)


def test_the_three_surest_are_counted_by_class() -> None:
    each = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    first, second = np.cbrt(0.9 * 0.8 * 0.6), np.cbrt(0.9 * 0.4 * 0.2)
    assert pool_slices(each, "top_3")[0] == pytest.approx(first / (first + second))


@pytest.mark.parametrize("method", POOLS)
def test_pools_are_probabilities_whatever_the_slices_say(method: str) -> None:
    each = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1e-300, 1e-300, 1.0]])
    alike = np.zeros(600) if POOLS[method].learnt else None
    pooled = pool_slices(np.repeat(each, 200, axis=0), method, attention=alike)
    assert np.isfinite(pooled).all() and pooled.sum() == pytest.approx(1)
    assert pooled == pytest.approx(np.full(3, 1 / 3))  # all three are shown alike
    one = pool_slices(each[:1] * 0.97 + 0.01, method, attention=None if alike is None else alike[:1])
    assert one == pytest.approx(each[0] * 0.97 + 0.01)  # one slice is its patient's answer


def test_an_unknown_pool_is_named() -> None:
    with pytest.raises(InputError, match="aggregation 'loudest' is unknown; choose from mean_log"):
        pool_slices(TWO, "loudest")


def test_units_are_in_the_order_of_their_names_and_mixed_ones_have_no_class() -> None:
    units = ["b", "a", "b", "c", "a"]
    members = members_of(units)
    assert {name: rows.tolist() for name, rows in members.items()} == {"a": [1, 4], "b": [0, 2], "c": [3]}
    assert unit_labels([1, 0, 1, 2, 1], list(members.values())).tolist() == [-1, 1, 2]
    pooled = pool_units(np.repeat(TWO[:1], 5, axis=0), units, PooledBy(unit="patient", method="mean", temperature=1.0))
    assert pooled.names == ["a", "b", "c"] and pooled.probabilities[:, 0] == pytest.approx(0.9)
    assert members_of([]) == {} and pool_units(np.empty((0, 2)), [], None).probabilities.shape == (0, 2)


def test_support_is_what_an_answer_loses_without_the_slice() -> None:
    support = slice_support(TWO, 0, "mean")
    assert support == pytest.approx([np.log(0.65 / 0.4), np.log(0.65 / 0.9)])
    assert support[0] > 0 > support[1]
    assert slice_support(TWO[:1], 0) == pytest.approx([np.log(0.9) + np.log(2)])


def drawn(patients: int, slices: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Slices whose logits share a patient's own error, so that more slices of one say little more."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(patients) % 2, slices)
    own = np.repeat(rng.normal(0, spread, (patients, 2)), slices, axis=0)
    logits = 2.5 * np.eye(2)[truth] + own + rng.normal(0, 0.5, (len(truth), 2))
    return softmax(logits, axis=1), truth, [f"p{number:03d}" for number in np.repeat(np.arange(patients), slices)]


def test_the_temperature_is_the_patients_own() -> None:
    scores, truth, units = drawn(200, 6, 3.0)
    rule = fit_pooling(scores, truth, units)
    assert rule["method"] == DEFAULT and rule["n"] == 1200 and rule["n_groups"] == rule["several"] == 200
    assert rule["temperature"] > 1.5  # patients are wrong as wholes: their answers were too sure
    assert set(rule["losses"]) == set(POOLS) - {"attention"} and "reason" not in rule


def test_a_sign_that_one_slice_shows_is_pooled_otherwise() -> None:
    """Of six slices of a positive patient one alone is positive, at whatever place: the mean drowns it."""
    rng = np.random.default_rng(1)
    patients, slices = 120, 6
    truth = np.repeat(np.arange(patients) % 2, slices)
    shown = (np.arange(len(truth)) % slices == rng.integers(0, slices, patients).repeat(slices)) & (truth == 1)
    logit = np.where(shown, 4.0, -2.0) + rng.normal(0, 1.5, len(truth))
    scores = softmax(np.stack([np.zeros(len(truth)), logit], axis=1), axis=1)
    rule = fit_pooling(scores, truth, np.repeat(np.arange(patients), slices).tolist())
    assert rule["method"] != DEFAULT
    assert rule["losses"][rule["method"]] < rule["losses"][DEFAULT] - 0.05


@pytest.mark.parametrize(("patients", "slices"), [(12, 4), (60, 1)])
def test_too_few_patients_choose_nothing(patients: int, slices: int) -> None:
    rule = fit_pooling(*drawn(patients, slices, 1.0))
    assert (rule["method"], rule["temperature"]) == (DEFAULT, 1.0) and "losses" not in rule
    assert f"validation has {patients} patients" in rule["reason"]


def test_patients_of_several_classes_are_left_out() -> None:
    scores, truth, units = drawn(40, 3, 1.0)
    truth[0] = 1 - truth[0]
    assert fit_pooling(scores, truth, units)["mixed"] == 1
    assert fit_pooling(scores, truth, units)["n"] == 117
