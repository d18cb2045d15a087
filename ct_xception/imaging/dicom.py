"""DICOM becomes a slice in Hounsfield units: rescaled, clamped to a window, MONOCHROME1 turned, padding black.

Only tags that concern pixels are read, and by `read_header` the identifiers that keep a patient within one split.
Sizes are judged before anything is inflated or decoded. Values that would give a plausible but wrong picture (a slope
of 0, signed pixels declared unsigned, a lookup table we do not apply) are refused by name. What cannot be told from the
file is never taken from its minimum and maximum.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.imaging.codestreams import coded_size, inflated_size, run_length_size
from ct_xception.imaging.outline import outline_in_hu
from ct_xception.imaging.pictures import is_flat, refusing, slice_from_picture, span, whole_range
from ct_xception.imaging.position import Place
from ct_xception.imaging.slice import Slice, check_pixels, choose_frame
from ct_xception.imaging.source import is_dicom, name_of, open_source
from ct_xception.imaging.windows import WINDOWS, Window, apply_window

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_TAGS = [
    "Modality", "ImageType", "LossyImageCompression", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelSpacing", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
]  # fmt: skip
HEADER_TAGS = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "InstanceNumber", "Rows", "Columns",
               "NumberOfFrames"]  # fmt: skip
ACQUISITION_TAGS = ["PatientSex", "PatientAge", "Manufacturer", "ManufacturerModelName", "SliceThickness",
                    "ConvolutionKernel"]  # fmt: skip
PLACE_TAGS = ["ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
              "SliceThickness", "SeriesInstanceUID"]  # fmt: skip
NEEDED_TAGS = ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"]
DEFLATED = "1.2.840.10008.1.2.1.99"
RUN_LENGTH = "1.2.840.10008.1.2.5"
MAX_META = 2**16  # bytes of group 0002
MAX_INFLATED = 128 * 2**20  # bytes of a deflated file; a CT slice has half a MiB
MAX_FRAME_PIXELS = 4096 * 4096  # decoders of compressed frames need many bytes a pixel
SLOPES = (1e-6, 1e4)  # of rescale: CT has 1, PET a small fraction
MAX_INTERCEPT = 1e6
BEYOND_METAL = 20_000  # HU: gold fillings stay below, two's complement read as unsigned does not
TISSUE = (-900, 3000)  # HU: a padding value in here would punch holes into the body
_RESCALING = "PixelValueTransformationSequence"
REMEDY = "export it again, uncompressed if your software offers that"


@dataclass(frozen=True)
class DicomHeader:
    """What the corpus needs to know of a DICOM file: who, which series, which picture. Absent text is empty."""

    patient_id: str
    study_uid: str
    series_uid: str
    modality: str
    instance_number: int | None
    rows: int
    columns: int
    frames: int


def read_header(source: str | os.PathLike[str] | bytes) -> DicomHeader:
    """The identifiers and size of a DICOM file or its bytes, its pixels unread. Raises SliceError."""
    label = name_of(source)
    with open_source(source, label) as stream:
        if not is_dicom(stream):
            raise SliceError(label, "not a DICOM file (no DICM after the preamble)", "give a DICOM file")
        with refusing(label, REMEDY):
            dataset = _read(stream, label, HEADER_TAGS, pixels=False)
            patient, study, series, modality = (_text(dataset, tag) for tag in HEADER_TAGS[:4])
            number = _number(dataset.get("InstanceNumber"))
            instance = None if number is None else int(number)
            rows, columns = (int(dataset.get(tag) or 0) for tag in ("Rows", "Columns"))
            return DicomHeader(patient, study, series, modality, instance, rows, columns, _frames(dataset))


def read_acquisition(content: bytes) -> dict[str, str]:
    """Subgroups that a DICOM file tells: sex, age band, scanner, slice thickness and kernel; absent ones left out.

    Ages become bands of ten years, which name nobody. Raises SliceError.
    """
    label = name_of(content)
    with open_source(content, label) as stream, refusing(label, REMEDY):
        dataset = _read(stream, label, ACQUISITION_TAGS, pixels=False)
        kernel, thickness = dataset.get("ConvolutionKernel"), _number(dataset.get("SliceThickness"))
        maker, model = _text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName")
        found = {
            "sex": _text(dataset, "PatientSex"),
            "age band": _age_band(_text(dataset, "PatientAge")),
            "scanner": f"{maker} {model}".strip(),
            "slice thickness": "" if thickness is None else f"{thickness:g} mm",
            "kernel": printable("/".join(map(str, kernel)) if _is_list(kernel) else str(kernel or "")),
        }
    return {name: text for name, text in found.items() if text}


def _age_band(age: str) -> str:
    """An age string (PS3.5 6.2, such as 063Y or 008M) as a band of ten years, `60-69`; empty for anything else."""
    if len(age) != 4 or not age[:3].isdigit() or age[3] not in "DWMY":
        return ""
    years = int(age[:3]) if age[3] == "Y" else 0
    return f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def read_dicom_place(stream: BinaryIO, label: str) -> Place:
    """Where an open DICOM file stands in its series; of its tags only PLACE_TAGS are read. Raises SliceError."""
    with refusing(label, REMEDY):
        dataset = _read(stream, label, PLACE_TAGS, pixels=False)
        corner, number = dataset.get("ImagePositionPatient"), _number(dataset.get("InstanceNumber"))
        normal = _normal(dataset.get("ImageOrientationPatient"))
        position = None
        if normal is not None and _is_list(corner) and len(corner) == 3:
            position = float(np.dot(normal, [float(value) for value in corner]))
        told = position is not None and math.isfinite(position)
        return Place(
            frames=_frames(dataset),
            position=position if told else None,
            normal=_rounded(normal) if told and normal is not None else None,
            number=None if number is None else int(number),
            size=_size(dataset),
            thickness=_number(dataset.get("SliceThickness")),
            series=_text(dataset, "SeriesInstanceUID") or None,
        )


def _size(dataset: Dataset) -> tuple[int, int] | None:
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    return (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None


def _normal(directions: Any) -> np.ndarray | None:
    """The unit normal (3,) of a plane whose rows and columns run along six direction cosines; None where none is."""
    if not _is_list(directions) or len(directions) != 6:
        return None
    across, down = np.array([float(value) for value in directions]).reshape(2, 3)
    normal = np.cross(across, down)
    length = float(np.linalg.norm(normal))
    return normal / length if 0.9 < length < 1.1 else None  # NaN fails too


def _rounded(normal: np.ndarray) -> tuple[float, float, float]:
    """Parallel planes are written with unlike last digits."""
    x, y, z = (round(float(value), 4) + 0.0 for value in normal)
    return x, y, z


def read_dicom(stream: BinaryIO, label: str, *, window: Window | None, frame: int | None) -> Slice:
    """A slice from an open DICOM file. Raises SliceError.

    The window is the option's, or the file's first, or for HU without any the lung preset; always LINEAR.
    """
    with refusing(label, REMEDY):
        dataset = _read(stream, label, PIXEL_TAGS, pixels=True)
        _check_image(dataset, label)
        index = choose_frame(_frames(dataset), frame, label)
        _check_coded_size(dataset, index, label)
        stored = _decode(dataset, index)
        if stored.ndim == 3:
            return _colour_slice(stored, dataset, label, window)
        return _grey_slice(stored, _Tags(dataset, index), label, window)


def _read(stream: BinaryIO, label: str, tags: list[str], *, pixels: bool) -> Dataset:
    """Parse the wanted tags, after making sure that a deflated file inflates to something sane."""
    import pydicom

    syntax, end = _file_meta(stream, label)
    if syntax == DEFLATED and inflated_size(stream, end, MAX_INFLATED) > MAX_INFLATED:
        raise SliceError(label, f"deflated DICOM that inflates to more than {MAX_INFLATED // 2**20} MiB", REMEDY)
    stream.seek(0)
    return pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=tags)


def _file_meta(stream: BinaryIO, label: str) -> tuple[str, int]:
    """Transfer syntax and end of the file meta group, which is always explicit little endian (PS3.10 section 7.1)."""
    stream.seek(0)
    head, position, syntax = stream.read(MAX_META), 132, ""
    while position + 8 <= len(head) and head[position : position + 2] == b"\x02\x00":
        element, vr, length = struct.unpack_from("<H2sH", head, position + 2)
        start = position + 8
        if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
            length, start = struct.unpack_from("<L", head.ljust(start + 4), start)[0], start + 4
        if not vr.isalpha() or not vr.isupper() or start + length > len(head):
            raise SliceError(label, "a damaged DICOM file meta group", REMEDY)
        if element == 0x10:
            syntax = head[start : start + length].rstrip(b"\0 ").decode("ascii", "replace")
        position = start + length
    if DEFLATED.encode() in head[:position] and syntax != DEFLATED:  # two answers: the parser might take the other
        raise SliceError(label, "an ambiguous DICOM transfer syntax", REMEDY)
    return syntax, position


def _check_image(dataset: Dataset, label: str) -> None:
    """Refuse what is no picture, or one of a kind that would be read wrong; sizes too, before decoding."""
    modality = _text(dataset, "Modality") or "unknown"
    if "PixelData" not in dataset:
        floating = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        found = f"DICOM with {'floating-point pixels' if floating else 'no image'} (modality {modality})"
        raise SliceError(label, found, "give a CT image")
    missing = [tag for tag in NEEDED_TAGS if not isinstance(dataset.get(tag), int)]
    if missing:
        raise SliceError(label, f"DICOM without {', '.join(missing)}", "give the original CT image")
    check_pixels(dataset.Rows, dataset.Columns, label, MAX_FRAME_PIXELS)
    photometric, samples = _text(dataset, "PhotometricInterpretation"), dataset.SamplesPerPixel
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2") and dataset.BitsAllocated > 1
    colour = samples == 3 and photometric.startswith(("RGB", "YBR")) and dataset.BitsAllocated == 8
    if not grey and not colour:
        found = f"DICOM pixels of kind {photometric or 'unknown'}, {samples} x {dataset.BitsAllocated} bits"
        raise SliceError(label, f"{found} (modality {modality})", "give a CT image in grey")
    if grey and dataset.HighBit != dataset.BitsStored - 1:
        found = f"DICOM with HighBit {dataset.HighBit} for {dataset.BitsStored} bits stored, something else beside them"
        raise SliceError(label, found, REMEDY)


def _check_coded_size(dataset: Dataset, index: int, label: str) -> None:
    """Hold an encoded frame's own size against the DICOM header's, before a decoder believes it."""
    from pydicom.encaps import get_frame
    from pydicom.uid import UID

    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        return
    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    frame = get_frame(dataset.PixelData, index, extended_offsets=offsets, number_of_frames=_frames(dataset))
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    if syntax == RUN_LENGTH:
        expected = rows * columns * samples * (dataset.BitsAllocated // 8)
        if run_length_size(frame, expected + 4096) > expected + 4096:
            raise SliceError(label, f"an RLE frame that expands beyond its {columns} x {rows} pixels", REMEDY)
        return
    coded = coded_size(frame)
    if (coded.rows, coded.columns, coded.samples) != (rows, columns, samples):
        inner = f"{coded.columns} x {coded.rows} x {coded.samples}"
        found = f"a codestream of {inner} in a DICOM of {columns} x {rows} x {samples}"
        raise SliceError(label, found, REMEDY)


def _decode(dataset: Dataset, index: int) -> np.ndarray:
    """One frame's stored pixels, (H, W) or (H, W, 3) RGB. Signedness that a codestream denies is mended by pydicom."""
    from pydicom.pixels import pixel_array

    return pixel_array(dataset, index=index)


