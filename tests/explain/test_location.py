"""Grounds of drawn slices, and the sentence about a map that lies where no evidence can come from."""

from __future__ import annotations

import numpy as np
import pytest

from ct_xception.explain.location import find_grounds, ground_shares, ground_warning, seen_mask
from ct_xception.explain.placement import Region
from ct_xception.imaging.body.crop import Box, body_mask
from ct_xception.imaging.body.lungs import lung_mask


def drawn_slice() -> np.ndarray:
    """An oval body with two lungs, a table below it, a drawn box in it and a letter beside it: (200, 240) uint8."""
    rows, columns = np.mgrid[:200, :240]
    pixels = np.where(((rows - 90) / 65) ** 2 + ((columns - 120) / 95) ** 2 < 1, 140, 0).astype(np.uint8)
    for centre in (75, 165):
        pixels[((rows - 90) / 40) ** 2 + ((columns - centre) / 28) ** 2 < 1] = 20
    pixels[172:176, 40:200] = 90
    pixels[60:110, 60] = pixels[60:110, 95] = 255
    pixels[60, 60:96] = pixels[110, 60:96] = 255
    pixels[20:30, 10:14] = 230
    return pixels


@pytest.fixture(scope="module")
def grounds() -> dict[str, np.ndarray]:
    return find_grounds(drawn_slice())


def test_grounds_cover_every_pixel_once(grounds: dict[str, np.ndarray]) -> None:
    assert (sum(mask.astype(int) for mask in grounds.values()) == 1).all()


def test_each_ground_is_where_it_was_drawn(grounds: dict[str, np.ndarray]) -> None:
    assert grounds["lungs"][90, 165] and grounds["lungs"][90, 75] and not grounds["lungs"][90, 120]
    assert grounds["body"][90, 120] and grounds["body"][40, 120]
    assert grounds["table"][173:175, 60:180].all()
    assert grounds["ink"][60, 65:90].all() and grounds["ink"][70:100, 60].all() and grounds["ink"][24, 11]
    assert grounds["border"][0].all() and grounds["outside"][50, 20]


def test_lungs_hold_what_lies_in_them_and_a_slice_without_any_has_none() -> None:
    pixels = drawn_slice()
    pixels[80:100, 158:172] = 140  # a mass
    lungs = lung_mask(pixels, body_mask(pixels))
    assert lungs[80:100, 158:172].all()
    solid = np.where(body_mask(pixels), np.uint8(140), np.uint8(0))
    assert not lung_mask(solid, body_mask(solid)).any()
    assert not lung_mask(pixels, np.ones(pixels.shape, dtype=bool)).any()


def shares_of(grounds: dict[str, np.ndarray], where: str, share: float) -> dict[str, object]:
    """Shares of a map with `share` of its mass on one ground, the rest in the body, and something against the class."""
    heat = np.zeros((200, 240))
    heat[grounds[where]] = share / grounds[where].sum()
    heat[grounds["body"]] += (1 - share) / grounds["body"].sum()
    heat[grounds["lungs"]] -= 5.0 if where != "lungs" else 0.0
    return ground_shares(heat, grounds, np.ones((200, 240), dtype=bool))


def test_shares_are_those_of_the_positive_mass(grounds: dict[str, np.ndarray]) -> None:
    shares = shares_of(grounds, "lungs", 0.3)
    assert shares["inside_lungs"].share == pytest.approx(0.3) and shares["inside_body"].share == pytest.approx(1)
    assert shares["inside_lungs"].gain == pytest.approx(0.3 / grounds["lungs"].mean())
    assert shares_of(grounds, "table", 0.4)["table"].share == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("where", "share", "words"),
    [
        ("table", 0.6, "60 % of this map lies on the scanner's table"),
        ("ink", 0.2, "20 % of this map lies on lines or letters drawn into the picture"),
        ("outside", 0.8, "80 % of this map lies on the air outside the body"),
        ("border", 0.9, "90 % of this map lies on the border of the picture"),
        ("table", 0.1, None),
        ("ink", 0.05, None),
        ("lungs", 0.9, None),
    ],
)
def test_a_map_on_foreign_ground_is_warned_of(
    grounds: dict[str, np.ndarray], where: str, share: float, words: str | None
) -> None:
    warning = ground_warning(shares_of(grounds, where, share))
    assert (warning is None) if words is None else (warning is not None and warning.startswith(words))


def test_only_what_the_network_was_shown_counts_as_area() -> None:
    seen = seen_mask(Region(10, -5, 30, 40), Box(5, 0, 25, 20), (50, 60))
    assert seen[10:25, :20].all() and seen.sum() == 15 * 20
