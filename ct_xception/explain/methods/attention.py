"""Where a network that pools by attention looks: the shares of its own pooling, whatever the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import HEADS
from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question


@register
class AttentionShares(Method):
    """The pooling's shares, a cell every 16 pixels."""

    name, title = "attention", "attention pooling"
    sentence = "The share that each place has in what the network pools: where it looks, and the same for every class."
    coarse = True

    def unfit(self, config: Mapping[str, Any]) -> str | None:
        """Only a network that was trained with `--head attention` has shares."""
        if config.get("head", HEADS[0]) == "attention":
            return None
        return "this network averages every place alike; choose gradcam or cam, or train with --head attention"

    def compute(self, question: Question) -> torch.Tensor:
        """(h, w), each above 0; those of the even cells are to one another as in the answer."""
        import torch

        from ct_xception.explain.network_copies import finer_copy

        copy = finer_copy(question.model)
        assert copy.pool is not None  # `unfit` was asked
        with torch.no_grad():
            return copy.pool.shares(copy.features(question.pixel_values))[0, 0]