def _colour_slice(rgb: np.ndarray, dataset: Dataset, label: str, window: Window | None) -> Slice:
    """A secondary capture: a picture in DICOM clothes."""
    from PIL import Image

    slice_ = slice_from_picture(Image.fromarray(rgb), label, window=window, frame=None)
    modality, localizer = _text(dataset, "Modality"), _is_localizer(dataset)
    return replace(slice_, notes=(*_kind_notes(dataset), *slice_.notes), modality=modality, is_localizer=localizer)


def _grey_slice(stored: np.ndarray, tags: _Tags, label: str, option: Window | None) -> Slice:
    values, is_hu, notes = _rescale(stored, tags, label)
    padding, more = _padding(stored, values, tags, is_hu)
    notes = [*_kind_notes(tags.dataset), *notes, *more]
    shown = values[~padding] if padding.any() else values
    _check_signedness(shown, tags, is_hu, label)
    window, more = _choose_window(stored, tags, is_hu, option, label)
    pixels = apply_window(values, window)
    if not is_hu and is_flat(pixels) and not is_flat(values):
        found = f"the window {window} leaves nothing of its values, {span(values)}"
        raise SliceError(label, found, "give a window in the stored units")
    if tags.dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
        more.append("inverted: MONOCHROME1 stores white as its lowest value")
    pixels[padding] = 0
    bits, modality = tags.dataset.BitsStored, _text(tags.dataset, "Modality")
    read: dict[str, Any] = {"modality": modality, "is_localizer": _is_localizer(tags.dataset)}
    if is_hu and not read["is_localizer"]:
        read["body"] = outline_in_hu(np.where(padding, -np.inf, values))
    return Slice(pixels, label, bits, is_hu, window, _spacing(tags), (*notes, *more), **read)


