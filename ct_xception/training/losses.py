"""Losses on soft targets, so that mixup and label smoothing pass through all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from ct_xception.errors import InputError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def balanced_weights(counts: Sequence[int]) -> torch.Tensor:
    """Class weights (K,) by inverse frequency, of mean 1 over the items: N / (K * count)."""
    numbers = torch.tensor(counts, dtype=torch.float32)
    return numbers.sum() / (len(counts) * numbers.clamp(min=1))


def make_loss(
    name: str, classes: int, *, weights: torch.Tensor | None = None, smoothing: float = 0.0, gamma: float = 2.0
) -> Loss:
    """A loss of logits (B, K) and soft targets (B, K) whose rows sum to 1; its value is the mean over the batch.

    "cross_entropy"; "focal" (Lin et al. 2017, arXiv:1708.02002, with exponent `gamma`); "bce", the binary cross-entropy
    of the logits' difference, which for two classes is the cross-entropy of their softmax: the checkpoint keeps two
    logits, as stock readers expect. `weights` (K,) multiplies each class's term. Raises `InputError` for a name that is
    none of these, and for "bce" with other than two classes.
    """
    if name == "bce" and classes != 2:
        raise InputError(f"--loss bce: is for two classes and the corpus has {classes}; choose cross_entropy or focal.")
    terms = {"cross_entropy": _cross_entropy, "focal": _focal(gamma), "bce": _binary}
    if name not in terms:
        raise InputError(f"--loss: {name!r} is not one of {', '.join(terms)}.")
    term = terms[name]

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = targets * (1 - smoothing) + smoothing / classes
        weighted = smooth if weights is None else smooth * weights.to(logits.device)
        return -(weighted * term(logits)).sum(dim=1).mean()

    return loss


def _cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    return functional.log_softmax(logits, dim=1)


SURE = 1e-6  # the least distance of a probability from 1 that the focal loss tells


def _focal(gamma: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def term(logits: torch.Tensor) -> torch.Tensor:
        log_probability = functional.log_softmax(logits, dim=1)
        # Below 1 the power's slope at 0 is infinite, and a sure answer would make its gradient infinity times 0.
        return (1 - log_probability.exp()).clamp(min=SURE) ** gamma * log_probability

    return term


def _binary(logits: torch.Tensor) -> torch.Tensor:
    difference = logits[:, 1] - logits[:, 0]
    return torch.stack([functional.logsigmoid(-difference), functional.logsigmoid(difference)], dim=1)
