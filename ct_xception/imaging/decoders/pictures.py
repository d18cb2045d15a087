"""Pictures (PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000) become slices: every mode read right, or refused by name.

What a file says of itself is walked and held to what it may cost before Pillow opens it; what is missing in it is
found (`png.py`, `jpeg.py`, `tiff.py`, `animations.py`, `codestreams.py`). Pillow's own `convert("L")` clips 16-bit,
32-bit and float pictures to 255 and loses them; here they go through numpy and an explicit window. Without one a 16-bit
picture is shown over its whole declared range, and refused if that would leave it almost uniform (12-bit CT stored in
16 bits); 32-bit and float pictures declare no range and need a window.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.decoders.animations import walk_gif, walk_webp
from ct_xception.imaging.decoders.codestreams import MAX_J2K_SAMPLES, check_jpeg2000, coded_size
from ct_xception.imaging.decoders.jpeg import check_complete, count_pictures, walk_jpeg
from ct_xception.imaging.decoders.png import walk_png
from ct_xception.imaging.decoders.tiff import MAX_PAGES, walk_tiff
from ct_xception.imaging.modality import CT
from ct_xception.imaging.position import Place
from ct_xception.imaging.silence import muted_descriptor, silence_libraries
from ct_xception.imaging.slice import MAX_PIXELS, Slice, blank_rows, check_pixels, choose_frame
from ct_xception.imaging.source import picture_kind
from ct_xception.imaging.windows import LEAST_WIDTH, Window, apply_window

if TYPE_CHECKING:
    from PIL import Image

# An open list lets 37 plug-ins, some of them programs, at hostile bytes.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")
ZIP = b"PK\x03\x04"
MAX_PICTURE_BYTES = 128 * 2**20  # of all but TIFF, whose stacks may be longer
COLOUR_TOLERANCE = 16  # grey levels between channels: JPEG's chroma noise stays below
MAX_PLAYED = 100_000_000  # pixels of an animation up to the frame that is asked for
MAX_DEEP_PIXELS = MAX_PIXELS // 2  # of four bytes a sample
MAX_RUN_LENGTH_BYTES = 4 * 2**20  # of a BMP, whose runs Pillow counts in Python
MAX_STRIPS = 20_000
FILLED = 0.25  # of the declared range that a deep picture without a window must span
ORIENTATION, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, SAMPLE_FORMAT, JPEG_TABLES = 0x0112, 258, 259, 262, 339, 347
STRIPS, STRIP_BYTES, TILES, TILE_BYTES = 273, 279, 324, 325
MIN_IS_WHITE, SIGNED = 0, 2
TURNED = "turned upright by its orientation tag"
ONE_PICTURE = "save the one you mean as a picture of its own"
GIVE_WINDOW = "give a window, a preset or CENTRE/WIDTH in the stored units, or export 8-bit"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


@contextmanager
def refusing(label: str, remedy: str = "export it again as PNG") -> Iterator[None]:
    """Turn whatever Pillow raises on hostile bytes (a dozen classes of exception) into a SliceError, without a word."""
    silence_libraries()
    try:
        yield
    except SliceError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split()))[:300] or type(error).__name__
        raise SliceError(label, f"cannot be decoded ({reason})", remedy) from error


MIDDLE = (0.5, 99.5)  # percentiles that images without a unit are shown between where they have no window


@dataclass(frozen=True)
class _Told:
    """What a file's own structure tells: how many pictures it holds, and its EXIF orientation, 1 to 8."""

    frames: int = 1
    orientation: int = 1


