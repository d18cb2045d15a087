"""The overlay's pixels by hand, and a figure that says what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from ct_xception.errors import InputError
from ct_xception.explain.explain import Attribution
from ct_xception.explain.overlay import draw_figure, overlay, palette, save_figure
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.text import RESEARCH_USE

GREY = Slice(np.array([[0, 100, 255]], np.uint8), "scan.dcm", 16, True, Window(-600, 1500))


def test_where_there_is_no_evidence_the_slice_stays_as_it_is() -> None:
    picture = np.asarray(overlay(GREY, np.zeros((1, 3)), opacity=1))
    assert np.array_equal(picture, np.repeat(GREY.pixels[..., None], 3, axis=2))


def test_strong_evidence_has_the_full_opacity() -> None:
    heat = np.ones((1, 3))
    strongest = palette()[255].astype(int)
    assert np.array_equal(np.asarray(overlay(GREY, heat, opacity=1))[0], np.tile(strongest, (3, 1)))
    half = np.asarray(overlay(GREY, heat, opacity=0.5)).astype(int)[0]
    assert np.abs(half - (GREY.pixels[0][:, None] + strongest) / 2).max() <= 1
    assert np.array_equal(np.asarray(overlay(GREY, heat, opacity=0)), np.repeat(GREY.pixels[..., None], 3, axis=2))


def test_colours_rise_in_lightness_throughout() -> None:
    lightness = palette().astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -1).all() and lightness[-1] - lightness[0] > 150


def test_a_map_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the map is \(2, 3\), the slice \(1, 3\)"):
        overlay(GREY, np.zeros((2, 3)))


def attribution(strength: float = 0.4) -> Attribution:
    heat = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64) * (strength > 0)
    return Attribution(heat, "squamous cell carcinoma", "gradcam", strength, heat)


def big_slice() -> Slice:
    pixels = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    return Slice(pixels, "folder/scan $x$ co.dcm", 16, True, Window(-600, 1500))


def test_a_figure_names_class_probability_window_and_its_limits(tmp_path: Path) -> None:
    save_figure(tmp_path / "why.svg", big_slice(), attribution(), probability=0.9724)
    text = (tmp_path / "why.svg").read_text()
    shown = ("squamous cell carcinoma, 97.2 %", "Grad-CAM", "window -600/1500 HU", "scan $x$ co.dcm", RESEARCH_USE)
    for words in shown:
        assert words in text, words
    assert list(tmp_path.iterdir()) == [tmp_path / "why.svg"]


@pytest.mark.parametrize("shape", [(48, 64), (64, 32), (16, 128)])
def test_nothing_of_a_figure_is_cut_off(shape: tuple[int, int]) -> None:
    slice_ = Slice(np.zeros(shape, np.uint8), "long name " * 20 + ".dcm", 8, False, None)
    empty = np.zeros(shape, np.float32)
    heat = Attribution(empty, "large cell carcinoma", "gradcam", 0.0, empty)
    figure = draw_figure(slice_, heat, probability=0.5)
    FigureCanvasAgg(figure).draw()
    inside = figure.get_tightbbox()
    assert inside.x0 >= 0 and inside.y0 >= 0
    assert inside.x1 <= figure.get_figwidth() and inside.y1 <= figure.get_figheight()
    assert RESEARCH_USE in [text.get_text() for text in figure.findobj(Text)]


def test_a_png_holds_both_pictures_on_white(tmp_path: Path) -> None:
    save_figure(tmp_path / "why.png", big_slice(), attribution(), probability=0.9)
    picture = np.asarray(Image.open(tmp_path / "why.png").convert("RGB")).astype(int)
    assert picture.shape[1] > picture.shape[0] > 500
    assert (picture[0] == 255).all()
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 60).mean(axis=0)
    left, right = coloured[: len(coloured) // 3], coloured[len(coloured) // 3 :]
    assert left.max() == 0 and right.max() > 0.2


def test_an_empty_map_says_so(tmp_path: Path) -> None:
    save_figure(tmp_path / "why.svg", big_slice(), attribution(strength=0), probability=0.1)
    assert "nothing here speaks for this class" in (tmp_path / "why.svg").read_text()


@pytest.mark.parametrize(("name", "opacity", "words"), [("why.gif", 0.5, "end in one of .png"), ("a.png", 2, "0 to 1")])
def test_a_figure_that_cannot_be_drawn_is_refused(tmp_path: Path, name: str, opacity: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        save_figure(tmp_path / name, big_slice(), attribution(), probability=0.5, opacity=opacity)
    assert not list(tmp_path.iterdir())
