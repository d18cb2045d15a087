"""What can be measured of one image without knowing what it shows: file, greys, border, and what is drawn on it.

The audit asks whether a label follows from these alone (a shortcut), the baselines score what it would be worth, and
images whose numbers are far from everyone else's are shown as foreign. Every function returns the same keys for every
image, all of them finite floats. Shares are fractions in [0, 1] of the pixels named.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body.crop import MIN_THRESHOLD, mask_box, otsu_threshold
from ct_xception.imaging.decoders.nifti import is_nifti
from ct_xception.imaging.decoders.pictures import FORMATS, coloured_pixels
from ct_xception.imaging.shown import FAT_LOW, ShownWindow, judge_window
from ct_xception.imaging.source import is_dicom, name_of, open_source

if TYPE_CHECKING:
    from ct_xception.imaging.slice import Slice

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
DICOM_BITS = 16.0  # Bits Allocated of the CT Image IOD (DICOM PS3.3 C.8.2.1.1.4)
WHITE, BLACK = 250, 4  # at and beyond these a drawing tool's pure white and black, a JPEG's ringing allowed
MIN_STROKE = 0.12  # of the side: a shorter thin thing may be an airway or a rib's edge
STRAIGHT = 0.028  # of its length that a straight line strays; a sliver of lung along the ribs strays more
RING, CONTRAST = 3, 20  # pixels around a stroke that must differ from it by as many grey levels
BOX_COVERAGE = 0.85  # of its bounding rectangle's sides that a drawn box must follow
BOX_FILL = 0.5  # of its bounding rectangle that a drawn box may fill
MIN_BOX, MIN_BOX_SIDE = 8, 0.02  # pixels, and share of the picture's side: of a box's shorter side
LETTER_GREY, LETTER_SIDE = 24, 0.08  # brighter than a table's foam; at most this share of the picture's side

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def file_attributes(content: bytes | str, slice_: Slice | None = None) -> dict[str, float]:
    """What the encoded file tells without its pixels: size, format, channels and bytes; nothing of it is anatomy.

    `content` is the file's bytes, or its path. `bytes_per_pixel` is in bytes, `aspect` is width / height, the `is_` and
    `has_` keys are 0 or 1. What a volume (NIfTI) or a file of several pages tells is told by the `slice_` read from it.
    """
    with open_source(content, name_of(content)) as stream:
        dicom, volume = is_dicom(stream), is_nifti(stream)
        size = stream.seek(0, io.SEEK_END)
    if dicom:
        described = _describe_dicom(content)
    elif slice_ is not None and (volume or isinstance(content, str)):
        described = _describe_slice(slice_)
    else:
        described = _describe_picture(content if isinstance(content, bytes) else Path(content).read_bytes())
    width, height = max(described["width"], 1.0), max(described["height"], 1.0)
    return described | {
        "aspect": width / height,
        "megapixels": width * height / 1e6,
        "file_bytes": float(size),
        "bytes_per_pixel": size / (width * height),
    }


def _describe_slice(slice_: Slice) -> dict[str, float]:
    rows, columns = slice_.pixels.shape
    size = {"width": float(columns), "height": float(rows), "channels": 1.0, "bit_depth": float(slice_.bit_depth)}
    return size | _formats("") | {"has_alpha": 0.0, "has_palette": 0.0}


def _describe_dicom(content: bytes | str) -> dict[str, float]:
    from ct_xception.imaging.decoders.dicom import read_header

    header = read_header(content)
    size = {"width": float(header.columns), "height": float(header.rows), "channels": 1.0, "bit_depth": DICOM_BITS}
    return size | _formats("DICOM") | {"has_alpha": 0.0, "has_palette": 0.0}


def _describe_picture(content: bytes) -> dict[str, float]:
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
        if image.format == "PNG":
            bits = content[24]  # of the header chunk (PNG specification, section 11.2.1)
        described = {"width": float(image.width), "height": float(image.height)}
        described |= {"channels": float(len(image.getbands())), "bit_depth": float(bits)}
        flags = {"has_alpha": float("A" in image.getbands()), "has_palette": float(image.mode == "P")}
        return described | _formats(image.format or "") | flags


def _formats(found: str) -> dict[str, float]:
    return {f"is_{name.lower()}": float(name == found) for name in ("PNG", "JPEG", "TIFF", "BMP", "DICOM")}


def grey_statistics(pixels: Pixels) -> dict[str, float]:
    """Twelve numbers of the grey levels (H, W) uint8, without their places.

    Mean and sd, seven percentiles, the shares of pure black and pure white, in grey levels or shares; and the entropy
    of the histogram in bits, 0 to 8.
    """
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    share, levels = counts / counts.sum(), np.arange(256)
    mean = float(share @ levels)
    seen = share[share > 0]
    reached = np.searchsorted(share.cumsum(), np.array(PERCENTILES) / 100 - 1e-12)
    return {
        "mean": mean,
        "sd": float(np.sqrt(share @ (levels - mean) ** 2)),
        **{f"p{name:02}": float(level) for name, level in zip(PERCENTILES, reached, strict=True)},
        "black_share": float(share[0]),
        "white_share": float(share[255]),
        "entropy": float(-(seen * np.log2(seen)).sum() + 0.0),
    }


def border_statistics(pixels: Pixels, mask: Mask) -> dict[str, float]:
    """What lies outside the body alone: how much of it there is, its greys, and on which side it is not air.

    `mask` (H, W) is True in the body. `margin_` keys are the distance from the body's box to the picture's edge, as a
    share of its height or width. `lit_` keys are the share of pixels above the air's noise among those outside the body
    that lie above, below, left or right of it, seen down their column or along their row.
    """
    outside = ~mask
    counts = np.bincount(pixels[outside], minlength=256).astype(np.float64)
    number = max(counts.sum(), 1.0)
    mean = float(counts @ np.arange(256) / number)
    measured = {
        "outside_share": float(outside.mean()),
        "outside_mean": mean,
        "outside_sd": float(np.sqrt(counts @ (np.arange(256) - mean) ** 2 / number)),
        "outside_lit": float(counts[MIN_THRESHOLD + 1 :].sum() / number),
    }
    lit = pixels > MIN_THRESHOLD
    for names, seen, body in ((("above", "below"), lit, mask), (("left", "right"), lit.T, mask.T)):
        for name, where in zip(names, _before_and_after(body), strict=True):
            measured[f"lit_{name}"] = float((seen & where).sum() / max(int(where.sum()), 1))
    return measured | _margins(mask)


def _before_and_after(mask: Mask) -> tuple[Mask, Mask]:
    """Where a column (H, W) has no body up to here, and where it has none from here on."""
    rows, empty = np.arange(len(mask))[:, None], ~mask.any(axis=0)
    first, last = mask.argmax(axis=0), len(mask) - 1 - mask[::-1].argmax(axis=0)
    return (rows < first) | empty, (rows > last) | empty


def _margins(mask: Mask) -> dict[str, float]:
    height, width = mask.shape
    if not mask.any():
        return dict.fromkeys(("margin_above", "margin_below", "margin_left", "margin_right"), 0.0)
    box = mask_box(mask)
    return {
        "margin_above": box.top / height,
        "margin_below": (height - box.bottom) / height,
        "margin_left": box.left / width,
        "margin_right": (width - box.right) / width,
    }


def foreign_traits(
    content: bytes | str, pixels: Pixels, mask: Mask, *, coloured: bool = True, ct: bool = True
) -> dict[str, float]:
    """What a plain CT slice does not have: colour, boxes, strokes, letters; and whether it looks like a body at all.

    `coloured_share`: pixels whose channels differ; `coloured=False` says that the reader saw none, which saves decoding
    the file again. `box_score`: how fully the least complete side of the best drawn rectangle is there, 0 for none.
    `stroke_length`: of the longest thin pure white or black line, as a share of the picture's side. `letters`: small
    separate things of a letter's size in the air, a count. `frame_share`: of the outermost pixels that are pure white.
    `body_found` 0 or 1; `body_share` of the picture; `cut_share`: of the picture's edge that the body touches. Inside
    the body: the shares of what is dark there (lungs, in a chest), pure black and pure white, and the median grey of
    what is dark and bright, `dark_level` and `bright_level`. `shown_low` and `shown_high`: the window's ends in HU
    as far as the picture tells them. Without `ct` nothing is said of windows (0), nor of black strokes, which bone
    makes in MR.
    """
    colour = _colour(content, pixels.shape) if coloured and isinstance(content, bytes) else None
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    found, shown = not mask.all(), judge_window(pixels, mask) if ct else ShownWindow(0.0, 0.0)
    flesh = mask & (shown.low <= FAT_LOW)  # where fat is black, its seams are as thin and black as a stroke
    return {
        "coloured_share": float(colour.mean()) if colour is not None else 0.0,
        "box_score": _best_box(pixels, flesh, colour),
        "stroke_length": _longest_stroke(pixels, mask, colour, flesh, straight=shown.hides_lung),
        "letters": _letters(pixels, mask) if found else 0.0,
        "frame_share": float((edge >= WHITE).mean()),
        "body_found": float(found),
        "body_share": float(mask.mean()),
        "cut_share": float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()) if found else 0.0,
        **_inside(pixels[mask] if mask.any() else pixels.ravel()),
        "shown_low": shown.low,
        "shown_high": shown.high,
    }


def _inside(values: Pixels) -> dict[str, float]:
    counts = np.bincount(values, minlength=256)
    split = int(max(MIN_THRESHOLD, otsu_threshold(values))) + 1
    return {
        "dark_share": float(counts[:split].sum() / counts.sum()),
        "black_share": float(counts[: BLACK + 1].sum() / counts.sum()),
        "white_share": float(counts[WHITE:].sum() / counts.sum()),
        "dark_level": _median(counts[:split]),
        "bright_level": _median(counts[split:], split),
    }


def _median(counts: NDArray[np.integer], start: int = 0) -> float:
    """The lower median grey level of a part of a histogram that begins at `start`; 0 of none."""
    total = int(counts.sum())
    return float(start + np.searchsorted(counts.cumsum(), (total + 1) // 2)) if total else 0.0


def colour_picture(content: bytes) -> Pixels | None:
    """An encoded picture's colours, (H, W, 3) uint8, upright and without its alpha; None where it has no channels."""
    from PIL import Image, ImageOps

    if is_dicom(io.BytesIO(content)):
        return None
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16"):
            return None
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _colour(content: bytes, shape: tuple[int, ...]) -> Mask | None:
    """Where the encoded picture has colour, (H, W) as the slice; None where it has none."""
    rgb = colour_picture(content)
    if rgb is None or rgb.shape[:2] != shape:
        return None
    coloured = coloured_pixels(rgb)
    return coloured if coloured.any() else None


