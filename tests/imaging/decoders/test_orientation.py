"""Every way of storing an axial, coronal or sagittal slice is turned upright."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ct_xception.imaging.decoders.orientation import turn_of
from ct_xception.imaging.reader import read_slice
from tests.imaging.builders import ct

UPRIGHT = {"axial": ([1, 0, 0], [0, 1, 0]), "coronal": ([1, 0, 0], [0, 0, -1]), "sagittal": ([0, 1, 0], [0, 0, -1])}
WHOLE = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("plane", UPRIGHT)
@pytest.mark.parametrize("swap, rows, columns", itertools.product([False, True], repeat=3))
def test_stored_every_way(plane: str, swap: bool, rows: bool, columns: bool) -> None:
    across, down = (np.array(one, float) for one in UPRIGHT[plane])
    stored = WHOLE
    if columns:
        stored, across = stored[:, ::-1], -across
    if rows:
        stored, down = stored[::-1], -down
    if swap:
        stored, across, down = stored.T, down, across
    turn = turn_of([*across, *down])
    assert np.array_equal(turn.apply(stored), WHOLE) and turn.plane == plane
    said = " ".join(turn.notes())
    assert ("turned upright" in said) == (swap or rows or columns) and (plane in said) == (plane != "axial")


def test_what_is_no_orientation_turns_nothing() -> None:
    for directions in (None, [1, 0, 0], [1, 0, 0, 1, 0, 0], [0] * 6, [float("nan")] * 6):
        assert np.array_equal(turn_of(directions).apply(WHOLE), WHOLE) and not turn_of(directions).notes()


def test_a_tilted_gantry_is_axial_and_an_oblique_plane_is_said() -> None:
    def tilted(degrees: float) -> list[str]:
        angle = np.radians(degrees)
        return turn_of([1, 0, 0, 0, np.cos(angle), np.sin(angle)]).notes()

    assert tilted(0) == tilted(30) == [] and "oblique" in tilted(42)[0]


def test_dicom_is_turned_and_says_so() -> None:
    stored = np.array([[0, 0], [1064, 1064]], dtype=np.int16)
    flipped = read_slice(ct(stored, ImageOrientationPatient=[1, 0, 0, 0, -1, 0], PixelSpacing=[1, 1]))
    assert flipped.pixels[0, 0] > flipped.pixels[1, 0] and "bottom-up" in flipped.notes[0]
    prone = read_slice(ct(stored, PatientPosition="HFP", PixelSpacing=[1, 2]))
    assert any("prone" in note for note in prone.notes) and any("not square (1 x 2)" in note for note in prone.notes)
    assert prone.pixels.shape == (2, 4) and prone.spacing_mm == (1, 1)
    turned = read_slice(ct(stored, ImageOrientationPatient=[0, 1, 0, 1, 0, 0], PixelSpacing=[1, 2]))
    assert turned.spacing_mm == (1, 1) and turned.pixels.shape == (4, 2)  # stored columns, 2 mm apart, lie as rows
