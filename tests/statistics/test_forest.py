"""Forests over many classes: the same probabilities as one forest gives, without its memory."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from ct_xception.statistics import forest
from ct_xception.statistics.forest import TREES, forest_probabilities


def grow(trees: int, seed: int) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=seed, n_jobs=1)


@pytest.fixture
def items() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 2, 3], 30)
    return labels[:, None] + random.normal(size=(90, 4)), labels


def test_few_classes_are_one_forest_of_scikit_learn(items) -> None:
    values, labels = items
    found = forest_probabilities(grow, values, labels, values[:10], 5, seed=4)
    expected = grow(TREES, 4).fit(values, labels).predict_proba(values[:10])
    assert np.array_equal(found[:, [0, 2, 3]], expected) and not found[:, [1, 4]].any()


def test_many_classes_are_grown_in_parts_that_weigh_as_one(items, monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = items
    monkeypatch.setattr(forest, "CLASSES_A_PART", 1)
    grown: list[tuple[int, int]] = []

    def counted(trees: int, seed: int) -> ExtraTreesClassifier:
        grown.append((trees, seed))
        return grow(trees, seed)

    found = forest_probabilities(counted, values, labels, values, 4, seed=4)
    assert grown == [(34, 4), (33, 5), (33, 6)]
    assert found.sum(axis=1) == pytest.approx(np.ones(90)) and (found.argmax(axis=1) == labels).mean() > 0.9
    parts = [count * grow(count, seed).fit(values, labels).predict_proba(values) for count, seed in grown]
    assert found[:, [0, 2, 3]] == pytest.approx(sum(parts) / TREES)