def _best_box(pixels: Pixels, mask: Mask, colour: Mask | None) -> float:
    """The best drawn rectangle in colour, in pure white outside the body, or in pure white or black lines inside it."""
    layers = (colour, pixels >= WHITE, (pixels <= BLACK) & mask)
    shapes = (shape for layer in layers for shape, _ in _shapes(layer))
    return max((_box_score(shape) for shape in shapes), default=0.0)


def _longest_stroke(pixels: Pixels, mask: Mask, colour: Mask | None, flesh: Mask, *, straight: bool) -> float:
    """In colour, pure white in the air, or pure black through what is not black: what is as pure and thin is drawn.

    `straight`: black lines that bend do not count, as where lung is black: its edge along the ribs is as thin.
    """
    width = _stroke_width(pixels)
    _, below = _before_and_after(mask)  # where a scanner's table draws lines of its own
    white, black = (pixels >= WHITE) & ~mask & ~below, (pixels <= BLACK) & flesh
    longest = 0.0
    for layer, bent in ((colour, True), (_thin(white, width), True), (_thin(black, width), not straight)):
        for shape, box in _shapes(layer):
            length = float(np.hypot(*shape.shape))
            drawn = shape.sum() <= width * length and (bent or _bend(shape) <= STRAIGHT * length)
            drawn = drawn and (layer is colour or _stands_alone(pixels, shape, box))
            longest = max(longest, length / min(pixels.shape) if drawn else 0.0)
    return longest if longest >= MIN_STROKE else 0.0


