"""Where files stand in their series: hand-made orientations, frames and pages, and nothing decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ct_xception.errors import SliceError
from ct_xception.imaging.position import Place
from ct_xception.imaging.reader import read_place
from tests.imaging.builders import ct, encode

STORED = np.zeros((4, 6), np.uint16)


def test_an_axial_slice_lies_at_its_z() -> None:
    orientation = [1, 0, 0, 0, 1, 0]
    content = ct(
        STORED, ImagePositionPatient=[-10, -20, 37.5], ImageOrientationPatient=orientation, SliceThickness="2.5"
    )
    assert read_place(content) == Place(1, 37.5, (0.0, 0.0, 1.0), 7, (4, 6), 2.5, "1.2.3.4", patient="P1")


def test_a_tilted_plane_lies_where_its_normal_meets_it() -> None:
    """45 degrees about x: normal (0, -s, s), so y = -2 and z = 4 lie 6 s from the origin."""
    s = 0.5**0.5
    content = ct(STORED, ImagePositionPatient=[3, -2, 4], ImageOrientationPatient=[1, 0, 0, 0, s, s])
    place = read_place(content)
    assert place.position == pytest.approx(6 * s) and place.normal == pytest.approx((0, -s, s), abs=1e-4)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"ImagePositionPatient": [1, 2, 3]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
    ],
)
def test_what_is_not_told_is_none(tags: dict[str, list[float]]) -> None:
    assert read_place(ct(STORED, InstanceNumber=None, SeriesInstanceUID=None, **tags)) == Place(
        size=(4, 6), patient="P1"
    )


def test_frames_and_pages_are_counted() -> None:
    assert read_place(ct(np.zeros((3, 4, 6), np.uint16))).frames == 3
    stream, page = io.BytesIO(), Image.new("L", (5, 4))
    page.save(stream, "TIFF", save_all=True, append_images=[page, page, page])
    assert read_place(stream.getvalue()) == Place(frames=4, size=(4, 5))
    assert read_place(encode(page)) == Place(frames=1, size=(4, 5))


def test_a_file_that_is_no_picture_has_a_place_and_a_missing_one_has_none() -> None:
    assert read_place(b"no picture") == Place()
    with pytest.raises(SliceError, match="no such file"):
        read_place("nowhere.dcm")
