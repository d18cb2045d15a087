"""DICOM against pixels computed by hand, and each way of being fooled refused by name."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from ct_xception.errors import SliceError
from ct_xception.imaging.decoders import elements
from ct_xception.imaging.decoders.dicom import read_acquisition, read_header
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from tests.imaging.builders import ct, ct_dataset, dicom_bytes, encode, set_tags

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
# Stored value minus 1024 is HU. Window 40/400 runs from -160 to 239: (HU + 160) / 399 * 255.
HU = np.array([[-3000, -160, 40, 239, 3000]], dtype=np.int16)
STORED = HU + 1024
SOFT = [[0, 0, 128, 255, 255]]


def soft(content: bytes, **options: Any) -> Slice:
    return read_slice(content, window=Window(40, 400), **options)


def noted(slice_: Slice, words: str) -> bool:
    return any(words in note for note in slice_.notes)


def test_rescale_and_window_by_hand() -> None:
    slice_ = soft(ct(STORED, PixelSpacing=[0.75, 0.75], BitsStored=12, HighBit=11))
    assert slice_.pixels.tolist()[0][1:4] == [0, 128, 255]
    assert (slice_.is_hu, slice_.bit_depth, slice_.window) == (True, 12, Window(40, 400))
    assert slice_.spacing_mm == (0.75, 0.75)
    assert slice_.notes == ()


def test_values_beyond_the_window_are_clamped() -> None:
    assert soft(ct(STORED)).pixels.tolist() == SOFT


def test_slope_other_than_one() -> None:
    assert soft(ct(STORED * 2, RescaleSlope=0.5)).pixels.tolist() == SOFT


def test_the_files_own_window() -> None:
    slice_ = read_slice(ct(STORED, WindowCenter=[40, -600], WindowWidth=[400, 1500]))
    assert slice_.pixels.tolist() == SOFT
    assert slice_.window == Window(40, 400)
    assert noted(slice_, "first of the file's 2 windows")


def test_the_option_outranks_the_files_window() -> None:
    assert soft(ct(STORED, WindowCenter=-600, WindowWidth=1500)).pixels.tolist() == SOFT


def test_hu_without_window_is_shown_as_lung() -> None:
    slice_ = read_slice(ct(STORED))
    assert slice_.window == Window(-600, 1500)
    assert slice_.pixels.tolist() == [[0, 202, 236, 255, 255]]  # (HU + 1350) / 1499 * 255
    assert noted(slice_, "no window in the file")


@pytest.mark.parametrize("width", [0, -5, "NaN", "1e308"])
def test_unusable_window_in_the_file(width: object) -> None:
    slice_ = read_slice(ct(STORED, WindowCenter=40, WindowWidth=width))
    assert slice_.window == Window(-600, 1500)
    assert noted(slice_, "is unusable")


def test_other_voi_functions_are_named() -> None:
    slice_ = read_slice(ct(STORED, WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID"))
    assert slice_.pixels.tolist() == SOFT
    assert noted(slice_, "SIGMOID")


def test_monochrome1_is_turned_after_the_window() -> None:
    slice_ = soft(ct(STORED, PhotometricInterpretation="MONOCHROME1"))
    assert slice_.pixels.tolist() == [[0, 255, 127, 0, 0]]  # -3000 HU is padding outside the scanner's circle
    assert noted(slice_, "MONOCHROME1")


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
def test_without_rescale_it_is_not_hu(missing: str) -> None:
    content = ct(HU, **{missing: None})
    slice_ = soft(content)
    assert slice_.pixels.tolist() == SOFT
    assert not slice_.is_hu
    assert noted(slice_, "no rescale slope and intercept") and noted(slice_, "not HU")
    with pytest.raises(SliceError, match="16-bit signed values, -3000 to 3000, and no window"):
        read_slice(content)


@pytest.mark.parametrize("tags", [{"Modality": "OT"}, {"RescaleType": "US"}])
def test_without_hu_and_window_the_whole_range_is_shown_after_the_rescale(tags: dict[str, str]) -> None:
    stored = np.array([[0, 1024, 2048, 4095]], dtype=np.uint16)
    slice_ = read_slice(ct(stored, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1024, **tags))
    assert slice_.pixels.tolist() == [[0, 64, 128, 255]] and not slice_.is_hu
    assert slice_.window == Window(2 * 2048 - 1024, 2 * 4096) and noted(slice_, "the whole 12-bit range shown")


def test_stored_values_that_the_window_misses_are_refused() -> None:
    with pytest.raises(SliceError, match="-600/1500 leaves nothing of its values, 1000 to 1100"):
        read_slice(ct(np.array([[1000, 1100]], dtype=np.uint16), RescaleSlope=None), window=Window(-600, 1500))


@pytest.mark.parametrize("slope", [0, "NaN", "1e308", "inf", -1])
def test_silly_slope_is_refused(slope: object) -> None:
    with pytest.raises(SliceError, match="a rescale slope of"):
        read_slice(ct(STORED, RescaleSlope=slope))


@pytest.mark.parametrize("intercept", ["NaN", "1e308", "-inf"])
def test_silly_intercept_is_refused(intercept: object) -> None:
    with pytest.raises(SliceError, match="a rescale intercept of"):
        read_slice(ct(STORED, RescaleIntercept=intercept))


def test_signed_pixels_declared_unsigned_are_refused() -> None:
    content = ct(np.array([[-1000, 0, 50]], dtype=np.int16), RescaleIntercept=0, PixelRepresentation=0)
    with pytest.raises(SliceError, match="up to 64536 HU: signed pixels declared unsigned"):
        read_slice(content)


def test_unsigned_pixels_stay_unsigned() -> None:
    assert soft(ct(STORED[:, 1:].astype(np.uint16))).pixels.tolist() == [SOFT[0][1:]]


def test_undeclared_padding_is_clamped() -> None:
    stored = np.array([[-2000, 984, 1064]], dtype=np.int16)
    assert soft(ct(stored)).pixels.tolist() == [[0, 77, 128]]


@pytest.mark.parametrize("padding", [30000, -30000 + 2**16])
def test_padding_is_black(padding: int) -> None:
    value = padding if padding < 2**15 else padding - 2**16
    dataset = ct_dataset(np.array([[value, 984, 1064]], dtype=np.int16))
    dataset.add_new("PixelPaddingValue", "US", padding)
    for photometric, expected in (("MONOCHROME2", [[0, 77, 128]]), ("MONOCHROME1", [[0, 178, 127]])):
        dataset.PhotometricInterpretation = photometric
        slice_ = soft(dicom_bytes(dataset))
        assert slice_.pixels.tolist() == expected
        assert noted(slice_, "1 padding pixels set to black")


def test_padding_range() -> None:
    stored = np.array([[5000, 5001, 5002, 1064]], dtype=np.uint16)
    slice_ = soft(ct(stored, PixelPaddingValue=5000, PixelPaddingRangeLimit=5001))
    assert slice_.pixels.tolist() == [[0, 0, 255, 128]]


def test_padding_among_tissue_is_ignored() -> None:
    slice_ = soft(ct(STORED, PixelPaddingValue=1064))  # 40 HU is muscle
    assert slice_.pixels.tolist() == SOFT
    assert noted(slice_, "padding value 1064 ignored")


def test_not_ct_is_noted_and_not_hu() -> None:
    slice_ = soft(ct(STORED, Modality="MR"))
    assert slice_.pixels.tolist() == SOFT
    assert not slice_.is_hu
    assert noted(slice_, "modality MR, not CT")


def test_localizer_and_loss_are_noted() -> None:
    slice_ = soft(ct(STORED, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], LossyImageCompression="01"))
    assert noted(slice_, "localizer") and noted(slice_, "with loss")


def test_8_bit_capture_is_shown_as_it_is() -> None:
    grey = np.array([[0, 100, 255, 7]], dtype=np.uint8)
    slice_ = read_slice(ct(grey, Modality="OT", RescaleSlope=None), window=Window(40, 400))
    assert np.array_equal(slice_.pixels, grey)
    assert noted(slice_, "window ignored")


def test_colour_capture_is_luminance() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0]]], dtype=np.uint8)
    content = ct(rgb[..., 0], PixelData=rgb.tobytes(), SamplesPerPixel=3, PhotometricInterpretation="RGB",
                 PlanarConfiguration=0, Modality="OT")  # fmt: skip
    slice_ = read_slice(content)
    assert slice_.pixels.tolist() == [[76, 150]]
    assert noted(slice_, "colour dropped (100 %")


def test_frames() -> None:
    content = ct(np.stack([STORED, STORED[:, ::-1]]))
    assert soft(content, frame=1).pixels.tolist() == [SOFT[0][::-1]]
    with pytest.raises(SliceError, match="2 frames; choose one, from 0 to 1"):
        soft(content)
    with pytest.raises(SliceError, match="no frame 2: it has 2"):
        soft(content, frame=2)


def item(**tags: Any) -> Sequence:
    dataset = pydicom.Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def test_enhanced_ct_keeps_its_tags_in_functional_groups() -> None:
    rescaled = [item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU") for intercept in (-1024, 0)]
    per_frame = [item(PixelValueTransformationSequence=one)[0] for one in rescaled]
    shared = item(
        FrameVOILUTSequence=item(WindowCenter=40, WindowWidth=400),
        PixelMeasuresSequence=item(PixelSpacing=[0.6, 0.6]),
    )
    groups = {"PerFrameFunctionalGroupsSequence": Sequence(per_frame), "SharedFunctionalGroupsSequence": shared}
    content = ct(np.stack([STORED, HU]), RescaleSlope=None, RescaleIntercept=None, **groups)
    for frame in (0, 1):
        slice_ = read_slice(content, frame=frame)
        assert slice_.pixels.tolist() == SOFT
        assert (slice_.is_hu, slice_.window, slice_.spacing_mm) == (True, Window(40, 400), (0.6, 0.6))


@pytest.mark.parametrize(
    "tags, words",
    [
        ({"PixelData": None}, "no image"),
        ({"Rows": None}, "without Rows"),
        ({"Rows": 0}, "5 x 0 pixels"),
        ({"Rows": 2}, "cut short: 10 of the 20 bytes"),
        ({"Rows": 60000, "Columns": 60000}, "more than 16.8 million"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "1 x 1 bits"),
        ({"BitsStored": 12, "HighBit": 15}, "HighBit 15 for 12 bits stored"),
        ({"ModalityLUTSequence": item(LUTDescriptor=[2, 0, 16])}, "modality lookup table"),
    ],
)
def test_refused_by_name(tags: dict[str, Any], words: str) -> None:
    dataset = set_tags(ct_dataset(STORED), tags)
    with pytest.raises(SliceError, match=words):
        soft(dicom_bytes(dataset))


def gradient() -> np.ndarray:
    return (np.arange(64 * 48, dtype=np.uint16) % 1500).reshape(64, 48)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_gives_the_same_pixels(syntax: str) -> None:
    plain = ct_dataset(gradient())
    expected = soft(dicom_bytes(plain)).pixels
    if syntax == RLELossless:
        plain.compress(syntax)
    else:
        plain.PixelData = encapsulate([j2k(gradient())])
        plain["PixelData"].is_undefined_length = True
        plain.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(soft(dicom_bytes(plain)).pixels, expected)


def test_lossless_jpeg_the_commonest_of_ct(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    content = ct(gradient())
    (tmp_path / "plain.dcm").write_bytes(content)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(tmp_path / "plain.dcm"))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(tmp_path / "jpeg.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "jpeg.dcm").file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(soft((tmp_path / "jpeg.dcm").read_bytes()).pixels, soft(content).pixels)


def test_big_endian() -> None:
    dataset = ct_dataset(STORED)
    dataset.PixelData = STORED.astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=False, little_endian=False, enforce_file_format=True)
    assert soft(stream.getvalue()).pixels.tolist() == SOFT


def j2k(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "JPEG2000", irreversible=False, no_jp2=True)


def in_dicom(codestream: bytes, syntax: str, **tags: Any) -> bytes:
    dataset = ct_dataset(np.zeros((64, 48), dtype=np.uint16), **tags)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dicom_bytes(dataset)


def test_codestream_larger_than_its_header_is_refused() -> None:
    codestream = j2k(gradient())
    start = codestream.find(b"\xff\x51") + 6
    bomb = codestream[:start] + struct.pack(">2L", 30_000, 30_000) + codestream[start + 8 :]
    with pytest.raises(SliceError, match="a codestream of 30000 x 30000 x 1 in a DICOM of 48 x 64 x 1|tiles"):
        soft(in_dicom(bomb, JPEG2000Lossless))
    with pytest.raises(SliceError, match="30000 x 30000 pixels, more than 16.8 million"):
        soft(in_dicom(bomb, JPEG2000Lossless, Rows=30_000, Columns=30_000))


def test_run_lengths_that_expand_beyond_the_image_are_refused() -> None:
    segments = struct.pack("<16L", 2, 64, 5064, *[0] * 13) + b"\x81\x00" * 5000
    with pytest.raises(SliceError, match="an RLE frame of 6,400 bytes where its pixels need 6,144"):
        soft(in_dicom(segments, RLELossless))


def deflated(content: bytes) -> bytes:
    """An explicit little-endian file's meta group, its syntax changed to deflated, before a raw deflate stream."""
    stream = io.BytesIO()
    dataset = ct_dataset(STORED)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(stream, enforce_file_format=True)
    head = stream.getvalue()
    _, end = elements._file_meta(head, 132, "x")
    squeezer = zlib.compressobj(1, wbits=-15)
    return head[:end] + squeezer.compress(content) + squeezer.flush()


