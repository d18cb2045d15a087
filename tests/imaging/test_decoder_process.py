"""The limited child gives what the reader gives, and a SliceError whatever becomes of it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ct_xception.errors import SliceError
from ct_xception.imaging import decoder_process, reader
from ct_xception.imaging.decoder_process import Decoder, pack_slice, unpack_slice
from ct_xception.imaging.decoders import decode
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from tests.imaging.builders import ct, disc, encode
from tests.imaging.test_reader_properties import SEEDS

HU = ct(disc().astype(np.int16) * 8, PixelSpacing=[0.5, 0.5])
PNG = encode(Image.fromarray(disc()))


def same(first: Slice, second: Slice) -> bool:
    pairs = ((getattr(first, one.name), getattr(second, one.name)) for one in fields(Slice))
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as one:
        yield one


@pytest.mark.parametrize("content", [HU, PNG], ids=["dicom", "png"])
def test_it_reads_what_the_reader_reads(decoder: Decoder, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a file, é"
    path.write_bytes(content)
    window = Window(40, 400)
    expected = decode.decode_slice(content, window=window, name="x")
    for source in (content, path, str(path), io.BytesIO(content)):
        assert same(decoder.read_slice(source, window=window, name="x"), expected)
        assert decoder.read_place(path) == decode.decode_place(path)
    assert same(decoder.read_slice(Image.fromarray(disc())), decode.decode_slice(Image.fromarray(disc())))


def test_no_module_of_the_working_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the slices that is called as a library is: a stranger's archive may hold one."""
    for name in ("numpy", "pydicom", "json"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with Decoder() as own:
        assert own.read_slice(PNG, name="x").pixels.shape == disc().shape
    assert not (tmp_path / "ran").exists()


def test_refusals_come_through(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(SliceError, match=r"^upload: neither DICOM"):
        decoder.read_slice(b"text", name="upload")
    with pytest.raises(SliceError, match="no such file"):
        decoder.read_slice(tmp_path / "absent.png")
    with pytest.raises(SliceError, match="empty file"):
        decoder.read_slice(b"")


def test_a_child_that_dies_or_hangs_is_begun_again(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.read_slice(PNG)
    child = decoder._idle.queue[0]
    os.kill(child._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(decoder_process, "PATIENCE", 0.3)
    with pytest.raises(SliceError, match="ended its decoder|seconds to decode"):
        decoder.read_slice(PNG, name="x")
    assert child.ended
    monkeypatch.undo()
    assert decoder.read_slice(PNG).pixels.max() == 120


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux alone")
def test_memory_and_time_are_limited() -> None:
    large = encode(Image.new("L", (4000, 4000)), "PNG")
    with Decoder(memory=2**20) as small, pytest.raises(SliceError, match="memory|MemoryError|cannot be|ended"):
        small.read_slice(large)
    with Decoder(seconds=1) as one:
        one.read_slice(PNG)
        assert one.read_slice(large).pixels.shape == (4000, 4000)


def test_threads_share_it(decoder: Decoder) -> None:
    found: list[Slice] = []
    threads = [threading.Thread(target=lambda: found.append(decoder.read_slice(HU))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(same(found[0], slice_) for slice_ in found)


def test_a_process_can_be_isolated_as_a_whole() -> None:
    reader.isolate_decoding()
    try:
        first = reader._decoder
        reader.isolate_decoding()
        assert reader._decoder is first is not None
        assert same(reader.read_slice(HU), decode.decode_slice(HU))
        assert reader.read_place(HU) == decode.decode_place(HU)
    finally:
        reader.share_decoding()
    assert reader._decoder is None


def test_messages_are_checked() -> None:
    header, body = pack_slice(decode.decode_slice(HU))
    assert same(unpack_slice(header, body), decode.decode_slice(HU))
    with pytest.raises(ValueError, match="kind"):
        unpack_slice(header | {"pixels": {"dtype": "|O", "shape": [1, 1]}}, body)
    with pytest.raises(ValueError):
        unpack_slice(header, body[:10])


def test_no_file_spends_its_time_on_loading_libraries(tmp_path: Path) -> None:
    """A child's first file of a kind has the same two seconds as any other."""
    script = """
import pathlib, sys
from ct_xception.imaging.decoder_process import _warm_up
from ct_xception.imaging.decoders.decode import decode_slice
_warm_up()
before = set(sys.modules)
for path in pathlib.Path(sys.argv[1]).iterdir(): decode_slice(path, frame=0)
print(sorted(set(sys.modules) - before))
"""
    for number, seed in enumerate(SEEDS):
        (tmp_path / str(number)).write_bytes(seed)
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr[-500:]
