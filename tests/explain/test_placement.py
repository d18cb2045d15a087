"""Masks brought from the slice to the network's input."""

from __future__ import annotations

import numpy as np

from ct_xception.explain.placement import Region, place_in_input, place_in_slice
from ct_xception.imaging.body import Box


def test_a_mask_placed_in_the_input_comes_back_where_it_was() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[12:20, 30:44] = True
    region, box = Region(8, 20, 32, 52), Box(8, 20, 32, 52)
    seen = place_in_input(mask, region, 96)
    back = place_in_slice(seen.astype(np.float32), region, box, mask.shape) > 0.5
    assert np.array_equal(back, mask)


def test_what_lies_outside_the_slice_is_not_in_the_mask() -> None:
    seen = place_in_input(np.ones((10, 10), dtype=bool), Region(-5, 0, 15, 10), 20)
    assert not seen[:5].any() and seen[5:15].all() and not seen[15:].any()


def test_no_cell_of_a_fine_map_is_passed_over() -> None:
    fine = np.zeros((90, 90), dtype=np.float32)
    fine[44, 44] = 1
    placed = place_in_slice(fine, Region(0, 0, 30, 30), Box(0, 0, 30, 30), (30, 30))
    assert placed.argmax() == 14 * 30 + 14
    assert placed.sum() * 9 == np.float32(placed.sum() * 9) and abs(placed.sum() * 9 - 1) < 1e-3
