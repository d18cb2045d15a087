"""Every image of a corpus opened once, before anything slow: can it be read, what are its bytes, whose is it.

A mask is opened with its image: it has to be a picture of the same size.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.cells import ONLY, frame_of
from ct_xception.corpus.listing import CorpusOptions, Item, Listing
from ct_xception.corpus.tables.boxes import box_problem, read_boxes
from ct_xception.errors import SliceError, printable
from ct_xception.imaging.decoders.dicom import classify_dicom, read_header
from ct_xception.imaging.frames import ALL, frames_taken
from ct_xception.imaging.modality import NAMES, modality_for
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.source import is_dicom, open_source
from ct_xception.imaging.windows import Window

if TYPE_CHECKING:
    import datasets

BLOCK = 2**20
SLICE, NO_IMAGE, OTHER_MODALITY = "slice", "no image", "other modality"
# Computed radiography, CT and MR image storage (PS3.4 annex B.5); those of reports and doses begin otherwise.
IMAGE_CLASSES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.[124](\.\d+)*")
OTHER_KINDS = {
    NO_IMAGE: "DICOM files without an image",
    "localizer": "localizers",
    "secondary capture": "secondary captures",
    OTHER_MODALITY: "DICOM slices of another modality",
}
EXCLUDED = 3  # files named in the option that leaves them out
SHOWN = 12  # sentences on unreadable files; a broken disk would fill the screen

Reader: TypeAlias = Callable[[Item], "Path | bytes"]  # where an item's untouched file is


@dataclass(frozen=True)
class Inspected:
    """What opening an image told: its bytes' hash, a sentence if it cannot be read, and of DICOM whose and what it is.

    `kind` is one of `imaging.dicom.KINDS`, empty for a picture; `modality` is what the file states. `mask_problem` is a
    sentence where its mask cannot be used, `mask_missing` where that is not there. `frames` are the slices to take of a
    file that holds several.
    """

    digest: str = ""
    problem: str = ""
    missing: bool = False
    patient: str = ""
    study: str = ""
    kind: str = ""
    modality: str = ""
    series: str = ""
    mask_problem: str = ""
    mask_missing: bool = False
    frames: tuple[int, ...] = ()


def read_mask(path: Path, frame: int | None = None) -> NDArray[np.bool_]:
    """A lesion's mask (H, W), True where its picture, or that slice of its volume, is above 0. Raises SliceError."""
    return read_slice(path, window=Window(0.5, 1), frame=frame).pixels > 0


def inspect_all(items: Sequence[Item], read: Reader, options: CorpusOptions) -> list[Inspected]:
    """Open every image, a few at a time; one result per item, and no exception."""
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(lambda item: _inspect(item, read, options), items))


def _inspect(item: Item, read: Reader, options: CorpusOptions) -> Inspected:
    content = read(item)
    if isinstance(content, Path) and not os.path.lexists(content):
        return Inspected(missing=True)
    try:
        one = _identify(content, item.source, options.modality)
        mask_problem, mask_missing = "", item.mask is not None and not os.path.lexists(item.mask)
        one = replace(one, frames=_frames(item, content, options) if one.kind != NO_IMAGE else ())
        if options.decode and one.kind != NO_IMAGE:
            for frame in one.frames or (options.frame,):
                name = f"{item.source}#{frame}" if one.frames else item.source
                reading = {"window": options.window, "frame": frame, "modality": options.modality}
                slice_ = read_slice(content, name=name, **reading)  # type: ignore[arg-type]
                if item.mask is not None and not mask_missing and not mask_problem:
                    mask_problem = _mask_problem(name, item.mask, slice_.pixels.shape, frame if one.frames else None)
                mask_problem = mask_problem or box_problem(name, item.boxes, slice_.pixels.shape)
        return replace(one, mask_problem=mask_problem, mask_missing=mask_missing)
    except SliceError as error:
        return Inspected(problem=str(error).rstrip("."))
    except OSError as error:
        return Inspected(problem=f"{item.source}: cannot be read ({error.strerror}); mend or remove it")


