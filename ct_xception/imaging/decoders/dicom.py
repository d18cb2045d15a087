"""DICOM becomes a slice in Hounsfield units: rescaled, clamped to a window, MONOCHROME1 turned, padding black.

Only tags that concern pixels are read, and by `read_header` the identifiers that keep a patient within one split.
Sizes are judged before anything is inflated or decoded. Values that would give a plausible but wrong picture (a slope
of 0, signed pixels declared unsigned, a lookup table we do not apply) are refused by name. What cannot be told from the
file is never taken from its minimum and maximum.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.imaging.body.outline import outline_in_hu
from ct_xception.imaging.decoders.dicom_frames import find_frames, read_frame
from ct_xception.imaging.decoders.elements import REMEDY, Elements, walk_elements
from ct_xception.imaging.decoders.orientation import Turn, turn_of
from ct_xception.imaging.decoders.pictures import (
    describe_middle,
    is_flat,
    middle,
    refusing,
    slice_from_picture,
    span,
    whole_range,
)
from ct_xception.imaging.modality import CT, NAMES, RADIOGRAPHS, is_of
from ct_xception.imaging.position import NOBODY, Place
from ct_xception.imaging.slice import Slice, blank_rows, check_pixels, choose_frame
from ct_xception.imaging.source import is_dicom, name_of, open_source
from ct_xception.imaging.square import squared
from ct_xception.imaging.windows import WINDOWS, Window, apply_window

if TYPE_CHECKING:
    from pydicom import Dataset

PIXEL_TAGS = [
    "Modality", "ImageType", "LossyImageCompression", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelSpacing", "PixelAspectRatio", "ImageOrientationPatient", "PlaneOrientationSequence",
    "PatientPosition", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "VOILUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
]  # fmt: skip
HEADER_TAGS = ["PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPClassUID", "InstanceNumber",
               "Rows", "Columns", "NumberOfFrames", "ImageType", "ImageOrientationPatient",
               "SOPInstanceUID"]  # fmt: skip
ACQUISITION_TAGS = ["PatientSex", "PatientAge", "Manufacturer", "ManufacturerModelName", "SliceThickness",
                    "ConvolutionKernel"]  # fmt: skip
# What may be taken beside an image as a column of a table: none names a person, or counts files.
TABULAR_TAGS = ["PatientAge", "PatientSex", "PatientWeight", "PatientSize", "BodyPartExamined", "ContrastBolusAgent",
                "Manufacturer", "ManufacturerModelName", "SliceThickness", "ConvolutionKernel", "KVP", "Exposure",
                "XRayTubeCurrent"]  # fmt: skip
PLACE_TAGS = ["ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
              "SliceThickness", "SeriesInstanceUID", "SharedFunctionalGroupsSequence",
              "PerFrameFunctionalGroupsSequence", "PatientID", "StudyInstanceUID"]  # fmt: skip
NEEDED_TAGS = ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"]
SLOPES = (1e-6, 1e4)  # of rescale: CT has 1, PET a small fraction
MAX_INTERCEPT = 1e6
BEYOND_METAL = 20_000  # HU: gold fillings stay below, two's complement read as unsigned does not
TISSUE = (-900, 3000)  # HU: a padding value in here would punch holes into the body
_RESCALING = "PixelValueTransformationSequence"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
WINDOWLESS = RADIOGRAPHS | {"MR", "PT", "NM", "US"}  # whose values have no unit that a preset could be in
KINDS = ("slice", "localizer", "secondary capture", "no image", "other modality")
# Of HU: air is -1000 and dense bone 1,500. A share of a whole slice beyond these is none of a patient.
DENSE, DENSE_SHARE, BEYOND_BONE, LEAST_JUDGED = 700, 0.15, 2500, 1024
TISSUELESS = -500
OUTSIDE_THE_CIRCLE = -1500  # HU: scanners pad a round field of view with -2000, -3024 and the like


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
    sop_class: str = ""
    image_type: str = ""
    has_pixels: bool = True
    sop_instance: str = ""


def classify_dicom(header: DicomHeader, modality: str = CT) -> str:
    """One of KINDS: what a file of a DICOM tree is, by its header alone, where slices of `modality` are wanted.

    "no image" are structured reports, dose sheets, plans, presentation states and directories; "secondary capture"
    are screen saves, pictures in DICOM's clothes.
    """
    if not header.has_pixels or header.rows <= 0 or header.columns <= 0:
        return "no image"
    if "LOCALIZER" in header.image_type:
        return "localizer"
    captured = header.sop_class == SECONDARY_CAPTURE or header.sop_class.startswith(f"{SECONDARY_CAPTURE}.")
    if captured or "SCREEN SAVE" in header.image_type:
        return "secondary capture"
    return "slice" if not header.modality or is_of(header.modality, modality) else "other modality"


def read_header(source: str | os.PathLike[str] | bytes) -> DicomHeader:
    """The identifiers and size of a DICOM file or its bytes, its pixels unread. Raises SliceError."""
    label = name_of(source)
    with open_source(source, label) as stream:
        if not is_dicom(stream):
            raise SliceError(label, "not a DICOM file (no DICM after the preamble)", "give a DICOM file")
        with refusing(label, REMEDY):
            elements, dataset = _read(stream, label, HEADER_TAGS)
            patient, study, series, modality, sop_class = (_text(dataset, tag) for tag in HEADER_TAGS[:5])
            return DicomHeader(
                patient_id=patient,
                study_uid=study,
                series_uid=series,
                modality=modality,
                instance_number=_whole(_value(dataset, "InstanceNumber")),
                rows=_whole(_value(dataset, "Rows")) or 0,
                columns=_whole(_value(dataset, "Columns")) or 0,
                frames=_frames(dataset),
                sop_class=sop_class,
                image_type=printable(str(_value(dataset, "ImageType") or "")).upper(),
                has_pixels=elements.pixels is not None,
                sop_instance=_text(dataset, "SOPInstanceUID"),
            )


def read_acquisition(content: bytes | str) -> dict[str, str]:
    """Subgroups that a DICOM file tells: sex, age band, scanner, slice thickness and kernel; absent ones left out.

    Ages become bands of ten years, which name nobody. Raises SliceError.
    """
    label = name_of(content)
    with open_source(content, label) as stream, refusing(label, REMEDY):
        _, dataset = _read(stream, label, ACQUISITION_TAGS)
        kernel, thickness = _value(dataset, "ConvolutionKernel"), _finite(_value(dataset, "SliceThickness"))
        maker, model = _text(dataset, "Manufacturer"), _text(dataset, "ManufacturerModelName")
        found = {
            "sex": _text(dataset, "PatientSex"),
            "age band": _age_band(_text(dataset, "PatientAge")),
            "scanner": f"{maker} {model}".strip(),
            "slice thickness": "" if thickness is None else f"{thickness:g} mm",
            "kernel": printable("/".join(map(str, kernel)) if _is_list(kernel) else str(kernel or "")),
        }
    return {name: text for name, text in found.items() if text}


def read_keywords(content: str | os.PathLike[str] | bytes, keywords: Sequence[str]) -> dict[str, str]:
    """What a DICOM file says under these of TABULAR_TAGS, as text; absent ones left out; none of another file.

    Raises SliceError for a damaged one.
    """
    label = name_of(content)
    with open_source(content, label) as stream:
        if not is_dicom(stream):
            return {}
        with refusing(label, REMEDY):
            _, dataset = _read(stream, label, list(keywords))
            found = {name: _value(dataset, name) for name in keywords}
    texts = {
        name: "/".join(map(str, value)) if _is_list(value) else str("" if value is None else value)
        for name, value in found.items()
    }
    return {name: printable(text).strip() for name, text in texts.items() if text}


def _age_band(age: str) -> str:
    """An age string (PS3.5 6.2, such as 063Y or 008M) as a band of ten years, `60-69`; empty for anything else."""
    if len(age) != 4 or not age[:3].isdigit() or age[3] not in "DWMY":
        return ""
    years = int(age[:3]) if age[3] == "Y" else 0
    return f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def read_dicom_place(stream: BinaryIO, label: str) -> Place:
    """Where an open DICOM file stands in its series; of its tags only PLACE_TAGS are read. Raises SliceError."""
    with refusing(label, REMEDY):
        _, dataset = _read(stream, label, PLACE_TAGS)
        position, normal = _plane_of(_Tags(dataset, 0))
        return Place(
            frames=_frames(dataset),
            position=position,
            normal=normal,
            number=_whole(_value(dataset, "InstanceNumber")),
            size=_size(dataset),
            thickness=_finite(_Tags(dataset, 0).get("SliceThickness", "PixelMeasuresSequence")),
            series=_text(dataset, "SeriesInstanceUID") or None,
            positions=_positions(dataset, normal),
            patient=_patient(dataset),
        )


def _patient(dataset: Dataset) -> str | None:
    """What tells one patient's files from another's; None where nothing does."""
    told = (_text(dataset, tag) for tag in ("PatientID", "StudyInstanceUID"))
    return next((text for text in told if not NOBODY.fullmatch(text)), None)


def _plane_of(tags: _Tags) -> tuple[float | None, tuple[float, float, float] | None]:
    """Where a frame's plane lies along its normal, in mm, and that normal; neither where one is not told."""
    normal = _normal(_numbers(tags.get("ImageOrientationPatient", "PlaneOrientationSequence"), 6))
    corner = _numbers(tags.get("ImagePositionPatient", "PlanePositionSequence"), 3)
    if normal is None or corner is None or not math.isfinite(position := float(np.dot(normal, corner))):
        return None, None
    return position, _rounded(normal)


