"""Named, graded changes to what lies behind the picture: other windows on HU, and the thicker slices of a series.

    behind = Behinds(dataset, window=window, modality=modality).of(row)
    pixels = VALUE_CHANGES["slice_thickness"](behind, severity, rng)

They act on the values before the window, and so only where the file holds such; where it does not, or where a slice
lacks its neighbours, the change cannot be made, and None says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.cells import file_of, frame_of, read_row
from ct_xception.errors import SliceError
from ct_xception.evaluation.shift.changes import Pixels, sign
from ct_xception.imaging.reader import read_place, read_slice, try_read
from ct_xception.imaging.source import FrameOf, Source
from ct_xception.imaging.windows import Window, apply_window

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.imaging.position import Place
    from ct_xception.imaging.slice import Slice

MOST_GAP = 10.0  # mm between two slices of no stated thickness that are still neighbours
MOST_THICK = 2.0  # times the stated thickness: beyond it slices were left out between them
LEAST_GAP = 1e-3  # mm: nearer, two slices are one, perhaps of two reconstructions
SAME = 1.0  # grey levels, on average, by which values may differ from their picture when they are windowed again

Values = NDArray[np.float32]
Read = Callable[[Source], "Slice | SliceError"]
_Whole = tuple[float, float, list[tuple[float, Source]]]  # own position, the largest gap, and all of them sorted


class Layer(NamedTuple):
    """A slice of the same series: what it covers, in mm from the plane of the changed one, and where it is read."""

    low: float
    high: float
    source: Source


@dataclass(frozen=True, eq=False)
class Behind:
    """A slice with its `values`, and the `layers` of its series, itself among them; none where they are not known.

    `step` is the distance of its neighbours, in mm.
    """

    slice_: Slice
    read: Read
    layers: tuple[Layer, ...] = ()
    step: float = 0.0
    seen: dict[int, Values | None] = field(default_factory=dict)

    def shown(self, values: Values, window: Window) -> Pixels:
        """Values (H, W) as grey levels uint8, as the reader shows this slice's own."""
        grey = apply_window(values, window)
        if self.slice_.inverted:
            np.subtract(255, grey, out=grey)
        grey[np.isnan(values)] = 0
        return grey

    def slab(self, thickness: float) -> Values | None:
        """The mean of what lies within so many mm about the plane; None where a part of it is missing."""
        total, weight = np.zeros(self.slice_.pixels.shape), np.zeros(self.slice_.pixels.shape)
        covered = 0.0
        for place, layer in enumerate(self.layers):
            share = min(layer.high, thickness / 2) - max(layer.low, -thickness / 2)
            if share <= 0:
                continue
            if (values := self._values(place)) is None:
                return None
            known = np.isfinite(values)
            total[known] += share * values[known]
            weight[known] += share
            covered += share
        if covered < thickness - 1e-6:
            return None
        return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0).astype(np.float32)

    def _values(self, place: int) -> Values | None:
        if place not in self.seen:
            slice_ = self.read(self.layers[place].source)
            read = None if isinstance(slice_, SliceError) else slice_.values
            self.seen[place] = None if read is None or read.shape != self.slice_.pixels.shape else read
        return self.seen[place]


@dataclass(frozen=True)
class ValueChange:
    """A change in words, the amount at each severity with its unit, and what it `lacks` where no slice allows it."""

    title: str
    amounts: tuple[float, ...]
    unit: str
    lacks: str
    make: Callable[[Behind, float, np.random.Generator], Pixels | None]

    def __call__(self, behind: Behind, severity: int, rng: np.random.Generator) -> Pixels | None:
        """The changed pixels (H, W) uint8 at a severity from 1 to 5; None where it cannot be made."""
        return self.make(behind, self.amounts[severity - 1], rng)


def _centre(behind: Behind, share: float, rng: np.random.Generator) -> Pixels | None:
    """The window's centre moved up or down by a share of its width: what was cut off comes into sight."""
    window = behind.slice_.window
    return _rewindowed(behind, window and Window(window.centre + share * window.width * sign(rng), window.width))


def _width(behind: Behind, factor: float, rng: np.random.Generator) -> Pixels | None:
    """The window narrower or wider by a factor about its centre."""
    window, times = behind.slice_.window, factor if sign(rng) > 0 else 1 / factor
    return _rewindowed(behind, window and Window(window.centre, max(1.0, window.width * times)))


def _rewindowed(behind: Behind, window: Window | None) -> Pixels | None:
    values = behind.slice_.values
    return None if window is None or values is None or not behind.slice_.is_hu else behind.shown(values, window)


def _thicker(behind: Behind, times: float, rng: np.random.Generator) -> Pixels | None:
    """A slice so many times as thick as its neighbours lie apart: the mean of those that it would hold."""
    window = behind.slice_.window
    slab = behind.slab(times * behind.step) if behind.layers and window is not None else None
    return None if slab is None or window is None else behind.shown(slab, window)


