"""Kept slices: the same pixels, a name of their own, no more memory than allowed, nothing kept outside the block."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from ct_xception.errors import SliceError
from ct_xception.imaging.decoded import decoding_version, keep_decoded
from ct_xception.imaging.decoders import decode
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    read = decode.read_picture

    def counted(stream, label, **options):
        names.append(label)
        return read(stream, label, **options)

    monkeypatch.setattr(decode, "read_picture", counted)
    return names


def test_a_file_is_decoded_once_in_the_block(sample_slices: list[Path], decodes: list[str]) -> None:
    path = sample_slices[0]
    plain = read_slice(path)
    with keep_decoded(), keep_decoded():  # the inner one is the outer
        found = [read_slice(path), read_slice(path.read_bytes(), name="b"), read_slice(io.BytesIO(path.read_bytes()))]
        assert decodes == [str(path)] * 2
        assert [one.source for one in found[:2]] == [str(path), "b"]
        assert all(np.array_equal(one.pixels, plain.pixels) and one.notes == plain.notes for one in found)
        with pytest.raises(ValueError, match="read-only"):
            found[0].pixels[0, 0] = 1
        read_slice(path, window=Window(40, 400))
        assert len(decodes) == 3
    read_slice(path)
    assert len(decodes) == 4


def test_a_refusal_is_kept_with_the_name_that_is_asked_for(decodes: list[str]) -> None:
    with keep_decoded():
        for name in ("a.png", "b.png"):
            with pytest.raises(SliceError, match=f"^{name}: "):
                read_slice(b"\x89PNG\r\n\x1a\nno picture", name=name)
    assert len(decodes) == 1


def test_what_does_not_fit_is_read_again(sample_slices: list[Path], decodes: list[str]) -> None:
    with keep_decoded(limit=96 * 112 + 1024):
        for path in (*sample_slices[:2], *sample_slices[:2]):
            read_slice(path)
    assert decodes == [str(sample_slices[index]) for index in (0, 1, 1)]


def test_the_version_is_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = decoding_version()
    assert len(before) == 16 and int(before, 16)
    from ct_xception.imaging import decoded

    (tmp_path / "decoded.py").write_text("another")
    monkeypatch.setattr(decoded, "__file__", str(tmp_path / "decoded.py"))
    decoding_version.cache_clear()
    try:
        assert decoding_version() != before
    finally:
        decoding_version.cache_clear()
