"""What is measured of one image: against numpy and scipy, and on pictures with one thing drawn in each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats

from ct_xception.audit.traits import (
    border_statistics,
    colour_picture,
    file_attributes,
    foreign_traits,
    grey_statistics,
)
from ct_xception.imaging.body.crop import body_mask
from ct_xception.imaging.windows import WINDOWS
from ct_xception.phantom.dicom import write_dicom


def encode(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """A body 300 px wide, grey 140, with two lungs of grey 40, in black air."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:300j]
    pixels = np.where((rows / 0.7) ** 2 + (columns / 0.8) ** 2 < 1, 140, 0)
    for side in (-0.4, 0.4):
        pixels[(rows / 0.45) ** 2 + ((columns - side) / 0.25) ** 2 < 1] = 40
    return pixels.astype(np.uint8)


def traits_of(picture: Image.Image) -> dict[str, float]:
    grey = np.asarray(picture.convert("L"))
    return foreign_traits(encode(picture), grey, body_mask(grey))


def test_attributes_are_those_of_the_file() -> None:
    picture = Image.new("RGBA", (30, 20))
    content = encode(picture)
    found = file_attributes(content)
    assert (found["width"], found["height"], found["aspect"], found["channels"]) == (30, 20, 1.5, 4)
    assert (found["is_png"], found["is_jpeg"], found["has_alpha"], found["bit_depth"]) == (1, 0, 1, 8)
    assert found["file_bytes"] == len(content)
    assert found["bytes_per_pixel"] == len(content) / 600


@pytest.mark.parametrize(
    ("mode", "form", "expected"),
    [
        ("L", "JPEG", {"is_jpeg": 1, "channels": 1}),
        ("I;16", "PNG", {"bit_depth": 16, "is_png": 1}),
        ("1", "PNG", {"bit_depth": 1}),
        ("P", "PNG", {"has_palette": 1}),
        ("RGB", "BMP", {"is_bmp": 1, "channels": 3}),
        ("L", "TIFF", {"is_tiff": 1}),
    ],
)
def test_attributes_of_each_format(mode: str, form: str, expected: dict[str, float]) -> None:
    found = file_attributes(encode(Image.new(mode, (8, 8)), form))
    assert expected.items() <= found.items()
    assert found.keys() == file_attributes(encode(Image.new("L", (4, 4)))).keys()


def test_attributes_of_a_dicom_file(tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    write_dicom(
        path, np.zeros((12, 16), np.int16), window=WINDOWS["lung"], spacing_mm=1.0, patient_id="p", study="1",
        series="2", instance_number=1,
    )  # fmt: skip
    found = file_attributes(path.read_bytes())
    assert (found["width"], found["height"], found["is_dicom"], found["bit_depth"]) == (16, 12, 1, 16)


def test_grey_statistics_agree_with_numpy_and_scipy() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (37, 41), dtype=np.uint8)
    pixels[:5], pixels[5:8] = 0, 255
    found = grey_statistics(pixels)
    assert len(found) == 12
    assert found["mean"] == pytest.approx(pixels.mean(), abs=1e-9)
    assert found["sd"] == pytest.approx(pixels.std(), abs=1e-9)
    for percent in (1, 5, 25, 50, 75, 95, 99):
        assert found[f"p{percent:02}"] == np.percentile(pixels, percent, method="inverted_cdf")
    assert found["black_share"] == (pixels == 0).mean()
    assert found["white_share"] == (pixels == 255).mean()
    assert found["entropy"] == pytest.approx(stats.entropy(np.bincount(pixels.ravel()), base=2), abs=1e-9)


def test_grey_statistics_of_one_grey() -> None:
    found = grey_statistics(np.full((4, 4), 9, np.uint8))
    assert (found["mean"], found["sd"], found["entropy"], found["p01"], found["p99"]) == (9, 0, 0, 9, 9)


