"""Where a file's slices stand in their series, and how many it holds, told without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One file's place; what it does not say is None.

    `frames` is how many slices (DICOM frames, TIFF pages) it holds. `position` is the distance in mm of its plane from
    the patient coordinate system's origin along `normal`, the plane's unit normal (DICOM PS3.3 C.7.6.2.1.1): for an
    axial slice larger values lie nearer to the head. `number` is its InstanceNumber. `size` is (rows, columns), None
    where there is no image; `thickness` is in mm. `series` is its SeriesInstanceUID, to be compared and never shown.
    `positions` are those of each frame of a volume, which may be stored in any order; empty where they are not told.
    """

    frames: int = 1
    position: float | None = None
    normal: tuple[float, float, float] | None = None
    number: int | None = None
    size: tuple[int, int] | None = None
    thickness: float | None = None
    series: str | None = None
    positions: tuple[float, ...] = ()
