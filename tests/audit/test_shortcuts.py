"""Shortcuts: figures against scikit-learn, planted rules found by name, chance left alone, patients kept apart."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ct_xception.audit.shortcuts import (
    Subjects,
    ask_label,
    auc_figure,
    best_separator,
    find_shifts,
    find_shortcuts,
    resample,
    surely,
)
from ct_xception.statistics.intervals import group_indices
from ct_xception.statistics.metrics import classification_metrics
from tests.audit.surveys import make_survey

NAMES = ["cancer", "normal"]


def subjects(labels: np.ndarray, groups: np.ndarray | None = None, splits: list[str] | None = None) -> Subjects:
    groups = np.arange(len(labels)) if groups is None else groups
    return Subjects(labels, groups, splits or ["train"] * len(labels), NAMES)


def test_an_auc_of_one_in_every_resample_has_no_interval_and_is_sure() -> None:
    scores, positive, groups = np.arange(20.0), np.arange(20) > 9, np.arange(20)
    figure = auc_figure(scores, positive, groups, resample(groups))
    assert (figure.value, figure.low, figure.positive) == (1.0, None, 10) and surely(figure) == 1.0
    worse = auc_figure(np.where(scores == 3, 15.5, scores), positive, groups, resample(groups))
    assert surely(worse) == worse.low < worse.value < 1


def test_intervals_are_those_of_the_figures_that_are_published() -> None:
    """One bootstrap: the audit's AUC of a score is the evaluation's."""
    rng = np.random.default_rng(4)
    labels, groups = rng.integers(0, 2, 90), [f"patient {row // 2}" for row in range(90)]
    scores = np.clip(0.3 * labels + 0.35 + rng.normal(0, 0.2, 90), 0.01, 0.99)
    published = classification_metrics(np.stack([1 - scores, scores], axis=1), labels, NAMES, groups, seed=3)
    numbered = group_indices(groups, 90)
    found = auc_figure(scores, labels == 1, numbered, resample(numbered, seed=3))
    assert found.to_json() == published.per_class["normal"].auroc.to_json() | {"positive": int(labels.sum())}


def test_many_classes_are_bounded() -> None:
    rng = np.random.default_rng(8)
    labels, names = np.repeat(np.arange(300), 4), [f"class {k}" for k in range(300)]
    columns = {"sd": rng.normal(size=1200) + 9.0 * (labels == 7), "mean": rng.normal(size=1200)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = ask_label("grey_statistics", columns, Subjects(labels, np.arange(1200), ["train"] * 1200, names), seed=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    assert len(found.auc) == len(found.separators) == 20 and found.strongest == "class 7"
    assert found.balanced_accuracy.value == pytest.approx(found.accuracy.value)  # four images a class


def test_a_planted_rule_is_found_and_named() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 60)
    columns = {"width": rng.normal(size=120), "sd": rng.normal(size=120) - 4.0 * labels}
    found = ask_label("grey_statistics", columns, subjects(labels), seed=1)
    separator = found.separators["normal"]
    assert surely(found.auc["normal"]) > 0.95
    assert surely(found.balanced_accuracy) > 0.9 > found.chance == 0.5
    assert (separator.attribute, separator.above) == ("sd", False)
    assert separator.auc.value == pytest.approx(roc_auc_score(labels, -columns["sd"]))
    assert separator.hit > 0.9 > 0.1 > separator.alarm
    assert found.strongest in NAMES


def test_noise_is_not_told_from_chance() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 80)
    found = ask_label("border", {f"n{i}": rng.normal(size=160) for i in range(10)}, subjects(labels), seed=1)
    assert found.auc["normal"].low < 0.5 < found.auc["normal"].high + 0.05
    assert found.balanced_accuracy.low <= 0.55


def test_a_patients_own_number_is_no_shortcut() -> None:
    """Every patient has a number of its own and one label: what only recognises patients must score as chance."""
    groups = np.repeat(np.arange(24), 8)
    labels = np.random.default_rng(5).permutation(np.repeat([0, 1], 12))[groups]
    number = np.random.default_rng(6).normal(size=24)[groups]
    kept = ask_label("border", {"a": number}, subjects(labels, groups))
    torn = ask_label("border", {"a": number}, subjects(labels))
    assert torn.auc["normal"].value > 0.99
    assert kept.auc["normal"].value < 0.75
    assert kept.groups == 24


def test_too_few_patients_are_a_reason() -> None:
    found = ask_label("border", {"a": np.arange(4.0)}, subjects(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 3])))
    assert "two patients" in found.reason
    assert found.strongest == ""


def test_best_separator_takes_either_direction() -> None:
    positive = np.array([True] * 3 + [False] * 3)
    columns = {"up": np.array([1.0, 2, 3, 2, 3, 4]), "down": np.array([1.0, 2, 3, 7, 8, 9])}
    found = best_separator(columns, positive, np.arange(6), resample(np.arange(6)))
    assert (found.attribute, found.above, found.threshold) == ("down", False, 5.0)
    assert (found.hit, found.alarm, found.auc.value) == (1.0, 0.0, 1.0)


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