def _bend(shape: Mask) -> float:
    """How far, in pixels, a shape strays from the straight line through it: the smaller standard deviation."""
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(np.argwhere(shape).T))[0])))


def _stands_alone(pixels: Pixels, shape: Mask, box: tuple[slice, slice]) -> bool:
    """Whether what surrounds a shape is not nearly as extreme: dark lung lies by dark lung, a bright table by foam."""
    from scipy import ndimage

    padded = np.pad(shape, RING)
    ring = ndimage.maximum_filter(padded, 2 * RING + 1) & ~ndimage.maximum_filter(padded, 3)
    rows, columns = (np.arange(part.start - RING, part.stop + RING) for part in box)
    inside = ((rows >= 0) & (rows < pixels.shape[0]))[:, None] & ((columns >= 0) & (columns < pixels.shape[1]))
    around = pixels[np.ix_(rows.clip(0, pixels.shape[0] - 1), columns.clip(0, pixels.shape[1] - 1))][ring & inside]
    own = pixels[box][shape].mean()
    return bool(around.size) and float((np.abs(around - own) < CONTRAST).mean()) < 0.2


def _stroke_width(pixels: Pixels) -> float:
    return max(4.0, min(pixels.shape) / 64)


def _thin(layer: Mask, width: float) -> Mask:
    """What of a layer is thinner than about twice `width`: it without its opening by a square."""
    from scipy import ndimage

    if not layer.any():
        return layer
    side = 2 * round(width) + 1
    thick = ndimage.minimum_filter(layer, side)
    return layer & ~ndimage.maximum_filter(thick, side) if thick.any() else layer


