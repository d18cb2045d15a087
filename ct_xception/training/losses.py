"""Losses on soft targets, so that mixup and label smoothing pass through all of them.

A loss is a function of this file under `registered`; its name is then a choice of --loss. torch is imported inside, so
that the command line can list them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ct_xception.errors import InputError

if TYPE_CHECKING:
    import torch

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    Function = Callable[[torch.Tensor, torch.Tensor, "LossSettings"], torch.Tensor]


@dataclass(frozen=True, eq=False)
class LossSettings:
    """What a loss may heed: `weights` (K,) of the classes, `smoothing` of the targets, `gamma` of the focal loss."""

    weights: torch.Tensor | None = None
    smoothing: float = 0.0
    gamma: float = 2.0

    def smooth(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets (B, K) with `smoothing` of each spread over all classes."""
        return targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]


LOSSES: dict[str, Function] = {}
TWO_CLASSES: set[str] = set()  # names of the losses that take no more


def registered(*, two_classes: bool = False) -> Callable[[Function], Function]:
    """Make a function a loss: of logits (B, K), targets (B, K) whose rows sum to 1, and `LossSettings`; batch mean."""

    def register(function: Function) -> Function:
        LOSSES[function.__name__] = function
        if two_classes:
            TWO_CLASSES.add(function.__name__)
        return function

    return register


def make_loss(name: str, classes: int, settings: LossSettings | None = None) -> Loss:
    """A loss of logits (B, K) and soft targets (B, K), by its name; class weights go to where the logits are.

    Raises `InputError` for a name that is none, and for a number of classes that the loss is not for.
    """
    if name not in LOSSES:
        raise InputError(f"--loss: {name!r} is not one of {', '.join(LOSSES)}.")
    if name in TWO_CLASSES and classes != 2:
        others = " or ".join(other for other in LOSSES if other not in TWO_CLASSES)
        raise InputError(f"--loss {name}: is for two classes and the corpus has {classes}; choose {others}.")
    function, given = LOSSES[name], settings or LossSettings()

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weights = None if given.weights is None else given.weights.to(logits.device)
        return function(logits, targets, replace(given, weights=weights))

    return loss


def balanced_weights(counts: Sequence[int]) -> torch.Tensor:
    """Class weights (K,) by inverse frequency, of mean 1 over the items: N / (K * count)."""
    import torch

    numbers = torch.tensor(counts, dtype=torch.float32)
    return numbers.sum() / (len(counts) * numbers.clamp(min=1))


@registered()
def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """torch's own."""
    from torch.nn import functional

    return functional.cross_entropy(logits, targets, weight=settings.weights, label_smoothing=settings.smoothing)


SURE = 1e-6  # the least distance of a probability from 1 that the focal loss tells


@registered()
def focal(logits: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """Cross-entropy that heeds unsure answers more, by (1 - p)^gamma (Lin et al. 2017, arXiv:1708.02002)."""
    log_probability = logits.log_softmax(dim=1)
    # Below 1 the power's slope at 0 is infinite, and a sure answer would make its gradient infinity times 0.
    terms = (1 - log_probability.exp()).clamp(min=SURE) ** settings.gamma * log_probability
    weighted = settings.smooth(targets) if settings.weights is None else settings.smooth(targets) * settings.weights
    return -(weighted * terms).sum(dim=1).mean()


@registered(two_classes=True)
def bce(logits: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """torch's binary cross-entropy of the logits' difference: the checkpoint keeps two, as stock readers expect."""
    from torch.nn import functional

    difference, positive = logits[:, 1] - logits[:, 0], settings.smooth(targets)[:, 1]
    if settings.weights is None:
        return functional.binary_cross_entropy_with_logits(difference, positive)
    negative_weight, positive_weight = settings.weights
    return negative_weight * functional.binary_cross_entropy_with_logits(
        difference, positive, pos_weight=positive_weight / negative_weight
    )
