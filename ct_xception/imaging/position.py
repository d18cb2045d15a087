"""Where a file's slices stand in their series, and how many it holds, told without decoding a pixel."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What stands in the place of a patient's identifier that was taken away.
NOBODY = re.compile(
    r"(anon|anonymous|anonymi[sz]ed|anon[\s^_-]*patient|unknown|none|null|nan|n/?a|de-?identified|removed|redacted|blank|"
    r"no[\s_-]*(id|name)|patient|subject|test|dummy|xx+|[-?._]+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Place:
    """One file's place; what it does not say is None.

    `frames` is how many slices (DICOM frames, TIFF pages) it holds. `position` is the distance in mm of its plane from
    the patient coordinate system's origin along `normal`, the plane's unit normal (DICOM PS3.3 C.7.6.2.1.1): for an
    axial slice larger values lie nearer to the head. `number` is its InstanceNumber. `size` is (rows, columns), None
    where there is no image; `thickness` is in mm. `series` is its SeriesInstanceUID, to be compared and never shown.
    `positions` are those of each frame of a volume, which may be stored in any order; empty where they are not told.
    `patient` is its PatientID, or its StudyInstanceUID where that names nobody: compared as well, and never shown.
    """

    frames: int = 1
    position: float | None = None
    normal: tuple[float, float, float] | None = None
    number: int | None = None
    size: tuple[int, int] | None = None
    thickness: float | None = None
    series: str | None = None
    positions: tuple[float, ...] = ()
    patient: str | None = None
