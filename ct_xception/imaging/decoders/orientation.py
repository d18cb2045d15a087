"""Which way a DICOM image lies in the patient, and how to turn it upright.

Image Orientation (Patient) gives the direction of a row and of a column in a system whose x grows to the patient's
left, y to the back, z to the head (PS3.3 C.7.6.2.1.1). Upright is what a reader of CT expects: axial with the front of
the patient at the top and the right side at the left; coronal and sagittal with the head at the top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLANES = ("sagittal", "coronal", "axial")  # by the axis of the normal
# (axis, sign) of a row and of a column of each plane, upright.
_UPRIGHT = {"axial": ((0, 1), (1, 1)), "coronal": ((0, 1), (2, -1)), "sagittal": ((1, 1), (2, -1))}
OBLIQUE = 0.8  # of the normal along its axis: a gantry tilts by at most 30 degrees, whose cosine is .87
WORDS = {(True, False): "bottom-up", (False, True): "mirrored", (True, True): "upside down (half a turn)"}


@dataclass(frozen=True)
class Turn:
    """How stored rows and columns become upright: first swapped, then flipped. `plane` is None where not told."""

    plane: str | None = None
    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    oblique: bool = False

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The stored values (H, W, …) upright, as a view."""
        if self.swap:
            values = values.swapaxes(0, 1)
        if self.flip_rows:
            values = values[::-1]
        return values[:, ::-1] if self.flip_columns else values

    def notes(self, *, axial: bool = True) -> list[str]:
        """What a reader should know of it; `axial` is whether any other plane is unusual, as it is in CT."""
        notes = []
        if not axial:
            pass
        elif self.plane not in (None, "axial"):
            notes.append(f"a {self.plane} slice, not an axial one")
        elif self.oblique:
            notes.append("an oblique slice, not an axial one")
        if self.swap or self.flip_rows or self.flip_columns:
            how = "on its side" if self.swap else WORDS[self.flip_rows, self.flip_columns]
            notes.append(f"turned upright: stored {how}, as its orientation tag says")
        return notes


def turn_of(directions: list[float] | None) -> Turn:
    """The turn for six direction cosines; none for what is not six numbers of two unit vectors at right angles."""
    if directions is None or len(directions) != 6:
        return Turn()
    across, down = np.array(directions, dtype=float).reshape(2, 3)
    normal = np.cross(across, down)
    if not 0.9 < float(np.linalg.norm(normal)) < 1.1:  # NaN fails too
        return Turn()
    axis = int(np.abs(normal).argmax())
    plane, oblique = PLANES[axis], bool(abs(normal[axis]) < OBLIQUE)
    (row_axis, row_sign), (column_axis, column_sign) = _UPRIGHT[plane]
    swap = abs(across[row_axis]) < abs(down[row_axis])
    if swap:
        across, down = down, across
    flip_columns, flip_rows = across[row_axis] * row_sign < 0, down[column_axis] * column_sign < 0
    return Turn(plane, bool(swap), bool(flip_rows), bool(flip_columns), oblique)