def _frames(item: Item, content: Path | bytes, options: CorpusOptions) -> tuple[int, ...]:
    """The slices to take of a file that holds several: those of the options, or the one that its row names."""
    if options.frame is not None or not isinstance(content, Path):
        return ()  # bytes lie in a table, where each slice would carry all of them
    try:
        frames = frames_taken(content, item.source, options.slices_per_file if item.frame == ONLY else ALL)
    except SliceError:
        if options.decode:
            raise
        return ()  # whether it can be read is told by decoding it
    if item.frame == ONLY:
        return frames
    if frames and item.frame not in frames:
        raise SliceError(item.source, f"no frame {item.frame}: it has {len(frames)}, counted from 0", "mend that row")
    return (item.frame,) if frames else ()


def _mask_problem(source: str, mask: Path, shape: tuple[int, ...], frame: int | None) -> str:
    try:
        str(mask).encode()
        found = read_mask(mask, frame).shape
    except UnicodeEncodeError:
        return f"the mask of {source} has a name that is not UTF-8; rename it"
    except (SliceError, OSError) as error:
        return f"the mask of {source} cannot be read: {str(error).rstrip('.')}"
    if found == shape:
        return ""
    sizes = " pixels and its image ".join(f"{columns} x {rows}" for rows, columns in (found, shape))
    return f"the mask of {source} has {sizes}; give masks of the images' own size"


def _identify(content: Path | bytes, name: str, modality: str) -> Inspected:
    """The hash of a file's bytes and, where they are DICOM whatever their name, its patient, study and series."""
    with open_source(content, name) as stream:  # a pipe or a device would never end
        digest = hashlib.sha256()
        while block := stream.read(BLOCK):
            digest.update(block)
        stream.seek(0)
        if not is_dicom(stream):
            return Inspected(digest.hexdigest())
    try:
        header = read_header(content)
    except SliceError:  # whether it can be read is told by decoding it
        return Inspected(digest.hexdigest())
    kind, sop_class = classify_dicom(header, modality), header.sop_class
    if kind == NO_IMAGE and (IMAGE_CLASSES.fullmatch(sop_class) or not (sop_class or _is_directory(name))):
        kind = ""  # an image that lost its pixels is damaged, and is told by decoding it
    one = Inspected(digest.hexdigest(), kind=kind, patient=header.patient_id, study=header.study_uid)
    return replace(one, series=header.series_uid, modality=header.modality)


def _is_directory(name: str) -> bool:
    """Whether a file is the directory of a DICOM medium (PS3.10 section 8.6), which has that very name."""
    return name.rsplit("/", 1)[-1].casefold() == "dicomdir"


def leave_out_kinds(
    items: list[Item], inspected: Sequence[Inspected], passed_over: Counter[str]
) -> tuple[list[Item], list[Inspected]]:
    """What is left without DICOM files that hold no image and, beside slices, those that are none; all counted."""
    kinds = Counter(one.kind for one in inspected)
    unwanted = {NO_IMAGE} | (set(OTHER_KINDS) if kinds[SLICE] else set())
    kept = [(item, one) for item, one in zip(items, inspected, strict=True) if one.kind not in unwanted]
    for kind in sorted(unwanted):
        if kinds[kind]:
            passed_over[OTHER_KINDS[kind]] += kinds[kind]
    return [item for item, _ in kept], [one for _, one in kept]


def modality_problems(inspected: Sequence[Inspected], modality: str) -> list[str]:
    """A sentence where slices of other modalities alone are there, and not of the one that they would be read as."""
    stated = Counter(one.modality for one in inspected if one.kind == OTHER_MODALITY)
    if not stated or any(one.kind == SLICE for one in inspected):
        return []
    (most, _), number = stated.most_common(1)[0], stated.total()
    terms = ", ".join(map(printable, sorted(stated)))
    found = f"{number} DICOM files state the modality {terms}, and none {NAMES[modality]}"
    return [f"{found}; say what they are with --modality {modality_for(most)}, or --exclude them"]


def part_into_slices(listing: Listing, inspected: Sequence[Inspected]) -> list[Inspected]:
    """Make an item of each slice that is taken of a file with several; what was inspected, for the items there are now.

    They are a series of their own where no header names one, so that no split cuts a file.
    """
    pairs = [pair for both in zip(listing.items, inspected, strict=True) for pair in _parts(*both)]
    files = len({item.source for item, one in zip(listing.items, inspected, strict=True) if one.frames})
    if files:
        slices = sum(len(one.frames) for one in inspected)
        named = "1 file of several slices gave" if files == 1 else f"{files:,} files of several slices gave"
        listing.notes.append(f"{named} {slices:,} slices")
    listing.items = [item for item, _ in pairs]
    again = sum(number - 1 for number in Counter(item.source for item in listing.items).values())
    if again:
        listing.problems.append(f"{again} images are named more than once, though their files hold one slice")
    return [one for _, one in pairs]