def test_deflated(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ct_dataset(STORED)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert soft(dicom_bytes(dataset)).pixels.tolist() == SOFT
    monkeypatch.setattr(elements, "MAX_INFLATED", 2**20)
    with pytest.raises(SliceError, match="inflates to more than 1 MiB"):
        soft(deflated(b"\0" * (2**21)))


def test_deflate_bomb_costs_no_memory() -> None:
    bomb = deflated(b"\0" * (140 * 2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SliceError, match="inflates to more than 64 MiB"):
        soft(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 160 * 1024  # KiB


def test_ambiguous_transfer_syntax_is_refused() -> None:
    content = ct(STORED)
    start = content.find(b"\x02\x00\x10\x00UI")
    uid = DeflatedExplicitVRLittleEndian.encode()
    first = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    with pytest.raises(SliceError, match="ambiguous DICOM transfer syntax"):
        soft(content[:start] + first + content[start:])


def test_read_acquisition_tells_subgroups_and_leaves_out_what_is_absent() -> None:
    scanner = {"Manufacturer": "Acme", "ManufacturerModelName": "CT 1", "ConvolutionKernel": ["B30f", "x"]}
    content = ct(STORED, PatientSex="F", PatientAge="063Y", SliceThickness=1.25, **scanner)
    assert read_acquisition(content) == {
        "sex": "F", "age band": "60-69", "scanner": "Acme CT 1", "slice thickness": "1.25 mm", "kernel": "B30f/x",
    }  # fmt: skip
    assert read_acquisition(ct(STORED, PatientAge="008M")) == {"age band": "0-9"}
    assert read_acquisition(ct(STORED)) == {}


def test_read_header(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(ct(np.stack([STORED, STORED])))
    header = read_header(path)
    assert (header.patient_id, header.study_uid, header.series_uid) == ("P1", "1.2.3", "1.2.3.4")
    assert (header.modality, header.instance_number) == ("CT", 7)
    assert (header.rows, header.columns, header.frames) == (1, 5, 2)
    path.write_bytes(ct(STORED, PatientID=None, InstanceNumber=None))
    assert (read_header(path).patient_id, read_header(path).instance_number) == ("", None)
    path.write_bytes(b"not DICOM")
    with pytest.raises(SliceError, match="not a DICOM file"):
        read_header(path)


def test_only_pixel_tags_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import ct_xception.imaging.decoders.dicom as module

    seen: list[pydicom.Dataset] = []
    original = module._check_image
    monkeypatch.setattr(module, "_check_image", lambda dataset, *rest: (seen.append(dataset), original(dataset, *rest)))
    soft(ct(STORED, PatientName="Nobody", PatientBirthDate="19000101", InstitutionName="Nowhere"))
    assert seen and {element.keyword for element in seen[0]} <= set(module.PIXEL_TAGS)


def test_every_shipped_file_gives_a_slice_or_a_refusal() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, refused = {}, {}
    for path in sorted(SHIPPED.rglob("*.dcm")):
        for frame in (None, 0):
            try:
                read[path.name] = read_slice(path, frame=frame)
            except SliceError as error:
                refused[path.name] = str(error)
    assert len(read) >= 40 and len(refused) >= 20
    assert read["CT_small.dcm"].is_hu and read["693_J2KI.dcm"].pixels.shape == (512, 512)
    assert all(slice_.pixels.dtype == np.uint8 for slice_ in read.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB


def test_ct_small_against_pydicom() -> None:
    from pydicom.pixels import apply_rescale, apply_windowing

    dataset = pydicom.dcmread(SHIPPED / "CT_small.dcm")
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    hu = apply_rescale(dataset.pixel_array, dataset)
    # pydicom windows to the range of the stored type, signed 16 bits here, times slope and plus intercept.
    reference = apply_windowing(hu, dataset)
    low, high = (-(2**15) * dataset.RescaleSlope + dataset.RescaleIntercept,
                 (2**15 - 1) * dataset.RescaleSlope + dataset.RescaleIntercept)  # fmt: skip
    grey = (reference - low) / (high - low) * 255
    assert np.abs(soft((SHIPPED / "CT_small.dcm").read_bytes()).pixels - grey).max() <= 0.51
