"""Questions between and within class groups, by hand and against metrics of the problem cut by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ct_xception.errors import InputError
from ct_xception.metrics import ClassificationMetrics
from ct_xception.statistics.class_groups import partition_classes, question_figures
from ct_xception.statistics.metrics import classification_metrics
from tests.evaluation.answers import draw_answers

NAMES = ["adeno", "large", "normal", "squamous"]
GROUPS = {"cancer": ["adeno", "large", "squamous"]}


def test_four_items_by_hand() -> None:
    probabilities = [[0.3, 0.2, 0.4, 0.1], [0.1, 0.1, 0.2, 0.6], [0.1, 0.0, 0.9, 0.0], [0.2, 0.5, 0.3, 0.0]]
    labels = [0, 3, 2, 0]
    overall = classification_metrics(probabilities, labels, NAMES)
    found = question_figures(probabilities, labels, NAMES, GROUPS)
    # The first item is called normal among four classes, and cancer (0.6 against 0.4) between two.
    assert overall.accuracy.value == 0.5 and found.groups.accuracy.value == 1
    assert found.groups.confusion_matrix == [[3, 0], [0, 1]]
    assert list(found.within) == ["cancer"]
    cancer = found.within["cancer"]
    assert cancer.n == 3 and cancer.confusion_matrix == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert cancer.log_loss.value == pytest.approx(-np.log([3 / 6, 6 / 8, 2 / 7]).mean())


def test_within_is_the_problem_cut_out_with_its_groups() -> None:
    probabilities, labels = draw_answers(200, seed=1, sharpness=1.0)
    patients = [f"patient {i // 4}" for i in range(200)]
    found = question_figures(probabilities, labels, NAMES, GROUPS, patients, seed=3, resamples=50)
    kept = labels != 2
    cut = probabilities[kept][:, [0, 1, 3]]
    wanted = classification_metrics(
        cut / cut.sum(axis=1, keepdims=True),
        np.array([0, 1, -1, 2])[labels[kept]],
        ["adeno", "large", "squamous"],
        np.array(patients)[kept].tolist(),
        seed=3,
        resamples=50,
    )
    assert found.within["cancer"] == wanted
    json.dumps(found.to_json(), allow_nan=False)


def test_a_group_without_probability_or_without_items() -> None:
    found = question_figures([[0.0, 0.0, 1.0, 0.0]], [1], NAMES, GROUPS)
    assert found.within["cancer"].log_loss.value == pytest.approx(np.log(3))
    assert question_figures([[0.0, 0.0, 1.0, 0.0]], [2], NAMES, GROUPS).within == {"cancer": ClassificationMetrics(n=0)}


def test_classes_left_over_are_groups_of_their_own() -> None:
    assert partition_classes(GROUPS, NAMES) == {"cancer": ("adeno", "large", "squamous"), "normal": ("normal",)}
    assert partition_classes({"normal": ["normal"], **GROUPS}, NAMES)["normal"] == ("normal",)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"cancer": []}, "'cancer' holds no class"),
        ({"cancer": ["adno"]}, r"unknown classes \(adno\); there are adeno, large"),
        ({"a": ["adeno"], "b": ["adeno"]}, "hold adeno more than once"),
        ({"normal": ["adeno"]}, "'normal' has the name of a class outside it"),
        ({"all": NAMES}, "'all' holds every class"),
    ],
)
def test_groups_that_make_no_question_are_refused(groups: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        partition_classes(groups, NAMES)
