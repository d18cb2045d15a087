"""Regions of maps drawn by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ct_xception.explain.regions import strongest_regions


def two_spots() -> np.ndarray:
    heat = np.full((60, 80), 0.1)
    heat[10:20, 30:50], heat[40:46, 5:11] = 1.0, 0.8
    heat[50:55, 60:65] = -1.0
    return heat


def test_regions_are_boxed_and_sized_in_pixels_and_mm() -> None:
    first, second = strongest_regions(two_spots(), spacing_mm=(0.5, 2.0), coarse=True)
    assert (first.top, first.left, first.bottom, first.right) == (10, 30, 20, 50)
    assert first.area_pixels == 200 and first.area_mm2 == 200.0
    assert (first.height_mm, first.width_mm) == (5.0, 40.0) and first.value == 1.0
    assert (second.top, second.left, second.bottom, second.right) == (40, 5, 46, 11) and second.value == 0.8
    assert first.share == pytest.approx(200 / np.clip(two_spots(), 0, None).sum())
    rows, columns = np.array(first.outline).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9.5, 19.5, 29.5, 49.5)
    json.dumps(first.to_dict())


def test_without_spacing_there_are_no_millimetres() -> None:
    (region,) = strongest_regions(two_spots(), limit=1, coarse=True)
    assert region.area_mm2 is None and region.height_mm is None and region.width_mm is None


def test_fine_speckle_is_one_region() -> None:
    heat = np.zeros((200, 200))
    heat[60:120:4, 60:120:4] = 1
    assert len(strongest_regions(heat, coarse=True, limit=999)) == 225
    (region,) = strongest_regions(heat)
    assert abs(region.top - 60) < 6 and abs(region.bottom - 118) < 6


def test_a_map_that_speaks_for_nothing_has_no_regions() -> None:
    assert strongest_regions(-np.ones((5, 5))) == [] and strongest_regions(np.zeros((5, 5))) == []
