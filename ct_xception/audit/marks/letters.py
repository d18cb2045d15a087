"""Letters beside the body: side marks, captions, a patient's name; told by their shapes and by standing in a line.

Every small thing that lies alone in the air is held against capital letters, digits and what small letters do not look
like a bar or a dot, in one sans-serif type face. One that looks much like a letter is said to be one; two that look a
little like letters are, if they stand on one line; so are very many, as of a watermark that lies aslant. Foam, metal, a
blanket's seams and a table's edges do none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.crop import Box
from ct_xception.imaging.body.morphology import Mask

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

GLYPHS = "ABCDEFGHKLMNPQRSUVWXZ23567849abdeghkmnpqwy"
CELL = 12  # pixels a side of the glyphs that are compared
SMALLEST, SIDE, WIDE = 5, 0.1, 1.6  # of a letter: pixels of its height; its most, of the picture's side; width / height
ABOVE, NOISE = 24, 4  # grey levels over the air, and times its spread: brighter than a table's foam
NEAR = 3  # pixels from the body: the skin's own edge breaks into small things
LIKE, ALIKE = 0.8, 0.5  # correlation with a glyph of a single letter, and of one in a line
CLEAR, STAND_ALONE = 7, 4  # pixels of height and width of a single letter: a thin one may be a table's edge
IN_LINE = 0.62  # the same as ALIKE where no body is known, and bones lie about; no letter is single there
PART = 0.05  # of the side: a larger thing belongs to a patient whose outline was not found
MANY, FULL = 20, 0.85  # things, each of which fills less of its box: a table's foam leaves up to 15
GRAIN = 400  # so many things of a letter's size are noise


@dataclass(frozen=True)
class Letter(Box):
    """A thing of a letter's size: its box, its correlation with the likest glyph, and its fill."""

    likeness: float
    filled: float

    @property
    def is_clear(self) -> bool:
        """Whether it is one by itself."""
        return self.likeness >= LIKE and self.height >= CLEAR and self.width >= STAND_ALONE


def count_letters(pixels: Pixels, body: Mask) -> int:
    """How many letters are seen beside the body (H, W), of grey levels (H, W) uint8; all True where none was found."""
    found = not body.all()
    air, spread, taken = _surroundings(pixels, body) if found else _without_body(pixels)
    letters = _candidates((pixels > air + max(ABOVE, NOISE * spread)) & ~taken, taken)
    lined = _in_lines([one for one in letters if one.likeness > (ALIKE if found else IN_LINE)])
    single = {one for one in letters if found and one.is_clear}
    open_ones = [one for one in letters if found and one.filled <= FULL and one.width > 2]
    return len(lined | single) if len(open_ones) < MANY else len(open_ones)


def _surroundings(pixels: Pixels, body: Mask) -> tuple[float, float, Mask]:
    """The air's level, its spread, and where no letter is looked for."""
    levels = np.sort(pixels[~body])
    air = float(levels[len(levels) // 2])
    return air, float(levels[len(levels) * 21 // 25]) - air, body


def _without_body(pixels: Pixels) -> tuple[float, float, Mask]:
    """The same where no body is known: the convex hull of all that is larger than a letter is taken for it."""
    from scipy import ndimage
    from skimage.morphology import convex_hull_image

    edge = np.sort(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]))
    air = float(edge[len(edge) // 5])
    labels, found = ndimage.label(pixels > air + ABOVE, np.ones((3, 3)))
    boxes = ndimage.find_objects(labels)
    sizes = [max(part.stop - part.start for part in box) for box in boxes]
    large = np.array([False, *(size > PART * min(pixels.shape) for size in sizes)])
    parts = large[labels] if found else np.zeros(pixels.shape, dtype=bool)
    return air, 0.0, convex_hull_image(parts) if parts.any() else parts


def _candidates(lit: Mask, taken: Mask) -> list[Letter]:
    """What of a letter's size lies alone, off the picture's edge; none where there is too much of it."""
    from scipy import ndimage

    near = ndimage.maximum_filter(taken, 2 * NEAR + 1)
    near[[0, -1]], near[:, [0, -1]] = True, True
    labels, number = ndimage.label(lit, np.ones((3, 3)))
    free = np.ones(number + 1, dtype=bool)
    free[labels[near]] = False
    boxes = [(index, box) for index, box in enumerate(ndimage.find_objects(labels), 1) if free[index]]
    sized = [(index, box) for index, box in boxes if _is_sized(box, SIDE * min(lit.shape))]
    if not sized or len(sized) > GRAIN:
        return []
    shapes = [labels[box] == index for index, box in sized]
    likeness = (np.stack([_cell(shape) for shape in shapes]) @ glyphs().T).max(axis=1)
    found = zip(sized, shapes, likeness.tolist(), strict=True)
    return [_letter(box, like, float(shape.mean())) for (_, box), shape, like in found]


def _letter(box: tuple[slice, slice], likeness: float, filled: float) -> Letter:
    top, bottom, left, right = _ends(box)
    return Letter(top, left, bottom, right, likeness, filled)


def _is_sized(box: tuple[slice, slice], most: float) -> bool:
    top, bottom, left, right = _ends(box)
    return SMALLEST <= bottom - top <= most and 2 <= right - left <= WIDE * (bottom - top)


def _ends(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    rows, columns = box
    return rows.start, rows.stop, columns.start, columns.stop


def _in_lines(letters: list[Letter]) -> set[Letter]:
    """Those that stand side by side on one base line, of nearly one height."""
    return {one for one in letters for other in letters if one is not other and _are_neighbours(one, other)}


def _are_neighbours(one: Letter, other: Letter) -> bool:
    height = max(one.height, other.height)
    level = abs(one.bottom - other.bottom) <= max(1.0, 0.15 * height) and min(one.height, other.height) > 0.6 * height
    gap = max(one.left, other.left) - min(one.right, other.right)
    return level and -1 <= gap <= 1.5 * height


@cache
def glyphs() -> Floats:
    """The glyphs that letters are held against: (n, CELL * CELL), each of zero mean and length 1."""
    from PIL import Image, ImageDraw, ImageFont

    font, cells = ImageFont.load_default(64), []
    for glyph in GLYPHS:
        picture = Image.new("L", (120, 120))
        ImageDraw.Draw(picture).text((10, 10), glyph, fill=255, font=font)
        box = picture.getbbox()
        assert box is not None
        cells.append(_cell(np.asarray(picture.crop(box)) > 128))
    return np.stack(cells)


def _cell(shape: Mask) -> Floats:
    """A shape (h, w) in the middle of a square of CELL pixels a side, a little blurred: (CELL * CELL,), of length 1."""
    from PIL import Image
    from scipy import ndimage

    height, width = shape.shape
    side = max(shape.shape)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = 255 * shape
    small = np.asarray(Image.fromarray(square).resize((CELL, CELL), Image.Resampling.BOX), dtype=np.float32)
    cell = ndimage.gaussian_filter(small, 0.7).ravel()
    cell -= cell.mean()
    return (cell / max(float(np.linalg.norm(cell)), 1e-6)).astype(np.float32)
