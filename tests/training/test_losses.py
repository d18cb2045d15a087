"""Losses against torch's own and against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from ct_xception.errors import InputError
from ct_xception.training.losses import LOSSES, TWO_CLASSES, LossSettings, balanced_weights, make_loss, registered

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
LABELS = torch.tensor([0, 2])
TARGETS = functional.one_hot(LABELS, 3).float()


def test_cross_entropy_is_torchs() -> None:
    torch.testing.assert_close(make_loss("cross_entropy", 3)(LOGITS, TARGETS), functional.cross_entropy(LOGITS, LABELS))


def test_smoothing_and_weights_are_torchs_on_soft_targets() -> None:
    weights = torch.tensor([0.5, 1.0, 2.0])
    ours = make_loss("cross_entropy", 3, LossSettings(weights, 0.1))(LOGITS, TARGETS)
    torch.testing.assert_close(ours, functional.cross_entropy(LOGITS, TARGETS, weight=weights, label_smoothing=0.1))


def test_focal_by_hand_and_without_focus_is_cross_entropy() -> None:
    logits, targets = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[1.0, 0.0]])  # p = 3/4
    expected = -(0.25**2) * math.log(0.75)
    assert make_loss("focal", 2, LossSettings(gamma=2.0))(logits, targets).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(
        make_loss("focal", 3, LossSettings(gamma=0.0))(LOGITS, TARGETS), make_loss("cross_entropy", 3)(LOGITS, TARGETS)
    )


def test_focal_of_a_sure_answer_has_a_gradient() -> None:
    logits = torch.tensor([[30.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    make_loss("focal", 3, LossSettings(smoothing=0.1, gamma=0.5))(logits, torch.eye(3)[:2]).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and logits.grad[1].abs().sum() > 0


def test_bce_of_two_classes_is_torchs_on_the_difference_and_equals_cross_entropy() -> None:
    logits, labels = LOGITS[:, :2], torch.tensor([0, 1])
    targets = functional.one_hot(labels, 2).float()
    ours = make_loss("bce", 2)(logits, targets)
    torch.testing.assert_close(
        ours, functional.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], labels.float())
    )
    torch.testing.assert_close(ours, make_loss("cross_entropy", 2)(logits, targets))


def test_weights_and_smoothing_mean_the_same_to_bce_as_to_cross_entropy() -> None:
    targets = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    settings = LossSettings(torch.tensor([0.4, 1.6]), 0.1)
    found = [make_loss(name, 2, settings)(LOGITS[:, :2], targets) for name in ("bce", "cross_entropy")]
    torch.testing.assert_close(*found)


def test_a_registered_function_is_a_choice() -> None:
    @registered(two_classes=True)
    def hinge(logits: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> torch.Tensor:
        return logits.sum() * settings.gamma

    try:
        assert make_loss("hinge", 2, LossSettings(gamma=3.0))(LOGITS, TARGETS) == pytest.approx(9.0)
        with pytest.raises(InputError, match="--loss hinge: is for two classes and the corpus has 5; choose cross"):
            make_loss("hinge", 5)
    finally:
        del LOSSES["hinge"]
        TWO_CLASSES.remove("hinge")


def test_bce_refuses_more_than_two_classes() -> None:
    with pytest.raises(InputError, match="--loss bce: is for two classes and the corpus has 3"):
        make_loss("bce", 3)


def test_balanced_weights_give_every_class_the_same_share() -> None:
    counts = [10, 30, 60]
    weights = balanced_weights(counts)
    assert (weights * torch.tensor(counts)).tolist() == pytest.approx([100 / 3] * 3)
