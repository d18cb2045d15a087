"""What a session may hand to a classifier, as single slices: a folder, a zip, a volume, a list, a column of a table.

    found = every_slice("scans/", frame=None)
    for one in found.slices: ...

Nothing is decoded here but the few bytes that tell what a file holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ct_xception.errors import SliceError, printable
from ct_xception.imaging.source import describe_passed_over, find_files
from ct_xception.serving.archive import is_archive
from ct_xception.serving.series import Member, slices_in


@dataclass(frozen=True)
class Found:
    """`slices`: members of files, sources as they were given, and SliceErrors; `notes` say what was passed over."""

    slices: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def several(source: Any) -> list[Any] | None:
    """The sources in a list, an iterator, a column of paths or a dataset of `datasets`; None where it is one source."""
    if isinstance(source, (list, tuple)):
        return list(source)
    if hasattr(source, "column_names") and hasattr(source, "features"):
        return list(source)
    if getattr(getattr(source, "dtype", None), "kind", "") in ("O", "U", "T") and hasattr(source, "tolist"):
        return list(source.tolist())
    is_file = hasattr(source, "read") or hasattr(source, "save")
    return list(source) if isinstance(source, Iterator) and not is_file else None


def holds_many(source: Any) -> bool:
    """Whether a path is that of a folder or a zip."""
    return isinstance(source, (str, os.PathLike)) and (Path(source).is_dir() or is_archive(Path(source)))


def every_slice(source: Any, frame: int | None) -> Found:
    """Every slice of a source, or of several; of files that hold several only `frame`, where it is given."""
    found = Found()
    sources = several(source)
    for one in [source] if sources is None else sources:
        if not isinstance(one, (str, os.PathLike)):
            found.slices.append(one)
        elif Path(one).is_dir():
            _add_folder(Path(one), frame, found)
        else:
            _add_file(Path(one), frame, found)
    return found


def _add_folder(folder: Path, frame: int | None, found: Found) -> None:
    listed = find_files(folder)
    if listed.passed_over:
        found.notes.append(f"{printable(folder)}: left out: {describe_passed_over(listed.counts)}")
    if not listed.files:
        found.slices.append(SliceError(folder, "the folder holds no image or DICOM file", "name another folder"))
    for path in listed.files:
        _add_file(path, frame, found)


def _add_file(path: Path, frame: int | None, found: Found) -> None:
    name = printable(path)
    if frame is not None and not is_archive(path):
        found.slices.append(Member(name, path, frame=frame))
        return
    try:
        members, notes = slices_in(path, name)
    except SliceError as error:
        found.slices.append(error)
        return
    found.notes.extend(notes)
    found.slices.extend(member for member in members if frame in (None, member.frame or 0))


def archives_of(slices: Iterable[Any]) -> list[Any]:
    """The zips that members lie in, to be held open while they are read."""
    return [one.archive for one in slices if isinstance(one, Member)]
