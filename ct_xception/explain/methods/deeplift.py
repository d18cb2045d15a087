"""DeepLIFT (Shrikumar et al. 2017, arXiv:1704.02685) by Captum, on a copy of the network that its rules suit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import ATTENTIONS, HEADS
from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ct_xception.explain.scoring import Question


@register
class DeepLIFT(Method):
    """In one pass, against air."""

    name, title, signed, complete, without_pools = "deeplift", "DeepLIFT", True, True, True
    sentence = "Compares each unit's activation with that on black, in one pass; the sum is checked."

    def unfit(self, config: Mapping[str, Any]) -> str | None:
        """Its rules know no product of what the network computes, and attention is one: the sum comes out wrong."""
        if (config.get("head", HEADS[0]), config.get("attention", ATTENTIONS[0])) == (HEADS[0], ATTENTIONS[0]):
            return None
        return "its rules do not hold for a network with attention; choose integrated_gradients"

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        from captum.attr import DeepLift

        class FrugalDeepLift(DeepLift):
            """Captum clones what enters and leaves each ReLU, as it might be overwritten; in our copy nothing is."""

            def _forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
                module.input = inputs[0].detach()

            def _forward_hook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
                module.output = outputs.detach()

        question.scorer.expected = 4
        explained = question.pixel_values, question.reference, question.target
        return FrugalDeepLift(question.scorer).attribute(*explained)
