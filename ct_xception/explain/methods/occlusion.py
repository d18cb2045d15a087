"""Occlusion by a sliding window (Zeiler and Fergus 2014, arXiv:1311.2901) by Captum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question


@register
class Occlusion(Method):
    """The fall of the score, shared out over the window, which overlaps its neighbours by half."""

    name, title, signed = "occlusion", "occlusion", True
    sentence = "Blackens a sliding window and records how far the score falls."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        import torch
        from captum.attr import Occlusion as Occluder

        stride = max(1, round(question.side / (question.budget.windows + 1)))
        window = min(2 * stride, question.side)
        places = -(-(question.side - window) // stride) + 1
        question.scorer.expected = question.scorer.asked + places**2 + 1
        with torch.no_grad():
            values = Occluder(question.scorer).attribute(
                question.pixel_values,
                (3, window, window),
                (3, stride, stride),
                question.reference,
                question.target,
                perturbations_per_eval=question.without_gradient,
            )
        return values / (3 * window**2)
