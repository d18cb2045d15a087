"""The only way from a file to a `Slice`, in this process or in a limited one.

`SliceError`, and nothing else, is raised for what cannot be read right. A server calls `isolate_decoding` once: from
then on every file of its process is read in a limited child (`decoder_process.py`), whichever way it came.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ct_xception.errors import SliceError
from ct_xception.imaging.arrays import dataset_name, is_array, slice_from_array, unwrapped
from ct_xception.imaging.decoder_process import Decoder
from ct_xception.imaging.decoders.decode import decode_place, decode_slice
from ct_xception.imaging.modality import CT
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import FrameOf, Source, name_of
from ct_xception.imaging.windows import Window, as_window

if TYPE_CHECKING:
    from ct_xception.imaging.decoder_process import Decoder
    from ct_xception.imaging.position import Place

_decoder: Decoder | None = None


def isolate_decoding(processes: int = 1) -> None:
    """Read every file of this process in a limited child from now on; a second call changes nothing."""
    global _decoder
    if _decoder is None:
        _decoder = Decoder(processes)
        atexit.register(share_decoding)


def share_decoding() -> None:
    """End what `isolate_decoding` began: files are read in this process again."""
    global _decoder
    decoder, _decoder = _decoder, None
    if decoder is not None:
        decoder.close()


def read_slice(
    source: Source | Any,
    *,
    window: Window | str | tuple[float, float] | None = None,
    frame: int | None = None,
    name: str | None = None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """Read one slice from a path, bytes, an open binary file, a Pillow picture, an array or a pydicom data set.

    `window` (as `as_window` takes it) overrides the file's own; an 8-bit picture holds no HU and ignores it, with a
    note. `frame`, from 0, chooses a frame, a page or an axial slice of a volume, and must be given where there are
    several; a `FrameOf` has its own. `name` stands for the source in messages. `modality`, one of MODALITIES, is what
    the file is taken for: of MR and X-rays nothing is said of HU, and what has no window is shown between percentiles
    of its values.

    Examples:
        >>> import numpy
        >>> square = numpy.zeros((64, 64), "uint8")
        >>> square[16:48, 16:48] = 200
        >>> read_slice(square, name="square")
        Slice('square': 64 × 64 pixels, 8-bit picture)

    `keep_values` gives a slice of more than 8 bits its `values`. Raises SliceError, naming what was found and what to
    do, for every input that cannot be read right.
    """
    if isinstance(source, FrameOf):
        name, frame, source = name or name_of(source), source.frame, source.file
    window = as_window(window)
    if is_array(source):
        return slice_from_array(source, window=window, frame=frame, name=name, modality=modality)
    name, source = name or dataset_name(source), unwrapped(source)
    reading = decode_slice if _decoder is None else _decoder.read_slice
    return reading(source, window=window, frame=frame, name=name, modality=modality, keep_values=keep_values)


def try_read(read: Callable[..., Slice], *arguments: Any, **how: Any) -> Slice | SliceError:
    """What `read` gives, or the SliceError that it raises: of many files one that is refused keeps its place."""
    try:
        return read(*arguments, **how)
    except SliceError as error:
        return error


def read_place(source: Source, *, name: str | None = None) -> Place:
    """The place of a path, bytes or an open binary file. Raises SliceError.

    Of a DICOM file only the tags of position, orientation, size, thickness, number and series are read.
    """
    if isinstance(source, FrameOf):
        name, source = name or name_of(source), source.file
    return (decode_place if _decoder is None else _decoder.read_place)(source, name=name)
