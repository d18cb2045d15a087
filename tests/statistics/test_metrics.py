"""Figures: three cases by hand, parity with scikit-learn, splits that lack a class, and what is refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from sklearn import metrics as sk

from ct_xception.errors import InputError
from ct_xception.statistics.metrics import CLASS_FIGURES, OVERALL_FIGURES, classification_metrics

SKLEARN_SCORES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def make_answers(n: int, count: int, seed: int = 0, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities (n, count) somewhat in favour of the true labels (n,), rounded so that ties occur."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count, n)
    logits = rng.normal(size=(n, count))
    logits[np.arange(n), labels] += skill
    scores = np.exp(logits.round(1))
    return scores / scores.sum(axis=1, keepdims=True), labels, [f"class {k}" for k in range(count)]


class TestByHand:
    """Three items, two classes: one is right surely, one right barely, one wrong.

    | truth | p(a) | p(b) | predicted |
    | a     | 0.9  | 0.1  | a         |
    | b     | 0.4  | 0.6  | b         |
    | b     | 0.8  | 0.2  | a         |
    """

    figures = classification_metrics([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]], [0, 1, 1], ["a", "b"])

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("accuracy", 2 / 3),
            ("balanced_accuracy", 3 / 4),
            ("macro_precision", (1 / 2 + 1) / 2),
            ("macro_recall", 3 / 4),
            ("macro_specificity", (1 / 2 + 1) / 2),
            ("macro_f1", 2 / 3),
            ("macro_auroc", 1.0),
            ("macro_auprc", 1.0),
            ("log_loss", -np.log(0.9 * 0.6 * 0.2) / 3),
        ],
    )
    def test_overall(self, name: str, value: float) -> None:
        assert getattr(self.figures, name).value == pytest.approx(value)
        assert getattr(self.figures, name).n == 3

    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            ("a", {"precision": (0.5, 2), "recall": (1.0, 1), "specificity": (0.5, 2), "f1": (2 / 3, 3)}),
            ("b", {"precision": (1.0, 1), "recall": (0.5, 2), "specificity": (1.0, 1), "f1": (2 / 3, 3)}),
        ],
    )
    def test_per_class_with_its_own_n(self, label: str, expected: dict) -> None:
        found = {name: getattr(self.figures.per_class[label], name) for name in expected}
        assert {name: (figure.value, figure.n) for name, figure in found.items()} == {
            name: (pytest.approx(value), n) for name, (value, n) in expected.items()
        }

    def test_confusion_matrix_and_support(self) -> None:
        assert self.figures.confusion_matrix == [[1, 0], [1, 1]]
        assert self.figures.support == {"a": 1, "b": 2}

    def test_a_tie_counts_half(self) -> None:
        figures = classification_metrics([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]], [0, 1, 0], ["a", "b"])
        assert figures.macro_auroc.value == pytest.approx(0.75)


@pytest.mark.parametrize("count", [2, 4, 20])
class TestParity:
    def test_overall_figures(self, count: int) -> None:
        scores, labels, names = make_answers(300, count)
        figures = classification_metrics(scores, labels, names, resamples=10)
        predicted, classes = scores.argmax(axis=1), np.arange(count)
        expected = {
            "accuracy": sk.accuracy_score(labels, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
            "macro_auprc": sk.average_precision_score(labels[:, None] == classes, scores, average="macro"),
            "log_loss": sk.log_loss(labels, scores, labels=classes),
        }
        expected["macro_auroc"] = sk.roc_auc_score(labels[:, None] == classes, scores, average="macro")
        for name, score in SKLEARN_SCORES.items():
            expected[f"macro_{name}"] = score(labels, predicted, average="macro", zero_division=0)
        for name, value in expected.items():
            assert getattr(figures, name).value == pytest.approx(value, abs=1e-12), name

    def test_per_class_figures(self, count: int) -> None:
        scores, labels, names = make_answers(300, count, seed=1)
        figures = classification_metrics(scores, labels, names, resamples=10)
        predicted = scores.argmax(axis=1)
        for k, name in enumerate(names):
            own, called = labels == k, predicted == k
            expected = {key: score(own, called) for key, score in SKLEARN_SCORES.items()}
            expected["specificity"] = sk.recall_score(~own, ~called)
            expected["auroc"] = sk.roc_auc_score(own, scores[:, k])
            expected["auprc"] = sk.average_precision_score(own, scores[:, k])
            found = figures.per_class[name]
            assert {key: metric.value for key, metric in found} == pytest.approx(expected, abs=1e-12)

    def test_confusion_matrix(self, count: int) -> None:
        scores, labels, names = make_answers(300, count)
        expected = sk.confusion_matrix(labels, scores.argmax(axis=1), labels=range(count))
        assert classification_metrics(scores, labels, names, resamples=1).confusion_matrix == expected.tolist()

    def test_a_resample_is_what_sklearn_makes_of_the_drawn_items(self, count: int) -> None:
        from ct_xception.statistics.metrics import _draw

        scores, labels, _ = make_answers(200, count, seed=2)
        drawn = np.random.default_rng(0).integers(0, 200, 200)
        draws = _draw(scores, labels, np.bincount(drawn, minlength=200)[None].astype(float))
        truth, repeated = labels[drawn], scores[drawn]
        assert draws["log_loss"][0] == pytest.approx(sk.log_loss(truth, repeated, labels=range(count)))
        assert draws["macro_f1"][0] == pytest.approx(
            sk.f1_score(truth, repeated.argmax(axis=1), labels=np.unique(truth), average="macro", zero_division=0)
        )
        assert draws["auroc"][0, 1] == pytest.approx(sk.roc_auc_score(truth == 1, repeated[:, 1]))
        assert draws["auprc"][0, 1] == pytest.approx(sk.average_precision_score(truth == 1, repeated[:, 1]))


class TestIntervals:
    def test_every_figure_has_n_and_an_interval_around_it(self) -> None:
        scores, labels, names = make_answers(315, 4)
        figures = classification_metrics(scores, labels, names)
        every = [getattr(figures, name) for name in OVERALL_FIGURES]
        every += [getattr(one, name) for one in figures.per_class.values() for name in CLASS_FIGURES]
        for figure in every:
            assert figure.n > 0
            assert figure.low < figure.value < figure.high

    def test_plain_counts_get_wilson_and_the_rest_bootstrap(self) -> None:
        figures = classification_metrics(*make_answers(100, 3), resamples=50)
        methods = {name: figure.method for name, figure in figures.per_class["class 0"]}
        assert figures.accuracy.method == "wilson"
        assert figures.macro_f1.method == "bootstrap"
        assert methods == dict.fromkeys(("precision", "recall", "specificity"), "wilson") | dict.fromkeys(
            ("f1", "auroc", "auprc"), "bootstrap"
        )

    def test_groups_of_alike_items_widen_every_interval(self) -> None:
        scores, labels, names = make_answers(80, 3)
        copies = classification_metrics(np.repeat(scores, 5, axis=0), np.repeat(labels, 5), names)
        grouped = classification_metrics(
            np.repeat(scores, 5, axis=0), np.repeat(labels, 5), names, np.repeat(np.arange(80), 5).astype(str)
        )
        assert (copies.n_groups, grouped.n_groups) == (400, 80)
        for name in OVERALL_FIGURES:
            width = {
                key: getattr(one, name).high - getattr(one, name).low for key, one in (("c", copies), ("g", grouped))
            }
            assert getattr(grouped, name).value == getattr(copies, name).value
            assert getattr(grouped, name).method.endswith("_by_group")
            assert width["g"] == pytest.approx(width["c"] * 5**0.5, rel=0.25), name

    def test_the_seed_decides(self) -> None:
        answers = make_answers(60, 3)
        first, again, other = (classification_metrics(*answers, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first.macro_f1 != other.macro_f1

    def test_a_thousand_resamples_take_seconds_at_most(self) -> None:
        start = time.perf_counter()
        classification_metrics(*make_answers(315, 4), resamples=1000)
        assert time.perf_counter() - start < 5


class TestAbsentClasses:
    def test_class_absent_from_the_split(self) -> None:
        scores, labels, _ = make_answers(90, 3)
        widened, names = np.insert(scores, 1, 0, axis=1), ["a", "gone", "b", "c"]
        figures = classification_metrics(widened, labels + (labels > 0), names)
        gone = figures.per_class["gone"]
        for name in ("recall", "f1", "auroc", "auprc"):
            assert getattr(gone, name).value is None
            assert getattr(gone, name).reason == "the split holds no item of this class"
        assert gone.precision.reason == "this class was never predicted"
        assert gone.specificity.value == 1.0
        without = classification_metrics(scores, labels, ["a", "b", "c"])
        assert {k: getattr(figures, k).value for k in OVERALL_FIGURES} == pytest.approx(
            {k: getattr(without, k).value for k in OVERALL_FIGURES}
        )

    def test_present_class_never_predicted_counts_nought_in_macro_precision(self) -> None:
        figures = classification_metrics([[0.9, 0.1], [0.8, 0.2]], [0, 1], ["a", "b"])
        assert figures.per_class["b"].precision.value is None
        assert figures.macro_precision.value == pytest.approx(0.25)

    def test_one_class_only(self) -> None:
        figures = classification_metrics([[0.9, 0.1], [0.8, 0.2]], [0, 0], ["a", "b"])
        assert figures.accuracy.value == 1.0
        assert figures.macro_auroc.value is None
        assert figures.macro_auroc.reason == "the split holds one class only"
        assert figures.per_class["a"].auroc.reason == "the split holds no other class"

    @pytest.mark.parametrize("labels", [[0], [0, 0], [0, 1], [2, 2, 1]])
    def test_tiny_splits_are_json_without_nan_or_warning(
        self, labels: list[int], recwarn: pytest.WarningsRecorder
    ) -> None:
        scores = np.full((len(labels), 3), 1 / 3)
        figures = classification_metrics(scores, labels, ["a", "b", "c"])
        json.dumps(figures.to_json(), allow_nan=False)
        assert not recwarn.list

    def test_a_sure_mistake_has_a_finite_log_loss(self) -> None:
        figures = classification_metrics([[1.0, 0.0], [0.0, 1.0]], [1, 1], ["a", "b"])
        assert figures.log_loss.value == pytest.approx(-np.log(np.finfo(float).eps) / 2)


class TestRefusals:
    @pytest.mark.parametrize(
        ("scores", "labels", "names", "words"),
        [
            ([[2.0, -1.0]], [0], ["a", "b"], "logits need a softmax"),
            ([[0.2, 0.2]], [0], ["a", "b"], "summing to 1"),
            ([[np.nan, 1.0]], [0], ["a", "b"], "finite"),
            ([[0.5, 0.5]], [2], ["a", "b"], "from 0 to 1"),
            ([[0.5, 0.5]], [0.0], ["a", "b"], "whole-number labels"),
            ([[0.5, 0.5]], [0, 1], ["a", "b"], r"got \(1, 2\) and \(2,\)"),
            ([[0.5, 0.5]], [0], ["a", "b", "c"], r"probabilities \(N, 3\)"),
            (np.zeros((0, 2)), np.zeros(0, int), ["a", "b"], "N of at least 1"),
            ([[1.0]], [0], ["a"], "at least 2 distinct class names"),
            ([[0.5, 0.5]], [0], ["a", "a"], "at least 2 distinct class names"),
        ],
    )
    def test_says_what_does_not_fit(self, scores: object, labels: object, names: list[str], words: str) -> None:
        with pytest.raises(InputError, match=words):
            classification_metrics(scores, labels, names)
