"""Labels at odds: planted flips are found by answers that kept patients apart; no label is judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.labels_at_odds import (
    BY_FEATURES,
    BY_NETWORKS,
    Held,
    feature_answers,
    find_labels_at_odds,
    hold_answers,
    write_labels_at_odds,
)
from ct_xception.statistics.label_issues import find_label_issues

NAMES = ["a", "b", "c"]


def test_the_margin_ranks_and_the_usual_confidence_flags() -> None:
    scores = [[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.45, 0.5, 0.05], [0.0, 0.1, 0.9]]
    labels = [0, 0, 0, 1, 0, 2]
    found = find_label_issues(scores, labels)
    assert found.margin == pytest.approx([0.8, 0.2, -0.5, 0.7, -0.05, 0.8])
    assert found.order.tolist() == [2, 4, 1, 3, 0, 5]
    # b is mostly 0.8 sure on its own items, so 0.7 and 0.5 are not confident answers
    assert found.at_odds.tolist() == [False] * 6
    assert find_label_issues([*scores, [0.0, 0.9, 0.1], [0.3, 0.6, 0.1]], [*labels, 0, 1]).at_odds.tolist() == [
        False, False, True, False, False, False, True, False
    ]  # fmt: skip


def clusters(patients: int, slices: int, seed: int = 0) -> tuple[Items, np.ndarray, np.ndarray]:
    """Features that tell three classes apart and, more strongly, patients; 5 % of labels are flipped."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(patients) % 3, slices)
    own = np.repeat(rng.normal(0, 1, (patients, 12)), slices, axis=0)
    features = own + 4 * np.eye(3, 12)[truth] + rng.normal(0, 0.3, (len(truth), 12))
    flipped = rng.choice(len(truth), len(truth) // 20, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + rng.integers(1, 3, len(flipped))) % 3
    groups = [f"p{number}" for number in np.repeat(np.arange(patients), slices)]
    return Items(labels, groups, [f"s{row}" for row in range(len(labels))]), features.astype(np.float32), flipped


def test_planted_flips_lead_the_list() -> None:
    items, features, flipped = clusters(60, 5)
    answers = feature_answers(items, features, 3, seed=0)
    assert answers is not None
    first = find_label_issues(answers, items.labels).order[: len(flipped)]
    assert np.isin(first, flipped).mean() >= 0.9
    found = find_labels_at_odds(Held(items, answers, BY_FEATURES), NAMES)
    assert np.mean([one.source in {f"s{row}" for row in flipped} for one in found.found]) >= 0.9
    assert found.n == 300 and found.n_groups == 60
    assert all(one.label != one.suggested and one.probability < one.probability_suggested for one in found.found)


def test_no_patient_answers_for_itself() -> None:
    """A patient whose every slice is filed wrong is at odds: had a fold learnt from its slices, it would agree."""
    items, features, _ = clusters(60, 5)
    labels = items.labels.copy()
    labels[:5] = 1  # patient p0 is of class 0
    answers = feature_answers(Items(labels, items.groups, items.sources), features, 3, seed=0)
    assert answers is not None and (answers[:5].argmax(axis=1) == 0).all()


def test_whose_answers_they_are() -> None:
    items, _, _ = clusters(4, 2)
    scores = np.full((8, 3), 1 / 3)
    scores[3] = np.nan
    held = hold_answers((items, Answers(scores, {"s3": "torn"})), None, {}, None, 0)
    assert held is not None and held.by == BY_NETWORKS and len(held.items.sources) == 7
    assert hold_answers(None, None, {}, None, 0) is None
    assert feature_answers(items, np.zeros((8, 2), np.float32), 3, 0) is None  # four groups make no five folds


def test_the_list_is_written_whole(tmp_path: Path) -> None:
    items = Items(np.array([0, 1, 0]), ["p", "p", "q"], ["x.png", "y.png", "z.png"])
    held = Held(items, np.array([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4]]), BY_NETWORKS)
    write_labels_at_odds(tmp_path, find_labels_at_odds(held, ["a", "b"]))
    record = json.loads((tmp_path / "labels_at_odds.json").read_text())
    assert (record["by"], record["n"], record["n_groups"]) == (BY_NETWORKS, 3, 2)
    assert [one["source"] for one in record["at_odds"]] == ["x.png"]
    assert record["at_odds"][0]["suggested"] == "b" and record["at_odds"][0]["probability_suggested"] == 0.9
