"""What the terminal says of an evaluation: nothing twice, nothing that is not promised."""

from __future__ import annotations

from typing import Any

from ct_xception.evaluation.report.figures import evaluation_summary
from ct_xception.metrics import Metrics
from tests.metrics import head, metric


def figure(value: float) -> dict[str, Any]:
    return metric(value, value - 0.1, value + 0.1).to_json()


def metrics(removed: int, rule: dict[str, Any], **blocks: Any) -> Metrics:
    shown = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"), figure(0.8))
    paths = {"predictor": {"n": 64, **shown}}
    counts = {"n": 64, "n_groups": 32, "sizes": {}, "per_class_coverage": {}, "expected": None, "within_expected": None}
    sets = {"nominal": 0.95, "coverage": figure(0.9), "mean_size": figure(1.5), **counts}
    deduplicated = {
        "title": "without twins",
        "n": 64 - removed,
        "n_groups": 32,
        "split_hash": "5f",
        "removed": removed,
        "paths": paths,
    }
    promised = {"method": "lac", "coverage": 0.95, "threshold": 0.5, **rule}
    conformal = {"rule": promised, "published": sets}
    return Metrics.of(head(paths=paths, protocols={"deduplicated": deduplicated}, conformal=conformal, **blocks))


def test_a_protocol_that_leaves_nothing_out_is_not_told_twice() -> None:
    said = evaluation_summary(metrics(0, {}))
    assert "deduplicated: without twins, n = 64: no image has one, so every figure is as above" in said
    assert said.count("accuracy  ") == evaluation_summary(metrics(3, {})).count("accuracy  ") // 2
    assert "n = 61 (3 left out)" in evaluation_summary(metrics(3, {}))


def test_sets_without_a_promise_have_a_reason_for_figures() -> None:
    assert "95 % of times, published: coverage 0.900" in evaluation_summary(metrics(0, {"reason": None}))
    said = evaluation_summary(metrics(0, {"reason": "16 items cannot promise 0.95"}))
    assert "no sets of classes are promised: 16 items cannot promise 0.95" in said and "of times" not in said


def test_the_input_gate_tells_its_shares_or_why_there_is_none() -> None:
    shares = {"refused": figure(0.1), "doubtful": figure(0.2)}
    gated = metrics(0, {}, gate={"rule": {"method": "mahalanobis"}, **shares})
    assert "  refused   0.100 (95 % interval 0.000 to 0.200, n = 64)" in evaluation_summary(gated)
    none = metrics(0, {}, gate={"rule": {"method": None, "reason": "3 validation slices"}})
    assert "no input gate: 3 validation slices" in evaluation_summary(none)
    assert "gate" not in evaluation_summary(metrics(0, {}))
