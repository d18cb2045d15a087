"""Pictures (PNG, JPEG, TIFF, BMP) become slices: every mode read right, or refused by name.

Pillow's own `convert("L")` clips 16-bit, 32-bit and float pictures to 255 and loses them; here they go through numpy
and an explicit window. Without one a 16-bit picture is shown over its whole declared range, and refused if that would
leave it almost uniform (12-bit CT stored in 16 bits); 32-bit and float pictures declare no range and need a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.position import Place
from ct_xception.imaging.slice import Slice, check_pixels, choose_frame
from ct_xception.imaging.windows import Window, apply_window

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # an open list lets 37 plug-ins, some of them programs, at hostile bytes
COLOUR_TOLERANCE = 16  # grey levels between channels: JPEG's chroma noise stays below
MAX_PAGES = 4_000  # of one TIFF: Pillow parses every page on the way, and looks back at all of them for loops
FILLED = 0.25  # of the declared range that a deep picture without a window must span
ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 0x0112, 258, 262, 339
MIN_IS_WHITE, SIGNED = 0, 2
GIVE_WINDOW = "give a window, a preset or CENTRE/WIDTH in the stored units, or export 8-bit"


@contextmanager
def refusing(label: str, remedy: str = "export it again as PNG") -> Iterator[None]:
    """Turn whatever Pillow raises on hostile bytes (a dozen classes of exception) into a SliceError."""
    try:
        yield
    except SliceError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split()))[:300] or type(error).__name__
        raise SliceError(label, f"cannot be decoded ({reason})", remedy) from error


def read_picture(stream: BinaryIO, label: str, *, window: Window | None, frame: int | None) -> Slice:
    """A slice from an open PNG, JPEG, TIFF or BMP file. Raises SliceError."""
    from PIL import Image, UnidentifiedImageError

    with refusing(label):
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            found = f"neither DICOM nor one of {', '.join(FORMATS)}, or damaged at its start"
            raise SliceError(label, found, "convert or download it again") from None
    return slice_from_picture(image, label, window=window, frame=frame)


def read_picture_place(stream: BinaryIO, label: str) -> Place:
    """The size of an open picture file and how many slices it holds: the pages of a TIFF, else 1. Raises SliceError.

    More than MAX_PAGES are refused.
    """
    from PIL import Image, UnidentifiedImageError

    with refusing(label):
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            return Place()  # reading it will say what is wrong
        size = (image.height, image.width)  # of the first page, which counting leaves
        return Place(_count_pages(image, label), size=size)


def slice_from_picture(image: Image.Image, label: str, *, window: Window | None, frame: int | None) -> Slice:
    """A slice from a Pillow picture, decoded or not, which is left at the page it was. Raises SliceError."""
    with refusing(label):
        check_pixels(image.height, image.width, label)
        page = image.tell()
        try:
            _turn_to_page(image, label, frame)
            stored = _Stored.of(image)
            upright, notes = _upright(image)
        finally:
            image.seek(page)
        if stored.signed and upright.mode == "L":
            raise SliceError(label, "signed 8-bit pixels, which have no agreed black", "export it again unsigned")
        if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
            coloured = 0.0
            pixels, window, more = _grey_of_deep(upright, stored, window, label)
        else:
            pixels, coloured, more = _grey_of_8bit(upright, stored, window, label)
            window = None
    return Slice(pixels, label, stored.bits, False, window, notes=(*notes, *more), coloured=coloured)


@dataclass(frozen=True)
class _Stored:
    """What the file declares of its samples, which Pillow's mode alone does not tell."""

    bits: int
    signed: bool
    min_is_white: bool

    @classmethod
    def of(cls, image: Image.Image) -> _Stored:
        bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
        if image.format == "PNG" and ";16" in _raw_mode(image):
            bits = 16
        tags = getattr(image, "tag_v2", None)
        if image.format != "TIFF" or tags is None:
            return cls(bits, image.mode == "I", False)
        bits = int(tags.get(BITS_PER_SAMPLE, (bits,))[0])
        signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
        return cls(bits, signed, tags.get(PHOTOMETRIC) == MIN_IS_WHITE)


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)  # empty once decoded
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _turn_to_page(image: Image.Image, label: str, frame: int | None) -> None:
    if frame is None and image.tell() > 0:
        return  # the caller turned the page
    pages = _count_pages(image, label, None if frame is None or frame < 0 else frame + 1)
    image.seek(choose_frame(pages, frame, label))
    check_pixels(image.height, image.width, label)