def read_picture(
    stream: BinaryIO,
    label: str,
    *,
    window: Window | None,
    frame: int | None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """A slice from an open picture file of one of FORMATS. Raises SliceError."""
    with refusing(label):
        kind = _kind(stream)
        if kind is None:
            if stream.read(4) == ZIP:
                raise SliceError(label, "a zip of files, not one slice", "unpack it, or let predict answer all in it")
            found = f"neither DICOM nor one of {', '.join(FORMATS)}, NIfTI, or damaged at its start"
            raise SliceError(label, found, "convert or download it again")
        enough = None if frame is None or frame < 0 else frame + 1
        told = _inspect(stream, kind, label, whole=True, enough=enough)
        image = _open(stream, kind, label)
        return _slice_of(
            image, label, window=window, frame=frame, told=told, modality=modality, keep_values=keep_values
        )


def read_picture_place(stream: BinaryIO, label: str) -> Place:
    """The size of an open picture file and how many slices it holds: pages, frames. Raises SliceError.

    More than MAX_PAGES are refused.
    """
    with refusing(label):
        kind = _kind(stream)
        if kind is None:
            return Place()  # reading it will say what is wrong
        told = _inspect(stream, kind, label, whole=False)
        image = _open(stream, kind, label)
        return Place(told.frames, size=(image.height, image.width))


def _kind(stream: BinaryIO) -> str | None:
    stream.seek(0)
    kind = picture_kind(stream.read(16))
    stream.seek(0)
    return kind


def _open(stream: BinaryIO, kind: str, label: str) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    stream.seek(0)
    try:
        return Image.open(stream, formats=[kind])
    except UnidentifiedImageError:
        raise SliceError(label, f"a damaged {kind} file", "copy or download it again") from None


def _inspect(stream: BinaryIO, kind: str, label: str, *, whole: bool, enough: int | None = None) -> _Told:
    """Hold a file to its bounds by its own structure; `whole` looks for missing pixels too."""
    if kind == "TIFF":
        return _Told(walk_tiff(stream, label, enough))
    size = stream.seek(0, io.SEEK_END)
    if size > MAX_PICTURE_BYTES:
        raise SliceError(label, f"a {kind} of more than {MAX_PICTURE_BYTES // 2**20} MiB", "shrink it to one slice")
    stream.seek(0)
    if kind == "PNG":
        png = walk_png(stream, label)
        return _Told(png.frames, png.orientation)
    if kind == "BMP":
        if size > MAX_RUN_LENGTH_BYTES and stream.read(34)[30:34] != bytes(4):
            raise SliceError(label, f"a compressed BMP of {size // 2**20} MiB", "export it again as PNG")
        return _Told()
    content = stream.read()
    if kind == "JPEG":
        return _inspect_jpeg(content, label, whole)
    if kind == "JPEG2000":
        _inspect_jpeg2000(content, label)
        return _Told()
    walked = walk_gif(content, label) if kind == "GIF" else walk_webp(content, label)
    return _Told(walked.frames, walked.orientation)


def _inspect_jpeg(content: bytes, label: str, whole: bool) -> _Told:
    jpeg = walk_jpeg(content, label)
    pictures = count_pictures(content, jpeg)
    if whole:
        end = len(content) if jpeg.end is None else jpeg.end
        check_complete(content[:end], jpeg, decode_jpeg, label)
    return _Told(pictures, jpeg.orientation)


def decode_jpeg(content: bytes) -> np.ndarray:
    """The luminance samples of an 8-bit JPEG (H, W), or its samples as they are where it has none."""
    from PIL import Image

    image = Image.open(io.BytesIO(content), formats=["JPEG"])
    image.draft("L", image.size)
    return np.asarray(image)


def _inspect_jpeg2000(content: bytes, label: str) -> None:
    size = coded_size(content)
    check_pixels(size.rows, size.columns * max(1, size.samples), label, MAX_J2K_SAMPLES)
    check_jpeg2000(content)


def slice_from_picture(
    image: Image.Image,
    label: str,
    *,
    window: Window | None,
    frame: int | None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """A slice from a Pillow picture, decoded or not, which is left at the page it was. Raises SliceError."""
    with refusing(label):
        return _slice_of(
            image, label, window=window, frame=frame, told=None, modality=modality, keep_values=keep_values
        )


def _slice_of(
    image: Image.Image,
    label: str,
    *,
    window: Window | None,
    frame: int | None,
    told: _Told | None,
    modality: str,
    keep_values: bool,
) -> Slice:
    _check_size(image, label)
    page = image.tell()
    try:
        _turn_to_page(image, label, frame, told)
        stored = _Stored.of(image)
        upright, notes = _upright(image, told)
    finally:
        image.seek(page)
    notes += _aspect_notes(image)
    unchecked = image.format in ("TIFF", "BMP")  # whose rows have no checksum; other formats were looked through
    if stored.signed and upright.mode == "L":
        raise SliceError(label, "signed 8-bit pixels, which have no agreed black", "export it again unsigned")
    coloured, values = 0.0, None
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        values = _finite_of(upright, stored) if keep_values else None
        pixels, window, more = _grey_of_deep(upright, stored, window, label, modality)
    else:
        pixels, coloured, more = _grey_of_8bit(upright, stored, window, label, modality)
        window = None
    more += blank_rows(pixels) if unchecked else []
    inverted = stored.min_is_white and values is not None
    notes += more
    return Slice(
        *(pixels, label, stored.bits, False, window),
        notes=tuple(notes), coloured=coloured, values=values, inverted=inverted,
    )  # fmt: skip


def _check_size(image: Image.Image, label: str) -> None:
    deep = image.mode in ("I", "F", "CMYK") or image.format == "WEBP"
    check_pixels(image.height, image.width, label, MAX_DEEP_PIXELS if deep else MAX_PIXELS)


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


def _decoder(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    return str(tiles[0][0]) if tiles else ""


def _turn_to_page(image: Image.Image, label: str, frame: int | None, told: _Told | None) -> None:
    if frame is None and image.tell() > 0:
        return  # the caller turned the page
    enough = None if frame is None or frame < 0 else frame + 1
    pages = told.frames if told is not None else _count_pages(image, label, enough)
    index = choose_frame(pages, frame, label)
    if image.format not in ("TIFF", "MPO") and (index + 1) * image.height * image.width > max(
        MAX_PLAYED, image.height * image.width
    ):
        raise SliceError(label, f"frame {index} of an animation, which must be played up to there", ONE_PICTURE)
    if index >= _held_frames(image, index):
        raise SliceError(label, f"{pages} pictures, of which only the first can be read", ONE_PICTURE)
    image.seek(index)
    _check_size(image, label)
    if image.format == "TIFF":
        _check_strips(image, label)


def _held_frames(image: Image.Image, index: int) -> int:
    """Frames as Pillow counts them, which for one picture, and for the pages of a TIFF, nobody has to ask."""
    return index + 1 if index == 0 or image.format == "TIFF" else int(getattr(image, "n_frames", 1))


def _count_pages(image: Image.Image, label: str, enough: int | None = None) -> int:
    """The pages or frames of a picture, counted no further than `enough`. Leaves the picture at one of them.

    More than MAX_PAGES are refused: Pillow's own `n_frames` has no bound.
    """
    if image.format not in ("TIFF", "GIF", "WEBP", "PNG", "MPO"):
        return 1
    for page in range(MAX_PAGES + 1):
        if page == enough:
            return page
        try:
            image.seek(page)  # one at a time: a longer leap past the end makes Pillow believe in pages it never saw
        except EOFError:
            return page
    raise SliceError(label, f"a TIFF of more than {MAX_PAGES} pages", "split it and give a part of it")


def _check_strips(image: Image.Image, label: str) -> None:
    """Bound the strips; libtiff decodes them as far as they go: deflated and JPEG ones must hold all their bytes."""
    tags: Any = getattr(image, "tag_v2", {})
    compression, stream = tags.get(COMPRESSION, 1), getattr(image, "fp", None)
    offsets, lengths = tags.get(STRIPS) or tags.get(TILES) or (), tags.get(STRIP_BYTES) or tags.get(TILE_BYTES) or ()
    if len(offsets) > MAX_STRIPS:
        raise SliceError(label, f"a TIFF of {len(offsets)} strips or tiles", "export it again as PNG")
    if stream is None or compression not in (7, 8, 32946):
        return
    for offset, length in zip(offsets, lengths, strict=False):
        stream.seek(offset)
        data = stream.read(min(length, MAX_PICTURE_BYTES))
        if compression == 7:
            _check_jpeg_strip(data, tags.get(JPEG_TABLES, b""), label)
        elif not _inflates(data):
            raise SliceError(label, "a TIFF whose compressed pixels are damaged or cut", "copy or download it again")


def _check_jpeg_strip(data: bytes, tables: bytes, label: str) -> None:
    """A strip in JPEG keeps its tables apart (TIFF technical note 2)."""
    whole = bytes(tables[:-2]) + data[2:] if tables else data
    check_complete(whole, walk_jpeg(whole, label), decode_jpeg, label)


def _inflates(data: bytes) -> bool:
    inflater, inflated = zlib.decompressobj(), 0
    try:
        while data and not inflater.eof and inflated < 8 * MAX_PIXELS:
            inflated += len(inflater.decompress(data, 2**20))
            data = inflater.unconsumed_tail
    except zlib.error:
        return False
    return inflater.eof


def _upright(image: Image.Image, told: _Told | None) -> tuple[Image.Image, list[str]]:
    """Decode, and turn as the EXIF or TIFF orientation tag says."""
    from PIL.Image import Transpose

    orientation = _orientation(image, told)
    with muted_descriptor() if _decoder(image) == "libtiff" else nullcontext():
        image.load()
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    if image.format == "TIFF":  # which Pillow turns as it decodes
        return _kept(image), [TURNED] * (orientation in turns)
    if orientation not in turns:
        return _kept(image), []
    turned = image.transpose(turns[orientation])
    return turned, [TURNED]


def _kept(image: Image.Image) -> Image.Image:
    """The picture, or a copy of one page of several: the page is turned back before its pixels are used."""
    return image.copy() if image.tell() or getattr(image, "is_animated", False) else image


def _orientation(image: Image.Image, told: _Told | None) -> int:
    """As the file's walk told it; of a TIFF and of a caller's own picture as Pillow does, which XMP may overrule."""
    tags = getattr(image, "tag_v2", None)
    if image.format == "TIFF" and tags is not None:
        found = tags.get(ORIENTATION, 1)
    else:
        found = told.orientation if told is not None else image.getexif().get(ORIENTATION, 1)
    if found == 1 and (matched := _XMP_ORIENTATION.search(_xmp(image))):
        found = int(matched[1])
    return found if isinstance(found, int) else 1


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return packet.encode("utf-8", "replace") if isinstance(packet, str) else bytes(packet)


def _aspect_notes(image: Image.Image) -> list[str]:
    """A note where the file gives unlike resolutions across and down."""
    dpi: Any = image.info.get("dpi")
    try:
        across, down = (float(value) for value in dpi)
        unlike = across > 0 and down > 0 and abs(across / down - 1) > 0.01
    except (TypeError, ValueError, ZeroDivisionError):
        return []
    return [f"pixels are not square ({across / down:.3g} times as many across as down), shown as stored"] * unlike


def _values_of(image: Image.Image, stored: _Stored) -> np.ndarray:
    """The stored numbers (H, W) of a picture of more than 8 bits."""
    values = np.asarray(image)
    return values.view(np.uint32) if stored.bits == 32 and image.mode == "I" and not stored.signed else values


def _finite_of(image: Image.Image, stored: _Stored) -> np.ndarray:
    """The same as `Slice.values` has them."""
    values = _values_of(image, stored).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def _grey_of_deep(
    image: Image.Image, stored: _Stored, window: Window | None, label: str, modality: str
) -> tuple[np.ndarray, Window, list[str]]:
    """Window a 16-bit, 32-bit or float picture: (H, W) uint8, the window used, and notes."""
    values, notes = _values_of(image, stored), []
    if image.mode == "F" and not (finite := np.isfinite(values)).all():
        notes.append(f"{np.count_nonzero(~finite)} pixels without a finite value set to black")
        # Black is the highest value where the lowest is white: the inversion below turns the window's top to 0.
        values = np.where(finite, values, values.dtype.type(np.inf if stored.min_is_white else -np.inf))
    if window is None and modality != CT and not is_flat(values):
        window = middle(values, exact=image.mode == "F")
        notes.append(f"no window given: {describe_middle(window)}")
    if window is None:
        window = whole_range(values, stored.bits, stored.signed or image.mode == "F", label)
        notes.append(f"no window given: the whole {stored.bits}-bit range shown")
    exact = image.mode == "F"
    pixels = apply_window(values, window, exact=exact)
    if is_flat(pixels) and not is_flat(values):
        found = f"the window {window} leaves nothing of its values, {span(values)}"
        raise SliceError(label, found, "give a window in the stored units")
    if stored.min_is_white:
        np.subtract(255, pixels, out=pixels)
        notes.append("inverted: stored with white as its lowest value")
    key = image.info.get("transparency")
    if isinstance(key, int) and (clear := values == key).any():  # as alpha is in 8 bits
        pixels[clear] = 0
        notes.append("alpha composited on black")
    return pixels, window, notes


def middle(values: np.ndarray, *, exact: bool = False) -> Window:
    """From percentile to percentile of every n-th value, for images that no window was written for.

    `exact` is as in `apply_window`.
    """
    sample = values.ravel()[:: max(1, values.size // 2**18)]
    sample = sample[np.isfinite(sample)]
    low, high = (float(value) for value in np.percentile(sample, MIDDLE)) if sample.size else (0.0, 0.0)
    if high <= low:
        finite = values[np.isfinite(values)]
        low, high = float(finite.min()), float(finite.max())
    if exact:
        return Window((low + high) / 2, max(LEAST_WIDTH, high - low))
    return Window((low + high) / 2 + 0.5, max(1.0, high - low + 1))


def describe_middle(window: Window) -> str:
    """The note that goes with it."""
    return f"percentiles {MIDDLE[0]:g} to {MIDDLE[1]:g}, {window}, shown"


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
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return f"{finite.min():g} to {finite.max():g}" if finite.size else "none of them finite"


def _grey_of_8bit(
    image: Image.Image, stored: _Stored, window: Window | None, label: str, modality: str
) -> tuple[np.ndarray, float, list[str]]:
    """Luminance (ITU-R 601) of an 8-bit picture of any mode, (H, W) uint8, its share of coloured pixels, and notes."""
    notes = ["8-bit picture: its grey levels are not HU"] if modality == CT else []
    if window is not None:
        notes.append(f"window ignored: an 8-bit picture {'holds no HU' if modality == CT else 'was shown already'}")
    if image.mode == "CMYK":
        notes.append("CMYK converted without its colour profile")
    grey, coloured, clear = _grey_by_bands(image)
    notes.extend(_colour_note(coloured))
    if clear:
        notes.append("alpha composited on black")
    if stored.bits > 8:
        if "transparency" in image.info:
            raise SliceError(label, "16-bit colour with a transparent key colour", "export it as grey without one")
        if not is_flat(grey) and int(grey.max()) - int(grey.min()) < FILLED * 256:
            found = f"{stored.bits}-bit colour or alpha, of which 8 bits would keep few grey levels"
            raise SliceError(label, found, "export it as grey without alpha, and give a window")
        notes.append(f"{stored.bits}-bit colour or alpha reduced to 8 bits")
    return grey, coloured, notes


def _grey_by_bands(image: Image.Image) -> tuple[np.ndarray, float, bool]:
    """Grey levels (H, W), share of coloured pixels, whether any is see-through; band by band, to save memory."""
    width, height = image.size
    grey, coloured, clear = np.empty((height, width), dtype=np.uint8), 0, False
    rows = max(1, 2**20 // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band, alpha = _split_alpha(image.crop((0, top, width, bottom)))
        if band.mode not in ("1", "L"):
            band = band.convert("RGB")
            coloured += int(np.count_nonzero(coloured_pixels(np.asarray(band))))
        levels = np.asarray(band.convert("L"))
        if alpha is not None:
            levels = np.rint(levels * (alpha / np.float32(255))).astype(np.uint8)
            clear = True
        grey[top:bottom] = levels
    return grey, coloured / (width * height), clear


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


def coloured_pixels(rgb: np.ndarray, tolerance: int = COLOUR_TOLERANCE) -> np.ndarray:
    """Where (H, W) bool the channels of pixels (H, W, 3) uint8 differ by more than `tolerance`: ink, or colour."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return spread > tolerance


def _colour_note(coloured: float) -> list[str]:
    share = f"{100 * coloured:.0f}" if coloured >= 0.01 else "under 1"
    return [f"colour dropped ({share} % of pixels coloured)"] if coloured else []
