"""Grad-CAM, the closed form that it has in this network, and its product with guided backpropagation.

Xception ends in global average pooling and one linear layer. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the
last feature map A (C, h, w) weighs each channel by the mean gradient of the class score; here that gradient is the
head's weight / (h w), so Grad-CAM equals the class activation map (Zhou et al. 2016, arXiv 1512.04150) up to the
factor 1 / (h w), which scaling to a peak of 1 removes.

The last feature map has a cell every 32 pixels, which is too coarse to point at a nodule, and where it has few cells
each of them has seen the whole picture: on small inputs its peak need not lie where the evidence does. Grad-CAM is
therefore that of the last map before the last stride, with a cell every 16 pixels, whose gradient runs through the exit
flow. The closed form knows the last map alone, and is read from a copy whose last stride is undone: the same cells and,
between them, those of the picture moved by 16 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_xception.errors import InputError
from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network


@register
class GradCAM(Method):
    """Grad-CAM by Captum."""

    name, title = "gradcam", "Grad-CAM"
    sentence = "Weighs the middle flow's feature map by the gradient of the class's score; quick and coarse."
    coarse = True

    def compute(self, question: Question) -> torch.Tensor:
        """(h, w), not negative."""
        return gradcam(question)


@register
class ClassActivationMap(Method):
    """Grad-CAM's closed form, a cell every 16 pixels."""

    name, title = "cam", "class activation map"
    sentence = (
        "Grad-CAM's closed form on the last feature map, without a gradient; on small inputs it may miss the place."
    )
    coarse = True

    def compute(self, question: Question) -> torch.Tensor:
        """(h, w), not negative."""
        from ct_xception.explain.network_copies import finer_copy

        return class_activation_map(finer_copy(question.model), question.pixel_values, question.target)[0]


@register
class GuidedGradCAM(Method):
    """Guided backpropagation times Grad-CAM; Captum's own product would spread the latter over tiles (placement.py)."""

    name, title, signed = "guided_gradcam", "Guided Grad-CAM", True
    sentence = "Grad-CAM times guided backpropagation: fine detail, partly the picture's own edges."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        import torch
        from captum.attr import GuidedBackprop

        from ct_xception.explain.placement import spread_over_input

        question.scorer.expected = 2
        guided = GuidedBackprop(question.scorer).attribute(question.pixel_values, question.target)
        cells = gradcam(question).float().cpu().numpy()
        spread = spread_over_input(cells, question.side, getattr(question.model.config, "architecture", ""))
        return guided * torch.from_numpy(spread).to(guided)


def gradcam(question: Question) -> torch.Tensor:
    """Grad-CAM on the last feature map before the last stride: (h, w), not negative."""
    from captum.attr import LayerGradCam

    weighed = LayerGradCam(question.scorer, question.scorer.model.before_last_stride())
    return weighed.attribute(question.pixel_values, question.target, relu_attributions=True)[0, 0].detach()


def class_activation_map(model: Network, pixel_values: torch.Tensor, target: int) -> torch.Tensor:
    """The closed form, without a gradient, and the paper's ReLU: (B, h, w), not negative."""
    import torch

    with torch.no_grad():
        features = model.features(pixel_values)
        if features.ndim != 4:
            raise InputError("this network has no feature map to draw evidence from; explain an Xception.")
        targets = torch.full((len(features),), target, device=features.device)
        return model.class_activation_map(features, targets).relu()