def test_border_statistics_by_hand() -> None:
    """A 10 x 8 picture with a body of 4 x 4 at row 2, column 1; a bright row right below it, and nothing else."""
    pixels, mask = np.zeros((10, 8), np.uint8), np.zeros((10, 8), bool)
    mask[2:6, 1:5] = True
    pixels[mask] = 100
    pixels[6] = 50
    found = border_statistics(pixels, mask)
    assert found["outside_share"] == 64 / 80
    assert found["outside_mean"] == pytest.approx(8 * 50 / 64)
    assert found["outside_sd"] == pytest.approx(pixels[~mask].std())
    assert found["outside_lit"] == 8 / 64
    assert (found["margin_above"], found["margin_below"]) == (2 / 10, 4 / 10)
    assert (found["margin_left"], found["margin_right"]) == (1 / 8, 3 / 8)
    # Columns 1 to 4 have 2 rows above and 4 below the body; the other four are outside over all their 10 rows.
    assert found["lit_above"] == pytest.approx(4 / (4 * 2 + 4 * 10))
    assert found["lit_below"] == pytest.approx(8 / (4 * 4 + 4 * 10))


def test_a_plain_slice_holds_nothing_foreign(plain: np.ndarray) -> None:
    found = traits_of(Image.fromarray(plain))
    for key in ("coloured_share", "box_score", "stroke_length", "letters", "frame_share"):
        assert found[key] == 0, key
    assert found["body_found"] == 1
    assert (found["dark_level"], found["bright_level"]) == (40, 140)
    assert found["dark_share"] == pytest.approx((plain == 40).sum() / (plain > 0).sum(), abs=0.01)


def test_coloured_ink_and_box_are_found(plain: np.ndarray) -> None:
    picture = Image.fromarray(plain).convert("RGB")
    ImageDraw.Draw(picture).rectangle((80, 90, 120, 130), outline=(0, 255, 0))
    found = traits_of(picture)
    assert found["coloured_share"] == pytest.approx(160 / plain.size)
    assert found["box_score"] == 1.0
    grey = np.asarray(picture.convert("L"))
    assert foreign_traits(encode(picture), grey, body_mask(grey), coloured=False)["coloured_share"] == 0


def test_a_coloured_blob_is_no_box(plain: np.ndarray) -> None:
    picture = Image.fromarray(plain).convert("RGB")
    ImageDraw.Draw(picture).rectangle((80, 90, 120, 130), fill=(0, 255, 0))
    found = traits_of(picture)
    assert found["coloured_share"] > 0
    assert found["box_score"] == 0


def test_a_drawn_stroke_is_found_and_measured(plain: np.ndarray) -> None:
    picture = Image.fromarray(plain)
    ImageDraw.Draw(picture).line((60, 128, 240, 128), fill=0, width=2)
    assert traits_of(picture)["stroke_length"] == pytest.approx(181 / 256, abs=0.02)


def test_a_watermark_in_the_air_is_counted(plain: np.ndarray) -> None:
    picture = Image.fromarray(np.pad(plain, ((60, 60), (0, 0))))
    draw = ImageDraw.Draw(picture)
    draw.text((20, 20), "STOCK IMAGE LIBRARY", fill=90)
    draw.text((20, 340), "PREVIEW ONLY", fill=90)
    assert traits_of(picture)["letters"] >= 10


def test_a_white_frame_is_found(plain: np.ndarray) -> None:
    found = traits_of(Image.fromarray(np.pad(plain, 6, constant_values=255)))
    assert found["frame_share"] == 1.0


def test_every_value_is_finite_on_degenerate_pictures() -> None:
    for pixels in (np.zeros((1, 1), np.uint8), np.full((5, 300), 255, np.uint8), np.eye(40, dtype=np.uint8) * 255):
        mask = body_mask(pixels)
        content = encode(Image.fromarray(pixels))
        for found in (grey_statistics(pixels), border_statistics(pixels, mask), foreign_traits(content, pixels, mask)):
            assert all(np.isfinite(value) for value in found.values())


def test_colours_are_given_only_where_there_are_channels() -> None:
    assert colour_picture(encode(Image.new("L", (4, 4)))) is None
    colours = colour_picture(encode(Image.new("RGB", (3, 2), (1, 2, 3))))
    assert colours is not None
    assert colours.shape == (2, 3, 3) and (colours == [1, 2, 3]).all()
