"""Where cells look, and what becomes of a map that is finer than its slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ct_xception.explain.placement import Region, cell_grid, place_in_slice
from ct_xception.imaging.body.crop import Box
from ct_xception.model.modelling import CTXceptionForImageClassification


def test_no_cell_of_a_fine_map_is_passed_over() -> None:
    fine = np.zeros((90, 90), dtype=np.float32)
    fine[44, 44] = 1
    placed = place_in_slice(fine, Region(0, 0, 30, 30), Box(0, 0, 30, 30), (30, 30))
    assert placed.argmax() == 14 * 30 + 14
    assert placed.sum() * 9 == np.float32(placed.sum() * 9) and abs(placed.sum() * 9 - 1) < 1e-3


@pytest.mark.parametrize("architecture", ["legacy_xception", "xception41", "xception41p"])
@pytest.mark.parametrize("side", [96, 149])
def test_cells_look_where_the_grid_says(architecture: str, side: int) -> None:
    """A network whose every kernel takes the pixel at its middle hands each cell the place that it looks at."""
    model = CTXceptionForImageClassification.from_backbone(architecture, ["a", "b"], side)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(1, child.stride))  # 3 wide and padded by 1: the middle is the first
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                middle = torch.zeros_like(child.weight)
                middle[:, :, child.kernel_size[0] // 2, child.kernel_size[1] // 2] = 1 / child.weight.shape[1]
                child.weight.data = middle
                child.bias = None if child.bias is None else nn.Parameter(torch.zeros_like(child.bias))
    rows = torch.arange(side, dtype=torch.float32)[:, None].expand(3, side, side)
    with torch.no_grad():
        ones, found = (
            model.eval().double().features(picture[None].double())[0, 0] for picture in (torch.ones_like(rows), rows)
        )
    centres = (found / ones)[:, 0] + 0.5
    grid = cell_grid(Region(0, 0, side, side), side, tuple(found.shape), architecture)
    tile = (grid.bottom - grid.top) / len(centres)
    wanted = grid.top + tile * (np.arange(len(centres)) + 0.5)
    assert np.allclose(centres, wanted, atol=1e-6)
