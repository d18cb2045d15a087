"""One file becomes one honest slice: a 2-D 8-bit grey image after an explicit window, upright, air 0.

The pixel contract of the package: everything downstream starts from a `Slice`; only `reader.py` decodes a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import SliceError
from ct_xception.html import picture_html
from ct_xception.imaging.windows import Window, apply_window
from ct_xception.text import describe_window

if TYPE_CHECKING:
    from PIL import Image

# One frame, decoded: CT is 512 x 512, film scans and radiographs reach 4,000. What decoding, windowing and turning
# more than that costs would not stay within 300 MB.
MAX_PIXELS = 4096 * 4096
_DOUBT = re.compile(
    "blank, or missing$|^hardly anything denser|^no air: |without a finite value|shows nothing of its values|, not HU$"
    "|^rescaled, but not to HU|^values are not HU"
)
MIN_BLANK, ABRUPT = 8, 0.5  # rows of one value, and the share of a row beside them that is of another


@dataclass(frozen=True, eq=False)
class Slice:
    """One 2-D image and where it came from.

    `pixels` (H, W) uint8, C-contiguous, air 0. `source` is a printable name. `bit_depth` is that of the stored pixels.
    `is_hu` says whether `window` is in HU; `window` is None where the file was 8-bit already (a screenshot).
    `spacing_mm` is (row, column) distance. `notes` names each thing lost or changed on the way, a short clause each.
    `coloured` is the share of pixels, in [0, 1], whose colour was dropped. `modality` is DICOM's, empty where the file
    leaves it out, None for a picture; `is_localizer` says that the file calls itself a scout view. `body` (H, W) bool
    is where the body lies, found in HU before the window; None where the file has no HU, or shows none.
    `plane` is axial, coronal or sagittal where the file tells it: of the first two the patient's right is at the left.
    `values` (H, W) float32 are those before the window, NaN where the file holds none; they are kept where they were
    asked for, for a viewer that windows by itself. `inverted` says that the window's top is black. `tabular` is the row
    of a table that goes with the slice, {column: value}; None where nobody gave one.
    """

    pixels: np.ndarray
    source: str
    bit_depth: int
    is_hu: bool
    window: Window | None
    spacing_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    coloured: float = 0.0
    modality: str | None = None
    is_localizer: bool = False
    body: np.ndarray | None = None
    plane: str | None = None
    values: np.ndarray | None = None
    inverted: bool = False
    tabular: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 2 or 0 in self.pixels.shape:
            raise TypeError(f"pixels must be (H, W) uint8 and not empty, got {self.pixels.shape} {self.pixels.dtype}")
        if self.body is not None and (self.body.dtype != bool or self.body.shape != self.pixels.shape):
            raise TypeError(f"body must be {self.pixels.shape} bool, got {self.body.shape} {self.body.dtype}")
        if self.values is not None and (self.values.dtype != np.float32 or self.values.shape != self.pixels.shape):
            raise TypeError(f"values must be {self.pixels.shape} float32, got {self.values.shape} {self.values.dtype}")
        object.__setattr__(self, "pixels", np.ascontiguousarray(self.pixels))

    def __repr__(self) -> str:
        height, width = self.pixels.shape
        shown = describe_window(self.window, self.bit_depth, self.is_hu)
        return f"Slice({self.source!r}: {width} × {height} pixels, {shown})"

    def _repr_html_(self) -> str:
        """The picture, and what was done to it, for a notebook."""
        return picture_html(self.pixels, [repr(self)[6:-1], *self.notes])

    def to_pil(self) -> Image.Image:
        """The slice as a Pillow RGB picture, the grey repeated in the three channels."""
        from PIL import Image

        return Image.fromarray(self.pixels).convert("RGB")

    def replace_pixels(self, pixels: np.ndarray, note: str | None = None) -> Slice:
        """The same slice with other pixels (H, W) uint8, and a note on what changed, without `values`.

        Another shape has no `body`.
        """
        body = self.body if pixels.shape == self.pixels.shape else None
        notes = self.notes if note is None else (*self.notes, note)
        return replace(self, pixels=pixels, body=body, values=None, notes=notes)


def rewindow(slice_: Slice, window: Window) -> Slice:
    """A slice that has its `values` as another window shows it, without them."""
    assert slice_.values is not None
    pixels = apply_window(slice_.values, window)
    if slice_.inverted:
        pixels = np.where(np.isnan(slice_.values), np.uint8(0), np.uint8(255) - pixels)
    return replace(slice_, pixels=pixels, window=window, values=None)


def doubts_in(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes by which pixels are missing, or not what they are taken for: to be said at every door."""
    return tuple(note for note in notes if _DOUBT.search(note))


def blank_rows(values: np.ndarray) -> list[str]:
    """A note where a band of whole rows (H, W) holds one value and begins or ends in the middle of the picture.

    So do pixels that were zeroed or never written, where the format has no checksum and the decoder cannot tell. They
    begin and end within rows, so that the row beside a band may be of its value for the most part, and the next is not.
    """
    rows, columns = values.shape
    first = values[:, :1]
    blank = (values == first).all(axis=1) if columns >= 16 else np.zeros(rows, dtype=bool)
    blank[1:] &= (first[1:, 0] == first[:-1, 0]) | ~blank[:-1]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blank, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        if end - start < max(MIN_BLANK, rows // 20) or end - start == rows:
            continue
        beside = [edge for edge in (values[max(0, start - 2) : start], values[end : end + 2]) if len(edge)]
        unlike = [np.count_nonzero(edge != first[start, 0], axis=1).max() for edge in beside]
        if all(count > ABRUPT * columns for count in unlike):
            return [f"rows {start} to {end - 1} of {rows} hold one value: blank, or missing"]
    return []


def check_pixels(rows: int, columns: int, label: str, limit: int = MAX_PIXELS) -> None:
    """Refuse a frame that is empty or would not fit in memory, before it is decoded."""
    if rows <= 0 or columns <= 0:
        raise SliceError(label, f"an image of {columns} x {rows} pixels", "export it again")
    if rows * columns > limit:
        found = f"{columns} x {rows} pixels, more than {limit / 1e6:.3g} million"
        raise SliceError(label, found, "crop or shrink it to one slice")


def choose_frame(frames: int, frame: int | None, label: str) -> int:
    """The index, from 0, of the frame to read; several frames need a choice."""
    if frame is None:
        if frames > 1:
            raise SliceError(label, f"{frames} frames", f"choose one, from 0 to {frames - 1}, with the option frame")
        return 0
    if not 0 <= frame < frames:
        found = f"no frame {frame}: it has {frames}, counted from 0"
        raise SliceError(label, found, "choose another frame")
    return frame
