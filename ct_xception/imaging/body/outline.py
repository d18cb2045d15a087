"""The outline of the body in a picture without HU, whatever the window: a mask, or why there is none.

No one threshold holds for every window. So several are tried, each with the shape that it leaves: in a wide window the
first shape will do; in a narrow one fat is black, muscle is grain and the skin a broken line around them, which is
closed from outside. What comes out is judged as a whole: a rib, a spine, a table or half a chest is no body, and where
lit things go on lying around what was found, it was a part of one. All of it runs at about GRID pixels; only the rim of
the answer is looked at in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.morphology import Mask, convex_area, enclosed, fill_between, grow, largest, opened, wither
from ct_xception.imaging.body.surroundings import Scene, clear_surroundings

Pixels = NDArray[np.uint8]

GRID = 256  # pixels of the longer side at which shapes are judged
STRIP = 512  # rows of a picture that are looked at in full at a time
SMALLEST = 16  # pixels of the shorter side there: less shows no shape
DIRECTIONS = 72  # around a body's middle; DOWN of them, straight down, may show a table
DOWN = 34
SPECK = 6  # pixels: a smaller thing beyond a body is noise
LEAST_AREA, SPARSE = 0.03, 0.85  # of the picture; of a rim's directions that are lit
SOLID, RAGGED = (0.86, 0.925), 0.06  # of the convex hull: less is no body, or none if more than RAGGED lies beside it
ASPECTS = (0.55, 4.0)  # width / height
DARKER_THAN_AIR = 0.03  # of the picture: more was taken for air and is flesh, since nothing is darker than air
TOUCHED, SHORT = (0.25, 0.40), (0.12, 0.30)  # of three edges and of one; of the way that is left to the one opposite
CUT = (0.55, 0.63)  # of the picture's edge: a body that covers more is cut on all sides; a smooth one
AROUND = 0.15  # of the directions: two arms may lie beyond a body; a skin around muscle fills more
BEYOND = (0.15, 0.35)  # of the body's area that may lie lit beside it: anywhere, and as arms
WHITE = 245  # grey level of a rim whose window is white from fat on
SURROUNDED, GRAIN = 0.55, 0.05  # of the directions, of the body's area, lit beyond a white rim: fat as grain
RINGED = 0.9  # of the directions: a skin, however little of it is lit
LAYERS = 1.25  # times the rim's spread that what lies deeper is brighter: muscle under fat
WALL, SOLID_WALL, LIT = 0.56, 0.70, 0.60  # of the wall, of the whole, lit in a body whose fat is lit
THIN_WALL, THIN = 0.35, 0.45  # of the wall, of the whole, lit where the window is white from muscle on only
FULL = 0.97  # of the whole lit: no black flesh anywhere
CLOTHED = 0.78  # of the directions that clothes and a blanket fill
BLACK = 3  # grey levels
DIM, DARKER = 100, 0.65  # grey level, share of the muscle's: a darker rim is fat
UNEVEN, GRAINLESS = 0.24, 0.16  # over its level, the rim's spread and its outermost quartiles': less is no grain
FAT_STEP, FAT_SPREAD = 4, 1.5  # grey levels, and times the quartiles' distance, that muscle is brighter than fat
ALL_SIDES = 0.8  # of the best layer that is so bright
NOISY = 1.3  # times a shape that faint fat may add to it
SMOOTH, LINE = 0.965, 0.77  # of the hull, of a closed skin's pixels that are lit: less is muscle and grain
GROWN = (1.11, 10.0)  # times what stood out without it: less is no skin, more was closed from nothing

HU_SKIN = -400.0  # HU: between air with a table's foam and fat
HU_OPENING = 1 / 170  # of the picture's shorter side: a table's shells and clothes are thinner than twice that
HU_LEAST = 0.02  # of the picture

CUT_INSIDE = "no air lies around it: the picture is cut inside the body"
NOTHING = "nothing stands out from the background"
A_PART = "what stands out is a part (bones, muscle, a table), and the skin around it is not seen in this window"

REASONS = (CUT_INSIDE, A_PART, NOTHING)


@dataclass(frozen=True, eq=False)
class Outline:
    """Where the body is, (H, W) bool, or None and why, the end of a sentence that began with "no body found:"."""

    mask: Mask | None
    reason: str = ""


def find_outline(pixels: Pixels) -> Outline:
    """The body in grey levels (H, W) uint8, its lungs and arms that touch it filled in."""
    step = -(-max(pixels.shape) // GRID)
    small = shrink(pixels, step)
    if min(small.shape) < SMALLEST:
        return Outline(None, NOTHING)
    scene = clear_surroundings(small)
    shape = _inner(scene)
    if shape is None:
        return Outline(None, NOTHING)
    shape = _with_skin(scene, shape)
    reason = A_PART if shape is None else _objection(scene, shape)
    if shape is None or reason:
        return Outline(None, reason)
    return Outline(_in_full(pixels, shape, step))


def outline_in_hu(values: NDArray[np.floating]) -> Mask | None:
    """The body in HU (H, W), its lungs filled in: the largest thing denser than HU_SKIN, without what is thin."""
    dense = values > HU_SKIN
    body = largest(opened(dense, max(1, round(min(dense.shape) * HU_OPENING))))
    if body is None or body.mean() < HU_LEAST:
        return None
    return enclosed(dense & grow(body, 1), 0)


def shrink(pixels: Pixels, step: int) -> Pixels:
    """Means of step x step blocks, rounded down; rows and columns that fill no block are left out."""
    rows, columns = (side // step for side in pixels.shape)
    if step == 1:
        return pixels
    blocks = pixels[: rows * step, : columns * step].reshape(rows, step, columns, step)
    return (blocks.sum(axis=(1, 3), dtype=np.int64) // step**2).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Shape:
    """A candidate: its mask, the threshold that gave it, and how it looks. Shares are in [0, 1]."""

    mask: Mask
    threshold: float
    solid: float
    covered: float
    strong: float
    beyond: float
    closed: bool = False

    @property
    def score(self) -> float:
        faint = 0.3 * max(0.0, 0.95 - self.covered) + 0.3 * max(0.0, 0.95 - self.strong)
        return self.solid - faint - 0.3 * max(0.0, self.beyond - 0.2)


def _inner(scene: Scene) -> _Shape | None:
    """The best shape that stands out by itself: thin things opened away first, then what is left filled."""
    best: _Shape | None = None
    for penalty, shape in enumerate(_inner_shapes(scene)):
        if best is None or shape.score - 0.01 * penalty > best.score:
            best = shape
        if best.score > 0.945:
            break
    return best


def _inner_shapes(scene: Scene) -> Iterator[_Shape]:
    first = next(_shapes(scene, scene.pixels > scene.threshold, scene.threshold, [(0, 0, 8)]), None)
    if first is None:
        return
    rim = _median(scene.pixels[_band(first.mask, 2, max(4, _width(first.mask) // 25))])
    levels = {(scene.air + rim) / 2, (scene.air + otsu_threshold(scene.pixels)) / 2}
    for level in sorted(level for level in levels if level > scene.threshold + 3):
        yield from _shapes(scene, scene.pixels > level, level, [(3, 0, 6), (1, 1, 6), (0, 0, 8)])
    yield first


def _outer(scene: Scene, inner: _Shape) -> _Shape | None:
    """The shape that the broken line of the skin encloses, its gaps closed step by step; None where none is whole."""
    lit = (scene.pixels > scene.threshold) & ~_below(scene, inner.mask)
    for shape in _shapes(scene, lit, scene.threshold, [(0, gap, 8) for gap in (0, 1, 2, 4, 7)], closed=True):
        rim = _band(shape.mask, 0, 2)
        growth = shape.mask.sum() / inner.mask.sum()
        whole = shape.covered >= SPARSE and shape.solid >= SMOOTH and lit[rim].mean() >= LINE
        if whole and GROWN[0] <= growth <= GROWN[1] and _around(scene, shape.mask) <= AROUND:
            return shape
    return None


def _below(scene: Scene, mask: Mask) -> Mask:
    """What lies whole below a mask: a table, which would be closed into the body."""
    from scipy import ndimage

    columns = np.flatnonzero(mask.any(axis=0))
    bottom = len(mask) - 1 - mask[::-1].argmax(axis=0)
    nearest = np.clip(np.arange(mask.shape[1]), columns[0], columns[-1])
    above = np.arange(len(mask))[:, None] <= bottom[nearest]
    labels, _ = ndimage.label(scene.pixels > scene.threshold, np.ones((3, 3)))
    kept = np.zeros(labels.max() + 1, dtype=bool)
    kept[labels[above]] = True
    return ~kept[labels]


def _shapes(
    scene: Scene, lit: Mask, threshold: float, plans: Sequence[tuple[int, int, int]], *, closed: bool = False
) -> Iterator[_Shape]:
    """The largest lit thing by each plan: steps to open before, gap to close, steps to open after."""
    strong = scene.pixels > scene.air + 0.35 * (otsu_threshold(scene.pixels) - scene.air)
    for before, gap, after in plans:
        filled = enclosed(opened(lit, before) if before else lit, gap)
        mask = largest(opened(filled, after))
        if mask is None:
            continue
        mask = filled & grow(mask, 2)
        rim = _band(mask, 0, 3)
        yield _Shape(
            mask,
            threshold,
            float(mask.sum() / convex_area(mask)),
            _covered(_band(mask, 0, 4), lit),
            float(strong[rim].mean()),
            float((lit & ~grow(mask, 3) & _above_foot(mask)).sum() / mask.sum()),
            closed,
        )


def _above_foot(mask: Mask) -> Mask:
    """The rows above the lowest tenth of a mask, (H, 1)."""
    rows = np.flatnonzero(mask.any(axis=1))
    return np.arange(len(mask))[:, None] < rows[-1] - 0.1 * (rows[-1] - rows[0])


def _with_skin(scene: Scene, shape: _Shape) -> _Shape | None:
    """The shape if fat and skin are in it; else the one that the skin around it encloses; None where none is seen."""
    around = _around(scene, shape.mask)
    fat = _fat(scene, shape, around)
    if fat == "lit":
        return _with_noise(scene, shape) if around > AROUND and _black_lungs(scene, shape.mask) else shape
    lowest = next(_shapes(scene, scene.pixels > scene.threshold, scene.threshold, [(0, 0, 8)]), None)
    if lowest is not None and _fat(scene, lowest, _around(scene, lowest.mask)) == "lit":
        return lowest  # the level that gave the shape was above faint fat
    closed = _outer(scene, shape) if around > AROUND else None
    return shape if closed is None and fat == "even" and around <= CLOTHED else closed


def _with_noise(scene: Scene, shape: _Shape) -> _Shape:
    """The shape with the faint, noisy fat that its level cut off; itself where a table, arms or clothes would come."""
    lit = (scene.pixels > scene.threshold) & ~_below(scene, shape.mask)
    least = max(SOLID[1], shape.solid - 0.01)
    for whole in _shapes(scene, lit, scene.threshold, [(0, 0, 8), (0, 1, 8)]):
        added = whole.mask & ~shape.mask
        fat = whole.mask.sum() <= NOISY * shape.mask.sum() and (lit & added).sum() >= LIT * added.sum()
        if fat and whole.solid >= least and _around(scene, whole.mask) <= AROUND:
            return whole
    return shape


def _fat(scene: Scene, shape: _Shape, around: float) -> str:
    """Whether a shape's rim is fat: "lit", "black" (it is muscle or grain), or "even", which may be either."""
    if not _black_lungs(scene, shape.mask):
        return "lit"
    width, lit = _width(shape.mask), scene.pixels > scene.threshold
    rim, wall = _band(shape.mask, 2, max(4, width // 25)), _band(shape.mask, width // 20, width // 8)
    fat, muscle = _median(scene.pixels[rim & lit]), _median(scene.pixels[wall & lit])
    share, walled = lit[shape.mask].mean(), lit[wall].mean()
    if fat >= WHITE:  # all tissue is white, or fat is grain
        grain = around > RINGED or (around > SURROUNDED and shape.beyond > GRAIN)
        return "black" if walled < THIN_WALL or share < THIN or grain else "lit"
    spread = max(1.0, float(scene.pixels[rim].std()))
    deeper = fat <= max(DIM, DARKER * muscle) and muscle - fat > LAYERS * spread and walled > WALL
    grainless = _quartiles(scene.pixels[_band(shape.mask, 1, 4)]) <= GRAINLESS * fat
    firm = (grainless or fat <= DARKER * muscle) and around <= AROUND and walled > SOLID_WALL and share > LIT
    if deeper or firm or (around <= CLOTHED and share > FULL) or _layered(scene, shape.mask):
        return "lit"
    return "even" if spread <= UNEVEN * fat and (grainless or muscle >= WHITE) else "black"


def _black_lungs(scene: Scene, mask: Mask) -> bool:
    """Whether the darkest of what lies deep in a mask is black: where lung is, fat may be black too."""
    levels = np.sort(scene.pixels[wither(mask, max(2, _width(mask) // 33))])
    return bool(len(levels)) and int(levels[len(levels) // 50]) <= BLACK


def _layered(scene: Scene, mask: Mask) -> bool:
    """Whether an even layer of fat lies all around brighter muscle; ribs are brighter too, but not on all sides."""
    depths = range(1, max(10, _width(mask) // 8))
    layers = [layer for layer in (scene.pixels[_band(mask, depth, depth + 1)] for depth in depths) if len(layer)]
    if len(layers) < 5:
        return False
    fat = min(layers[:3], key=_median)
    if np.sort(fat)[len(fat) // 20] <= scene.threshold:
        return False
    limit = _median(fat) + max(FAT_STEP, FAT_SPREAD * _quartiles(fat))
    return max(float((layer > limit).mean()) for layer in layers[2:]) >= ALL_SIDES


def _quartiles(levels: Pixels) -> int:
    """From the lower to the upper quartile of grey levels; 0 of none."""
    ordered = np.sort(levels).astype(int)
    return int(ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]) if len(ordered) else 0


def _objection(scene: Scene, shape: _Shape) -> str:
    """Why a shape is no whole body; empty where it is one."""
    mask = shape.mask
    if _is_cut(scene, shape) or _lacks_air(scene, mask):
        return CUT_INSIDE
    rows = np.flatnonzero(mask.any(axis=1))
    aspect = _width(mask) / (rows[-1] - rows[0] + 1)
    ragged = shape.solid < SOLID[1] and shape.beyond > RAGGED
    arms = shape.beyond <= BEYOND[0] or (shape.beyond <= BEYOND[1] and _around(scene, mask) <= 0.35)
    whole = shape.solid >= SOLID[0] and shape.covered >= SPARSE and arms and not ragged
    return "" if whole and mask.mean() >= LEAST_AREA and ASPECTS[0] <= aspect <= ASPECTS[1] else A_PART


def _is_cut(scene: Scene, shape: _Shape) -> bool:
    """Whether the picture ends inside the body: the body fills its edge, or its corners are no air."""
    mask = shape.mask
    edge = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    side = max(2, min(mask.shape) // 25)
    lit = mask | (scene.pixels > scene.threshold)
    corners = (lit[:side, :side], lit[:side, -side:], lit[-side:, :side], lit[-side:, -side:])
    free = sum(one.mean() < 0.65 for one in corners)
    return edge > CUT[shape.solid > 0.95] or free < 2 or (free == 2 and edge > 0.3)


def _lacks_air(scene: Scene, mask: Mask) -> bool:
    """Whether what was taken for air is lung or flesh, as in a picture cut to the lungs.

    Then something is darker still; or a part is cut at three edges and ends well before the fourth, or is cut at one
    and ends far from its opposite: a whole body would go on there.
    """
    if (scene.pixels < scene.air - max(8.0, scene.threshold - scene.air)).mean() > DARKER_THAN_AIR:
        return True
    sides = (mask, mask[::-1], mask.T, mask.T[::-1])
    touched = [float(side[:2].any(axis=0).mean()) for side in sides]
    left = [float(side.any(axis=1).argmax()) / len(side) for side in sides]
    three = sum(share > TOUCHED[0] for share in touched) >= 3 and max(left) > SHORT[0]
    return three or any(share > TOUCHED[1] and left[k ^ 1] > SHORT[1] for k, share in enumerate(touched))


def _around(scene: Scene, mask: Mask) -> float:
    """The share of directions, those of a table left out, in which something lit lies beyond a mask."""
    from scipy import ndimage

    lit = scene.pixels > scene.threshold
    labels, _ = ndimage.label(lit, np.ones((3, 3)))
    large = np.bincount(labels.ravel()) >= SPECK
    large[0] = False
    seen = np.bincount(_direction(mask, large[labels] & ~grow(mask, 3)), minlength=DIRECTIONS) > 0
    down = np.abs(np.arange(DIRECTIONS) + 0.5 - 0.75 * DIRECTIONS) < DOWN / 2
    return float(seen[~down].mean())


def _covered(rim: Mask, lit: Mask) -> float:
    """The share of directions in which a mask's rim is lit in at least a seventh of its pixels."""
    whole = np.bincount(_direction(rim, rim), minlength=DIRECTIONS)
    shown = np.bincount(_direction(rim, rim & lit), minlength=DIRECTIONS)
    return float((7 * shown[whole > 0] >= whole[whole > 0]).mean())


def _direction(mask: Mask, points: Mask) -> NDArray[np.intp]:
    """In which of DIRECTIONS from a mask's middle each of some points lies; straight down is three quarters on."""
    rows, columns = np.nonzero(mask)
    y, x = np.nonzero(points)
    angles = np.arctan2(y - rows.mean(), x - columns.mean())
    return np.floor((angles + np.pi) / (2 * np.pi) * DIRECTIONS).astype(np.intp) % DIRECTIONS


def _band(mask: Mask, first: int, last: int) -> Mask:
    """What of a mask lies between so many steps from its outside."""
    outer = wither(mask, first)
    return outer & ~wither(outer, last - first)


def _width(mask: Mask) -> int:
    columns = np.flatnonzero(mask.any(axis=0))
    return int(columns[-1] - columns[0]) + 1


def _median(levels: Pixels) -> int:
    """The upper median grey level; 0 of none."""
    return int(np.sort(levels)[len(levels) // 2]) if len(levels) else 0


def _in_full(pixels: Pixels, shape: _Shape, step: int) -> Mask:
    """A shape at the picture's own size; where it was not closed over gaps, its rim by the picture's own pixels."""
    if step == 1:
        return shape.mask
    missing = [(0, side - small * step) for side, small in zip(pixels.shape, shape.mask.shape, strict=True)]
    mask = np.pad(np.repeat(np.repeat(shape.mask, step, axis=0), step, axis=1), missing, mode="edge")
    if shape.closed:
        return mask
    found = np.empty_like(mask)
    for top in range(0, len(mask), STRIP):  # the whole at once would take many times its memory
        above = max(0, top - step)
        part, place = mask[above : top + STRIP + step], slice(top - above, top - above + STRIP)
        rim = grow(part, step) & ~wither(part, step)
        lit = pixels[above : top + STRIP + step] > shape.threshold
        found[top : top + STRIP] = np.where(rim, lit, part)[place]
    return fill_between(found)


def otsu_threshold(pixels: Pixels) -> float:
    """Otsu's threshold (1979) of grey levels uint8: the t that best parts `<= t` from `> t`; 0 if all are equal.

    Where no pixel lies between two groups, every t between them is as good: their mean, so that noise finds room.
    """
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    below, weighted = counts.cumsum(), (counts * np.arange(256)).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted / below - (weighted[-1] - weighted) / above) ** 2
    between = np.nan_to_num(between[:-1], nan=0.0, posinf=0.0)
    best = between.max()
    return float(np.flatnonzero(between == best).mean()) if best > 0 else 0.0
