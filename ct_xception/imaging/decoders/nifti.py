"""NIfTI volumes (.nii, .nii.gz) as series of axial slices: the front of the patient at the top, the right at the left.

NIfTI names neither modality nor unit: values are taken for HU, and said to be, where air is in them as HU have it.
Frames count from the feet to the head. https://nifti.nimh.nih.gov/nifti-1
"""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ct_xception.errors import SliceError
from ct_xception.imaging.body.outline import outline_in_hu
from ct_xception.imaging.decoders.pictures import MIDDLE, describe_middle, is_flat, refusing, span
from ct_xception.imaging.decoders.tiff import MAX_PAGES
from ct_xception.imaging.modality import CT
from ct_xception.imaging.position import Place
from ct_xception.imaging.slice import Slice, blank_rows, check_pixels, choose_frame
from ct_xception.imaging.source import identity_of
from ct_xception.imaging.square import squared
from ct_xception.imaging.windows import WINDOWS, Window, apply_window

if TYPE_CHECKING:
    import nibabel

GZIP = b"\x1f\x8b"
MAX_VOLUME = 640 * 2**20  # bytes inflated: 1,200 slices of 512 x 512 in 16 bits; they lie on disk, not in memory
BEHIND = 2**20  # bytes that may follow a volume
AIR, MOST_HU = -500, 20_000
OBLIQUE = 0.95  # cosine between a stored axis and the patient's own
REMEDY = "convert it again to .nii or .nii.gz"
NO_ORIENTATION = "no orientation in the file: taken as NIfTI's default"
KEPT = 2  # inflated copies: threads that read in turn stand at the end of one volume and the start of the next
_inflated: OrderedDict[tuple[int, ...], BinaryIO] = OrderedDict()
_inflating = threading.Lock()


def is_nifti(stream: BinaryIO) -> bool:
    """NIfTI-1 or -2 by size and magic of its header, gzipped or not."""
    head = stream.read(600)
    stream.seek(0)
    if head[:2] == GZIP:
        try:
            head = zlib.decompressobj(31).decompress(head, 600)
        except zlib.error:
            return False
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


