"""How well the body crop finds the body, through the call that users make: a `Slice` into `crop_body`.

    python -m benchmarks.body [--draws 2000] [--dicom DIR] [--store]

Phantom slices with every kind of surroundings (table, arms, clothes, metal, scanner's circle, frame, crop) are shown in
windows of centre -700 to 600 and width 100 to 4000, with noise and JPEG, and held against the mask that the phantom
knows. `--dicom` shows a folder of CT DICOM files in presets and narrow windows, held against their bodies in HU.

Where a person would see the outline: at nine tenths of the body's rim that the picture does not cut, the grey just
inside lies more than 12 levels above the grey just outside (both are means over about 1/60 of the picture's side).
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.results import store
from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import WINDOWS, Window, apply_window
from ct_xception.phantom.corpus import REFERENCE_CLASSES, phantom_slice

TABLES = ("its own", "none", "crescent", "slab", "mat", "bar")
USUAL = [(-600, 1500), (40, 400), (400, 1800), (40, 100), (50, 150), (400, 1000), (300, 600)]
NARROW = {"40/100": Window(40, 100), "50/150": Window(50, 150), "40/350": Window(40, 350)}
NARROW |= {"400/1000": Window(400, 1000), "300/600": Window(300, 600), "300/1500": Window(300, 1500)}
SEEN, STEP = 0.9, 12  # of the rim, and grey levels
RIGHT, WRONG = 0.95, 0.7  # intersection over union

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


@dataclass
class Score:
    """What became of some pictures: intersection over union of each, or None where no body was found."""

    ious: list[float | None] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, pixels: Pixels, truth: Mask) -> None:
        """Crop one picture and hold it against its true mask (H, W)."""
        started = time.process_time()
        crop = crop_body(Slice(pixels, "drawn", 8, False, None))
        self.seconds.append(time.process_time() - started)
        found = np.zeros(truth.shape, dtype=bool)
        box = crop.box
        if crop.found:
            assert crop.slice.body is not None
            found[box.top : box.bottom, box.left : box.right] = crop.slice.body
        self.ious.append(float((found & truth).sum() / (found | truth).sum()) if crop.found else None)
        self.seen.append(seen_rim(pixels, truth) > SEEN)

    def row(self, name: str) -> str:
        """A line of the table."""
        found = np.array([value for value in self.ious if value is not None])
        lost = [value is None for value, seen in zip(self.ious, self.seen, strict=True) if seen]
        right = f"{(found >= RIGHT).mean():.1%}" if len(found) else "-"
        missed = f"{np.mean(lost):.1%} of {len(lost)}" if lost else "-"
        wrong = int((found < WRONG).sum())
        middle = f"{1000 * np.median(self.seconds):.0f}"
        return f"| {name} | {len(self.ious)} | {len(found)} | {right} | {wrong} | {missed} | {middle} |"


HEAD = (
    "| pictures | n | found | IoU >= 0.95 of these | IoU < 0.7 of these | not found though seen | ms (CPU, median) |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


def main() -> int:
    """Print the tables, and put them into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.body", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--first", type=int, default=10_000, help="seed of the first draw; tuning saw 0 to 2,419")
    parser.add_argument("--dicom", metavar="DIR", help="a folder of CT DICOM files")
    parser.add_argument("--store", action="store_true", help="write the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    lines = [f"`{' '.join(['python', '-m', 'benchmarks.body', *sys.argv[1:]])}`, 2 cores", "", HEAD]
    lines += phantom_rows(options.first, options.draws)
    if options.dicom:
        lines += dicom_rows(sorted(path for path in Path(options.dicom).rglob("*.dcm")))
    print("\n".join(lines))
    if options.store:
        store("body", "\n".join(lines))
    return 0


def phantom_rows(first: int, draws: int) -> Iterator[str]:
    """The phantom's scores: all draws, and by what the window's lowest value shows."""
    parts = {"phantom, all": Score(), "fat lit (low < -150 HU)": Score(), "fat at black (-150 to -50 HU)": Score()}
    parts["fat black (low > -50 HU)"] = Score()
    for seed in range(first, first + draws):
        drawn = draw(seed)
        low = drawn.window.low
        kind = 1 if low < -150 else 2 if low < -50 else 3
        for part in (0, kind):
            list(parts.values())[part].add(drawn.pixels, drawn.truth)
    return (score.row(name) for name, score in parts.items())


def dicom_rows(paths: Iterable[Path]) -> Iterator[str]:
    """The scores of CT files through each window, the truth being their bodies in HU, as JPEG of quality 50 to 90."""
    windows = WINDOWS | NARROW
    scores = {name: Score() for name in windows}
    for number, path in enumerate(paths):
        for place, (name, window) in enumerate(windows.items()):
            slice_ = read_slice(path, window=window)
            assert slice_.body is not None
            quality = int(np.random.default_rng([number, place]).integers(50, 91))
            scores[name].add(as_jpeg(slice_.pixels, quality), slice_.body)
    return (score.row(f"DICOM, {name}") for name, score in scores.items())


def seen_rim(pixels: Pixels, truth: Mask) -> float:
    """The share of a body's rim, where the picture does not cut it, that stands out from what lies beside it."""
    k = max(1, round(max(pixels.shape) / 256))
    padded = np.pad(truth, 4 * k, mode="edge")
    middle = (slice(4 * k, -4 * k),) * 2
    inner, edge = (truth & ~ndimage.binary_erosion(padded, iterations=n)[middle] for n in (2 * k, 1))
    outer = ndimage.binary_dilation(truth, iterations=3 * k) & ~ndimage.binary_dilation(truth, iterations=k)
    means, near = [], []
    for ring in (inner, outer):
        share = ndimage.uniform_filter(ring.astype(np.float32), 4 * k + 1)
        means.append(ndimage.uniform_filter(pixels * ring.astype(np.float32), 4 * k + 1) / np.maximum(share, 1e-6))
        near.append(share > 0.02)
    rim = edge & near[1]
    return float((means[0] - means[1] > STEP)[rim].mean()) if rim.sum() >= 20 else 0.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture, its true body, the window that it is shown in, and whether a frame is drawn round it."""

    pixels: Pixels
    truth: Mask
    window: Window
    framed: bool


def draw(seed: int) -> Drawn:
    """A phantom slice in random surroundings, window, noise, crop and encoding."""
    rng = np.random.default_rng([7, seed])
    values, body = _section(rng)
    _lay_on_table(values, body, str(rng.choice(TABLES)), rng)
    body = _add_arms(values, body, str(rng.choice(["none", "apart", "touching"], p=[0.7, 0.15, 0.15])), rng)
    if rng.random() < 0.2:
        _dress(values, body, rng)
    if rng.random() < 0.1:
        _add_metal(values, body, rng)
    noise = float(rng.choice([0, 0, 10, 25, 40]))
    if noise:
        values = values + ndimage.gaussian_filter(rng.standard_normal(values.shape), 0.7) * 2.3 * noise
    window = _window(rng)
    pixels = apply_window(np.maximum(values, -1024.0), window)
    pixels, body = _pad_circle(pixels, body) if rng.random() < 0.25 else (pixels, body)
    pixels, body = _crop(pixels, body, rng)
    framed = rng.random() < 0.1
    if framed:
        pixels, body = _frame(pixels, body, rng)
    if rng.random() < 0.6:
        pixels = as_jpeg(pixels, int(rng.integers(50, 96)))
    return Drawn(np.ascontiguousarray(pixels), body, window, framed)


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """A picture after a JPEG of a quality."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _window(rng: np.random.Generator) -> Window:
    centre, width = rng.uniform(-700, 600), float(np.exp(rng.uniform(np.log(100), np.log(4000))))
    return Window(*USUAL[rng.integers(len(USUAL))]) if rng.random() < 0.3 else Window(centre, width)


def _section(rng: np.random.Generator) -> tuple[Values, Mask]:
    """A slice in HU and its body, half of the time smaller in the picture."""
    size = int(rng.choice([256, 320, 448, 512], p=[0.4, 0.3, 0.2, 0.1]))
    image = phantom_slice(rng, str(rng.choice(REFERENCE_CLASSES)), size=size)
    if rng.random() < 0.5:
        return image.hu.copy(), image.body_mask.copy()
    part = round(size * rng.uniform(0.6, 0.95))
    top, left = int(rng.integers(0, size - part + 1)), (size - part) // 2
    values, body = np.full((size, size), -1000, np.float32), np.zeros((size, size), dtype=bool)
    place = (slice(top, top + part), slice(left, left + part))
    values[place] = np.asarray(Image.fromarray(image.hu).resize((part, part), Image.Resampling.BILINEAR))
    body[place] = np.asarray(Image.fromarray(image.body_mask).resize((part, part)))
    return values, body


def _extent(body: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _lay_on_table(values: Values, body: Mask, kind: str, rng: np.random.Generator) -> None:
    """Replace the phantom's table by another: foam between two shells, a mattress, a metal bar, or nothing."""
    if kind == "its own":
        return
    values[~body] = -1000
    if kind == "none":
        return
    top, bottom, left, right = _extent(body)
    height, width = bottom - top, right - left
    rows, columns = np.mgrid[: body.shape[0], : body.shape[1]].astype(np.float32)
    across = (columns - (left + right) / 2) / (width * rng.uniform(0.4, 0.7))
    gap, depth = rng.uniform(-0.01, 0.05) * height, rng.uniform(0.05, 0.14) * height
    sag = rng.uniform(0.02, 0.16) * height
    level = {"slab": bottom + gap, "mat": bottom - 0.02 * height, "bar": bottom + 0.12 * height}
    upper = level.get(kind, 0.0) + 0 * across
    lower = upper + {"slab": depth, "mat": 0.6 * depth}.get(kind, 0.05 * height)
    if kind == "crescent":
        upper, lower = bottom + gap - sag * across**2, bottom + gap + depth - (sag + depth) * across**2
    there = (np.abs(across) < 1) & ~body
    foam = {"crescent": (-960, -800), "slab": (-950, -700), "mat": (-950, -850), "bar": (1500, 1501)}[kind]
    values[(rows >= upper) & (rows <= lower) & there] = rng.uniform(*foam)
    if kind != "mat":
        line = max(1.0, 0.006 * height)
        values[((np.abs(rows - upper) < line) | (np.abs(rows - lower) < line)) & there] = rng.uniform(-300, 400)


def _add_arms(values: Values, body: Mask, kind: str, rng: np.random.Generator) -> Mask:
    """Arms beside the body; those that touch it belong to it, as they do in HU."""
    if kind == "none":
        return body
    top, bottom, left, right = _extent(body)
    width, whole = right - left, body.copy()
    rows, columns = np.mgrid[: body.shape[0], : body.shape[1]].astype(np.float32)
    for side in (-1, 1):
        a, b = 0.07 * width * rng.uniform(0.8, 1.2), 0.1 * width * rng.uniform(0.8, 1.2)
        middle = top + (bottom - top) * rng.uniform(0.45, 0.75)
        row = np.flatnonzero(body[int(middle)])
        centre = (row[-1] if side > 0 else row[0]) + side * (a + (0.03 if kind == "apart" else -0.02) * width)
        far = ((columns - centre) / a) ** 2 + ((rows - middle) / b) ** 2
        arm = (far < 1) & ~body
        values[arm] = np.select([far[arm] > 0.93, far[arm] > 0.6, far[arm] > 0.06], [0, -100, 55], 700)
        if kind == "touching":
            whole |= arm
    return whole


def _dress(values: Values, body: Mask, rng: np.random.Generator) -> None:
    """A thin arc over the chest."""
    top, _, left, right = _extent(body)
    rows, columns = np.mgrid[: body.shape[0], : body.shape[1]].astype(np.float32)
    across = (columns - (left + right) / 2) / (right - left)
    curve = top - rng.uniform(0.01, 0.05) * len(body) + rng.uniform(0.2, 0.7) * (right - left) * across**2
    values[(np.abs(rows - curve) < 0.8) & ~body] = rng.uniform(-900, -300)


def _add_metal(values: Values, body: Mask, rng: np.random.Generator) -> None:
    """Three electrodes on the skin."""
    rows, columns = np.nonzero(body & ~ndimage.binary_erosion(body))
    for place in rng.choice(len(rows), 3).tolist():
        values[max(0, rows[place] - 2) : rows[place] + 2, max(0, columns[place] - 2) : columns[place] + 2] = 3000


def _pad_circle(pixels: Pixels, body: Mask) -> tuple[Pixels, Mask]:
    rows, columns = np.mgrid[: body.shape[0], : body.shape[1]]
    half = len(body) / 2
    inside = (rows - half) ** 2 + (columns - half) ** 2 < half**2
    return np.where(inside, pixels, np.uint8(0)), body & inside


def _crop(pixels: Pixels, body: Mask, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """As it is, cut close to the body, or into it on some sides."""
    kind = str(rng.choice(["none", "close", "into"], p=[0.6, 0.25, 0.15]))
    if kind == "none":
        return pixels, body
    top, bottom, left, right = _extent(body)
    sides = np.array([bottom - top, bottom - top, right - left, right - left])
    reach = rng.uniform(0, 0.04, 4) if kind == "close" else -rng.uniform(0, 0.06, 4) * (rng.random(4) < 0.5)
    above, below, before, behind = (reach * sides).astype(int).tolist()
    place = (slice(max(0, top - above), bottom + below + 1), slice(max(0, left - before), right + behind + 1))
    return pixels[place], body[place]


def _frame(pixels: Pixels, body: Mask, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    pixels, body, thick, level = pixels.copy(), body.copy(), int(rng.integers(1, 4)), int(rng.integers(100, 256))
    for drawn, value in ((pixels, level), (body, False)):
        drawn[:thick], drawn[-thick:], drawn[:, :thick], drawn[:, -thick:] = value, value, value, value
    return pixels, body


if __name__ == "__main__":
    sys.exit(main())