@dataclass(frozen=True)
class _Tags:
    """One frame's view of the tags: an enhanced CT keeps them in functional groups (PS3.3 C.7.6.16)."""

    dataset: Dataset
    frame: int

    def get(self, keyword: str, group: str) -> Any:
        """The value at the root, else the frame's own, else the shared one; None where absent or empty."""
        places = [self.dataset, *self._groups(group)]
        return next((v for place in places if (v := place.get(keyword)) is not None and v != ""), None)

    def _groups(self, group: str) -> list[Dataset]:
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        shared = self.dataset.get("SharedFunctionalGroupsSequence") or []
        items = [*per_frame[self.frame : self.frame + 1], *shared[:1]]
        return [item.get(group)[0] for item in items if item.get(group)]


def _rescale(stored: np.ndarray, tags: _Tags, label: str) -> tuple[np.ndarray, bool, list[str]]:
    """Values in HU where the file says so (PS3.3 C.11.1), else stored values as they are; whether HU; notes."""
    if tags.dataset.get("ModalityLUTSequence"):
        raise SliceError(label, "a modality lookup table, which CT images do not have", "give the original CT image")
    slope, intercept = _rescaling(tags)
    if slope is None or intercept is None:
        return stored, False, ["no rescale slope and intercept: stored values, not HU"]
    if not SLOPES[0] <= slope <= SLOPES[1]:  # NaN fails too
        raise SliceError(label, f"a rescale slope of {slope:g}", "give the original image")
    if not abs(intercept) <= MAX_INTERCEPT:
        raise SliceError(label, f"a rescale intercept of {intercept:g}", "give the original image")
    unit = str(tags.get("RescaleType", _RESCALING) or "HU").strip().upper()
    is_hu = unit == "HU" and _text(tags.dataset, "Modality") == "CT"
    return stored * slope + intercept, is_hu, [] if is_hu else ["rescaled, but not to HU"]


