"""The body's outline in pictures of every window, with tables, frames and circles: found whole, or not at all."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.morphology import convex_hull_image

from ct_xception.imaging.body.crop import crop_body
from ct_xception.imaging.body.morphology import convex_area, enclosed, fill_between, grow, largest, opened, wither
from ct_xception.imaging.body.outline import CUT_INSIDE, NOTHING, _lacks_air, find_outline, outline_in_hu
from ct_xception.imaging.body.surroundings import Scene, clear_surroundings
from ct_xception.imaging.shown import judge_window
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import WINDOWS, Window, apply_window
from ct_xception.phantom.corpus import phantom_slice


@pytest.fixture(scope="module")
def chests() -> list[tuple[np.ndarray, np.ndarray]]:
    """Slices in HU and their bodies."""
    drawn = [phantom_slice(np.random.default_rng(seed), "normal", size=256) for seed in (0, 2, 3, 6)]
    return [(image.hu, image.body_mask) for image in drawn]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def as_jpeg(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("window", [*WINDOWS.values(), Window(-700, 100), Window(300, 1500), Window(0, 4000)], ids=str)
def test_a_body_is_found_in_windows_that_show_its_skin(window: Window, chests: list) -> None:
    for hu, body in chests:
        pixels = as_jpeg(apply_window(hu, window))
        mask = find_outline(pixels).mask
        assert mask is not None
        assert overlap(mask, body) > 0.95


@pytest.mark.parametrize("window", [Window(100, 50), Window(600, 600), Window(300, 600), Window(400, 300)], ids=str)
def test_ribs_a_spine_and_muscle_are_no_body(window: Window, chests: list) -> None:
    for hu, body in chests:
        outline = find_outline(as_jpeg(apply_window(hu, window)))
        assert outline.mask is None or overlap(outline.mask, body) > 0.9
        assert (outline.mask is None) == bool(outline.reason)


def test_a_picture_cut_to_the_lungs_shows_no_outline(chests: list) -> None:
    for hu, body in chests:
        rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
        high, wide = len(rows) // 6, len(columns) // 7
        pixels = apply_window(hu, WINDOWS["lung"])[rows[high] : rows[-high], columns[wide] : columns[-wide]]
        crop = crop_body(Slice(pixels, "cut", 8, False, None))
        assert not crop.found and crop.slice.pixels.shape == pixels.shape
        assert any(crop.reason in note for note in crop.slice.notes)


def test_air_around_is_missed_in_words() -> None:
    outline = find_outline(np.random.default_rng(0).integers(150, 200, (100, 120), dtype=np.uint8))
    assert outline.mask is None
    assert outline.reason in (CUT_INSIDE, NOTHING)


def test_the_circle_and_a_frame_are_taken_away(chests: list) -> None:
    hu, body = chests[0]
    pixels = apply_window(hu, WINDOWS["lung"])
    rows, columns = np.mgrid[:256, :256]
    inside = (rows - 127.5) ** 2 + (columns - 127.5) ** 2 < 128**2
    cut = np.where(inside, pixels, np.uint8(0))
    assert clear_surroundings(cut).air == pytest.approx(60, abs=3)  # -1000 HU in the lung window
    cut[[0, 1, -1, -2]], cut[:, [0, 1, -1, -2]] = 255, 255
    mask = find_outline(cut).mask
    assert mask is not None
    assert overlap(mask, body & inside) > 0.95


def test_a_large_picture_has_its_rim_in_full(chests: list) -> None:
    hu, body = chests[1]
    pixels = np.kron(apply_window(hu, WINDOWS["bone"]), np.ones((3, 3), dtype=np.uint8))[:-1]
    mask = find_outline(pixels).mask
    assert mask is not None and mask.shape == pixels.shape
    assert overlap(mask, np.kron(body, np.ones((3, 3), dtype=bool))[:-1]) > 0.97


def test_in_hu_the_table_goes_and_the_lungs_stay(chests: list) -> None:
    for hu, body in chests:
        mask = outline_in_hu(hu)
        assert mask is not None
        assert overlap(mask, body) > 0.97
    assert outline_in_hu(np.full((64, 64), -1000.0)) is None


def test_a_slice_carries_its_body_through_the_crop(chests: list) -> None:
    hu, body = chests[0]
    narrow = Slice(apply_window(hu, Window(600, 100)), "narrow", 16, True, Window(600, 100), body=body)
    crop = crop_body(narrow)
    assert crop.found and crop.slice.body is not None
    assert crop.slice.body.sum() == body.sum()
    assert narrow.replace_pixels(narrow.pixels[:, ::-1]).body is body  # as filters do, which move nothing
    assert narrow.replace_pixels(narrow.pixels[:9]).body is None
    with pytest.raises(TypeError, match="body must be"):
        Slice(narrow.pixels, "x", 8, False, None, body=body[:5])


@pytest.mark.parametrize(
    ("kind", "windows"),
    {
        "lung": [(-600, 1500), (-500, 1400), (-700, 1200)],
        "mediastinal": [(40, 400), (50, 450)],
        "bone": [(400, 1800), (300, 1500), (500, 2000)],
        "wide": [(40, 2500), (0, 3000), (100, 4000)],
        "narrow": [(50, 150), (100, 50), (-700, 100)],
    }.items(),
)
def test_windows_are_judged_by_what_they_show(kind: str, windows: list, chests: list) -> None:
    for centre, width in windows:
        for hu, body in chests:
            pixels = apply_window(hu, Window(centre, width))
            mask = body if kind != "narrow" else np.ones_like(body)
            shown = judge_window(pixels, body if centre == -700 else mask)
            assert shown.kind == kind, (centre, width, shown)


def test_shapes_are_what_scipy_and_skimage_make_of_them() -> None:
    rng = np.random.default_rng(1)
    cross, square = ndimage.generate_binary_structure(2, 1), np.ones((3, 3), dtype=bool)
    for _ in range(20):
        mask = ndimage.gaussian_filter(rng.standard_normal((40, 50)), 2) > 0
        wide = ndimage.binary_dilation(ndimage.binary_dilation(mask, cross), square)
        assert np.array_equal(grow(mask, 2), wide)
        assert np.array_equal(wither(mask, 1), ndimage.binary_erosion(mask, cross, border_value=1))
        assert not (opened(mask, 3) & ~mask).any()
        assert np.array_equal(enclosed(mask, 0), ndimage.binary_fill_holes(mask))
        assert not (enclosed(mask, 0) & ~fill_between(mask)).any()
        part = largest(mask)
        assert part is not None
        assert convex_area(part) == pytest.approx(convex_hull_image(part).sum(), rel=0.06)  # of corners, not middles
    assert largest(np.zeros((4, 4), dtype=bool)) is None


def test_lung_or_flesh_at_the_edge_is_no_air() -> None:
    """What stands out of lung looks whole; but it is cut at three edges, or something is darker than its air."""
    pixels = np.full((100, 100), 60, dtype=np.uint8)
    scene = Scene(pixels, 60, 68.0)
    box = np.zeros((100, 100), dtype=bool)
    box[20:80, 10:90] = True
    three, one = box.copy(), box.copy()
    three[:, :70] = True  # a chest that ends where its right lung begins
    one[:50] = True  # a liver below the upper edge, half a picture above the lower
    darker = Scene(np.where(np.arange(100) < 4, np.uint8(40), pixels), 60, 68.0)
    assert not _lacks_air(scene, box)
    assert _lacks_air(scene, three & ~(np.arange(100) >= 70))
    assert _lacks_air(scene, one & (np.arange(100)[:, None] < 50))
    assert _lacks_air(darker, box)


def test_what_lies_between_is_filled_from_all_four_sides() -> None:
    rng = np.random.default_rng(2)
    seen = np.logical_or.accumulate
    for share in (0, 0.03, 0.1, 0.5):
        mask = rng.random((23, 31)) < share
        sides = (
            seen(mask, axis=0),
            seen(mask[::-1], axis=0)[::-1],
            seen(mask, axis=1),
            seen(mask[:, ::-1], axis=1)[:, ::-1],
        )
        assert np.array_equal(fill_between(mask), np.logical_and.reduce(sides))


def test_a_large_picture_is_looked_at_strip_by_strip_with_the_same_end(
    chests: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    hu, _ = chests[0]
    pixels = np.asarray(Image.fromarray(apply_window(hu, WINDOWS["lung"])).resize((1100, 900)))
    whole = find_outline(pixels).mask
    for rows in (64, 301):
        monkeypatch.setattr("ct_xception.imaging.body.outline.STRIP", rows)
        assert np.array_equal(find_outline(pixels).mask, whole)
    assert whole is not None
