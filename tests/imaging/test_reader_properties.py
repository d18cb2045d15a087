"""Properties of the reader: damage never gets past SliceError, and the same pixels read the same however stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ct_xception.errors import SliceError
from ct_xception.imaging.reader import read_place, read_slice
from ct_xception.imaging.slice import Slice, doubts_in
from ct_xception.imaging.windows import Window
from tests.imaging.builders import ct, encode, tiff
from tests.imaging.hostile import noise, seeds

SEEDS: list[bytes] = list(seeds(noise(24)).values())
LARGE = seeds(noise(128))
WINDOW = Window(1000, 2400)


def slice_or_refusal(source: bytes, **options: Any) -> Slice | None:
    try:
        read_place(source)
    except SliceError:
        pass
    try:
        return read_slice(source, **options)
    except SliceError as error:
        assert error.found and error.remedy and str(error).isprintable()
        return None


def test_the_seeds_are_read() -> None:
    assert len(SEEDS) >= 20
    assert all(slice_or_refusal(seed, frame=0) is not None for seed in SEEDS)


@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    near_start=st.booleans(),
    length=st.none() | st.floats(0, 1),
    frame=st.none() | st.integers(0, 2),
)
@settings(deadline=4000, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_damage_gives_a_slice_or_a_refusal(
    seed: bytes, flips: list[tuple[float, int]], near_start: bool, length: float | None, frame: int | None
) -> None:
    damaged = bytearray(seed)
    reach = min(len(damaged), 700) if near_start else len(damaged)
    for place, value in flips:
        damaged[min(int(place * reach), len(damaged) - 1)] = value
    slice_or_refusal(bytes(damaged if length is None else damaged[: int(length * len(damaged))]), frame=frame)


@given(
    seed=st.sampled_from(SEEDS),
    number=st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]),
    place=st.integers(0, 600),
    order=st.sampled_from(["little", "big"]),
)
@settings(deadline=4000, max_examples=300)
def test_headers_that_lie_give_a_slice_or_a_refusal(seed: bytes, number: int, place: int, order: Any) -> None:
    width = 2 if number <= 0xFFFF else 4
    place %= len(seed)
    slice_or_refusal(seed[:place] + number.to_bytes(width, order) + seed[place + width :], frame=0)


@pytest.mark.parametrize("damage", [b"\0.2.840", b"1.2\x01840", b"1.2.8\x7f0", b"1\xff\xff\xff\x7f40", b"\x1b[2J840"])
def test_a_sentence_shows_no_control_character_of_the_file(damage: bytes) -> None:
    for seed in SEEDS:
        assert seed[128:132] != b"DICM" or slice_or_refusal(seed.replace(b"1.2.840", damage), frame=0) is None
        slice_or_refusal(seed.replace(b"MONOCHROME2", damage.ljust(11)), frame=0)
        slice_or_refusal(seed.replace(b"CS\x02\x00CT", b"CS\x02\x00" + damage[:2]), frame=0)


@given(keep=st.floats(0.3, 0.97), seed=st.sampled_from(SEEDS))
@settings(deadline=4000, max_examples=150)
def test_truncation_never_passes(keep: float, seed: bytes) -> None:
    whole = slice_or_refusal(seed, frame=0)
    cut = slice_or_refusal(seed[: int(keep * len(seed))], frame=0)
    assert whole is not None
    assert cut is None or np.array_equal(cut.pixels, whole.pixels)  # what was lost was not of this frame


@pytest.mark.parametrize("name", sorted(set(LARGE) - {"pages.tif", "frames.dcm", "moving.png"}))
@given(start=st.floats(0.3, 0.7), share=st.floats(0.1, 0.3))
@settings(deadline=None, max_examples=25)
def test_a_blank_stretch_is_refused_or_told(name: str, start: float, share: float) -> None:
    """Pixels that a disk or a transfer lost, in the middle of the file, whatever its format."""
    content = bytearray(LARGE[name])
    first, last = int(start * len(content)), int((start + share) * len(content))
    content[first:last] = bytes(last - first)
    read = slice_or_refusal(bytes(content), window=Window(-600, 1500))
    assert read is None or doubts_in(read.notes)


deep = arrays(np.uint16, (9, 7), elements=st.integers(0, 4000))


@given(deep)
@settings(deadline=None, max_examples=40)
def test_one_array_reads_the_same_however_stored(values: np.ndarray) -> None:
    def pixels(content: bytes) -> np.ndarray | None:
        read = slice_or_refusal(content, window=WINDOW)
        return None if read is None else read.pixels

    expected = pixels(ct(values, RescaleIntercept=None, RescaleSlope=None))
    for other in (encode(Image.fromarray(values)), tiff(values), encode(Image.fromarray(values), "TIFF")):
        assert np.array_equal(pixels(other), expected) if expected is not None else pixels(other) is None


@given(deep)
@settings(deadline=None, max_examples=40)
def test_complement_and_refactored_rescale(values: np.ndarray) -> None:
    signed = values.astype(np.int16)
    plain = read_slice(ct(signed), window=WINDOW).pixels
    for other in (
        ct(signed * 2, RescaleSlope=0.5),
        ct(signed + 1000, RescaleIntercept=-2024),
        ct(signed, RescaleSlope="1.0", RescaleIntercept="-1024.0"),
    ):
        assert np.array_equal(read_slice(other, window=WINDOW).pixels, plain)
    # A complement about the window's middle, MONOCHROME1, shows the same picture, to the rounding of halves.
    mirrored = ct(2 * 1000 - 1 + 2 * 1024 - signed, PhotometricInterpretation="MONOCHROME1")
    turned = read_slice(mirrored, window=WINDOW).pixels
    assert np.abs(turned.astype(int) - plain).max() <= 1


def test_memory_of_a_seed_is_not_kept() -> None:
    stream = io.BytesIO(SEEDS[0])
    read_slice(stream)
    assert stream.tell() > 0 and not stream.closed
