"""A file decoded in this process: the first bytes, never the name, say what it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, BinaryIO

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
) -> Slice:
    """`reader.read_slice` in this process."""
    from PIL import Image

    label = name if name is not None else name_of(source)
    if isinstance(source, Image.Image):
        return slice_from_picture(source, label, window=window, frame=frame, modality=modality)
    with open_source(source, label) as stream:
        reading = partial(_decode, stream, label, window=window, frame=frame, modality=modality)
        return decoded_once(stream, label, (window, frame, modality), reading)


def _decode(stream: BinaryIO, label: str, *, window: Window | None, frame: int | None, modality: str) -> Slice:
    if is_dicom(stream):
        return read_dicom(stream, label, window=window, frame=frame, modality=modality)
    if is_nifti(stream):
        return read_nifti(stream, label, window=window, frame=frame, modality=modality)
    return read_picture(stream, label, window=window, frame=frame, modality=modality)


def decode_place(source: Source, *, name: str | None = None) -> Place:
    """`reader.read_place` in this process."""
    label = name if name is not None else name_of(source)
    with open_source(source, label) as stream:
        if is_dicom(stream):
            return read_dicom_place(stream, label)
        if is_nifti(stream):
            return read_nifti_place(stream, label)
        return read_picture_place(stream, label)