def _count_pages(image: Image.Image, label: str, enough: int | None = None) -> int:
    """The pages of a TIFF, counted no further than `enough`; of any other format 1. Leaves the picture at one of them.

    More than MAX_PAGES are refused: Pillow's own `n_frames` has no bound.
    """
    if image.format != "TIFF":
        return 1  # what follows is an animation or a thumbnail
    for page in range(MAX_PAGES + 1):
        if page == enough:
            return page
        try:
            image.seek(page)  # one at a time: a longer leap past the end makes Pillow believe in pages it never saw
        except EOFError:
            return page
    raise SliceError(label, f"a TIFF of more than {MAX_PAGES} pages", "split it and give a part of it")


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Decode, and turn as the EXIF or TIFF orientation tag says."""
    from PIL import ImageOps

    turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    return ImageOps.exif_transpose(image), ["turned upright by its orientation tag"] if turned else []


def _grey_of_deep(
    image: Image.Image, stored: _Stored, window: Window | None, label: str
) -> tuple[np.ndarray, Window, list[str]]:
    """Window a 16-bit, 32-bit or float picture: (H, W) uint8, the window used, and notes."""
    values, notes = np.asarray(image), []
    if stored.bits == 32 and image.mode == "I" and not stored.signed:
        values = values.view(np.uint32)
    if image.mode == "F" and not (finite := np.isfinite(values)).all():
        notes.append(f"{np.count_nonzero(~finite)} pixels without a finite value set to black")
        # Black is the highest value where the lowest is white: the inversion below turns the window's top to 0.
        values = np.where(finite, values, np.inf if stored.min_is_white else -np.inf)
    if window is None:
        window = whole_range(values, stored.bits, stored.signed, label)
        notes.append(f"no window given: the whole {stored.bits}-bit range shown")
    pixels = apply_window(values, window)
    if is_flat(pixels) and not is_flat(values):
        found = f"the window {window} leaves nothing of its values, {span(values)}"
        raise SliceError(label, found, "give a window in the stored units")
    if stored.min_is_white:
        pixels = 255 - pixels
        notes.append("inverted: stored with white as its lowest value")
    return pixels, window, notes


def whole_range(values: np.ndarray, bits: int, signed: bool, label: str) -> Window:
    """The declared range as a window; refused where values are physical rather than grey levels."""
    if bits > 16 or signed:
        kind = "float" if values.dtype.kind == "f" else "signed" if signed else "unsigned"
        raise SliceError(label, f"{bits}-bit {kind} values, {span(values)}, and no window", GIVE_WINDOW)
    levels = 2**bits
    # Eight bits or fewer are grey levels already; a dark one may well fill little of its range.
    if bits > 8 and not is_flat(values) and int(values.max()) - int(values.min()) < FILLED * levels:
        found = f"{bits}-bit values that fill little of their range, {span(values)}, and no window"
        raise SliceError(label, found, GIVE_WINDOW)
    return Window(levels / 2, levels)


def is_flat(values: np.ndarray) -> bool:
    """Whether all values are one and the same."""
    return bool(values.min() == values.max())


def span(values: np.ndarray) -> str:
    """The range of finite values, for a message."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():g} to {finite.max():g}" if finite.size else "none of them finite"


def _grey_of_8bit(
    image: Image.Image, stored: _Stored, window: Window | None, label: str
) -> tuple[np.ndarray, float, list[str]]:
    """Luminance (ITU-R 601) of an 8-bit picture of any mode, (H, W) uint8, its share of coloured pixels, and notes."""
    coloured, notes = 0.0, ["8-bit picture: its grey levels are not HU"]
    if window is not None:
        notes.append("window ignored: an 8-bit picture holds no HU")
    image, alpha = _split_alpha(image)
    if image.mode == "CMYK":
        notes.append("CMYK converted without its colour profile")
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
        coloured = _coloured_share(np.asarray(image))
        notes.extend(_colour_note(coloured))
    grey = np.asarray(image.convert("L"))
    if alpha is not None:
        grey = np.rint(grey * (alpha / np.float32(255))).astype(np.uint8)
        notes.append("alpha composited on black")
    if stored.bits > 8:
        if not is_flat(grey) and int(grey.max()) - int(grey.min()) < FILLED * 256:
            found = f"{stored.bits}-bit colour or alpha, of which 8 bits would keep few grey levels"
            raise SliceError(label, found, "export it as grey without alpha, and give a window")
        notes.append(f"{stored.bits}-bit colour or alpha reduced to 8 bits")
    return grey, coloured, notes


def _split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """The picture without alpha, and its alpha (H, W) uint8 unless there is none or it is opaque throughout."""
    if not image.has_transparency_data:
        return image, None
    if image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
    image = image.convert("RGBA")
    alpha = image.getchannel("A")
    opaque = alpha.getextrema()[0] == 255
    return image.convert("RGB"), None if opaque else np.asarray(alpha)


def _coloured_share(rgb: np.ndarray) -> float:
    """The share of pixels (H, W, 3) uint8 whose channels differ by more than COLOUR_TOLERANCE."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return np.count_nonzero(spread > COLOUR_TOLERANCE) / spread.size


def _colour_note(coloured: float) -> list[str]:
    share = f"{100 * coloured:.0f}" if coloured >= 0.01 else "under 1"
    return [f"colour dropped ({share} % of pixels coloured)"] if coloured else []
