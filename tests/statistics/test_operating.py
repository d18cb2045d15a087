"""Operating points and abstention against scikit-learn's ROC curve and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_curve

from ct_xception.checkpoint_files import Abstention, Side
from ct_xception.errors import InputError
from ct_xception.serving.decisions import Decisions
from ct_xception.statistics.operating import (
    abstention_figures,
    choose_abstention,
    choose_operating_points,
    operating_figures,
)
from tests.evaluation.answers import draw_answers

NAMES = ["adeno", "large", "normal", "squamous"]
GROUPS = {"cancer": ["adeno", "large", "squamous"]}


def binary(scores: list[float]) -> np.ndarray:
    return np.stack([np.array(scores), 1 - np.array(scores)], axis=1)


class TestChoice:
    @pytest.mark.parametrize("value", [0.7, 0.9, 0.95])
    @pytest.mark.parametrize("target", ["sensitivity", "specificity"])
    def test_is_the_best_point_of_scikit_learn_s_curve(self, target: str, value: float) -> None:
        probabilities, labels = draw_answers(150, seed=1, sharpness=1.0)
        points = choose_operating_points(probabilities, labels, NAMES, GROUPS, targets=[(target, value)])
        assert [point.name.split(":")[0] for point in points] == [*NAMES, "cancer"]
        for point, columns in zip(points, ([0], [1], [2], [3], [0, 1, 3]), strict=True):
            own = np.isin(labels, columns)
            false, true, _ = roc_curve(own, probabilities[:, columns].sum(axis=1), drop_intermediate=False)
            rates = {"sensitivity": true, "specificity": 1 - false}
            other = "specificity" if target == "sensitivity" else "sensitivity"
            assert getattr(point, target).value >= value - 1e-9
            assert getattr(point, other).value == pytest.approx(rates[other][rates[target] >= value - 1e-9].max())
            assert getattr(point, target).low < getattr(point, target).value <= getattr(point, target).high

    def test_by_hand(self) -> None:
        probabilities = binary([0.9, 0.8, 0.6, 0.7, 0.3, 0.2, 0.1])  # the first three are positive
        labels = [0, 0, 0, 1, 1, 1, 1]
        points = choose_operating_points(probabilities, labels, ["x", "y"], targets=[("specificity", 1.0)])
        point = points[0]
        assert point.threshold == pytest.approx(0.75)  # between 0.8 and 0.7
        assert point.sensitivity.value == pytest.approx(2 / 3) and point.specificity.value == 1
        assert (point.n, point.n_positive) == (7, 3)
        loose = choose_operating_points(probabilities, labels, ["x", "y"], targets=[("sensitivity", 0.95)])[0]
        assert loose.threshold == pytest.approx(0.45) and loose.specificity.value == 0.75

    def test_what_cannot_be_had_says_why_and_is_applied_nowhere(self) -> None:
        probabilities, labels = binary([0.2, 0.9]), [0, 1]  # the negative scores highest
        point = choose_operating_points(probabilities, labels, ["x", "y"], targets=[("specificity", 0.95)])[0]
        one = choose_operating_points(probabilities, [0, 0], ["x", "y"])[0]
        assert point.threshold is None and "no threshold reaches a specificity of 0.95" in point.reason
        assert "one side only" in one.reason
        assert operating_figures([point, one], probabilities, labels, ["x", "y"]) == ()
        assert (
            Decisions.of(Side.of({"operating_points": [point.to_json(), one.to_json()]}), ["x", "y"]).operating_points
            == ()
        )

    def test_a_group_of_one_class_is_not_asked_twice(self) -> None:
        probabilities, labels = draw_answers(50, seed=2)
        groups = {**GROUPS, "healthy": ["normal"]}
        points = choose_operating_points(probabilities, labels, NAMES, groups, targets=[("sensitivity", 0.9)])
        names = [point.name.split(":")[0] for point in points]
        assert names == ["adeno", "large", "squamous", "cancer", "healthy"]
        assert [point.kind for point in points] == ["class"] * 3 + ["group"] * 2

    @pytest.mark.parametrize("target", [("accuracy", 0.9), ("sensitivity", 0.0), ("specificity", 1.2)])
    def test_bad_targets_are_refused(self, target: tuple[str, float]) -> None:
        with pytest.raises(InputError, match=f"Operating target {target[0]}"):
            choose_operating_points(binary([0.5]), [0], ["x", "y"], targets=[target])


class TestFigures:
    def test_on_other_items_they_are_scikit_learn_s(self) -> None:
        points = choose_operating_points(*draw_answers(80, seed=3), NAMES, GROUPS)
        probabilities, labels = draw_answers(200, seed=4, sharpness=1.5)
        for found in operating_figures(points, probabilities, labels, NAMES):
            columns = [NAMES.index(name) for name in found.positive]
            own, called = np.isin(labels, columns), probabilities[:, columns].sum(axis=1) >= found.threshold
            assert found.sensitivity.value == pytest.approx(recall_score(own, called))
            assert found.specificity.value == pytest.approx(recall_score(~own, ~called))
            assert found.positive_predictive_value.value == pytest.approx(precision_score(own, called))
            assert found.negative_predictive_value.value == pytest.approx(precision_score(~own, ~called))
        json.dumps([point.to_json() for point in points], allow_nan=False)

    def test_the_serve_side_decides_as_the_figures_count(self) -> None:
        points = choose_operating_points(*draw_answers(80, seed=3), NAMES, GROUPS)
        stated = [point.to_json() for point in points]
        probabilities, labels = draw_answers(100, seed=5)
        decisions = Decisions.of(Side.of({"operating_points": stated, "class_groups": GROUPS}), NAMES)
        answers = [decisions.decide(dict(zip(NAMES, row, strict=True))).operating for row in probabilities.tolist()]
        for found in operating_figures(points, probabilities, labels, NAMES):
            own = np.isin(labels, [NAMES.index(name) for name in found.positive])
            called = np.array([answer[found.name]["positive"] for answer in answers])
            assert found.sensitivity.value == pytest.approx(called[own].mean())


class TestAbstention:
    def test_answers_the_share_asked_for_and_is_surer_on_it(self) -> None:
        probabilities, labels = draw_answers(200, seed=7, sharpness=1.5)
        rule = choose_abstention(probabilities, labels, NAMES, share=0.8)
        answered = probabilities.max(axis=1) >= rule.threshold
        assert answered.sum() == 160 and rule.answered.value == 0.8
        wanted = accuracy_score(labels[answered], probabilities[answered].argmax(axis=1))
        assert rule.accuracy.value == pytest.approx(wanted)
        assert wanted > accuracy_score(labels, probabilities.argmax(axis=1))

    def test_trade_off_rises_from_all_answered(self) -> None:
        probabilities, labels = draw_answers(2000, seed=8, sharpness=1.5)
        figures = abstention_figures(Abstention(threshold=0.6), probabilities, labels, NAMES)
        shares = [row.answered.value for row in figures.trade_off]
        accuracies = [row.accuracy.value for row in figures.trade_off]
        assert shares == [1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5] and accuracies == sorted(accuracies)
        assert figures.answered.value == (probabilities.max(axis=1) >= 0.6).mean()
        json.dumps(figures.to_json(), allow_nan=False)

    def test_equal_confidences_are_answered_together(self) -> None:
        probabilities = binary([0.8] * 6 + [0.6] * 4)
        rule = choose_abstention(probabilities, [0] * 10, ["x", "y"], share=0.5)
        assert rule.threshold == pytest.approx(0.7) and rule.answered.value == 0.6
        assert choose_abstention(probabilities, [0] * 10, ["x", "y"], share=1).threshold == 0
        with pytest.raises(InputError, match="answered share is 0"):
            choose_abstention(probabilities, [0] * 10, ["x", "y"], share=0)
