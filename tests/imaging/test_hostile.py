"""What a file may cost, and what must not pass in silence: files made here, and the shared ones where they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile import CHILD
from ct_xception.errors import SliceError
from ct_xception.imaging.reader import read_place, read_slice
from tests.conftest import SHARED
from tests.imaging.hostile import BROKEN, COSTLY

FOLDER = SHARED / "cases" / "hostile"
GIVEN = sorted(path for path in FOLDER.glob("*") if path.suffix in (".png", ".jpg", ".dcm", ".tif"))
# Of the shared files: refused, for this; or answered, with this note.
REFUSED = {
    "apng": "2 frames; choose one", "mpo": "2 frames; choose one", "half": "the rest is missing",
    "short_rows": "the rest is missing", "jpeg_cut80": "pixels are missing", "jpeg_zeroed": "a JPEG whose data",
    "dicom_4.70_cut": "pixels are missing", "intercept0": "cannot be HU", "signed12": "cannot be HU",
    "tiff_": "tags, where a picture has some dozens", "jpeg_5990": "more than", "png_grey16": "more than 16.8 million",
    "03c_": "more than 8 million", "04b_": "more than 8 million",
}  # fmt: skip
ANSWERED = {
    "bottom_up": "stored bottom-up", "voilut": "VOI lookup table", "g16trns": "alpha composited",
    "wwb": "the file's window -2000/10 shows nothing",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_missing_pixels_are_refused(name: str) -> None:
    with pytest.raises(SliceError, match="missing|damaged|cut|cannot be decoded"):
        read_slice(BROKEN[name]())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_file_is_bounded_by_what_it_costs(tmp_path: Path) -> None:
    for name, make in COSTLY.items():
        (tmp_path / name).write_bytes(make())
    paths = [str(tmp_path / name) for name in COSTLY]
    done = subprocess.run([sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr[-500:]
    for name, line in zip(COSTLY, done.stdout.splitlines(), strict=True):
        _, megabytes, said, processor = json.loads(line)  # wall time would tell of what runs beside the tests
        assert not said.startswith("wrong") and processor < 2 and megabytes < 300, (name, line)


@pytest.mark.skipif(not GIVEN, reason="the shared cases are not on this machine (../shared/cases/hostile)")
@pytest.mark.timeout(60)
def test_the_shared_files_are_refused_or_answered_aloud() -> None:
    for path in GIVEN:
        refused = next((words for start, words in REFUSED.items() if path.name.startswith(start)), None)
        if refused is not None:
            with pytest.raises(SliceError, match=refused):
                read_slice(path)
            continue
        words = next(words for start, words in ANSWERED.items() if path.name.startswith(start))
        assert any(words in note for note in read_slice(path).notes), path.name
        assert read_place(path).frames == 1