_NO_HU, _ALONE = "no test slice holds HU", "no test slice has its neighbours on both sides in a series with positions"
VALUE_CHANGES = {
    "hu_window_centre": ValueChange(
        "window centre moved, on HU", (0.03, 0.06, 0.1, 0.15, 0.2), "of its width", _NO_HU, _centre
    ),
    "hu_window_width": ValueChange(
        "window narrower or wider, on HU", (1.1, 1.25, 1.5, 1.75, 2.0), "times", _NO_HU, _width
    ),
    "slice_thickness": ValueChange(
        "thicker slices, neighbours averaged", (1.5, 2, 2.5, 3, 4), "times their distance", _ALONE, _thicker
    ),
}


class Behinds:
    """What lies behind the pictures of a split: each slice's values, and its neighbours among the same series."""

    def __init__(self, dataset: Dataset, *, window: Window | None, frame: int | None, modality: str) -> None:
        self.dataset = dataset
        self.reading: dict[str, Any] = {"window": window, "frame": frame, "modality": modality, "keep_values": True}
        told = "series" in dataset.column_names
        self.named: list[str] = list(dataset.select_columns(["series"])[:]["series"]) if told else []
        self.places = dict[int, "Place | SliceError"]()

    def of(self, row: int) -> Behind | None:
        """That of a row; None where its file holds nothing but the picture."""
        slice_ = read_row(read_slice, self.dataset[row], **self.reading)
        if isinstance(slice_, SliceError) or slice_.values is None or slice_.window is None:
            return None
        behind = Behind(slice_, self._read)
        again = behind.shown(slice_.values, slice_.window)
        # A lookup table of the file's, for one, shows values as no window does.
        if np.abs(again.astype(float) - slice_.pixels).mean() > SAME:
            return None
        layers, step = self._layers(row)
        return replace(behind, layers=layers, step=step)

    def _read(self, source: Source) -> Slice | SliceError:
        return try_read(read_slice, source, **self.reading)

    def _layers(self, row: int) -> tuple[tuple[Layer, ...], float]:
        """The slices of the row's series, by what each covers, and its own step; nothing where they are no stack."""
        whole = self._files(row) if frame_of(self.dataset[row]) is None else self._volume(row)
        if whole is None:
            return (), 0.0
        own, most, placed = whole
        positions = np.array([position for position, _ in placed])
        at = int(np.abs(positions - own).argmin())
        found = stack_about(positions, at, most)
        layers = tuple(Layer(low, high, placed[place][1]) for place, low, high in found)
        return layers, float(positions[at + 1] - positions[at - 1]) / 2 if layers else 0.0

    def _volume(self, row: int) -> _Whole | None:
        """The frames of the row's file."""
        item = self.dataset[row]
        file, place = file_of(item), self._place(row)
        if isinstance(place, SliceError) or len(place.positions) != place.frames:
            return None
        placed: list[tuple[float, Source]] = [
            (position, FrameOf(file, frame))
            for frame, position in sorted(enumerate(place.positions), key=itemgetter(1))
        ]
        return place.positions[frame_of(item) or 0], np.inf, placed

    def _files(self, row: int) -> _Whole | None:
        """The files of the row's series that lie in parallel planes."""
        own = self._place(row)
        if not self.named or not self.named[row] or isinstance(own, SliceError) or own.position is None:
            return None
        placed = list[tuple[float, Source]]()
        for other in (other for other, name in enumerate(self.named) if name == self.named[row]):
            place = self._place(other)
            if not isinstance(place, SliceError) and place.position is not None and place.normal == own.normal:
                placed.append((place.position, file_of(self.dataset[other])))
        most = MOST_THICK * own.thickness if own.thickness else MOST_GAP
        return own.position, most, sorted(placed, key=itemgetter(0))

    def _place(self, row: int) -> Place | SliceError:
        if row not in self.places:
            try:
                self.places[row] = read_place(file_of(self.dataset[row]))
            except SliceError as error:
                self.places[row] = error
        return self.places[row]


def stack_about(positions: NDArray[np.float64], at: int, most: float) -> list[tuple[int, float, float]]:
    """What the slices about the one `at` cover, as far as no two lie more than `most` mm apart: (place, low, high).

    `positions` (N,) are sorted, in mm; low and high are counted from the slice's own. A slice covers the half of the
    way to its neighbours; the outermost ones as much outwards as inwards. Empty where a neighbour is missing.
    """
    near = [LEAST_GAP < gap <= most for gap in np.diff(positions)]
    first = last = at
    while first > 0 and near[first - 1]:
        first -= 1
    while last < len(near) and near[last]:
        last += 1
    if not first < at < last:
        return []
    inner = (positions[first:last] + positions[first + 1 : last + 1]) / 2
    outer = 2 * positions[[first, last]] - inner[[0, -1]]
    edges = np.concatenate([outer[:1], inner, outer[1:]]) - positions[at]
    return [
        (first + place, float(low), float(high))
        for place, (low, high) in enumerate(zip(edges, edges[1:], strict=False))
    ]
