"""What can be measured of one image without knowing what it shows: file, greys, border, and what is drawn on it.

The audit asks whether a label follows from these alone (a shortcut), the baselines score what it would be worth, and
images whose numbers are far from everyone else's are shown as foreign. Every function returns the same keys for every
image, all of them finite floats. Shares are fractions in [0, 1] of the pixels named.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.imaging.body import MIN_THRESHOLD, mask_box, otsu_threshold
from ct_xception.imaging.pictures import COLOUR_TOLERANCE, FORMATS
from ct_xception.imaging.slices import is_dicom

if TYPE_CHECKING:
    from PIL import Image

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
DICOM_BITS = 16.0  # Bits Allocated of the CT Image IOD (DICOM PS3.3 C.8.2.1.1.4)
WHITE, BLACK = 250, 4  # at and beyond these a drawing tool's pure white and black, a JPEG's ringing allowed
INK_SIDE = 384  # pixels: drawings are looked for at this size, which keeps a one-pixel stroke of a 1,200-pixel picture
MIN_STROKE = 0.06  # of the side: a shorter thin thing may be a vessel or a rib's edge
BOX_COVERAGE = 0.85  # of its bounding rectangle's sides that a drawn box must follow
BOX_FILL = 0.5  # of its bounding rectangle that a drawn box may fill

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def file_attributes(content: bytes) -> dict[str, float]:
    """What the encoded file tells without its pixels: size, format, channels and bytes; nothing of it is anatomy.

    `bytes_per_pixel` is in bytes, `aspect` is width / height, the `is_` and `has_` keys are 0 or 1.
    """
    described = _describe_dicom(content) if is_dicom(io.BytesIO(content)) else _describe_picture(content)
    width, height = max(described["width"], 1.0), max(described["height"], 1.0)
    return described | {
        "aspect": width / height,
        "megapixels": width * height / 1e6,
        "file_bytes": float(len(content)),
        "bytes_per_pixel": len(content) / (width * height),
    }


def _describe_dicom(content: bytes) -> dict[str, float]:
    from ct_xception.imaging.dicom import read_header

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
    values = pixels[outside].astype(np.float64)
    lit = pixels > MIN_THRESHOLD
    measured = {
        "outside_share": float(outside.mean()),
        "outside_mean": float(values.mean()) if values.size else 0.0,
        "outside_sd": float(values.std()) if values.size else 0.0,
        "outside_lit": float((lit & outside).sum() / max(values.size, 1)),
    }
    seen = np.logical_or.accumulate
    sides = {
        "above": ~seen(mask, axis=0),
        "below": ~seen(mask[::-1], axis=0)[::-1],
        "left": ~seen(mask, axis=1),
        "right": ~seen(mask[:, ::-1], axis=1)[:, ::-1],
    }
    for side, where in sides.items():
        measured[f"lit_{side}"] = float((lit & where).sum() / max(int(where.sum()), 1))
    return measured | _margins(mask)


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


def foreign_traits(content: bytes, pixels: Pixels, mask: Mask) -> dict[str, float]:
    """What a plain CT slice does not have: colour, boxes, strokes, letters; and whether it looks like a chest at all.

    `coloured_share`: pixels whose channels differ. `box_score`: how fully the best drawn rectangle's sides are there,
    0 for none. `stroke_length`: of the longest thin pure white or black line, as a share of the picture's side.
    `letters`: small separate things in the air outside the body, a count. `frame_share`: of the outermost pixels that
    are pure white. `body_found` 0 or 1; `body_share` of the picture; `cut_share`: of the picture's edge that the body
    touches. Inside the body: `dark_share` (lungs, in a chest), `black_share`, `white_share`, and the median grey of
    what is dark and bright there, `dark_level` and `bright_level`, which tell windows apart.
    """
    coloured = _coloured(content, pixels.shape)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    found = not mask.all()
    return {
        "coloured_share": float(coloured.mean()) if coloured is not None else 0.0,
        **_drawings(pixels, mask, coloured),
        "letters": _letters(pixels, mask) if found else 0.0,
        "frame_share": float((edge >= WHITE).mean()),
        "body_found": float(found),
        "body_share": float(mask.mean()),
        "cut_share": float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()) if found else 0.0,
        **_inside(pixels, mask),
    }


def _inside(pixels: Pixels, mask: Mask) -> dict[str, float]:
    values = pixels[mask] if mask.any() else pixels.ravel()
    dark = values <= max(MIN_THRESHOLD, otsu_threshold(values))
    return {
        "dark_share": float(dark.mean()),
        "body_black_share": float((values <= BLACK).mean()),
        "body_white_share": float((values >= WHITE).mean()),
        "dark_level": float(np.median(values[dark])) if dark.any() else 0.0,
        "bright_level": float(np.median(values[~dark])) if not dark.all() else 0.0,
    }


def _coloured(content: bytes, shape: tuple[int, ...]) -> Mask | None:
    """Where the encoded picture has colour, (H, W) as the slice; None where it has no colour channels."""
    from PIL import Image, ImageOps

    if is_dicom(io.BytesIO(content)):
        return None
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16"):
            return None
        rgb = np.asarray(ImageOps.exif_transpose(_rgb(image)))
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    coloured = spread > COLOUR_TOLERANCE
    return coloured if coloured.shape == shape and coloured.any() else None


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _drawings(pixels: Pixels, mask: Mask, coloured: Mask | None) -> dict[str, float]:
    """The best drawn box and the longest drawn stroke, in colour, pure white or pure black."""
    from scipy import ndimage

    layers = [] if coloured is None else [coloured]
    layers += _thin_extremes(pixels, mask)
    box, stroke = 0.0, 0.0
    for layer in layers:
        labels, found = ndimage.label(layer, np.ones((3, 3)))
        if not found:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        for index, where in enumerate(ndimage.find_objects(labels)):
            height, width = (part.stop - part.start for part in where)
            length = float(np.hypot(height, width)) / max(min(pixels.shape), 1)
            if length < MIN_STROKE / 2:
                continue
            box = max(box, _box_score(labels[where] == index + 1))
            if length >= MIN_STROKE and sizes[index] <= _stroke_width(pixels) * np.hypot(height, width):
                stroke = max(stroke, length)
    return {"box_score": box, "stroke_length": stroke}


def _stroke_width(pixels: Pixels) -> float:
    return max(4.0, min(pixels.shape) / 64)


def _thin_extremes(pixels: Pixels, mask: Mask) -> list[Mask]:
    """Pure white outside the body, and pure black inside it, both too thin to be anything but a line."""
    from scipy import ndimage

    side = 2 * round(_stroke_width(pixels)) + 1
    white, black = (pixels >= WHITE) & ~mask, (pixels <= BLACK) & mask
    layers = []
    for layer in (white, black):
        if layer.any():
            thick = ndimage.minimum_filter(layer, side)
            layers.append(layer & ~ndimage.maximum_filter(thick, side))
    return layers


def _box_score(shape: Mask) -> float:
    """How much of its bounding rectangle's four sides a shape (h, w) follows, the least covered side; 0 if filled."""
    height, width = shape.shape
    if min(height, width) < 8 or shape.mean() > BOX_FILL:
        return 0.0
    depth = max(2, min(height, width) // 8)
    sides = (shape[:depth].any(axis=0), shape[-depth:].any(axis=0), shape[:, :depth].any(1), shape[:, -depth:].any(1))
    score = min(float(side.mean()) for side in sides)
    return score if score >= BOX_COVERAGE else 0.0


def _letters(pixels: Pixels, mask: Mask) -> float:
    """How many small separate things, of a letter's size, lie in the air: watermarks, captions, scanner text."""
    from scipy import ndimage

    labels, found = ndimage.label((pixels > MIN_THRESHOLD) & ~mask, np.ones((3, 3)))
    if not found:
        return 0.0
    areas = np.bincount(labels.ravel())[1:]
    largest = max(16.0, mask.size / 1000)
    return float(((areas >= 6) & (areas <= largest)).sum())