def _rescaling(tags: _Tags) -> tuple[float | None, float | None]:
    """Slope and intercept; None for what is not there."""
    slope, intercept = (_number(tags.get(key, _RESCALING)) for key in ("RescaleSlope", "RescaleIntercept"))
    return slope, intercept


def _padding(stored: np.ndarray, values: np.ndarray, tags: _Tags, is_hu: bool) -> tuple[np.ndarray, list[str]]:
    """Where the file declares padding (PS3.3 C.7.5.1.1.2), (H, W) bool, and a note."""
    first = _number(tags.dataset.get("PixelPaddingValue"))
    nothing = np.zeros(stored.shape, dtype=bool)
    if first is None:
        return nothing, []
    last = _number(tags.dataset.get("PixelPaddingRangeLimit"))
    low, high = sorted(_as_stored(value, tags.dataset) for value in (first, first if last is None else last))
    padding = (stored >= low) & (stored <= high)
    if not padding.any():
        return nothing, []
    padded = values[padding]
    if is_hu and ((padded > TISSUE[0]) & (padded < TISSUE[1])).any():
        return nothing, [f"padding value {low:g} ignored: it lies among tissue, {span(padded)} HU"]
    return padding, [f"{np.count_nonzero(padding)} padding pixels set to black"]


def _as_stored(value: float, dataset: Dataset) -> float:
    """A padding value in the pixels' own signedness: writers often give -2000 as the unsigned 63536."""
    bits = dataset.BitsAllocated
    if dataset.PixelRepresentation == 1 and value >= 2 ** (bits - 1):
        return value - 2**bits
    return value + 2**bits if dataset.PixelRepresentation == 0 and value < 0 else value


def _check_signedness(values: np.ndarray, tags: _Tags, is_hu: bool, label: str) -> None:
    unsigned = tags.dataset.PixelRepresentation == 0
    if is_hu and unsigned and values.size and values.max() > BEYOND_METAL:
        found = f"values up to {values.max():g} HU: signed pixels declared unsigned (PixelRepresentation 0)"
        raise SliceError(label, found, "give the original image, or correct that tag")


