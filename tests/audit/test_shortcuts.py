"""Shortcuts: figures against scikit-learn, planted rules found by name, chance left alone, patients kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from ct_xception.audit.shortcuts import (
    Subjects,
    ask_label,
    auc_figure,
    balanced_figure,
    best_separator,
    find_shifts,
    find_shortcuts,
    group_weights,
    weighted_auc,
)
from tests.audit.surveys import make_survey

NAMES = ["cancer", "normal"]


def subjects(labels: np.ndarray, groups: np.ndarray | None = None, splits: list[str] | None = None) -> Subjects:
    groups = np.arange(len(labels)) if groups is None else groups
    return Subjects(labels, groups, splits or ["train"] * len(labels), NAMES)


def test_auc_agrees_with_scikit_learn_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 80).astype(float), rng.random(80) < 0.4
    weights = rng.integers(0, 4, (5, 80)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auc(scores, positive, weights), expected, atol=1e-12)


def test_auc_of_a_side_that_was_not_drawn_is_left_out() -> None:
    scores, positive = np.array([1.0, 2.0, 3.0]), np.array([False, True, True])
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    assert np.isnan(weighted_auc(scores, positive, weights)).tolist() == [False, True]
    assert auc_figure(scores, positive, weights) == {
        "value": 1.0, "n": 3, "low": 1.0, "high": 1.0, "method": "bootstrap_by_group", "positive": 2,
    }  # fmt: skip


def test_balanced_accuracy_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, answers = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    figure = balanced_figure(answers == labels, labels, group_weights(np.arange(60)))
    assert figure["value"] == pytest.approx(balanced_accuracy_score(labels, answers))
    assert figure["low"] < figure["value"] < figure["high"]


def test_a_bootstrap_draws_whole_groups() -> None:
    weights = group_weights(np.array([0, 0, 1, 2, 2, 2]), seed=4)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_a_planted_rule_is_found_and_named() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 60)
    columns = {"width": rng.normal(size=120), "sd": rng.normal(size=120) - 4.0 * labels}
    found = ask_label("grey_statistics", columns, subjects(labels), seed=1)
    separator = found.separators["normal"]
    assert found.auc["normal"]["low"] > 0.95
    assert found.balanced_accuracy["low"] > 0.9 > found.chance == 0.5
    assert (separator.attribute, separator.above) == ("sd", False)
    assert separator.auc["value"] == pytest.approx(roc_auc_score(labels, -columns["sd"]))
    assert separator.hit > 0.9 > 0.1 > separator.alarm
    assert found.strongest in NAMES


def test_noise_is_not_told_from_chance() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 80)
    found = ask_label("border", {f"n{i}": rng.normal(size=160) for i in range(10)}, subjects(labels), seed=1)
    assert found.auc["normal"]["low"] < 0.5 < found.auc["normal"]["high"] + 0.05
    assert found.balanced_accuracy["low"] <= 0.55


def test_a_patients_own_number_is_no_shortcut() -> None:
    """Every patient has a number of its own and one label: what only recognises patients must score as chance."""
    groups = np.repeat(np.arange(24), 8)
    labels = np.random.default_rng(5).permutation(np.repeat([0, 1], 12))[groups]
    number = np.random.default_rng(6).normal(size=24)[groups]
    kept = ask_label("border", {"a": number}, subjects(labels, groups))
    torn = ask_label("border", {"a": number}, subjects(labels))
    assert torn.auc["normal"]["value"] > 0.99
    assert kept.auc["normal"]["value"] < 0.75
    assert kept.groups == 24


def test_too_few_patients_are_a_reason() -> None:
    found = ask_label("border", {"a": np.arange(4.0)}, subjects(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3])))
    assert "two patients" in found.reason
    assert found.strongest == ""


def test_best_separator_takes_either_direction() -> None:
    positive = np.array([True] * 3 + [False] * 3)
    columns = {"up": np.array([1.0, 2, 3, 2, 3, 4]), "down": np.array([1.0, 2, 3, 7, 8, 9])}
    found = best_separator(columns, positive, group_weights(np.arange(6)))
    assert (found.attribute, found.above, found.threshold) == ("down", False, 5.0)
    assert (found.hit, found.alarm, found.auc["value"]) == (1.0, 0.0, 1.0)


def framed(shift: float) -> tuple[list[str], list[int], np.ndarray]:
    splits, labels = ["train"] * 40 + ["test"] * 40, ([0] * 20 + [1] * 20) * 2
    moved = np.array([split == "test" and label == 0 for split, label in zip(splits, labels, strict=True)])
    return splits, labels, np.random.default_rng(7).uniform(0, 0.05, 80) + shift * moved


def test_a_framing_shift_of_one_class_is_found_with_its_shares() -> None:
    splits, labels, margins = framed(0.2)
    survey = make_survey(splits, labels, columns={"border": {"margin_below": margins}})
    (shift,) = find_shifts(survey, survey.sources)
    assert shift.family == "border"
    assert shift.classes == {"cancer": 1.0}
    assert shift.separator.attribute == "margin_below" and shift.separator.above
    assert 0.05 < shift.separator.threshold < 0.2
    assert shift.shares == {"train": 0.0, "test": 1.0}
    assert shift.counts == {"train": 20, "test": 20}


def test_no_shift_where_there_is_none_or_too_few_patients() -> None:
    splits, labels, margins = framed(0.0)
    assert find_shifts(make_survey(splits, labels, columns={"border": {"margin_below": margins}}), ["p"] * 80) == []
    survey = make_survey(splits, labels, columns={"border": {"margin_below": margins}})
    assert find_shifts(survey, survey.sources) == []


def test_families_without_variation_are_not_asked() -> None:
    splits, labels, margins = framed(0.0)
    survey = make_survey(splits, labels, columns={"border": {"margin_below": margins}}, windows=["a", "b"] * 40)
    found = find_shortcuts(survey, survey.sources)
    assert [shortcut.family for shortcut in found] == ["border", "acquisition"]


def test_unreadable_images_take_no_part() -> None:
    splits, labels, margins = framed(0.0)
    margins[0] = np.nan
    survey = make_survey(splits, labels, columns={"border": {"margin_below": margins}})
    survey.failed[survey.sources[0]] = "damaged"
    (found,) = find_shortcuts(survey, survey.sources)
    assert found.n == 79
