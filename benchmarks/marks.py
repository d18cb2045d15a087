"""Strokes, boxes and letters that the audit sees: on slices without any, and on the same with one planted.

    python -m benchmarks.marks [--draws 1000] [--first 60000] [--dicom DIR] [--store]

The slices are those of `benchmarks.body` (every window, table, arms, clothes, metal, noise, JPEG) without a drawn
frame; `--dicom` adds a folder of CT DICOM files, in nine windows each, as they are and as JPEG. On every other slice
one thing is planted: a line, a box, or letters in a margin, in three fonts, 9 to 16 pixels high, at least as far
from any tissue as they are high. What is too faint to be seen (under 40 grey levels) is not planted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from benchmarks.body import NARROW, Drawn, as_jpeg, draw
from benchmarks.results import store
from ct_xception.audit.traits import foreign_traits
from ct_xception.imaging.body.crop import body_mask
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS
from ct_xception.statistics.intervals import wilson_interval

KINDS = {"strokes": "stroke_length", "boxes": "box_score", "letters": "letters"}
CAPTIONS = {
    "1 letter": ("R", "L", "A", "P", "B"),
    "2 to 3": ("L 3", "IM7", "5A", "SE2"),
    "5 to 8": ("512x512", "kV 120", "W:1500", "HFS 3.0"),
    "9 to 14": ("DOE JOHN 12M", "2019-03-14", "Ex: 40213", "Thorax 5.0"),
    "20 to 30": ("STOCK IMAGE LIBRARY PREVIEW", "University Hospital 10:42:17"),
}

Pixels = NDArray[np.uint8]


def main() -> int:
    """Print the tables, and put them into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.marks", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--first", type=int, default=60_000, help="seed of the first draw; tuning saw 50,000 to 51,999")
    parser.add_argument("--dicom", metavar="DIR", help="a folder of CT DICOM files")
    parser.add_argument("--store", action="store_true", help="write the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    clean = list(clean_draws(options.first, options.draws))
    lines = [f"`{' '.join(['python', '-m', 'benchmarks.marks', *sys.argv[1:]])}`", "", HEAD]
    lines += [clean_row("phantom, nothing drawn", [one.pixels for one in clean])]
    if options.dicom:
        lines += [clean_row("DICOM, nothing drawn", list(shown(Path(options.dicom))))]
    lines += planted_rows(clean, options.first)
    print("\n".join(lines))
    if options.store:
        store("marks", "\n".join(lines))
    return 0


HEAD = "| pictures | n | strokes | boxes | letters |\n|---|---:|---:|---:|---:|"


def clean_draws(first: int, draws: int) -> Iterator[Drawn]:
    """So many slices on which nothing is drawn."""
    found = 0
    while found < draws:
        drawn = draw(first)
        first += 1
        if not drawn.framed:
            found += 1
            yield drawn


def shown(folder: Path) -> Iterator[Pixels]:
    """CT files in each window, as they are and as JPEG."""
    for path in sorted(folder.rglob("*.dcm")):
        for window in (WINDOWS | NARROW).values():
            pixels = read_slice(path, window=window).pixels
            yield from (pixels, as_jpeg(pixels, 75))


def marks(pixels: Pixels) -> dict[str, bool]:
    """Which kinds the audit would report of a picture (H, W) uint8."""
    found = foreign_traits(b"", pixels, body_mask(pixels), coloured=False)
    return {kind: found[trait] > 0 for kind, trait in KINDS.items()}


def clean_row(name: str, pictures: list[Pixels]) -> str:
    """How many of some pictures are said to hold each kind."""
    found = [marks(pixels) for pixels in pictures]
    cells = (_share(sum(one[kind] for one in found), len(found)) for kind in KINDS)
    return f"| {name} | {len(found)} | {' | '.join(cells)} |"


def planted_rows(clean: list[Drawn], seed: int) -> Iterator[str]:
    """A row a planted thing: how many are found as each kind."""
    for number, (name, (kind, plant)) in enumerate(PLANTS.items()):
        rng = np.random.default_rng([seed, number])
        drawn = (plant(one, rng) for one in clean[number % 2 :: 2])
        found = [marks(pixels) for pixels in drawn if pixels is not None]
        cells = ("-" if other != kind else _share(sum(one[kind] for one in found), len(found)) for other in KINDS)
        yield f"| planted: {name} | {len(found)} | {' | '.join(cells)} |"


def _share(hits: int, n: int) -> str:
    if not n:
        return "-"
    low, high = wilson_interval(hits / n, n)
    return f"{hits} = {100 * hits / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def _line(level: int) -> Callable[[Drawn, np.random.Generator], Pixels | None]:
    def plant(drawn: Drawn, rng: np.random.Generator) -> Pixels | None:
        """A straight line of 0.15 to 0.4 of the side through the body."""
        side, width = min(drawn.pixels.shape), int(rng.integers(2, 4))
        return _drawn_in_body(drawn, rng, 0.15, 0.4, lambda pen, box: pen.line(box, level, width), width * side * 0.1)

    return plant


def _box(level: int) -> Callable[[Drawn, np.random.Generator], Pixels | None]:
    def plant(drawn: Drawn, rng: np.random.Generator) -> Pixels | None:
        """An upright box, its diagonal 0.12 to 0.4 of the side, drawn 1 to 3 pixels thick."""
        width = int(rng.integers(1, 4))
        draw_box = lambda pen, box: pen.rectangle(_ordered(box), outline=level, width=width)  # noqa: E731
        return _drawn_in_body(drawn, rng, 0.12, 0.4, draw_box, 40)

    return plant


def _ordered(box: list[float]) -> list[float]:
    left, right = sorted(box[::2])
    top, bottom = sorted(box[1::2])
    return [left, top, right, bottom]


def _drawn_in_body(
    drawn: Drawn,
    rng: np.random.Generator,
    shortest: float,
    longest: float,
    pen: Callable[[ImageDraw.ImageDraw, list[float]], None],
    least: float,
) -> Pixels | None:
    """A picture with something drawn over its body, from one point to another; None where it does not stand out."""
    rows, columns = np.nonzero(ndimage.binary_erosion(drawn.truth, iterations=4))
    for _ in range(20 if len(rows) else 0):
        start = rng.integers(len(rows))
        angle = rng.uniform(0, 2 * np.pi)
        length = rng.uniform(shortest, longest) * min(drawn.pixels.shape)
        x, y = columns[start] + length * np.cos(angle), rows[start] + length * np.sin(angle)
        if not (0 <= x < drawn.truth.shape[1] and 0 <= y < drawn.truth.shape[0] and drawn.truth[int(y), int(x)]):
            continue
        picture = Image.fromarray(drawn.pixels)
        pen(ImageDraw.Draw(picture), [float(columns[start]), float(rows[start]), float(x), float(y)])
        after = np.asarray(picture)
        changed = after != drawn.pixels
        if min(np.ptp([columns[start], x]), np.ptp([rows[start], y])) > 8 and _stands_out(drawn.pixels, after, changed):
            return after if changed.sum() >= least else None
    return None


def _stands_out(before: Pixels, after: Pixels, changed: NDArray[np.bool_]) -> bool:
    step = np.abs(before.astype(int) - after)[changed]
    return bool(step.size) and float((step > 60).mean()) > 0.9


def _caption(texts: tuple[str, ...]) -> Callable[[Drawn, np.random.Generator], Pixels | None]:
    def plant(drawn: Drawn, rng: np.random.Generator) -> Pixels | None:
        """Letters in the air, in one of three fonts; None where there is no room, or they would be faint."""
        text, font = str(rng.choice(texts)), _font(rng)
        level = int(rng.choice([255, 255, 230, 160, 110]))
        left, top, right, bottom = font.getbbox(text)
        height, width = int(bottom - top), int(right - left)
        free = ~ndimage.binary_dilation(_lit(drawn), iterations=height)
        place = _room(free, height, width, rng)
        if place is None:
            return None
        picture = Image.fromarray(drawn.pixels)
        ImageDraw.Draw(picture).text((place[1] - left, place[0] - top), text, fill=level, font=font)
        after = np.asarray(picture)
        faint = level - float(np.median(drawn.pixels[free])) < 40
        return None if faint else as_jpeg(after, 85) if rng.random() < 0.5 else after

    return plant


def _lit(drawn: Drawn) -> NDArray[np.bool_]:
    """Where something lies: the body, and what is brighter than the air around it."""
    air = float(np.median(drawn.pixels[~drawn.truth])) if not drawn.truth.all() else 0.0
    smooth = ndimage.uniform_filter(drawn.pixels.astype(np.float32), 5)
    return drawn.truth | (smooth > air + 12)


def _room(free: NDArray[np.bool_], height: int, width: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """The upper left corner of a random free rectangle, two pixels from the picture's edge."""
    whole = np.zeros_like(free)
    whole[2:-2, 2:-2] = free[2:-2, 2:-2]
    filled = np.pad(whole.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    if min(whole.shape[0] - height, whole.shape[1] - width) < 1:
        return None
    inside = filled[height:, width:] - filled[:-height, width:] - filled[height:, :-width] + filled[:-height, :-width]
    rows, columns = np.nonzero(inside == height * width)
    if not len(rows):
        return None
    chosen = rng.integers(len(rows))
    return int(rows[chosen]), int(columns[chosen])


def _font(rng: np.random.Generator) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from matplotlib import get_data_path

    size, kind = int(rng.integers(12, 22)), rng.integers(3)
    if kind == 0:
        return ImageFont.load_default_imagefont()
    name = ("DejaVuSansMono.ttf", "DejaVuSerif.ttf")[kind - 1]
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)


PLANTS: dict[str, tuple[str, Callable[[Drawn, np.random.Generator], Pixels | None]]] = {
    "black line in the body": ("strokes", _line(0)),
    "white line in the body": ("strokes", _line(255)),
    "black box in the body": ("boxes", _box(0)),
    "white box in the body": ("boxes", _box(255)),
    **{f"caption of {name}": ("letters", _caption(texts)) for name, texts in CAPTIONS.items()},
}


if __name__ == "__main__":
    sys.exit(main())
