"""Strokes, boxes and letters: drawn ones are seen, and what anatomy, clothes and lungs in white flesh show is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from ct_xception.audit.marks.letters import count_letters, glyphs
from ct_xception.audit.marks.strokes import best_box, longest_stroke
from ct_xception.audit.traits import foreign_traits
from ct_xception.imaging.body.crop import body_mask

MONO = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf")  # not the face that letters are held against


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """A body of grey 140 and some noise, 260 px wide, with two lungs of grey 40, in black air of 330 x 300 pixels."""
    rows, columns = np.mgrid[-1:1:300j, -1:1:330j]
    pixels = np.where((rows / 0.6) ** 2 + (columns / 0.75) ** 2 < 1, 140.0, 0.0)
    for side in (-0.36, 0.36):
        pixels[(rows / 0.4) ** 2 + ((columns - side) / 0.22) ** 2 < 1] = 40
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise * (pixels > 0), 0, 255).astype(np.uint8)


def drawn(plain: np.ndarray, what: str, *args: object, **options: object) -> np.ndarray:
    picture = Image.fromarray(plain)
    getattr(ImageDraw.Draw(picture), what)(*args, **options)
    return np.asarray(picture)


def stroke_of(pixels: np.ndarray) -> float:
    body = body_mask(pixels)
    return longest_stroke(pixels, body, np.ones_like(body), None)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("ends", [(70, 150, 260, 150), (80, 110, 200, 190), (165, 80, 165, 220)])
def test_a_ruled_line_is_a_stroke_of_its_length(plain: np.ndarray, ends: tuple[int, ...], level: int) -> None:
    length = np.hypot(ends[2] - ends[0], ends[3] - ends[1]) / 300
    assert stroke_of(drawn(plain, "line", ends, fill=level, width=3)) == pytest.approx(length, rel=0.1)


def test_a_sliver_that_tapers_and_an_arc_are_no_strokes(plain: np.ndarray) -> None:
    sliver = drawn(plain, "polygon", [(90, 178), (165, 172), (240, 178), (165, 180)], fill=0)
    blanket = drawn(plain, "arc", (20, 20, 310, 280), 200, 340, fill=255, width=2)
    assert stroke_of(sliver) == 0
    assert stroke_of(blanket) == 0


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("corners", [(100, 120, 150, 170), (110, 130, 220, 150)])
def test_a_box_is_seen_and_a_full_one_is_not(plain: np.ndarray, corners: tuple[int, ...], level: int) -> None:
    body = body_mask(plain)
    assert best_box(drawn(plain, "rectangle", corners, outline=level, width=2), body, None) == 1.0
    assert best_box(drawn(plain, "rectangle", corners, fill=level), body, None) == 0


def test_a_picture_cut_to_lungs_in_white_flesh_has_no_box() -> None:
    """Of 33 boxes that an earlier rule saw in a corpus of such pictures, none was one."""
    rows, columns = np.mgrid[-1:1:220j, -1:1:300j]
    pixels = np.full(rows.shape, 255, np.uint8)
    for side in (-0.47, 0.47):
        pixels[(rows / 0.9) ** 2 + ((columns - side) / 0.4) ** 2 < 1] = 70
    every = np.ones(pixels.shape, bool)
    assert best_box(pixels, every, None) == 0
    assert longest_stroke(pixels, every, ~every, None) == 0


def test_faint_colour_of_a_jpeg_is_no_stroke_and_ink_is(plain: np.ndarray) -> None:
    colours = np.repeat(plain[..., None], 3, axis=2)
    for step, expected in ((20, 0.0), (90, 0.5)):
        tinted = colours.copy()
        tinted[150:153, 90:240, 0] = np.minimum(tinted[150:153, 90:240, 0].astype(int) + step, 255)
        buffer = io.BytesIO()
        Image.fromarray(tinted).save(buffer, "PNG")
        grey = np.asarray(Image.fromarray(tinted).convert("L"))
        found = foreign_traits(buffer.getvalue(), grey, body_mask(plain))
        assert found["coloured_share"] > 0
        assert found["stroke_length"] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("text", ["B2", "512x512", "kV 120", "DOE JOHN 12M", "2019-03-14", "R"])
@pytest.mark.parametrize(("size", "level"), [(20, 255), (22, 120)])
def test_letters_beside_the_body_are_seen(plain: np.ndarray, text: str, size: int, level: int) -> None:
    font = ImageFont.truetype(MONO, size)
    pixels = drawn(plain, "text", (8, 6), text, fill=level, font=font)
    letters = [letter for letter in text if letter != " "]
    assert 1 <= count_letters(pixels, body_mask(plain)) <= len(letters)


def test_letters_are_seen_where_no_body_is_found() -> None:
    """Bones alone, as in a narrow window: what lies among them is no letter."""
    pixels = np.zeros((300, 300), np.uint8)
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        x, y = 150 + 90 * np.cos(angle), 160 + 70 * np.sin(angle)
        ImageDraw.Draw(picture := Image.fromarray(pixels)).ellipse((x - 12, y - 5, x + 12, y + 5), fill=255)
        pixels = np.asarray(picture)
    nothing = np.ones(pixels.shape, bool)
    among = drawn(pixels, "text", (140, 150), "HFS 30", fill=255, font=ImageFont.truetype(MONO, 14))
    beside = drawn(pixels, "text", (8, 8), "HFS 30", fill=255, font=ImageFont.truetype(MONO, 14))
    assert count_letters(pixels, nothing) == 0
    assert count_letters(among, nothing) == 0
    assert count_letters(beside, nothing) >= 2


def test_grain_dots_and_bars_are_no_letters(plain: np.ndarray) -> None:
    body = body_mask(plain)
    rng = np.random.default_rng(1)
    foam = np.where(~body & (np.arange(300)[:, None] > 250), rng.integers(0, 60, plain.shape), plain).astype(np.uint8)
    dots = drawn(drawn(plain, "ellipse", (10, 10, 20, 20), fill=255), "line", (300, 20, 300, 44), fill=200, width=2)
    assert count_letters(plain, body) == count_letters(foam, body) == count_letters(dots, body) == 0


def test_glyphs_are_of_length_one_and_none_is_another() -> None:
    likeness = glyphs() @ glyphs().T
    assert np.diag(likeness) == pytest.approx(1.0, abs=1e-5)
    assert (likeness - np.eye(len(likeness))).max() < 0.97
