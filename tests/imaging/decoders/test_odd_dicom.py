"""DICOM that is not the CT slice it seems to be: exports, other modalities, trees of a PACS, malformed tags."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders.dicom import classify_dicom, read_acquisition, read_header
from ct_xception.imaging.reader import read_place, read_slice
from ct_xception.imaging.slice import Slice, doubts_in
from ct_xception.imaging.source import is_readable_name
from ct_xception.imaging.windows import Window
from tests.conftest import SHARED
from tests.imaging.builders import ct, ct_dataset, dicom_bytes, encode, set_tags
from tests.imaging.decoders.test_dicom import item
from tests.imaging.hostile import nifti, noise

CASES = SHARED / "cases"
BODY = np.where(np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.7, 1064, 24).astype(np.int16)  # muscle in air
GREY = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


def noted(slice_: Slice, words: str) -> bool:
    return any(words in note for note in slice_.notes)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"WindowCenter": 500, "WindowWidth": 2000},
        {"Modality": "OT"},
        {"RescaleIntercept": 0},
        {"PhotometricInterpretation": "MONOCHROME2", "RescaleSlope": 4},
    ],
)
def test_8_bit_exports_are_shown_as_stored(tags: dict[str, Any]) -> None:
    slice_ = read_slice(ct(GREY, **tags), window=Window(40, 400))
    assert np.array_equal(slice_.pixels, GREY) and not slice_.is_hu
    assert noted(slice_, "8-bit export") and noted(slice_, "window ignored")


def test_8_bits_in_16_are_an_8_bit_export_too() -> None:
    slice_ = read_slice(ct(GREY.astype(np.uint16), BitsStored=8, HighBit=7))
    assert np.array_equal(slice_.pixels, GREY) and not slice_.is_hu


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not on this machine (../shared/cases)")
def test_the_shared_cases() -> None:
    for name in ("ct_8bit_slope1.dcm", "sc_8bit_kept_rescale.dcm"):
        slice_ = read_slice(CASES / name)
        assert not slice_.is_hu and np.array_equal(slice_.pixels, pydicom.dcmread(CASES / name).pixel_array)
    assert read_slice(CASES / "ct_no_preamble.dcm").is_hu
    assert len(np.unique(read_slice(CASES / "float01.tif", window=Window(0.5, 1)).pixels)) == 199
    pictures = [path for path in (CASES / "mixed_extensions").rglob("*") if path.is_file()]
    assert len(pictures) == 24 and all(is_readable_name(path) for path in pictures)
    assert {read_slice(path).pixels.shape for path in pictures} == {(128, 128)}


@pytest.mark.parametrize("shape", ["bare", "bare with meta", "implicit bare"])
def test_without_preamble(shape: str, tmp_path: Path) -> None:
    whole = ct(BODY)
    meta_end = 132 + 12 + int.from_bytes(whole[140:144], "little")
    content = whole[132:] if shape == "bare with meta" else whole[meta_end:]
    if shape == "implicit bare":
        stream = io.BytesIO()
        dataset = ct_dataset(BODY)
        del dataset.file_meta
        dataset.save_as(stream, implicit_vr=True, little_endian=True, enforce_file_format=False)
        content = stream.getvalue()
    assert content[128:132] != b"DICM"
    assert np.array_equal(read_slice(content).pixels, read_slice(whole).pixels)
    (tmp_path / "IM.0001.img").write_bytes(content)
    assert is_readable_name(tmp_path / "IM.0001.img")
    assert read_header(content).patient_id == "P1"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda stored: (stored + 1024).astype(np.uint16), "cannot be HU"),  # the rescale's -1024 applied already
        (lambda stored: stored - 1024 + 4096 * (stored < 1024) + 1024, "cannot be HU"),  # 12-bit signed as unsigned
    ],
)
def test_values_that_no_patient_has(change: Any, words: str) -> None:
    with pytest.raises(SliceError, match=words):
        read_slice(ct(change(BODY)))
    assert read_slice(ct(BODY)).is_hu


def test_doubtful_hu_is_said() -> None:
    doubled, no_air = read_slice(ct(BODY, RescaleIntercept=-2048)), read_slice(ct(np.maximum(BODY, 1024)))
    assert noted(doubled, "hardly anything denser than -500 HU") and noted(no_air, "no air: ")
    bare = read_slice(ct(BODY, RescaleSlope=None, RescaleIntercept=None), window=Window(500, 2000))
    assert all(doubts_in(one.notes) for one in (doubled, no_air, bare))
    assert not doubts_in(read_slice(encode(Image.fromarray(GREY)), window=Window(40, 400)).notes)
    assert not read_slice(ct(BODY, WindowCenter=40, WindowWidth=400)).notes


@pytest.mark.parametrize("start, end", [(0, 20), (20, 40), (44, 64)])
def test_zeroed_rows_of_plain_pixels_are_said(start: int, end: int) -> None:
    stored = noise(64).astype(np.int16) + 1000
    window = {"WindowCenter": 40, "WindowWidth": 400}
    assert not read_slice(ct(stored, **window)).notes
    stored[start:end] = 0
    assert noted(read_slice(ct(stored, **window)), f"rows {start} to {end - 1} of 64 hold one value")
    grey = noise(64)
    grey[start:end] = 0
    for kind in ("TIFF", "BMP"):
        assert noted(read_slice(encode(Image.fromarray(grey), kind)), f"rows {start} to {end - 1} of 64")
    assert not noted(read_slice(ct(BODY)), "hold one value")


@pytest.mark.parametrize("place", range(0, 64, 9))
def test_pixels_zeroed_from_within_a_row_to_within_another_are_said(place: int) -> None:
    """As a disk or a transfer loses them: the rows beside the blank ones are of its value for a part."""
    stored = noise(64).astype(np.int16) + 1000
    stored.ravel()[20 * 64 + place : 41 * 64 + place] = 0
    assert noted(read_slice(ct(stored, WindowCenter=40, WindowWidth=400)), "of 64 hold one value")
    hu = nifti(stored - 1024)
    assert noted(read_slice(hu), "of 64 hold one value") and noted(
        read_slice(gzip.compress(hu)), "of 64 hold one value"
    )
    assert not noted(read_slice(nifti(BODY - 1024)), "hold one value")


def test_metal_bone_and_pure_air_are_hu() -> None:
    metal = BODY.copy()
    metal[:8, :8] = 4000
    for stored in (metal, np.full_like(BODY, 24), np.full_like(BODY, 1064)):
        assert read_slice(ct(stored)).is_hu


def test_padding_outside_the_circle_is_air() -> None:
    stored = BODY.copy()
    stored[np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) > 1] = -2000 + 1024
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        assert read_slice(ct(stored, PhotometricInterpretation=photometric)).pixels[0, 0] == 0


def test_a_window_that_hides_everything_gives_way() -> None:
    for centre in (-2000, 3000):
        slice_ = read_slice(ct(BODY, WindowCenter=centre, WindowWidth=10))
        assert slice_.window == Window(-600, 1500) and noted(slice_, f"window {centre}/10 shows nothing")


def voi_table(levels: np.ndarray, first: int, bits: int = 16) -> Any:
    return item(LUTDescriptor=[len(levels), first, bits], LUTData=levels.astype("<u2").tobytes())


@pytest.mark.parametrize("signed", [False, True])
def test_a_voi_table_that_is_the_only_window_is_applied(signed: bool) -> None:
    curve = np.rint(65535 / (1 + np.exp(-(np.arange(-600, 601) / 100)))).astype(np.int64)
    dataset = ct_dataset(BODY.astype(np.int16 if signed else np.uint16))
    dataset.VOILUTSequence = voi_table(curve, -600 if signed else 2**16 - 600)
    slice_ = read_slice(dicom_bytes(dataset))
    hu = np.clip(BODY.astype(int) - 1024, -600, 600)
    expected = (curve[hu + 600] - curve[0]) / (curve[-1] - curve[0]) * 255
    assert np.abs(slice_.pixels - expected).max() <= 0.51 and noted(
        slice_, "VOI lookup table applied, from -600 to 600"
    )
    assert slice_.is_hu and slice_.window is not None and slice_.window.low == -600 and slice_.window.high == 600
    assert read_slice(dicom_bytes(dataset), window=Window(40, 400)).window == Window(40, 400)
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    assert read_slice(dicom_bytes(dataset)).window == Window(40, 400)


@pytest.mark.parametrize("levels", [[3, 2, 1, 0], [5, 5, 5, 5], [0, 1]])
def test_a_voi_table_that_falls_or_is_cut_is_named(levels: list[int]) -> None:
    table = item(LUTDescriptor=[4, 0, 16], LUTData=np.array(levels, "<u2").tobytes())
    assert noted(read_slice(ct(BODY, VOILUTSequence=table)), "VOI lookup table is not applied")


@pytest.mark.parametrize("modality", ["MR", "CR", "DX", "PT", "NM"])
def test_other_modalities_without_a_window_are_shown_by_percentiles(modality: str) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(200, 900, (64, 64)).astype(np.uint16)
    stored[0, 0] = 60_000  # one bright pixel would leave the rest black between minimum and maximum
    slice_ = read_slice(ct(stored, Modality=modality, RescaleSlope=None, RescaleIntercept=None))
    assert noted(slice_, "percentiles 0.5 to 99.5") and not slice_.is_hu and slice_.pixels.std() > 50
    inverted = read_slice(
        ct(stored, Modality=modality, RescaleSlope=None, RescaleIntercept=None, PhotometricInterpretation="MONOCHROME1")
    )
    assert np.array_equal(inverted.pixels, 255 - slice_.pixels)
    own = read_slice(ct(stored, Modality=modality, RescaleSlope=None, WindowCenter=550, WindowWidth=700))
    assert own.window == Window(550, 700)


@pytest.mark.parametrize("value", ["N/A", "", "1.25mm", "NaN", "1e999"])
def test_a_malformed_number_ends_nothing(value: str) -> None:
    names = ("SliceThickness", "WindowCenter", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
             "InstanceNumber", "PixelPaddingValue")  # fmt: skip
    for name in names:
        content = with_text(name, value)
        read_slice(content), read_place(content), read_header(content), read_acquisition(content)


def with_text(keyword: str, value: str) -> bytes:
    """A CT file with a text where a number belongs, which pydicom itself would not write."""
    dataset = ct_dataset(BODY, **{keyword: None, "StudyDescription": "WRONGTAG"})
    content = dicom_bytes(dataset)
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(keyword).encode()
    vr = b"US" if vr == b"US or SS" else vr
    text = value.encode().ljust(len(value) + len(value) % 2)
    start = content.index(b"\x08\x00\x30\x10LO\x08\x00WRONGTAG")
    content = content[:start] + content[start + 16 :]
    element = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr
    element += len(text).to_bytes(2, "little") + text
    at = next(
        index
        for index in range(start, len(content))
        if content[index + 4 : index + 6].isalpha()
        and int.from_bytes(content[index : index + 2], "little") * 65536
        + int.from_bytes(content[index + 2 : index + 4], "little")
        > int(tag)
        and content[index : index + 2] in (b"\x10\x00", b"\x18\x00", b"\x20\x00", b"\x28\x00", b"\xe0\x7f")
    )
    return content[:at] + element + content[at:]


def test_extra_frames_are_asked_about() -> None:
    two = np.stack([BODY, BODY[::-1]])
    with pytest.raises(SliceError, match="2 frames; choose one"):
        read_slice(ct(two, NumberOfFrames=1))
    assert np.array_equal(read_slice(ct(two, NumberOfFrames=None), frame=0).pixels, read_slice(ct(BODY)).pixels)
    coded = [encode(Image.fromarray(noise(64)), "JPEG"), encode(Image.fromarray(noise(64)[::-1].copy()), "JPEG")]
    for offsets in (True, False):
        dataset = ct_dataset(noise(64))
        dataset.PixelData = encapsulate(coded, has_bot=offsets)
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        with pytest.raises(SliceError, match="2 frames; choose one"):
            read_slice(dicom_bytes(dataset))
        first, second = (read_slice(dicom_bytes(dataset), frame=frame).pixels for frame in (0, 1))
        assert np.abs(first[::-1].astype(int) - second).mean() < 5
    joined = ct_dataset(noise(64))
    joined.PixelData = encapsulate([b"".join(coded)])
    joined["PixelData"].is_undefined_length = True
    joined.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    with pytest.raises(SliceError, match="two pictures in the bytes of one frame"):
        read_slice(dicom_bytes(joined))


def test_a_refusal_prints_whatever_the_file_says() -> None:
    dataset = ct_dataset(noise(64))
    dataset.PixelData = encapsulate([encode(Image.fromarray(noise(64)), "JPEG")])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    lying = dicom_bytes(dataset).replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.1000\x00.1.2.4.50")
    with pytest.raises(SliceError) as refusal:
        read_slice(lying)
    assert str(refusal.value).isprintable() and "1.2.840.1000\\x00.1.2.4.50" in refusal.value.found


@pytest.mark.parametrize(
    "tags, kind",
    [
        ({}, "slice"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2", "Modality": "OT"}, "secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary capture"),
        ({"Modality": "MR"}, "other modality"),
        ({"Modality": "DX"}, "other modality"),
        ({"PixelData": None, "Modality": "SR"}, "no image"),
        ({"PixelData": None, "Rows": None, "Modality": "RTSTRUCT"}, "no image"),
    ],
)
def test_a_tree_is_sorted_by_headers(tags: dict[str, Any], kind: str) -> None:
    dataset = set_tags(ct_dataset(BODY), tags)
    assert classify_dicom(read_header(dicom_bytes(dataset))) == kind


def test_an_enhanced_ct_is_read_by_frame_and_an_icon_is_not_its_picture() -> None:
    icon = item(Rows=2, Columns=2, BitsAllocated=8, PixelData=b"\1\2\3\4")
    frames = np.stack([BODY, BODY[:, ::-1], BODY[::-1]])
    flat = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, 0]
    groups = [item(PlaneOrientationSequence=item(ImageOrientationPatient=flat[index == 2]))[0] for index in range(3)]
    content = ct(frames, IconImageSequence=icon, PerFrameFunctionalGroupsSequence=Sequence(groups))
    whole = read_slice(ct(BODY)).pixels
    assert np.array_equal(read_slice(content, frame=0).pixels, whole)
    assert np.array_equal(read_slice(content, frame=2).pixels, whole)  # turned upright by its own group
    assert read_place(content).frames == 3


def test_names_are_told_by_what_a_file_begins_with(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY)
    for name, content, readable in (
        ("slice", encode(picture), True), ("scan.0001", ct(BODY), True), ("a.img", encode(picture, "WEBP"), True),
        ("b.dat", encode(picture, "GIF"), True), ("notes.txt", encode(picture), False), ("c.bin", b"BM nothing", False),
        ("empty.img", b"", False), (".hidden.png", encode(picture), False),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert is_readable_name(tmp_path / name) == readable, name
