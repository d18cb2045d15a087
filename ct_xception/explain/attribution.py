"""Where on the slice the evidence for a class lies.

Xception ends in global average pooling and one linear layer. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the
last feature map A (C, h, w) weighs each channel by the mean gradient of the class score; here that gradient is the
head's weight / (h w), so Grad-CAM equals the class activation map (Zhou et al. 2016, arXiv 1512.04150) up to the
factor 1 / (h w), which scaling to a peak of 1 removes. The one is computed by Captum, the other in closed form: each
checks the other.

Only the head lies between the features and the score. Captum is therefore given the head alone, behind a layer that
does nothing: it never differentiates through, or hangs hooks on, the network itself. That makes a map cost no more than
a prediction, keeps in-place ReLUs out of the graph, and lets other threads use the same network meanwhile. The other
methods, which look at pixels, are in methods.py and work on a copy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ct_xception.errors import InputError
from ct_xception.explain.catalogue import BUDGETS, METHODS
from ct_xception.explain.methods import Cancelled, Completeness, Progress, pixel_attribution
from ct_xception.explain.placement import cell_grid, place_in_slice, seen_region, spread_over_input
from ct_xception.imaging.body import Box

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

__all__ = ["METHODS", "Attribution", "Cancelled", "attribute", "class_activation_map", "gradcam", "logits_and_maps"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Evidence for one class, pixel by pixel of the slice as it was read.

    `map` is (H, W) float32, 0 outside the body crop: in [0, 1], or in [-1, 1] where the method is `signed` and below 0
    what speaks against the class. Its largest size is 1 (less where the slice is coarser than the network's input)
    unless nothing speaks for or against. `strength` is that size before scaling, in the method's own unit. `seen` is
    the same map, (S, S), over the square picture that the network was given. `completeness` is there where the method
    promises a sum. `seconds` is what it took.
    """

    map: np.ndarray
    label: str
    method: str
    strength: float
    signed: bool = False
    seen: np.ndarray | None = None
    budget: str | None = None
    completeness: Completeness | None = None
    seconds: float | None = None


def attribute(
    model: Network,
    pixel_values: torch.Tensor,
    target: int,
    *,
    box: Box,
    shape: tuple[int, int],
    method: str = "gradcam",
    budget: str = "balanced",
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Attribution:
    """Map the evidence for class `target` in one prepared slice, back in the coordinates of the slice.

    `pixel_values` (3, S, S) is what the network saw, `box` the part of the slice that it shows, `shape` the slice's
    (H, W). `method` is one of METHODS, `budget` of BUDGETS; Grad-CAM and its closed form need none. `progress` is
    called with the share done, from 0 to 1, and `cancelled` asked before each batch. The same `seed` gives the same
    map. Raises InputError when the method, the budget or the class is unknown, and Cancelled.
    """
    _check_choice(model, target, method, budget)
    started = time.perf_counter()
    completeness = None
    if method in ("gradcam", "cam"):
        values = coarse_map(model, pixel_values, target, method)
    else:
        values, completeness = pixel_attribution(
            model,
            pixel_values,
            target,
            method=method,
            budget=BUDGETS[budget],
            seed=seed,
            progress=progress,
            cancelled=cancelled,
        )
    cells = values.numpy().astype(np.float32)
    strength = float(np.abs(cells).max())
    scaled = cells / strength if strength > 0 else np.zeros_like(cells)
    side, architecture = pixel_values.shape[-1], getattr(model.config, "architecture", "")
    region = seen_region(model.config.pretrained_cfg, box)
    grid = cell_grid(region, side, scaled.shape, architecture)
    return Attribution(
        map=place_in_slice(scaled, region, box, shape, grid=grid),
        label=model.label_names[target],
        method=method,
        strength=strength,
        signed=METHODS[method].signed,
        seen=spread_over_input(scaled, side, architecture),
        budget=None if METHODS[method].coarse else budget,
        completeness=completeness,
        seconds=time.perf_counter() - started,
    )


def _check_choice(model: Network, target: int, method: str, budget: str) -> None:
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose from {', '.join(METHODS)}.")
    if budget not in BUDGETS:
        raise InputError(f"budget {budget!r} is unknown; choose from {', '.join(BUDGETS)}.")
    labels = model.label_names
    if not 0 <= target < len(labels):
        raise InputError(f"class number {target} does not exist; the checkpoint has {len(labels)}, from 0.")


def coarse_map(model: Network, pixel_values: torch.Tensor, target: int, method: str) -> torch.Tensor:
    """Grad-CAM or its closed form of one picture (3, S, S): (h, w) float32 on the CPU, not negative."""
    compute = gradcam if method == "gradcam" else class_activation_map
    return compute(model, pixel_values[None], target)[0].float().cpu()


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
