"""A CT window: which range of values becomes the 256 grey levels of a slice.

The mapping is the LINEAR function of DICOM PS3.3 C.11.2.1.2.1. The presets are the ones most chest protocols print
(lung and mediastinal: Kazerooni et al., ACR-SCBT-MR-SPR practice parameter for thoracic CT; bone: Hofer, CT Teaching
Manual); a window is data, not a constant of nature, so every reader takes another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct_xception.errors import InputError, printable
from ct_xception.text import did_you_mean

LIMIT = 1e9  # beyond this a window is a typing error, and float64 arithmetic on it starts to lose grey levels
LEAST_WIDTH = 1e-6
BAND = 2**20  # pixels that are windowed at once: float64 on a whole radiograph would take half a gigabyte


@dataclass(frozen=True)
class Window:
    """Centre and width, in HU (in stored units when the slice is not in HU).

    The width is above 0 (below 1 it is for floating-point pictures alone), and both are finite and below 1e9. Raises
    InputError otherwise.
    """

    centre: float
    width: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.centre) and abs(self.centre) < LIMIT):
            raise InputError(f"window centre {self.centre} is not a finite number below 1e9; give CENTRE/WIDTH in HU.")
        if not LEAST_WIDTH <= self.width < LIMIT:
            raise InputError(f"window width {self.width} is not between 1e-6 and 1e9; give CENTRE/WIDTH in HU.")

    def __str__(self) -> str:
        return f"{self.centre:g}/{self.width:g}"

    @property
    def low(self) -> float:
        """The highest value that is black."""
        return self.centre - 0.5 - (self.width - 1) / 2

    @property
    def high(self) -> float:
        """The value above which all is white."""
        return self.centre - 0.5 + (self.width - 1) / 2


WINDOWS: dict[str, Window] = {
    "lung": Window(-600, 1500),
    "mediastinal": Window(40, 400),
    "bone": Window(400, 1800),
}


def parse_window(text: str) -> Window:
    """A preset's name (`lung`, `mediastinal`, `bone`) or `CENTRE/WIDTH` in HU, such as `-600/1500`.

    Raises InputError for anything else.
    """
    preset = WINDOWS.get(text.strip().lower())
    if preset is not None:
        return preset
    centre, slash, width = text.partition("/")
    try:
        if not slash:
            raise ValueError
        values = float(centre), float(width)
    except ValueError:
        names, guess = ", ".join(WINDOWS), did_you_mean(text, WINDOWS)
        raise InputError(
            f"window {printable(text)!r} is neither a preset ({names}) nor CENTRE/WIDTH such as -600/1500{guess or '.'}"
        ) from None
    return Window(*values)


def as_window(given: Any) -> Window | None:
    """A window however it was named: a Window, a preset's name, `"-600/1500"`, or (centre, width); None stays None.

    Examples:
        >>> as_window("lung"), as_window((40, 400))
        (Window(centre=-600, width=1500), Window(centre=40.0, width=400.0))

    Raises InputError for anything else.
    """
    if given is None or isinstance(given, Window):
        return given
    if isinstance(given, str):
        return parse_window(given)
    if isinstance(given, (Sequence, np.ndarray)) and len(given) == 2:
        try:
            return Window(*(float(number) for number in given))
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
    names = ", ".join(WINDOWS)
    raise InputError(
        f"window {printable(repr(given))[:80]} is none; give a preset ({names}), (centre, width) in HU, or a Window."
    )


def apply_window(values: np.ndarray, window: Window, *, exact: bool = False) -> np.ndarray:
    """Map values (H, W), in the window's units, to grey levels (H, W) uint8: LINEAR, DICOM PS3.3 C.11.2.1.2.1.

    `((x - (c - 0.5)) / (w - 1) + 0.5) * 255`, clamped to 0..255 and rounded half to even. NaN is black. `exact` asks
    for LINEAR_EXACT (C.11.2.1.3.2), `((x - c) / w + 0.5) * 255`: LINEAR counts whole steps, which values of a
    floating-point picture do not keep. A width below 1 is always shown so.
    """
    grey = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, BAND // max(1, values[0].size)) if len(values) else 1
    for top in range(0, len(values), rows):
        grey[top : top + rows] = _band(values[top : top + rows], window, exact or window.width < 1)
    return grey


def _band(values: np.ndarray, window: Window, exact: bool) -> np.ndarray:
    if not exact and window.width == 1:  # a threshold: black up to the centre - 0.5, white above
        return np.where(values > window.low, np.uint8(255), np.uint8(0))
    low, steps = (window.centre - window.width / 2, window.width) if exact else (window.low, window.width - 1)
    grey = np.clip(values, low, low + steps, dtype=np.float64)
    grey -= low
    grey *= 255.0 / steps
    return np.rint(np.nan_to_num(grey, copy=False, nan=0.0), out=grey)