def _positions(dataset: Dataset, normal: tuple[float, float, float] | None) -> tuple[float, ...]:
    """Each frame's position in an enhanced file; empty where one is not told, two are the same, or the planes turn."""
    groups = _value(dataset, "PerFrameFunctionalGroupsSequence") or []
    if normal is None or len(groups) != _frames(dataset) or len(groups) < 2:
        return ()
    planes = [_plane_of(_Tags(dataset, frame)) for frame in range(len(groups))]
    found = [position for position, own in planes if position is not None and own == normal]
    return tuple(found) if len(found) == len(set(found)) == len(planes) else ()


def _size(dataset: Dataset) -> tuple[int, int] | None:
    rows, columns = _value(dataset, "Rows"), _value(dataset, "Columns")
    return (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None


def _normal(directions: list[float] | None) -> np.ndarray | None:
    """The unit normal (3,) of a plane whose rows and columns run along six direction cosines; None where none is."""
    if directions is None:
        return None
    across, down = np.array(directions).reshape(2, 3)
    normal = np.cross(across, down)
    length = float(np.linalg.norm(normal))
    return normal / length if 0.9 < length < 1.1 else None  # NaN fails too


def _rounded(normal: np.ndarray) -> tuple[float, float, float]:
    """Parallel planes are written with unlike last digits."""
    x, y, z = (round(float(value), 4) + 0.0 for value in normal)
    return x, y, z


def read_dicom(
    stream: BinaryIO,
    label: str,
    *,
    window: Window | None,
    frame: int | None,
    modality: str = CT,
    keep_values: bool = False,
) -> Slice:
    """A slice from an open DICOM file. Raises SliceError.

    The window is the option's, or the file's first, or for HU without any the lung preset; always LINEAR. `modality`
    is what the file is taken for, one of MODALITIES.
    """
    with refusing(label, REMEDY):
        elements, dataset = _read(stream, label, PIXEL_TAGS)
        _check_image(dataset, elements, label)
        frames = find_frames(elements, dataset, _frames(dataset), label)
        index = choose_frame(frames.count, frame, label)
        stored = read_frame(elements, dataset, frames, index, label)
        if stored.ndim == 3:
            return _colour_slice(stored, dataset, label, window, modality)
        return _grey_slice(stored, _Tags(dataset, index, modality), label, window, keep_values)


def _read(stream: BinaryIO, label: str, tags: list[str]) -> tuple[Elements, Dataset]:
    """Parse the wanted tags, their pixels unread, after making sure that the file is something sane to parse."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    elements = walk_elements(stream, label)
    dataset = pydicom.dcmread(elements.stream, stop_before_pixels=True, specific_tags=tags, force=elements.bare)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return elements, dataset


def _check_image(dataset: Dataset, elements: Elements, label: str) -> None:
    """Refuse what is no picture, or one of a kind that would be read wrong; sizes too, before decoding."""
    modality = _text(dataset, "Modality") or "unknown"
    if elements.pixels is None or elements.pixels.number != 0x10:
        floating = elements.pixels is not None
        found = f"DICOM with {'floating-point pixels' if floating else 'no image'} (modality {modality})"
        raise SliceError(label, found, "give the image itself")
    missing = [tag for tag in NEEDED_TAGS if not isinstance(_value(dataset, tag), int)]
    if missing:
        raise SliceError(label, f"DICOM without {', '.join(missing)}", "give the original image")
    check_pixels(dataset.Rows, dataset.Columns, label)
    photometric, samples = _text(dataset, "PhotometricInterpretation"), dataset.SamplesPerPixel
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2") and dataset.BitsAllocated > 1
    colour = samples == 3 and photometric.startswith(("RGB", "YBR")) and dataset.BitsAllocated == 8
    if not grey and not colour:
        found = f"DICOM pixels of kind {photometric or 'unknown'}, {samples} x {dataset.BitsAllocated} bits"
        raise SliceError(label, f"{found} (modality {modality})", "give one in grey")
    if grey and dataset.HighBit != dataset.BitsStored - 1:
        found = f"DICOM with HighBit {dataset.HighBit} for {dataset.BitsStored} bits stored, something else beside them"
        raise SliceError(label, found, REMEDY)


def _colour_slice(rgb: np.ndarray, dataset: Dataset, label: str, window: Window | None, wanted: str) -> Slice:
    """A secondary capture: a picture in DICOM's clothes."""
    from PIL import Image

    slice_ = slice_from_picture(Image.fromarray(rgb), label, window=window, frame=None, modality=wanted)
    modality, localizer = _text(dataset, "Modality"), _is_localizer(dataset)
    notes = (*_kind_notes(dataset, wanted), *slice_.notes)
    return replace(slice_, notes=notes, modality=modality, is_localizer=localizer)


def _grey_slice(stored: np.ndarray, tags: _Tags, label: str, option: Window | None, keep_values: bool) -> Slice:
    turn = _turn(tags)
    stored, turned = turn.apply(stored), _turn_notes(turn, tags)
    values, is_hu, notes = _rescale(stored, tags, label)
    padding, more = _padding(stored, values, tags, is_hu)
    notes = [*_kind_notes(tags.dataset, tags.wanted), *turned, *notes, *more, *blank_rows(stored)]
    shown = values[~padding] if padding.any() else values
    _check_hu(shown, tags, is_hu, label)
    notes += _doubts(values) if is_hu else []
    window, more = _choose_window(stored, shown, tags, is_hu, option, label)
    pixels = apply_window(values, window)
    if option is None and (table := _voi_table(tags)) is not None and table.window == window:
        pixels = table.apply(values)
    if not is_hu and is_flat(pixels) and not is_flat(values):
        found = f"the window {window} leaves nothing of its values, {span(values)}"
        raise SliceError(label, found, "give a window in the stored units")
    inverted = tags.dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        np.subtract(255, pixels, out=pixels)
        more.append("inverted: MONOCHROME1 stores white as its lowest value")
    pixels[padding] = 0
    bits, modality = tags.dataset.BitsStored, _text(tags.dataset, "Modality")
    read: dict[str, Any] = {"modality": modality, "is_localizer": _is_localizer(tags.dataset), "plane": turn.plane}
    if keep_values and bits > 8:
        read |= {"values": np.where(padding, np.float32(np.nan), values).astype(np.float32), "inverted": inverted}
    if is_hu and not read["is_localizer"]:
        read["body"] = _body_in(values, padding)
    spacing = _spacing(tags)
    slice_ = Slice(pixels, label, bits, is_hu, window, spacing, (*notes, *more), **read)
    return squared(slice_, spacing or _turned(_pair(_value(tags.dataset, "PixelAspectRatio")), tags))


def _body_in(values: np.ndarray, padding: np.ndarray) -> np.ndarray | None:
    """The body (H, W) bool in HU; of an image larger than CT, in every n-th pixel, which bounds what it costs."""
    step = max(1, max(values.shape) // 1024)
    found = outline_in_hu(np.where(padding[::step, ::step], -np.inf, values[::step, ::step]))
    if found is None or step == 1:
        return found
    return found.repeat(step, axis=0).repeat(step, axis=1)[: values.shape[0], : values.shape[1]]


def _turn(tags: _Tags) -> Turn:
    return turn_of(_numbers(tags.get("ImageOrientationPatient", "PlaneOrientationSequence"), 6))


def _turn_notes(turn: Turn, tags: _Tags) -> list[str]:
    """Notes on orientation and position."""
    notes = turn.notes(axial=tags.of_ct)
    position = _text(tags.dataset, "PatientPosition").upper()
    if position.endswith("P"):
        notes.append("the patient lies prone: the table is at the top")
    elif position[2:3] == "D":
        notes.append("the patient lies on one side: the table is at a side")
    return notes


@dataclass(frozen=True)
class _Tags:
    """One frame's view of the tags: an enhanced CT keeps them in functional groups (PS3.3 C.7.6.16).

    `wanted` is the modality that the file is taken for.
    """

    dataset: Dataset
    frame: int
    wanted: str = CT

    @property
    def of_ct(self) -> bool:
        """Whether what CT has is to be expected, and its lack worth a word."""
        return self.wanted == CT or _text(self.dataset, "Modality") == "CT"

    def get(self, keyword: str, group: str) -> Any:
        """The value at the root, else the frame's own, else the shared one; None where absent or empty."""
        places = [self.dataset, *self._groups(group)]
        return next((v for place in places if (v := _value(place, keyword)) is not None and v != ""), None)

    def _groups(self, group: str) -> list[Dataset]:
        per_frame = _value(self.dataset, "PerFrameFunctionalGroupsSequence") or []
        shared = _value(self.dataset, "SharedFunctionalGroupsSequence") or []
        items = [*per_frame[self.frame : self.frame + 1], *shared[:1]]
        return [found[0] for item in items if (found := _value(item, group))]


def _rescale(stored: np.ndarray, tags: _Tags, label: str) -> tuple[np.ndarray, bool, list[str]]:
    """Values in HU where the file says so (PS3.3 C.11.1), else stored values as they are; whether HU; notes."""
    if _value(tags.dataset, "ModalityLUTSequence") and not tags.of_ct:
        from pydicom.pixels import apply_modality_lut

        return apply_modality_lut(stored, tags.dataset), False, ["the file's modality lookup table applied"]
    if _value(tags.dataset, "ModalityLUTSequence"):
        raise SliceError(label, "a modality lookup table, which CT images do not have", "give the original CT image")
    slope, intercept = _rescaling(tags)
    if slope is None or intercept is None:
        return stored, False, ["no rescale slope and intercept: stored values, not HU"] * tags.of_ct
    if not SLOPES[0] <= slope <= SLOPES[1]:  # NaN fails too
        raise SliceError(label, f"a rescale slope of {slope:g}", "give the original image")
    if not abs(intercept) <= MAX_INTERCEPT:
        raise SliceError(label, f"a rescale intercept of {intercept:g}", "give the original image")
    if tags.dataset.BitsStored <= 8:
        return stored, False, ["8-bit export: its grey levels are not HU, whatever its rescale says"] * tags.of_ct
    unit = str(tags.get("RescaleType", _RESCALING) or "HU").strip().upper()
    is_hu = unit == "HU" and _text(tags.dataset, "Modality") == "CT"
    return _rescaled(stored, slope, intercept), is_hu, ["rescaled, but not to HU"] * (tags.of_ct and not is_hu)


def _rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Whole numbers stay whole, in half the bytes; the rest is float64, of a radiograph float32."""
    if slope.is_integer() and intercept.is_integer() and slope * 2**16 + abs(intercept) < 2**31 and stored.itemsize < 4:
        values = stored.astype(np.int32)
        values *= int(slope)
        values += int(intercept)
        return values
    scaled = np.multiply(stored, slope, dtype=np.float64 if stored.size <= 2**22 else np.float32)
    scaled += intercept
    return scaled


def _rescaling(tags: _Tags) -> tuple[float | None, float | None]:
    """Slope and intercept; None for what is not there."""
    slope, intercept = (_number(tags.get(key, _RESCALING)) for key in ("RescaleSlope", "RescaleIntercept"))
    return slope, intercept


def _padding(stored: np.ndarray, values: np.ndarray, tags: _Tags, is_hu: bool) -> tuple[np.ndarray, list[str]]:
    """Where the file declares padding (PS3.3 C.7.5.1.1.2), (H, W) bool, and a note."""
    first = _number(_value(tags.dataset, "PixelPaddingValue"))
    # Undeclared padding outside the scanner's circle: below any window, but white where white is the lowest value.
    nothing = values < OUTSIDE_THE_CIRCLE if is_hu else np.zeros(stored.shape, dtype=bool)
    if first is None:
        return nothing, []
    last = _number(_value(tags.dataset, "PixelPaddingRangeLimit"))
    low, high = sorted(_as_stored(value, tags.dataset) for value in (first, first if last is None else last))
    padding = (stored >= low) & (stored <= high)
    if not padding.any() or not math.isfinite(low + high):
        return nothing, []
    padded = values[padding]
    if is_hu and ((padded > TISSUE[0]) & (padded < TISSUE[1])).any():
        return nothing, [f"padding value {low:g} ignored: it lies among tissue, {span(padded)} HU"]
    return padding | nothing, [f"{np.count_nonzero(padding)} padding pixels set to black"]


def _as_stored(value: float, dataset: Dataset) -> float:
    """A padding value in the pixels' own signedness: writers often give -2000 as the unsigned 63536."""
    bits = dataset.BitsAllocated
    if dataset.PixelRepresentation == 1 and value >= 2 ** (bits - 1):
        return value - 2**bits
    return value + 2**bits if dataset.PixelRepresentation == 0 and value < 0 else value


def _check_hu(values: np.ndarray, tags: _Tags, is_hu: bool, label: str) -> None:
    """Refuse values that no patient has: signed pixels read as unsigned, a rescale that was lost on the way."""
    if not is_hu or not values.size:
        return
    top = values.max()
    if tags.dataset.PixelRepresentation == 0 and top > BEYOND_METAL:
        found = f"values up to {top:g} HU: signed pixels declared unsigned (PixelRepresentation 0)"
        raise SliceError(label, found, "give the original image, or correct that tag")
    if values.size < LEAST_JUDGED:
        return
    beyond, dense = (np.count_nonzero(values > limit) / values.size for limit in (BEYOND_BONE, DENSE))
    airless = values.min() > -200
    if beyond > DENSE_SHARE or (airless and dense > DENSE_SHARE):
        share, limit = (beyond, BEYOND_BONE) if beyond > DENSE_SHARE else (dense, DENSE)
        found = f"values that cannot be HU: {100 * share:.0f} % of it above {limit}, {span(values)}"
        raise SliceError(label, found, "give the original image, or correct its rescale or PixelRepresentation")


def _doubts(values: np.ndarray) -> list[str]:
    """What makes values in HU doubtful, though a slice may be so: all of it light as air, or its air cut off."""
    if values.size < LEAST_JUDGED:
        return []
    low, high = values.min(), values.max()
    if high - low > 400 and np.count_nonzero(values > TISSUELESS) < 0.02 * values.size:
        return [f"hardly anything denser than {TISSUELESS} HU: no body in it, or a wrong rescale"]
    floor = np.count_nonzero(values == low) / values.size
    if low > -200 and low < high and floor > 0.3:
        return [f"no air: {100 * floor:.0f} % of it at its lowest value, {low:g} HU; masked, or not HU"]
    return []


def _choose_window(
    stored: np.ndarray, shown: np.ndarray, tags: _Tags, is_hu: bool, option: Window | None, label: str
) -> tuple[Window, list[str]]:
    """The option, else the file's first usable window, else a preset for HU, percentiles for MR and X-rays."""
    bits = tags.dataset.BitsStored
    if option is not None and (is_hu or bits > 8):
        return option, [f"window {option} applied to values that are not HU"] * (tags.of_ct and not is_hu)
    ignored = f"window ignored: an 8-bit picture {'holds no HU' if tags.of_ct else 'was shown already'}"
    notes = [] if option is None else [ignored]
    window, more = _file_window(tags)
    notes += more
    if bits <= 8:
        return Window(2 ** (bits - 1), 2**bits), [*notes, *(["the file's window ignored: 8 bits"] if window else [])]
    if window is not None and is_hu and _hides_all(shown, window):
        notes.append(f"the file's window {window} shows nothing of its values, {span(shown)} HU")
        window = None
    if window is not None:
        return window, notes
    if is_hu:
        return WINDOWS["lung"], [*notes, f"no window in the file: lung {WINDOWS['lung']} shown"]
    if (_text(tags.dataset, "Modality") in WINDOWLESS or not tags.of_ct) and not is_flat(shown):
        window = middle(shown)
        return window, [*notes, f"no window in the file: {describe_middle(window)}"]
    whole = whole_range(stored, bits, tags.dataset.PixelRepresentation == 1, label)
    slope, intercept = _rescaling(tags)  # the window is of the values, which may be rescaled without being HU
    if slope is not None and intercept is not None:
        whole = Window(whole.centre * slope + intercept, whole.width * slope)
    return whole, [*notes, f"no window: the whole {bits}-bit range shown"]


def _hides_all(values: np.ndarray, window: Window) -> bool:
    """Whether all that varies lies on one side of a window."""
    low, high = values.min(), values.max()
    return bool(low < high and (high <= window.low or low > window.high))


def _file_window(tags: _Tags) -> tuple[Window | None, list[str]]:
    group = "FrameVOILUTSequence"
    centre, width = (tags.get(key, group) for key in ("WindowCenter", "WindowWidth"))
    first_centre, first_width = _number(centre), _number(width)
    if first_centre is None or first_width is None:
        table = _voi_table(tags)
        if table is not None:
            return table.window, [f"the file's VOI lookup table applied, from {table.window.low:g} to "
                                  f"{table.window.high:g}"]  # fmt: skip
        tables = tags.get("VOILUTSequence", "FrameVOILUTSequence") or []
        return None, ["the file's VOI lookup table is not applied: it does not rise, or is damaged"] * bool(tables)
    try:
        if not first_width >= 1:
            raise InputError("below a whole step")
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


@dataclass(frozen=True)
class _VoiTable:
    """A file's own grey levels (PS3.3 C.11.2.1.1): `levels` uint8 of the values from `first` on, and their window."""

    first: int
    levels: np.ndarray
    window: Window

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values (H, W) as grey levels (H, W) uint8; those beyond the table take its ends."""
        places = (np.rint(values) if values.dtype.kind == "f" else values).astype(np.int32)
        places -= self.first
        return self.levels[np.clip(places, 0, len(self.levels) - 1, out=places)]


def _voi_table(tags: _Tags) -> _VoiTable | None:
    """The first table, where the file has no window; None where there is none that rises and can be told."""
    tables = tags.get("VOILUTSequence", "FrameVOILUTSequence") or []
    if not tables or _number(tags.get("WindowCenter", "FrameVOILUTSequence")) is not None:
        return None
    described, data = _numbers(_value(tables[0], "LUTDescriptor"), 3), _value(tables[0], "LUTData")
    if described is None or data is None:
        return None
    count, bits = int(described[0]) % 65536 or 65536, int(described[2])
    first = int(described[1])
    if first >= 2**15 and (tags.dataset.PixelRepresentation == 1 or (_rescaling(tags)[1] or 0) < 0):
        first -= 2**16  # it is read unsigned, where values may be below 0
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else "<u2")
    stored = np.asarray(data).ravel()[:count]
    if len(stored) < count or count < 2 or not 8 <= bits <= 16 or (np.diff(stored.astype(np.int64)) < 0).any():
        return None
    low, high = (int(value) for value in (stored[0], stored[-1]))
    if low == high:
        return None
    levels = np.rint((stored.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)
    black, white = int((stored == low).sum()) - 1, int((stored < high).sum())
    width = float(max(1, white - black)) + 1
    return _VoiTable(first, levels, Window(first + (black + white) / 2 + 0.5, width))


def _kind_notes(dataset: Dataset, wanted: str) -> list[str]:
    """What about this image should make a reader of its prediction pause."""
    modality = _text(dataset, "Modality")
    notes = [] if is_of(modality, wanted) else [f"modality {modality or 'unknown'}, not {NAMES[wanted]}"]
    if _is_localizer(dataset):
        notes.append("a localizer (scout view), not a slice")
    if _text(dataset, "LossyImageCompression") == "01":
        notes.append("compressed with loss")
    return notes


def _is_localizer(dataset: Dataset) -> bool:
    return "LOCALIZER" in str(_value(dataset, "ImageType") or "").upper()


def _spacing(tags: _Tags) -> tuple[float, float] | None:
    """Row and column distance in mm of the picture as it is shown, where the file gives two positive numbers."""
    return _turned(_pair(tags.get("PixelSpacing", "PixelMeasuresSequence")), tags)


def _turned(distances: tuple[float, float] | None, tags: _Tags) -> tuple[float, float] | None:
    return distances[::-1] if distances is not None and _turn(tags).swap else distances


def _pair(value: Any) -> tuple[float, float] | None:
    """Two positive numbers; None for anything else."""
    numbers = _numbers(value, 2)
    if numbers is None or not all(0 < number < math.inf for number in numbers):
        return None
    return numbers[0], numbers[1]


def _frames(dataset: Dataset) -> int:
    return max(1, _whole(_value(dataset, "NumberOfFrames")) or 1)


def _finite(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    """A number tag's (first) value as a whole number; None where there is none."""
    number = _finite(value)
    return None if number is None else int(number)


def _numbers(value: Any, count: int) -> list[float] | None:
    """So many numbers of a tag; None where there are more or fewer, or one of them is none."""
    if not _is_list(value) or len(value) != count:
        return None
    numbers = [_number(one) for one in value]
    return None if None in numbers else [number for number in numbers if number is not None]


def _value(dataset: Dataset, keyword: str) -> Any:
    """A tag's value; None where absent, or where pydicom cannot make anything of it."""
    try:
        return dataset.get(keyword)
    except Exception:  # a dozen classes, by value representation
        return None


def _number(value: Any) -> float | None:
    """A number tag's (first) value; None where absent, empty or no number: scanners write N/A and worse."""
    if _is_list(value):
        value = value[0] if len(value) else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else printable(str(value).strip())
