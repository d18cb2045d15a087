"""Every image of a corpus opened once, before anything slow: can it be read, what are its bytes, whose is it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ct_xception.corpus.listing import CorpusOptions, Item
from ct_xception.errors import SliceError
from ct_xception.files import sha256_file
from ct_xception.imaging.slices import DICOM_SUFFIXES, read_slice

SHOWN = 12  # sentences on unreadable files; a broken disk would fill the screen

Reader: TypeAlias = Callable[[Item], "Path | bytes"]


@dataclass(frozen=True)
class Inspected:
    """What opening an image told: its bytes' hash, a sentence if it cannot be read, patient and series if DICOM."""

    digest: str = ""
    problem: str = ""
    missing: bool = False
    patient: str = ""
    series: str = ""


def inspect_all(items: Sequence[Item], read: Reader, options: CorpusOptions) -> list[Inspected]:
    """Open every image, a few at a time; one result per item, and no exception."""
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(lambda item: _inspect(item, read, options), items))


def _inspect(item: Item, read: Reader, options: CorpusOptions) -> Inspected:
    content = read(item)
    if isinstance(content, Path) and not os.path.lexists(content):
        return Inspected(missing=True)
    try:
        if options.decode:
            read_slice(content, window=options.window, frame=options.frame, name=item.source)
        digest = sha256_file(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        patient, series = _dicom_identity(content)
        return Inspected(digest, patient=patient, series=series)
    except SliceError as error:
        return Inspected(problem=str(error).rstrip("."))
    except OSError as error:
        return Inspected(problem=f"{item.source}: cannot be read ({error.strerror}); mend or remove it")


def _dicom_identity(content: Path | bytes) -> tuple[str, str]:
    """PatientID, or the study where that is empty, and the series of a DICOM file; both empty for a picture."""
    if not isinstance(content, Path) or (content.suffix and content.suffix.lower() not in DICOM_SUFFIXES):
        return "", ""
    from ct_xception.imaging.dicom import read_header

    header = read_header(content)
    return header.patient_id or header.study_uid, header.series_uid


def file_problems(items: Sequence[Item], inspected: Sequence[Inspected]) -> list[str]:
    """One sentence per image that cannot be read, up to a dozen, and one for those that are not there."""
    problems = [one.problem for one in inspected if one.problem]
    if len(problems) > SHOWN:
        problems = [*problems[:SHOWN], f"and {len(problems) - SHOWN} more images that cannot be read"]
    missing = [item.source for item, one in zip(items, inspected, strict=True) if one.missing]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        problems.append(f"{len(missing)} images are named but not there ({shown}); mend the paths or remove the rows")
    return problems
