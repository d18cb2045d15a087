"""Where on the slice the evidence for a class lies: one method's map, back in the coordinates of the slice.

Grad-CAM and its closed form are in gradcam.py; the methods that look at pixels, and work on a copy, in methods.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ct_xception.errors import InputError
from ct_xception.explain.catalogue import BUDGETS, METHODS
from ct_xception.explain.gradcam import fine_map
from ct_xception.explain.methods import Cancelled, Completeness, Progress, pixel_attribution
from ct_xception.explain.placement import cell_grid, place_in_slice, seen_region, spread_over_input
from ct_xception.imaging.body import Box

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

__all__ = ["METHODS", "Attribution", "Cancelled", "attribute"]


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
        values = fine_map(model, pixel_values, target, method)
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