@dataclass(frozen=True)
class _Volume:
    """A volume's stored shape (x, y, z), type, scaling, and how its stored axes run in the patient.

    `axes` has for right, front and head the stored axis that runs along it, `signs` whether towards it (1) or away.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    zooms: tuple[float, float, float]
    notes: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def frames(self) -> int:
        return self.shape[self.axes[2]]

    @property
    def size(self) -> tuple[int, int]:
        return self.shape[self.axes[1]], self.shape[self.axes[0]]


def read_nifti(
    stream: BinaryIO,
    label: str,
    *,
    window: Window | None,
    frame: int | None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """An axial slice of an open NIfTI file. Raises SliceError."""
    with refusing(label, REMEDY), _inflating:
        content = _plain(stream, label)
        volume = _read_header(content, label)
        if content.seek(0, io.SEEK_END) < volume.end:
            raise SliceError(label, "a NIfTI volume cut short", "copy or download it again")
        index = choose_frame(volume.frames, frame, label)
        values = _scaled(_upright(_plane(content, volume, index), volume), volume)
    with refusing(label, REMEDY):
        is_hu = modality in (CT, "any") and is_hu_like(values)
        window, notes = _choose_window(values, is_hu, window, label, modality)
        exact = values.dtype.kind == "f" and not is_hu
        pixels = apply_window(values, window, exact=exact)
        if is_flat(pixels) and not is_flat(values) and not is_hu:
            raise SliceError(label, f"the window {window} leaves nothing of its values, {span(values)}", "give another")
        notes += blank_rows(values)
        row, column = volume.zooms[volume.axes[1]], volume.zooms[volume.axes[0]]
        spacing = (row, column) if 0 < row < 1e6 and 0 < column < 1e6 else None
        kept: dict[str, Any] = {"body": outline_in_hu(np.asarray(values)) if is_hu else None}
        if NO_ORIENTATION not in volume.notes:
            kept["plane"] = "axial"
        if keep_values:
            kept["values"] = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
        bits, told = 8 * volume.dtype.itemsize, (*volume.notes, *notes)
        return squared(Slice(pixels, label, bits, is_hu, window, spacing, told, **kept), spacing)


def read_nifti_place(stream: BinaryIO, label: str) -> Place:
    """How many axial slices an open NIfTI file holds, and their size. Raises SliceError."""
    with refusing(label, REMEDY):
        head = stream.read(4096)
        content = io.BytesIO(zlib.decompressobj(31).decompress(head, 4096) if head[:2] == GZIP else head)
        volume = _read_header(content, label)
        step = volume.zooms[volume.axes[2]]
        told = 0 < step < 1e6
        positions = tuple(step * frame for frame in range(volume.frames)) if told and volume.frames > 1 else ()
        return Place(volume.frames, size=volume.size, positions=positions)


def _plain(stream: BinaryIO, label: str) -> BinaryIO:
    """The file itself, or an inflated copy on disk; the last ones are kept: their next slices may be asked for."""
    stream.seek(0)
    if stream.read(2) != GZIP:
        return stream
    stream.seek(0)
    key = identity_of(stream) or (int.from_bytes(hashlib.sha256(stream.read()).digest()),)  # of bytes in memory
    if key in _inflated:
        _inflated.move_to_end(key)
        return _inflated[key]
    stream.seek(0)
    # Not to be closed here: it stays until another volume takes its place.
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    inflater, total, most = zlib.decompressobj(31), 0, 0
    while not inflater.eof and (pending := inflater.unconsumed_tail or stream.read(2**18)):
        total += copy.write(inflater.decompress(pending, 2**20))
        most = most or _end_of(copy, label) + BEHIND
        if total > most:
            raise SliceError(label, f"a volume that inflates to more than {most >> 20} MiB", "convert it again")
    _inflated[key] = copy
    while len(_inflated) > KEPT:
        _inflated.popitem(last=False)  # an unnamed file goes with its last reference
    return copy


def _end_of(content: BinaryIO, label: str) -> int:
    """Where the volume of a header ends, which is held to MAX_VOLUME; the stream is left at its own end."""
    volume = _read_header(content, label)
    content.seek(0, io.SEEK_END)
    if volume.end > MAX_VOLUME:
        raise SliceError(label, f"a volume that inflates to more than {MAX_VOLUME // 2**20} MiB", "split it")
    return volume.end


def _read_header(content: BinaryIO, label: str) -> _Volume:
    import nibabel

    content.seek(0)
    head = content.read(4)
    content.seek(0)
    second = 540 in (struct.unpack("<L", head)[0], struct.unpack(">L", head)[0])
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    header = kind.from_fileobj(content)
    if bytes(header["magic"]).startswith(b"ni"):
        raise SliceError(label, "a NIfTI header without its image", "give it as one .nii file")
    shape = _shape(header.get_data_shape(), label)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise SliceError(label, f"a NIfTI volume of {dtype} values", "give a grey CT volume")
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > MAX_VOLUME:
        raise SliceError(label, f"a volume of more than {MAX_VOLUME // 2**20} MiB", "split it")
    slope, intercept = header.get_slope_inter()
    axes, signs, notes = _directions(header, label)
    volume = _Volume(
        shape, dtype, int(header.get_data_offset()), 1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept), axes, signs, _zooms(header), notes,
    )  # fmt: skip
    check_pixels(*volume.size, label)
    return volume


def _shape(stored: tuple[int, ...], label: str) -> tuple[int, int, int]:
    shape = tuple(int(length) for length in stored)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or min(shape) < 1:
        told = " x ".join(map(str, shape)) or "nothing"
        raise SliceError(label, f"a NIfTI volume of {told}, not of three dimensions", "give one volume")
    if max(shape) > 2 * MAX_PAGES:
        raise SliceError(label, f"a volume with an edge of {max(shape)} voxels", "split it")
    return shape[0], shape[1], shape[2]


def _zooms(header: nibabel.Nifti1Header) -> tuple[float, float, float]:
    zooms = [float(zoom) for zoom in header.get_zooms()[:3]]
    x, y, z = [*zooms, 1.0, 1.0][:3]
    return x, y, z


def _directions(
    header: nibabel.Nifti1Header, label: str
) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[str, ...]]:
    """Which stored axis runs along right, front and head of the patient, and which way; notes."""
    from nibabel.orientations import io_orientation

    affine, notes = header.get_best_affine(), []
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        notes.append(NO_ORIENTATION)
    turns = io_orientation(affine)
    if np.isnan(turns).any():
        raise SliceError(label, "an orientation in which two axes are one", REMEDY)
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(columns).max(axis=0).min() < OBLIQUE:
        notes.append("an oblique volume: its slices are the nearest to axial ones")
    order = np.argsort(turns[:, 0])
    x, y, z = (int(axis) for axis in order)
    return (x, y, z), (int(turns[x, 1]), int(turns[y, 1]), int(turns[z, 1])), tuple(notes)


def _plane(content: BinaryIO, volume: _Volume, frame: int) -> np.ndarray:
    """The stored values (x, y) of an axial plane, x along right and y along front, in the stored directions."""
    axis = volume.axes[2]
    index = frame if volume.signs[2] > 0 else volume.frames - 1 - frame
    if axis == 2:
        plane = _stored_plane(content, volume, index)
        others = [0, 1]
    else:  # one line of each stored plane
        lines = [_stored_plane(content, volume, z).take(index, axis) for z in range(volume.shape[2])]
        plane, others = np.stack(lines, axis=1), [1 - axis, 2]
    return plane if others == [volume.axes[0], volume.axes[1]] else plane.T


def _stored_plane(content: BinaryIO, volume: _Volume, z: int) -> np.ndarray:
    count = volume.shape[0] * volume.shape[1]
    size = count * volume.dtype.itemsize
    content.seek(volume.offset + z * size)
    return np.frombuffer(content.read(size), volume.dtype, count).reshape(volume.shape[:2], order="F")


def _upright(plane: np.ndarray, volume: _Volume) -> np.ndarray:
    """From (x, y) to rows that run from front to back and columns that run from right to left."""
    if volume.signs[0] > 0:
        plane = plane[::-1]
    return (plane[:, ::-1] if volume.signs[1] > 0 else plane).T


def _scaled(stored: np.ndarray, volume: _Volume) -> np.ndarray:
    if (volume.slope, volume.intercept) == (1.0, 0.0):
        return stored
    return stored * volume.slope + volume.intercept


def is_hu_like(values: np.ndarray) -> bool:
    """Whether air lies where HU have it: every CT slice shows some around the patient, or is padded below it."""
    sample: Any = values.ravel()[:: max(1, values.size // 2**18)]
    sample = sample[np.isfinite(sample)]
    return bool(sample.size and np.percentile(sample, 1) <= AIR and sample.max() <= MOST_HU and sample.min() > -1e5)


def _choose_window(
    values: np.ndarray, is_hu: bool, option: Window | None, label: str, modality: str
) -> tuple[Window, list[str]]:
    told = ["values taken for HU: they hold air as HU do"] if is_hu else []
    if modality == CT and not is_hu:
        told = ["values are not HU: no air among them"]
    if option is not None:
        return option, told
    if is_hu:
        return WINDOWS["lung"], [*told, f"no window in the file: lung {WINDOWS['lung']} shown"]
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise SliceError(label, "no finite values", REMEDY)
    low, high = (float(value) for value in np.percentile(finite, MIDDLE))
    window = Window((low + high) / 2, max(1e-3, high - low))
    return window, [*told, f"no window in the file: {describe_middle(window)}"]
