"""The only door from a file to a `Slice`: the first bytes, never the name, say whether it is DICOM or a picture.

`SliceError`, and nothing else, is raised for what cannot be read right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import Source, is_dicom, name_of, open_source
from ct_xception.imaging.windows import Window

if TYPE_CHECKING:
    from ct_xception.imaging.position import Place


def read_slice(
    source: Source,
    *,
    window: Window | None = None,
    frame: int | None = None,
    name: str | None = None,
) -> Slice:
    """Read one slice from a path, bytes, an open binary file or a Pillow picture.

    `window` overrides the file's own; an 8-bit picture holds no HU and ignores it, with a note. `frame`, from 0,
    chooses a frame or page, and must be given where there are several. `name` stands for the source in messages.
    Raises SliceError, naming what was found and what to do, for every input that cannot be read right.
    """
    from PIL import Image

    from ct_xception.imaging.pictures import read_picture, slice_from_picture

    label = name if name is not None else name_of(source)
    if isinstance(source, Image.Image):
        return slice_from_picture(source, label, window=window, frame=frame)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            from ct_xception.imaging.dicom import read_dicom

            return read_dicom(stream, label, window=window, frame=frame)
        return read_picture(stream, label, window=window, frame=frame)


def read_place(source: Source, *, name: str | None = None) -> Place:
    """The place of a path, bytes or an open binary file. Raises SliceError.

    Of a DICOM file only the tags of position, orientation, size, thickness, number and series are read.
    """
    from ct_xception.imaging.pictures import read_picture_place

    label = name if name is not None else name_of(source)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            from ct_xception.imaging.dicom import read_dicom_place

            return read_dicom_place(stream, label)
        return read_picture_place(stream, label)
