"""A file decoded in this process: the first bytes, never the name, say what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from ct_xception.imaging.decoded import decoded_once
from ct_xception.imaging.decoders.dicom import read_dicom, read_dicom_place
from ct_xception.imaging.decoders.nifti import is_nifti, read_nifti, read_nifti_place
from ct_xception.imaging.decoders.pictures import read_picture, read_picture_place, slice_from_picture
from ct_xception.imaging.modality import CT
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import Source, is_dicom, name_of, open_source
from ct_xception.imaging.windows import Window

if TYPE_CHECKING:
    from ct_xception.imaging.position import Place


def decode_slice(
    source: Source,
    *,
    window: Window | None = None,
    frame: int | None = None,
    name: str | None = None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """`reader.read_slice` in this process."""
    from PIL import Image

    label = name if name is not None else name_of(source)
    how: dict[str, Any] = {"window": window, "frame": frame, "modality": modality, "keep_values": keep_values}
    if isinstance(source, Image.Image):
        return slice_from_picture(source, label, **how)
    with open_source(source, label) as stream:
        return decoded_once(stream, label, tuple(how.values()), lambda: _decode(stream, label, how))


def _decode(stream: BinaryIO, label: str, how: dict[str, Any]) -> Slice:
    if is_dicom(stream):
        return read_dicom(stream, label, **how)
    if is_nifti(stream):
        return read_nifti(stream, label, **how)
    return read_picture(stream, label, **how)


def decode_place(source: Source, *, name: str | None = None) -> Place:
    """`reader.read_place` in this process."""
    label = name if name is not None else name_of(source)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            return read_dicom_place(stream, label)
        if is_nifti(stream):
            return read_nifti_place(stream, label)
        return read_picture_place(stream, label)
