"""Pixels that are in memory already become slices: NumPy arrays and torch tensors, DICOM data sets, rows of a dataset.

An array says neither its unit nor its window, so nothing is guessed: unsigned 8-bit values are grey levels, as in a
picture; others are windowed, where they can be told and a window is given, and asked about where not.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.body.outline import outline_in_hu
from ct_xception.imaging.decoders.nifti import is_hu_like
from ct_xception.imaging.decoders.pictures import slice_from_picture, span
from ct_xception.imaging.modality import CT
from ct_xception.imaging.slice import Slice, check_pixels, choose_frame
from ct_xception.imaging.windows import WINDOWS, Window, apply_window

if TYPE_CHECKING:
    from ct_xception.imaging.source import Source

ARRAY = "array"
NAME_WINDOW = f"say how to show them: window={', '.join(repr(name) for name in WINDOWS)}, or (centre, width) in HU"
GREY = "if these are grey levels, give them as 8 bits: {}; if they are HU, give the whole slice with its air"


def is_array(source: object) -> bool:
    """Whether something is a NumPy array, or gives one as a torch tensor does; no picture, and no table."""
    return hasattr(source, "__array__") and hasattr(source, "ndim") and not hasattr(source, "columns")


def is_dataset(source: object) -> bool:
    """Whether something is a pydicom data set, by its methods: pydicom itself is not needed for that."""
    return hasattr(source, "save_as") and hasattr(source, "to_json_dict")


def unwrapped(source: Any) -> Source:
    """The path or bytes in a row or cell of `datasets`, and the bytes of a pydicom data set; else what was given.

    Raises SliceError for a data set that cannot be written.
    """
    if isinstance(source, Mapping) and "image" in source:
        source = source["image"]
    if isinstance(source, Mapping) and {"bytes", "path"} & set(source):
        source = source.get("bytes") or source.get("path")
    return _written(source) if is_dataset(source) else source


def _written(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    meta = getattr(dataset, "file_meta", None)
    told = {} if getattr(meta, "TransferSyntaxUID", None) else {"implicit_vr": True, "little_endian": True}
    try:
        dataset.save_as(buffer, **told)
    except Exception as error:  # whatever pydicom, or a value in it, raises
        found = f"a data set that cannot be written ({printable(error)})"
        raise SliceError(dataset_name(dataset), found, "give the file that it came from") from error
    return buffer.getvalue()


def dataset_name(source: object) -> str | None:
    """What messages call a pydicom data set: its file, else `DICOM data set`; None for anything else."""
    if not is_dataset(source):
        return None
    name = getattr(source, "filename", None)
    return printable(name) if isinstance(name, str) and name else "DICOM data set"


def slice_from_array(
    given: Any, *, window: Window | None, frame: int | None = None, name: str | None = None, modality: str = CT
) -> Slice:
    """A slice from an array: (H, W), or (N, H, W) with `frame`; colour as (H, W, 3 or 4) uint8.

    uint8 is grey. Other numbers need a `window`: HU where air is among them as HU have it, else in their own unit;
    values that look like grey levels are asked about. Raises SliceError.
    """
    label = name or ARRAY
    values = _numbers(given, label)
    if values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] in (3, 4) and frame is None:
        return _picture(values, label, window, modality)
    values = _one_plane(values, frame, label)
    if values.dtype == np.uint8 or modality not in (CT, "any"):
        return _picture(values, label, window, modality)
    if values.dtype.kind == "u":
        return _unsigned(values, label, window, modality)
    if is_hu_like(values):
        return _hounsfield(values, label, window)
    return _in_own_unit(values, label, window, modality)


def _numbers(given: Any, label: str) -> np.ndarray:
    """The array in one of the types that pictures have."""
    tensor = given.detach().cpu() if hasattr(given, "detach") else given
    values = np.asarray(tensor)
    if values.dtype.kind not in "uif" or not values.size:
        found = "no values" if not values.size else f"values of type {values.dtype}"
        raise SliceError(label, found, "give numbers: uint8 grey levels, or HU with a window")
    if values.dtype.kind == "f":
        if not np.isfinite(values).any():
            raise SliceError(label, "values none of which is finite", "give the pixels of one slice")
        return values.astype(np.float32)
    kept = np.uint8 if values.dtype == np.uint8 else np.uint16 if values.dtype.kind == "u" else np.int32
    if values.max() > np.iinfo(kept).max or values.min() < np.iinfo(kept).min:
        raise SliceError(label, f"{values.dtype} values, {span(values)}", "give pixels of at most 16 bits")
    return values.astype(kept)


def _one_plane(values: np.ndarray, frame: int | None, label: str) -> np.ndarray:
    """(H, W) of what was given."""
    shape = values.shape
    plane = values.squeeze() if values.ndim > 2 else values
    if values.ndim == 3 and shape[0] in (3, 4) and min(shape[1:]) > 4 and frame is None:
        found = f"an array of {shape[0]} channels, {shape}, as networks take them"
        raise SliceError(label, found, "give the slice itself, (H, W), before any transform")
    if plane.ndim == 3 and min(plane.shape[1:]) > 4:
        if frame is None:
            found = f"{len(plane)} slices, an array of shape {shape}"
            raise SliceError(label, found, "choose one with frame=, or give a list of them: list(array)")
        plane = plane[choose_frame(len(plane), frame, label)]
    if plane.ndim != 2:
        raise SliceError(label, f"an array of shape {shape}", "give one slice, (H, W)")
    check_pixels(plane.shape[0], plane.shape[1], label)
    return np.ascontiguousarray(plane)


def _picture(values: np.ndarray, label: str, window: Window | None, modality: str) -> Slice:
    """Read as a picture of this type would be."""
    from PIL import Image

    picture = Image.fromarray(values)
    return slice_from_picture(picture, label, window=window, frame=None, modality=modality)


def _unsigned(values: np.ndarray, label: str, window: Window | None, modality: str) -> Slice:
    if window is not None and window.low < 0:
        found = f"unsigned values, {span(values)}, which cannot be HU (air is -1000), and a window of HU, {window}"
        remedy = "take the rescale intercept off (array.astype('int16') - 1024, mostly), or name a window in their unit"
        raise SliceError(label, found, remedy)
    return _picture(values, label, window, modality)


def _hounsfield(values: np.ndarray, label: str, window: Window | None) -> Slice:
    if window is None:
        raise SliceError(label, f"values that look like HU, {span(values)}, and no window", NAME_WINDOW)
    notes = ["values taken for HU: they hold air as HU do"]
    finite = np.isfinite(values)
    if not finite.all():
        notes.append(f"{np.count_nonzero(~finite)} pixels without a finite value set to black")
    whole = np.where(finite, values, values[finite].min())
    pixels, body, bits = apply_window(whole, window), outline_in_hu(whole), 8 * values.dtype.itemsize
    pixels[~finite] = 0
    return Slice(pixels, label, bits, True, window, notes=tuple(notes), body=body)


def _in_own_unit(values: np.ndarray, label: str, window: Window | None, modality: str) -> Slice:
    """Signed or floating-point values without the air that HU would show."""
    finite = values[np.isfinite(values)]
    if finite.min() >= 0 and finite.max() <= 255:
        whole = "(array * 255).astype('uint8')" if finite.max() <= 1 else "array.astype('uint8')"
        raise SliceError(label, f"{values.dtype} values, {span(values)}", GREY.format(whole))
    if window is None:
        found = f"{values.dtype} values, {span(values)}, without air as HU would have it, and no window"
        raise SliceError(label, found, "give window=(centre, width) in their unit, or the slice in HU with its air")
    return _picture(values, label, window, modality)
