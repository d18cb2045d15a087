"""A slice file is decoded once a run, whatever stages look at it."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pytest

from ct_xception.imaging.decoders import decode
from ct_xception.pipeline.run import main
from tests.pipeline.test_options import BASE

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def test_a_slice_file_is_decoded_once_a_run(
    small_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()
    read = decode.read_picture

    def counted(stream, label, **options):
        decoded[label.removeprefix(f"{small_phantom}/")] += 1
        return read(stream, label, **options)

    monkeypatch.setattr(decode, "read_picture", counted)
    words = [*shlex.split(BASE), "--corpus", str(small_phantom), "--audit", "--explained", "2"]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == 0
    slices = {str(path.relative_to(small_phantom)) for path in small_phantom.glob("t*/*/*.png")}
    slices |= {str(path.relative_to(small_phantom)) for path in small_phantom.glob("valid/*/*.png")}
    assert len(slices) == 24 and slices <= set(decoded)
    assert set(decoded.values()) == {1}, decoded.most_common(5)