def _parts(item: Item, one: Inspected) -> list[tuple[Item, Inspected]]:
    if not one.frames:
        return [(replace(item, frame=ONLY) if item.frame != ONLY else item, one)]
    series, told_once = item.series or one.series or item.source, replace(one, mask_problem="", mask_missing=False)
    return [
        (replace(item, source=f"{item.source}#{frame}", frame=frame, series=series), told_once if number else one)
        for number, frame in enumerate(one.frames)
    ]


def file_problems(items: Sequence[Item], inspected: Sequence[Inspected], excludable: bool = True) -> list[str]:
    """One sentence per image or mask that cannot be used, up to a dozen, and one for those that are not there.

    `excludable` says that `--exclude` is about this corpus, and may be offered.
    """
    unreadable = {item.source: one.problem for item, one in zip(items, inspected, strict=True) if one.problem}
    problems = _unreadable(unreadable, excludable)
    problems += _shortened([one.mask_problem for one in inspected if one.mask_problem], "masks that cannot be used")
    for what, gone in (("images", "missing"), ("masks", "mask_missing")):
        missing = [item.source for item, one in zip(items, inspected, strict=True) if getattr(one, gone)]
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            named = f"{len(missing)} {what} are named but not there ({shown})"
            where = " (--image_root, --image_template)" if what == "images" else ""
            problems.append(f"{named}; mend the paths{where} or remove the {'rows' if what == 'images' else 'column'}")
    return problems


def problems_of_survey(
    dataset: Mapping[str, datasets.Dataset], failed: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]
) -> list[str]:
    """As `file_problems`, of a corpus that was loaded undecoded and surveyed since.

    `failed` {source: reason} could not be read, `sizes` {source: (rows, columns)} are those of all the others.
    """
    problems = _unreadable({source: f"{source}: {reason.rstrip('.')}" for source, reason in failed.items()})
    masks = []
    for part in dataset.values():
        columns = [name for name in ("source", "mask", "frame") if name in part.column_names]
        named = part.select_columns(columns) if "mask" in columns else ()
        masks += [
            (row["source"], Path(row["mask"]), frame_of(row)) for row in named if row["mask"] and row["source"] in sizes
        ]
    told = [
        _mask_problem(source, mask, sizes[source][::-1], frame) and _mask_problem(source, mask, sizes[source], frame)
        for source, mask, frame in masks  # a picture that says how it lies is turned when it is read
    ]
    told += _box_problems(dataset, sizes)
    return problems + _shortened([one for one in told if one], "masks that cannot be used")


def _box_problems(dataset: Mapping[str, datasets.Dataset], sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    named = (part.select_columns(["source", "boxes"]) for part in dataset.values() if "boxes" in part.column_names)
    pairs = [(row["source"], read_boxes(row["boxes"])) for part in named for row in part if row["source"] in sizes]
    return [
        box_problem(source, boxes, sizes[source][::-1]) and box_problem(source, boxes, sizes[source])
        for source, boxes in pairs
    ]


def _unreadable(problems: Mapping[str, str], excludable: bool = True) -> list[str]:
    """The sentences of {source: sentence}, shortened; the last offers to go on without them, where it may."""
    told = _shortened(list(problems.values()), "images that cannot be read")
    files = list(dict.fromkeys(re.sub(r"#\d+$", "", source) for source in problems))
    if told and excludable:
        named = (
            " ".join(shlex.quote(printable(file)) for file in files[:EXCLUDED]) if len(files) <= EXCLUDED else "NAME…"
        )
        told[-1] += f"; --exclude {named} leaves {'it' if len(files) == 1 else 'them'} out"
    return told


def _shortened(problems: list[str], what: str) -> list[str]:
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], f"and {more} more {what}"]


def drop_masks_nowhere(items: Sequence[Item], inspected: Sequence[Inspected]) -> list[Inspected] | None:
    """What was inspected without its masks, which are taken from the items, where not one of them is there; else None.

    A column that happens to be called mask may hold anything.
    """
    if not any(item.mask for item in items) or not all(
        one.mask_missing or one.missing for item, one in zip(items, inspected, strict=True) if item.mask
    ):
        return None
    for item in items:
        item.mask = None
    return [replace(one, mask_missing=False) for one in inspected]
