"""Where on the slice the evidence for a class lies.

Xception ends in global average pooling and one linear layer. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the
last feature map A (C, h, w) weighs each channel by the mean gradient of the class score; here that gradient is the
head's weight / (h w), so Grad-CAM equals the class activation map (Zhou et al. 2016, arXiv 1512.04150) up to the
factor 1 / (h w), which scaling to a peak of 1 removes. The one is computed by Captum, the other in closed form: each
checks the other.

Only the head lies between the features and the score. Captum is therefore given the head alone, behind a layer that
does nothing: it never differentiates through, or hangs hooks on, the network itself. That makes a map cost no more than
a prediction, keeps in-place ReLUs out of the graph, and lets other threads use the same network meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ct_xception.errors import InputError
from ct_xception.imaging.body import Box

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

METHODS = ("gradcam", "cam")


@dataclass(frozen=True, eq=False)
class Attribution:
    """Evidence for one class, pixel by pixel of the slice as it was read.

    `map` is (H, W) float32 in [0, 1], 0 outside the body crop; its peak is 1 unless nothing speaks for the class.
    `strength` is the peak before that scaling, in the method's own unit.
    """

    map: np.ndarray
    label: str
    method: str
    strength: float


def attribute(
    model: Network,
    pixel_values: torch.Tensor,
    target: int,
    *,
    box: Box,
    shape: tuple[int, int],
    method: str = "gradcam",
) -> Attribution:
    """Map the evidence for class `target` in one prepared slice, back in the coordinates of the slice.

    `pixel_values` (3, S, S) is what the network saw, `box` the part of the slice that it shows, `shape` the slice's
    (H, W). Raises InputError when the method or the class is unknown.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose from {', '.join(METHODS)}.")
    labels = model.label_names
    if not 0 <= target < len(labels):
        raise InputError(f"class number {target} does not exist; the checkpoint has {len(labels)}, from 0.")
    compute = gradcam if method == "gradcam" else class_activation_map
    coarse = compute(model, pixel_values[None], target)[0].cpu().numpy().astype(np.float32)
    strength = float(coarse.max())
    scaled = coarse / strength if strength > 0 else np.zeros_like(coarse)
    placed = place_in_slice(scaled, seen_region(model.config.pretrained_cfg, box), box, shape)
    return Attribution(placed, labels[target], method, strength)


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


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the slice; it may reach beyond the slice, and its edges need not be whole."""

    top: float
    left: float
    bottom: float
    right: float


def seen_region(pretrained_cfg: Mapping[str, Any], box: Box) -> Region:
    """The part of the slice that fills the network's square input, by timm's rules for `crop_pct` and `crop_mode`.

    Our own checkpoints squash the whole box (crop_pct 1.0). Others may cut a centre out of it, or pad it.
    """
    height, width = box.bottom - box.top, box.right - box.left
    mode = pretrained_cfg.get("crop_mode") or "center"
    if mode == "border":
        height = width = max(height, width)
    elif mode != "squash":
        height = width = min(height, width)
    share = (pretrained_cfg.get("crop_pct") or 0.875) / 2
    middle, centre = (box.top + box.bottom) / 2, (box.left + box.right) / 2
    return Region(middle - height * share, centre - width * share, middle + height * share, centre + width * share)


def place_in_slice(coarse: np.ndarray, region: Region, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Spread a coarse map (h, w) over `region` of a slice of `shape` (H, W), bilinearly; 0 outside `box` and `region`.

    Samples sit at pixel centres, as in torch's `interpolate(..., align_corners=False)`, to which it is equal.
    """
    rows = _weights(region.top, region.bottom, coarse.shape[0], box.top, box.bottom, shape[0])
    columns = _weights(region.left, region.right, coarse.shape[1], box.left, box.right, shape[1])
    return (rows @ coarse @ columns.T).astype(np.float32)


def _weights(start: float, stop: float, cells: int, first: int, last: int, length: int) -> np.ndarray:
    """Linear interpolation weights (length, cells) of `cells` equal cells that span [start, stop) of one axis."""
    pixels = np.arange(length) + 0.5
    seen = (pixels >= max(start, first)) & (pixels < min(stop, last))
    place = (pixels - start) / (stop - start) * cells - 0.5
    weights = np.stack([np.interp(place, np.arange(cells), unit) for unit in np.eye(cells)], axis=1)
    return weights * seen[:, None]