def _choose_window(
    stored: np.ndarray, tags: _Tags, is_hu: bool, option: Window | None, label: str
) -> tuple[Window, list[str]]:
    """The option, else the file's first usable window, else the lung preset for HU, else the declared range."""
    bits = tags.dataset.BitsStored
    if option is not None and (is_hu or bits > 8):
        return option, [] if is_hu else [f"window {option} applied to values that are not HU"]
    notes = [] if option is None else ["window ignored: an 8-bit picture holds no HU"]
    window, more = _file_window(tags)
    notes += more
    if window is not None:
        return window, notes
    if is_hu:
        return WINDOWS["lung"], [*notes, f"no window in the file: lung {WINDOWS['lung']} shown"]
    whole = whole_range(stored, bits, tags.dataset.PixelRepresentation == 1, label)
    slope, intercept = _rescaling(tags)  # the window is of the values, which may be rescaled without being HU
    if slope is not None and intercept is not None:
        whole = Window(whole.centre * slope + intercept, whole.width * slope)
    return whole, [*notes, f"no window: the whole {bits}-bit range shown"]


def _file_window(tags: _Tags) -> tuple[Window | None, list[str]]:
    group = "FrameVOILUTSequence"
    centre, width = (tags.get(key, group) for key in ("WindowCenter", "WindowWidth"))
    first_centre, first_width = _number(centre), _number(width)
    if first_centre is None or first_width is None:
        return None, []
    try:
        window = Window(first_centre, first_width)
    except InputError:
        return None, [f"the file's window {first_centre:g}/{first_width:g} is unusable"]
    notes = []
    if _is_list(centre) and len(centre) > 1:
        notes.append(f"the first of the file's {len(centre)} windows shown")
    function = str(tags.get("VOILUTFunction", group) or "LINEAR")
    if function != "LINEAR":
        notes.append(f"shown by the LINEAR function, where the file asks for {printable(function)}")
    return window, notes


def _kind_notes(dataset: Dataset) -> list[str]:
    """What about this image should make a reader of its prediction pause."""
    modality = _text(dataset, "Modality")
    notes = [] if modality == "CT" else [f"modality {modality or 'unknown'}, not CT"]
    if _is_localizer(dataset):
        notes.append("a localizer (scout view), not a slice")
    if _text(dataset, "LossyImageCompression") == "01":
        notes.append("compressed with loss")
    return notes


def _is_localizer(dataset: Dataset) -> bool:
    return "LOCALIZER" in str(dataset.get("ImageType", "")).upper()


def _spacing(tags: _Tags) -> tuple[float, float] | None:
    """Row and column distance in mm, where the file gives two positive numbers."""
    spacing = tags.get("PixelSpacing", "PixelMeasuresSequence")
    if not _is_list(spacing) or len(spacing) != 2:
        return None
    row, column = (float(value) for value in spacing)
    return (row, column) if 0 < row < math.inf and 0 < column < math.inf else None


def _frames(dataset: Dataset) -> int:
    return max(1, int(_number(dataset.get("NumberOfFrames")) or 1))


def _number(value: Any) -> float | None:
    """A number tag's (first) value; None where absent or empty."""
    if _is_list(value):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else printable(str(value).strip())


def write_dicom(
    path: str | os.PathLike[str],
    hu: np.ndarray,
    *,
    window: Window,
    spacing_mm: float,
    patient_id: str,
    study: str,
    series: str,
    instance_number: int,
) -> None:
    """Write HU (H, W) as a CT Image Storage file (PS3.3 A.3), uncompressed, in 12 bits from -1024.

    `study` and `series` are any text; the UIDs are made from them, so that equal input gives equal bytes.
    """
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, _uid(f"{series}/{instance_number}")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(study), _uid(series)
    dataset.FrameOfReferenceUID = _uid(f"{study} frame")
    dataset.PatientID = dataset.PatientName = patient_id
    dataset.Modality, dataset.ImageType = "CT", ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.InstanceNumber = instance_number
    for empty in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "KVP"):
        setattr(dataset, empty, None)
    dataset.ReferringPhysicianName = dataset.Manufacturer = dataset.PositionReferenceIndicator = None
    dataset.SeriesNumber = dataset.AcquisitionNumber = None
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, instance_number], [1, 0, 0, 0, 1, 0]
    dataset.SliceThickness, dataset.PixelSpacing = 1, [f"{spacing_mm:.6g}"] * 2
    dataset.WindowCenter, dataset.WindowWidth = window.centre, window.width
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.Rows, dataset.Columns = hu.shape
    dataset.PixelData = np.clip(hu.astype(np.int32) + 1024, 0, 4095).astype("<u2").tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _uid(text: str) -> str:
    """A UID of the UUID-derived kind (PS3.5 B.2), made from a text."""
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15])}"
