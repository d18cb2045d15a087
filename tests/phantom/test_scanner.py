"""The raster, its averaging and the kernel, against numbers worked out by hand."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ct_xception.phantom.scanner import Frame, Layer, Scan, average_down, expose, mottle, png_bytes, soften


def test_millimetres_become_raster_cells():
    frame = Frame(size=100, field_of_view=200.0, shift=(10.0, 0.0))
    # one mm is one raster cell (2 x 100 cells over 200 mm); the middle of the body lies 10 mm right of the middle
    assert frame.cells(np.array([[0.0, 0.0], [5.0, -5.0]])).tolist() == [[110.0, 100.0], [115.0, 95.0]]


def test_a_quarter_turn_takes_x_to_y():
    cells = Frame(size=100, field_of_view=200.0, turn=90.0).cells(np.array([[10.0, 0.0]]))
    np.testing.assert_allclose(cells, [[100.0, 110.0]], atol=1e-9)


def test_a_filled_square_has_its_area():
    layer = Layer(Frame(size=50, field_of_view=100.0), -1000.0)
    layer.fill(np.array([[-20.0, -20.0], [20.0, -20.0], [20.0, 20.0], [-20.0, 20.0]]), 50.0)
    inside = (layer.array() == 50.0).mean()
    assert abs(inside - 0.16) < 0.01  # 40 mm of 100 mm, squared
    assert set(np.unique(layer.array())) == {-1000.0, 50.0}


def test_averaging_is_the_partial_volume():
    raster = np.array([[0, 100, 8, 8], [200, 100, 8, 8]], np.float32)
    np.testing.assert_array_equal(average_down(raster), [[100.0, 8.0]])


def test_softening_keeps_the_sum_of_an_inner_point():
    image = np.zeros((5, 5), np.float32)
    image[2, 2] = 16.0
    np.testing.assert_array_equal(soften(image)[1:4, 1:4], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


def test_air_has_no_noise_and_tissue_has_the_scans():
    raster = np.full((128, 128), -1000.0, np.float32)
    raster[:, 64:] = 40.0
    scan = Scan(noise=20.0, sharpness=0.3)
    hu = expose(raster, np.zeros((64, 64), np.float32), scan, np.random.default_rng(0))
    assert hu.dtype == np.float32 and hu.shape == (64, 64)
    assert np.all(hu[:, :30] == -1000.0)
    assert 18.0 < hu[:, 34:].std() < 22.0
    assert abs(hu[:, 34:].mean() - 40.0) < 1.5


def test_mottle_is_smooth():
    field = mottle(64, 8, np.random.default_rng(0))
    assert field.shape == (64, 64)
    assert np.abs(np.diff(field, axis=0)).mean() < 0.35 * field.std()


def test_png_round_trip():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)
