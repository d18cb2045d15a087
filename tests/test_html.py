"""Pages that stand alone: pictures inside, everything escaped, nothing fetched."""

from __future__ import annotations

import base64
import io

import jinja2
import numpy as np
import pytest
from PIL import Image

from ct_xception.html import image_uri, render_page


def decode(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_small_picture_keeps_its_greys() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    image = decode(image_uri(pixels))
    assert (image.format, image.size) == ("PNG", (30, 20))
    assert (np.asarray(image) == pixels).all()


def test_a_large_picture_is_shrunk_to_the_width_and_keeps_its_shape_and_colour() -> None:
    image = decode(image_uri(np.full((400, 800, 3), (200, 30, 30), np.uint8), 200))
    assert (image.format, image.size, image.mode) == ("JPEG", (200, 100), "RGB")
    assert np.abs(np.asarray(image, dtype=int) - (200, 30, 30)).max() <= 4


def test_a_picture_is_never_enlarged() -> None:
    assert decode(image_uri(Image.new("L", (50, 40)), 200)).size == (50, 40)


def test_slots_are_escaped_and_the_style_is_inside() -> None:
    page = render_page("A & B", "<p>{{ name }}</p>", name="<script>alert(1)</script>")
    assert "<title>A &amp; B</title>" in page
    assert "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>" in page
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_slot_that_was_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_page("t", "{{ name }}")


def test_thousands() -> None:
    assert "1,234" in render_page("t", "{{ n|thousands }}", n=1234)
