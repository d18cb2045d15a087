"""What can be measured of one image without knowing what it shows: file, greys, border, and what is drawn on it.

The audit asks whether a label follows from these alone (a shortcut), the baselines score what it would be worth, and
images whose numbers are far from everyone else's are shown as foreign. Every function returns the same keys for every
image, all of them finite floats. Shares are fractions in [0, 1] of the pixels named.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.marks.letters import count_letters
from ct_xception.audit.marks.strokes import BLACK, INK, INK_SHARE, WHITE, best_box, longest_stroke
from ct_xception.imaging.body.crop import MIN_THRESHOLD, mask_box, otsu_threshold
from ct_xception.imaging.decoders.dicom import read_header
from ct_xception.imaging.decoders.nifti import is_nifti
from ct_xception.imaging.decoders.pictures import FORMATS, coloured_pixels
from ct_xception.imaging.shown import FAT_LOW, ShownWindow, judge_window
from ct_xception.imaging.source import is_dicom, name_of, open_source

if TYPE_CHECKING:
    from ct_xception.imaging.slice import Slice

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
DICOM_BITS = 16.0  # Bits Allocated of the CT Image IOD (DICOM PS3.3 C.8.2.1.1.4)

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
    the file again. `box_score` and `stroke_length` as in `marks`; `letters`: how many are seen beside the body.
    `frame_share`: of the outermost pixels that are pure white. `body_found` 0 or 1; `body_share` of the picture;
    `cut_share`: of the picture's edge that the body touches. Inside the body: the shares of what is dark there (lungs,
    in a chest), pure black and pure white, and the median grey of what is dark and bright, `dark_level` and
    `bright_level`. `shown_low` and `shown_high`: the window's ends in HU as far as the picture tells them. Without
    `ct` nothing is said of windows (0), nor of black strokes, which bone makes in MR.
    """
    colour = _colour(content, pixels.shape) if coloured and isinstance(content, bytes) else None
    share, ink = (0.0, None) if colour is None else (float(colour[0].mean()), colour[1])
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    found, shown = not mask.all(), judge_window(pixels, mask) if ct else ShownWindow(0.0, 0.0)
    flesh = mask & (shown.low <= FAT_LOW)  # where fat is black, its seams are as thin and black as a stroke
    above = ~_before_and_after(mask)[1] & found  # a scanner's table draws lines below
    return {
        "coloured_share": share,
        "box_score": best_box(pixels, flesh, ink),
        "stroke_length": longest_stroke(pixels, flesh, above, ink if share < INK_SHARE else None),
        "letters": float(count_letters(pixels, mask)),
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


def _colour(content: bytes, shape: tuple[int, ...]) -> tuple[Mask, Mask] | None:
    """Where the encoded picture has colour, and so much as ink has: (H, W) as the slice; None where it has none."""
    rgb = colour_picture(content)
    if rgb is None or rgb.shape[:2] != shape:
        return None
    coloured = coloured_pixels(rgb)
    return (coloured, coloured_pixels(rgb, INK)) if coloured.any() else None
