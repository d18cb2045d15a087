"""Grad-CAM, and the closed form that it has in this network.

Xception ends in global average pooling and one linear layer. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the
last feature map A (C, h, w) weighs each channel by the mean gradient of the class score; here that gradient is the
head's weight / (h w), so Grad-CAM equals the class activation map (Zhou et al. 2016, arXiv 1512.04150) up to the
factor 1 / (h w), which scaling to a peak of 1 removes. The one is computed by Captum, the other in closed form: each
checks the other.

Of the last map only the head lies between the features and the score. Captum is then given the head alone, behind a
layer that does nothing: it never differentiates through, or hangs hooks on, the network itself. That makes a map cost
no more than a prediction, keeps in-place ReLUs out of the graph, and lets other threads use the same network meanwhile.

The last feature map has a cell every 32 pixels, which is too coarse to point at a nodule, and where it has few cells
each of them has seen the whole picture: on small inputs its peak need not lie where the evidence does. `fine_map`
therefore gives Grad-CAM of the last map before the last stride, with a cell every 16 pixels, whose gradient runs
through the exit flow. The closed form knows the last map alone, and is read from a copy whose last stride is undone:
the same cells and, between them, those of the picture moved by 16 pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from ct_xception.errors import InputError
from ct_xception.explain.network_copies import finer_copy, private_copy

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network


def fine_map(model: Network, pixel_values: torch.Tensor, target: int, method: str = "gradcam") -> torch.Tensor:
    """Grad-CAM or the closed form of one picture (3, S, S), a cell every 16 pixels: (h, w) on the CPU, not negative."""
    compute = fine_gradcam if method == "gradcam" else _fine_closed_form
    return compute(model, pixel_values[None], target)[0].float().cpu()


def fine_gradcam(model: Network, pixel_values: torch.Tensor, target: int) -> torch.Tensor:
    """Grad-CAM by Captum on the last feature map before the last stride: (B, h, w) float32, not negative."""
    from captum.attr import LayerGradCam

    twin = private_copy(model)  # Captum's hooks and gradients stay out of the network that others ask
    parameter = next(twin.parameters())
    with torch.inference_mode(False):
        pixels = pixel_values.detach().clone().to(parameter.device, parameter.dtype)
        scores = LayerGradCam(lambda batch: twin.classify(twin.features(batch)), twin.before_last_stride())
        maps = scores.attribute(pixels, target, relu_attributions=True)
    return maps[:, 0].detach()


def _fine_closed_form(model: Network, pixel_values: torch.Tensor, target: int) -> torch.Tensor:
    return class_activation_map(finer_copy(model), pixel_values, target)


def logits_and_maps(model: Network, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Answer and explain at once: logits (B, K), and the closed-form map (B, h, w) of each picture's likeliest class.

    One forward pass of pixel_values (B, 3, S, S) serves both, so that the map costs next to nothing.
    """
    with _evaluating(model), torch.no_grad():
        features = _features(model, pixel_values)
        logits = model.classify(features)
        return logits, model.class_activation_map(features, logits.argmax(dim=1)).relu()


def gradcam(model: Network, pixel_values: torch.Tensor, target: int | torch.Tensor) -> torch.Tensor:
    """Grad-CAM on the last feature map by Captum: (B, h, w) float32, not negative (the paper's final ReLU is applied).

    `pixel_values` is (B, 3, S, S); `target` one class for all or one for each, (B,).
    """
    from captum.attr import LayerGradCam

    with _evaluating(model), torch.inference_mode(False):
        features = _features(model, pixel_values).requires_grad_()
        head = _Head(model)
        maps = LayerGradCam(head, head.features).attribute(features, target, relu_attributions=True)
    return maps[:, 0].detach()


def class_activation_map(model: Network, pixel_values: torch.Tensor, target: int | torch.Tensor) -> torch.Tensor:
    """The closed form, without a gradient, and the paper's ReLU: (B, h, w) float32, not negative."""
    with _evaluating(model):
        features = _features(model, pixel_values)
    classes = torch.as_tensor(target, device=features.device).expand(len(features))
    with torch.no_grad():
        return model.class_activation_map(features, classes).relu()


class _Head(nn.Module):
    """Pooling and classifier of `model`, behind an identity layer of its own for Captum to hold on to."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.classify = model.classify

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(features))


def _features(model: Network, pixel_values: torch.Tensor) -> torch.Tensor:
    """The last feature map (B, C, h, w), as a tensor that may be differentiated from."""
    parameter = next(model.parameters())
    with torch.no_grad():
        features = model.features(pixel_values.to(parameter.device, parameter.dtype)).detach()
    if features.ndim != 4:
        raise InputError("this network has no feature map to draw evidence from; explain an Xception or another CNN.")
    return features


@contextlib.contextmanager
def _evaluating(model: Network) -> Iterator[None]:
    """Evaluation mode for the length of a block: dropout or batch statistics would blur the map."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
