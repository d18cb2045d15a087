"""The `evaluate` modules: offline, one by one, combined, and loaded by file."""

from __future__ import annotations

from pathlib import Path

import evaluate
import pytest
from sklearn import metrics as sk

from ct_xception.errors import InputError
from ct_xception.evaluation import hf_metrics
from ct_xception.statistics.metrics import OVERALL_FIGURES, classification_metrics
from tests.statistics.test_metrics import make_answers

SCORES, LABELS, NAMES = make_answers(60, 3)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no cache in the user's home."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an evaluate module asked for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", tmp_path / "modules")


class TestClassificationFigure:
    @pytest.mark.parametrize("figure", OVERALL_FIGURES)
    def test_equals_the_function(self, figure: str) -> None:
        found = hf_metrics.load(figure).compute(predictions=SCORES, references=LABELS)
        expected = getattr(classification_metrics(SCORES, LABELS, NAMES), figure)
        parts = {f"{figure}_{part}": getattr(expected, part) for part in ("low", "high", "n")}
        assert found == {figure: expected.value, **parts}

    def test_is_an_evaluate_metric_and_adds_batches(self) -> None:
        metric = hf_metrics.load("accuracy")
        assert isinstance(metric, evaluate.Metric)
        for start in range(0, 60, 20):
            metric.add_batch(predictions=SCORES[start : start + 20], references=LABELS[start : start + 20])
        expected = sk.accuracy_score(LABELS, SCORES.argmax(axis=1))
        assert metric.compute()["accuracy"] == pytest.approx(expected)

    def test_per_class_is_a_list_in_class_order(self) -> None:
        found = hf_metrics.load("per_class_recall").compute(predictions=SCORES, references=LABELS)
        expected = sk.recall_score(LABELS, SCORES.argmax(axis=1), average=None)
        assert found["per_class_recall"] == pytest.approx(expected.tolist())
        assert found["per_class_recall_n"] == [int((LABELS == k).sum()) for k in range(3)]

    def test_confusion_matrix(self) -> None:
        found = hf_metrics.load("confusion_matrix").compute(predictions=SCORES, references=LABELS)
        assert found["confusion_matrix"] == sk.confusion_matrix(LABELS, SCORES.argmax(axis=1)).tolist()

    def test_groups_reach_the_interval(self) -> None:
        metric = hf_metrics.load("macro_f1")
        plain = metric.compute(predictions=SCORES, references=LABELS)
        grouped = metric.compute(predictions=SCORES, references=LABELS, groups=[i // 6 for i in range(60)])
        assert plain["macro_f1"] == grouped["macro_f1"] and plain["macro_f1_low"] != grouped["macro_f1_low"]

    def test_unknown_figure_names_the_known(self) -> None:
        with pytest.raises(InputError, match="'kappa' is no figure of ours; choose from accuracy, "):
            hf_metrics.load("kappa")

    def test_unknown_option_is_not_swallowed(self) -> None:
        with pytest.raises(TypeError, match="average"):
            hf_metrics.load("accuracy").compute(predictions=SCORES, references=LABELS, average="micro")


def test_combine_merges_all_figures() -> None:
    found = hf_metrics.combine(["accuracy", "log_loss", "per_class_f1"]).compute(predictions=SCORES, references=LABELS)
    assert {"accuracy", "accuracy_low", "log_loss", "log_loss_high", "per_class_f1"} <= set(found)


def test_evaluate_loads_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    metric = evaluate.load(hf_metrics.__file__, "macro_auroc", cache_dir=tmp_path)
    found = metric.compute(predictions=SCORES, references=LABELS)["macro_auroc"]
    assert found == pytest.approx(sk.roc_auc_score(LABELS, SCORES, multi_class="ovr"))
