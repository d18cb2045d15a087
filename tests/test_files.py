"""Files are whole or absent, with the mode of any other new file, and a disk that takes no more says so."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ct_xception.errors import DiskError, WorkError
from ct_xception.files import atomic_folder, atomic_path, write_atomically


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "words é")
    assert path.read_text(encoding="utf-8") == "words é"
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text(encoding="utf-8") == "words é" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_the_mode_is_that_of_new_files_and_the_umask_is_left_alone(mask: int, tmp_path: Path) -> None:
    code = (
        f"import os, sys\nos.umask({mask})\nfrom ct_xception.files import write_atomically\n"
        "os.umask = None\nwrite_atomically(sys.argv[1], b'x')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only"), (errno.EACCES, "may not write there")],
)
def test_a_disk_that_takes_no_more(number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(DiskError, match=rf"{words} \(9 bytes are needed, [\d,]+ free\); make room") as caught:
            write_atomically(tmp_path / "a", "nine byte")
    assert str(tmp_path) in str(caught.value) and isinstance(caught.value, WorkError) and not list(tmp_path.iterdir())


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "a") as folder:
        (folder / "b").touch()
        assert not (tmp_path / "new" / "a").exists()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "new" / "c") as folder:
        (folder / "b").touch()
        _ = 1 / 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"] and (tmp_path / "new" / "a" / "b").is_file()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "No space left on device", "/elsewhere/a", None, "{}/new/b"),  # of a copy
        OSError(errno.ENOSPC, "No space left on device", "{}"),  # of a folder that holds it
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_way_of_saying_that_the_disk_is_full(error: Exception, tmp_path: Path) -> None:
    for name in ("filename", "filename2"):
        if isinstance(named := getattr(error, name, None), str):
            setattr(error, name, named.format(tmp_path))
    with pytest.raises(DiskError, match=r"new: cannot be written to, since the disk is full \(7 bytes are needed"):  # noqa: SIM117
        with atomic_folder(tmp_path / "new" / "a", 7):
            raise error
    assert not list((tmp_path / "new").iterdir())


def test_what_is_wrong_elsewhere_is_not_the_folders(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/b")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()
    with pytest.raises(ValueError, match="os error 28"), atomic_folder(tmp_path / "a" / "b"):
        raise ValueError("os error 28")
