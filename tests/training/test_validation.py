"""The figures that choose an epoch, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from ct_xception.statistics.selection import SCORES
from ct_xception.training.options import METRICS
from ct_xception.training.validation import is_better, validation_figures


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 4)), rng.integers(0, 4, 60)
    figures = validation_figures(logits, labels)
    predicted, probabilities = logits.argmax(axis=1), softmax(logits, axis=1)
    assert figures["accuracy"] == (predicted == labels).mean()
    assert figures["loss"] == pytest.approx(log_loss(labels, probabilities))
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert figures["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert figures["auroc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))


def test_every_figure_can_choose_the_epoch() -> None:
    assert METRICS == SCORES


def test_a_class_that_the_split_lacks_is_left_out() -> None:
    logits, labels = np.array([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]]), np.array([0, 1, 1])
    figures = validation_figures(logits, labels)
    assert (figures["balanced_accuracy"], figures["auroc"]) == (0.75, 0.875)  # class 1 ties once
    assert validation_figures(logits, np.array([0, 0, 0]))["auroc"] is None


def test_better_is_lower_for_loss_and_higher_for_the_rest() -> None:
    assert is_better(0.5, 0.6, "loss") and not is_better(0.6, 0.5, "loss")
    assert is_better(0.6, 0.5, "accuracy") and not is_better(0.5, 0.5, "accuracy")
    assert is_better(None, None, "auroc") and not is_better(None, 0.5, "auroc")
    assert not is_better(float("nan"), 0.5, "loss")
    assert is_better(0.5, 0.6, "calibrated_loss")
