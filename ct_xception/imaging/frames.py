"""Which slices of a file that holds several are taken: volumes are series of slices, pages are asked about.

A NIfTI volume and a DICOM file of several frames are axial slices of one scan. The pages of a TIFF or the pictures of
a GIF may be anything, and are taken only where it is said how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ct_xception.errors import InputError, SliceError
from ct_xception.imaging.decoders.nifti import is_nifti
from ct_xception.imaging.decoders.tiff import MAX_PAGES
from ct_xception.imaging.reader import read_place
from ct_xception.imaging.source import FrameOf, is_dicom, open_source

ALL = "all"


def check_slices_per_file(asked: str | None) -> str | None:
    """What `--slices_per_file` was given, if it is all or a number above 0. Raises InputError."""
    if asked is None or asked == ALL or (asked.isascii() and asked.isdecimal() and int(asked) > 0):
        return asked
    raise InputError(f"--slices_per_file {asked!r}: give a number above 0, or {ALL}.")


def frames_taken(file: Path | bytes, label: str, asked: str | None = None) -> tuple[int, ...]:
    """The indices, from 0, of the slices to take of a file with several; empty for a file that is one picture.

    `asked` is None, all or a number: so many are taken, evenly spaced. Raises SliceError for a file of too many.
    """
    with open_source(file, label) as stream:
        if asked is None and not is_dicom(stream) and not is_nifti(stream):
            return ()
    return spread(read_place(file, name=label).frames, asked, label)


def spread(frames: int, asked: str | None, label: str) -> tuple[int, ...]:
    """As many indices of `frames` as are asked for, the middle one of each equal part; empty where there is only one.

    Raises SliceError for more than MAX_PAGES: a header of a few bytes can claim millions.
    """
    if frames <= 1:
        return ()
    if frames > MAX_PAGES:
        raise SliceError(label, f"{frames:,} frames, more than {MAX_PAGES:,}", "give a part of it")
    taken = frames if asked is None or asked == ALL else min(int(asked), frames)
    return tuple((2 * part + 1) * frames // (2 * taken) for part in range(taken))


def slices_of(files: Sequence[Path], frame: int | None, asked: str | None) -> list[Path | FrameOf]:
    """Every slice of some files as a source: a file of several is all of those taken, unless a `frame` is chosen.

    What cannot be read stays as it is: reading it says why.
    """
    return [source for file in files for source in _sources(file, frame, asked)]


def _sources(file: Path, frame: int | None, asked: str | None) -> Sequence[Path | FrameOf]:
    if frame is not None:
        return [file]
    try:
        return [FrameOf(file, index) for index in frames_taken(file, str(file), asked)] or [file]
    except SliceError:
        return [file]