def _shapes(layer: Mask | None) -> Iterator[tuple[Mask, tuple[slice, slice]]]:
    """The connected parts of a layer that are long enough to be drawn: each (h, w) with its box in the layer."""
    from scipy import ndimage

    if layer is None or not layer.any():
        return
    labels, _ = ndimage.label(layer, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    shortest = MIN_BOX_SIDE * min(layer.shape)
    large = np.flatnonzero(areas[1:] >= shortest)
    boxes = ndimage.find_objects(labels) if len(large) else []
    for index in large.tolist():
        height, width = (part.stop - part.start for part in boxes[index])
        if height + width >= 2 * shortest:
            yield labels[boxes[index]] == index + 1, boxes[index]


def _box_score(shape: Mask) -> float:
    """How much of its bounding rectangle's four sides a shape (h, w) follows, the least covered side; 0 if filled."""
    height, width = shape.shape
    if min(height, width) < MIN_BOX or shape.mean() > BOX_FILL:
        return 0.0
    depth = max(1, min(height, width) // 8)
    sides = (shape[:depth].any(axis=0), shape[-depth:].any(axis=0), shape[:, :depth].any(1), shape[:, -depth:].any(1))
    score = min(float(side.mean()) for side in sides)
    return score if score >= BOX_COVERAGE else 0.0


def _letters(pixels: Pixels, mask: Mask) -> float:
    """How many things of a letter's size lie alone in the air: watermarks, captions, the scanner's text."""
    from scipy import ndimage

    side = min(pixels.shape)
    reach = max(3, round(0.015 * side))
    near = ndimage.maximum_filter(mask, 2 * reach + 1)  # the skin's own edge breaks into small things
    near[[0, -1]], near[:, [0, -1]] = True, True
    labels, found = ndimage.label((pixels > LETTER_GREY) & ~mask, np.ones((3, 3)))
    if not found:
        return 0.0
    areas = np.bincount(labels.ravel())
    areas[labels[near]] = 0
    boxes = ndimage.find_objects(labels)
    fitting = np.flatnonzero((areas[1:] >= 10) & (areas[1:] <= (LETTER_SIDE * side) ** 2))
    return float(sum(_is_letter(boxes[index], areas[index + 1], LETTER_SIDE * side) for index in fitting))


def _is_letter(box: tuple[slice, slice], area: int, largest: float) -> bool:
    height, width = (part.stop - part.start for part in box)
    return min(height, width) >= 3 and 5 <= max(height, width) <= largest and area <= 0.85 * height * width
