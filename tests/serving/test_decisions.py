"""The rules of a checkpoint: read from its side file, applied by hand-computable numbers, refused where broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct_xception.checkpoint_files import ConformalRule, Side
from ct_xception.errors import CheckpointError, InputError
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.decisions import Decision, Decisions, OperatingPoint, prediction_set
from ct_xception.statistics.conformal import nonconformity

NAMES = ["adeno", "large", "normal"]
LAC = {"method": "lac", "coverage": 0.9, "threshold": 0.7, "n": 72}
RULE = ConformalRule.of(LAC)
POINT = {
    "name": "cancer: sensitivity of at least 0.95",
    "kind": "group",
    "positive": ["adeno", "large"],
    "threshold": 0.4,
    "chosen_for": "sensitivity of at least 0.95",
    "n": 72,
    "n_positive": 50,
}
SIDE = {
    "conformal": LAC,
    "operating_points": [POINT],
    "class_groups": {"cancer": ["adeno", "large"]},
    "abstention": {"threshold": 0.6},
    "temperature": 1.5,
}


def test_a_set_holds_what_the_threshold_keeps_most_probable_first() -> None:
    assert prediction_set({"adeno": 0.3, "large": 0.45, "normal": 0.25}, RULE) == ("large", "adeno")
    assert prediction_set([0.3, 0.45, 0.25], RULE) == (1, 0)
    assert prediction_set(np.array([0.98, 0.01, 0.01]), RULE) == (0,)
    assert prediction_set([0.28, 0.24, 0.24, 0.24], RULE) == ()
    assert prediction_set([0.28, 0.24, 0.24, 0.24], RULE.model_copy(update={"threshold": None})) == (0, 1, 2, 3)


def test_scores_of_ties_follow_the_class_order() -> None:
    scores = nonconformity(np.array([[0.25, 0.5, 0.25]]), ConformalRule(method="aps", coverage=0.9, threshold=None))
    assert scores.tolist() == [[0.5, 0.0, 0.75]]


def test_every_rule_is_applied() -> None:
    decisions = Decisions.of(Side.of(SIDE), NAMES)
    decision = decisions.decide({"normal": 0.55, "adeno": 0.3, "large": 0.15})
    assert decision.prediction_set == ("normal", "adeno") and decision.coverage == 0.9
    assert decision.abstained is True
    assert decision.operating[POINT["name"]] == {
        "positive": True, "score": pytest.approx(0.45), "threshold": 0.4, "classes": ["adeno", "large"], "kind": "group"
    }  # fmt: skip
    record = json.loads(json.dumps(decision.to_dict()))
    assert list(record) == ["prediction_set", "operating", "abstained"]
    assert record["prediction_set"] == {"coverage": 0.9, "classes": ["normal", "adeno"]}
    sure = decisions.decide({"normal": 0.97, "adeno": 0.02, "large": 0.01})
    assert sure.abstained is False and not sure.operating[POINT["name"]]["positive"]


def test_without_rules_nothing_is_decided() -> None:
    assert Decisions.of(Side(), NAMES) == Decisions()
    assert Decisions().decide({"adeno": 1.0}) == Decision()
    assert Decision().to_dict() == {}


def test_what_a_later_version_adds_is_passed_over() -> None:
    later = {**SIDE, "oracle": 3, "conformal": {**LAC, "method": "cqr"}}
    later["operating_points"] = [{**POINT, "colour": "red"}]
    decisions = Decisions.of(Side.of(later), NAMES)
    assert decisions.conformal is None
    assert decisions.operating_points == (
        OperatingPoint(POINT["name"], ("adeno", "large"), 0.4, POINT["chosen_for"], "group", n=72),
    )
    with pytest.raises(InputError, match="'cqr' is unknown; this version knows lac, aps, raps"):
        prediction_set([1.0, 0.0], ConformalRule.of(later["conformal"]))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"operating_points": [{**POINT, "positive": ["benign"]}]}, r"unknown classes \(benign\)"),
        ({"class_groups": {"cancer": ["benign"]}}, r"unknown classes \(benign\)"),
        ({"operating_points": [{"name": "x"}]}, "operating_points.0.positive: Field required"),
        ({"conformal": {"method": "lac", "coverage": 0.9}}, "threshold: Field required"),
        (
            {"conformal": {"method": "lac", "coverage": "high", "threshold": 0.1}},
            "coverage: Input should be a valid number",
        ),
        ({"operating_points": 3}, "operating_points: Input should be a valid"),
        ({"abstention": {"threshold": "low"}}, "abstention.threshold: Input should be a valid number"),
    ],
)
def test_broken_rules_are_refused(broken: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Decisions.of(Side.of(broken), NAMES)


def test_a_checkpoint_answers_by_its_rules(tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).symlink_to(tiny_checkpoint / file)
    point = {**POINT, "positive": ["normal"], "threshold": 0.0}
    side = {"format": 1, "conformal": LAC, "abstention": {"threshold": 1.0}, "operating_points": [point]}
    (tmp_path / "ct_xception.json").write_text(json.dumps(side))
    answer = Classifier.from_pretrained(tmp_path)(sample_slices[0])
    assert answer.abstained is True and answer.prediction_set == prediction_set(answer.probabilities, RULE)
    assert answer.operating[point["name"]]["positive"] is True
    assert answer.to_dict()["abstained"] is True
    (tmp_path / "ct_xception.json").write_text(json.dumps({**side, "operating_points": [POINT]}))
    with pytest.raises(CheckpointError, match=r"ct_xception.json: its decision rules speak of unknown classes \(adeno"):
        open_checkpoint(tmp_path)


def test_sets_by_class_follow_the_names_and_not_the_ranks() -> None:
    rule = {"method": "lac", "coverage": 0.9, "threshold": 0.5, "thresholds": {"a": 0.95, "b": 0.5, "c": None}}
    typed = ConformalRule.of(rule)
    assert prediction_set({"b": 0.6, "c": 0.3, "a": 0.1}, typed) == ("b", "c", "a")
    assert prediction_set({"c": 0.6, "b": 0.36, "a": 0.04}, typed) == ("c",)
    decisions = Decisions.of(Side.of({"conformal": rule}), ["a", "b", "c"])
    assert decisions.decide({"b": 0.6, "c": 0.3, "a": 0.1}).prediction_set == ("b", "c", "a")
    with pytest.raises(InputError, match="prediction sets are not of its own classes"):
        Decisions.of(Side.of({"conformal": rule}), ["a", "b", "d"])
