"""Windows: the LINEAR function of DICOM PS3.3 C.11.2.1.2.1, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ct_xception.errors import InputError
from ct_xception.imaging.windows import WINDOWS, Window, apply_window, parse_window


def test_lung_window_by_hand() -> None:
    # -600/1500 runs from -1350 to 149: (x + 1350) / 1499 * 255
    values = np.array([[-3000.0, -1350, -1000, -600.5, 0, 149, 3000]])
    assert apply_window(values, WINDOWS["lung"]).tolist() == [[0, 0, 60, 128, 230, 255, 255]]


def test_full_range_of_8_bits_is_the_identity() -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(apply_window(values, Window(128, 256)), values)


def test_width_one_is_a_threshold() -> None:
    # PS3.3 C.11.2.1.2.1, note 3: the width may be 1, and the function is then a step at the centre - 0.5.
    values = np.array([[39.0, 39.5, 39.6, 40]])
    assert apply_window(values, Window(40, 1)).tolist() == [[0, 0, 255, 255]]


def test_nan_and_infinity() -> None:
    values = np.array([[np.nan, np.inf, -np.inf]])
    assert apply_window(values, Window(40, 400)).tolist() == [[0, 255, 0]]


def test_unsigned_values_do_not_wrap() -> None:
    assert apply_window(np.array([[0, 65535]], dtype=np.uint16), Window(-600, 1500)).tolist() == [[230, 255]]


@given(
    values=hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)),
    centre=st.floats(-5000, 5000),
    width=st.floats(1, 1e5),
)
def test_windowing_is_monotonic(values: np.ndarray, centre: float, width: float) -> None:
    grey = apply_window(values, Window(centre, width)).ravel()
    order = values.ravel().argsort()
    assert grey.dtype == np.uint8
    assert (np.diff(grey[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("text, expected", [("lung", (-600, 1500)), (" Bone ", (400, 1800)), ("40/400", (40, 400)),
                                            ("-600.5/1e3", (-600.5, 1000))])  # fmt: skip
def test_parse_window(text: str, expected: tuple[float, float]) -> None:
    window = parse_window(text)
    assert (window.centre, window.width) == expected


@pytest.mark.parametrize("text", ["", "liver", "40", "40/", "/400", "40/400/1", "a/b", "40/0", "40/-5", "nan/400",
                                  "inf/400", "40/nan", "1e308/400", "40/1e308"])  # fmt: skip
def test_parse_window_refuses(text: str) -> None:
    with pytest.raises(InputError, match="CENTRE/WIDTH"):
        parse_window(text)


def test_window_prints_as_it_is_parsed() -> None:
    assert parse_window(str(Window(-600, 1500))) == WINDOWS["lung"]
    assert not math.isnan(WINDOWS["bone"].low)
