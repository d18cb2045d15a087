"""Many slices, one answer: files, frames or a zipped series, put in order, answered one by one and then together.

Slices of different series never share an answer: where several series are given, one of them is chosen.
Nothing is unpacked to disk. Names in an archive are shown and never used as paths; its entries, their sizes and the sum
of them are bounded before a byte is inflated. Each slice is answered as it would be alone. The series' own answer is an
opinion pool over them (Genest & Zidek 1986, doi:10.1214/ss/1177013825): a summary of slice answers and not a calibrated
probability, as calibration, prediction sets and operating points were fitted on single slices.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.imaging.pictures import MAX_PAGES
from ct_xception.imaging.position import Place
from ct_xception.imaging.reader import read_place
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.source import DICOM_SUFFIXES, IMAGE_SUFFIXES
from ct_xception.imaging.windows import Window
from ct_xception.serving.gate import REFUSED

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction

MAX_SLICES = 400  # answered of one series: a chest at 1 mm
MAX_FRAMES = MAX_PAGES  # of one file
MAX_ENTRIES = 2_000  # of one archive, folders and other files counted
MAX_ENTRY = 64 * 2**20  # bytes of one entry, unpacked
MAX_UNPACKED = 2**30  # bytes of all entries that are read
BATCH = 8  # slices at a time
LEAST = 1e-12  # of a probability before its logarithm is taken
MAX_DIGITS = 64  # of a number in a name, as long as a whole UID; Python itself refuses to read 4,301

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_CLUTTER = ("__MACOSX/", ".")
_BROKEN = (  # what zipfile and its decompressors raise on hostile bytes
    zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError,
)  # fmt: skip


class Stopped(Exception):
    """The caller asked to stop before every slice was answered."""


@dataclass(frozen=True)
class Member:
    """One slice of a series: a file, or the entry of an archive by its index; `frame` where there are several.

    `folder` is the entry's place in its archive, to be compared and never shown.
    """

    name: str
    path: Path
    entry: int | None = None
    frame: int | None = None
    folder: str = ""

    def source(self) -> Path | bytes:
        """What the reader takes: a path, or an archive entry's bytes. Raises SliceError."""
        return self.path if self.entry is None else _unpack(self.path, self.entry, self.name)

    def read(self, classifier: Classifier, window: Window | None = None) -> Slice:
        """This slice as the checkpoint wants it shown. Raises SliceError."""
        return classifier.read(self.source(), window=window, frame=self.frame, name=self.name)


@dataclass(frozen=True)
class Series:
    """Slices in their order; `order` says which, and `notes` what was passed over or looks odd, a clause each.

    `name` and `facts` tell one series from the others by its number, slices, matrix and spacing, and by no tag that
    names anybody.
    """

    members: tuple[Member, ...]
    order: str
    notes: tuple[str, ...] = ()
    name: str = "series"
    facts: str = ""

    def __len__(self) -> int:
        return len(self.members)


Placed: TypeAlias = tuple[Member, Place]


# From files to series


def gather(paths: Sequence[Path], *, names: Sequence[str] | None = None) -> tuple[Series, ...]:
    """The series in files and zip archives, the largest first; `names` stand for the files in messages.

    They are told apart by SeriesInstanceUID, and without one by their folder in an archive. Slices are ordered by
    their position along the patient, the highest first (for an axial series the head), else by InstanceNumber, else by
    name. What holds no image goes with the first series, to be named there as unanswered. Raises InputError where there
    is nothing to read or too much of it.
    """
    shown = [printable(name) for name in names or [path.name for path in paths]]
    found, notes = list[Member](), list[str]()
    for path, name in zip(paths, shown, strict=True):
        if _is_archive(path):
            members, more = _look_into(path, name)
            found, notes = found + members, notes + more
        else:
            found.append(Member(name, path))
    if not found:
        raise InputError("no slice was given; give a CT slice, several, or a zip of a series.")
    if len(found) > MAX_ENTRIES:
        raise InputError(f"{len(found)} files, more than {MAX_ENTRIES}; give one series at a time.")
    apart, unreadable = _tell_apart(found)
    return tuple(
        _arrange(placed, [] if number else unreadable, f"series {number + 1}" if len(apart) > 1 else "series", notes)
        for number, placed in enumerate(apart or [[]])
    )


def _is_archive(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(4) in _ZIP
    except OSError:
        return False  # reading it as a slice says why


def _look_into(path: Path, name: str) -> tuple[list[Member], list[str]]:
    """The entries of an archive that may be slices, and a clause on the others. Raises SliceError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_archive(entries, name)
            kept = [index for index, entry in enumerate(entries) if _may_be_slice(archive, entry)]
    except SliceError:
        raise
    except _BROKEN as error:
        raise SliceError(name, f"a zip that cannot be opened ({printable(error)})", "zip the series again") from error
    unpacked = sum(entries[index].file_size for index in kept)
    if unpacked > MAX_UNPACKED:
        raise SliceError(name, f"a zip of {unpacked >> 20} MiB", f"give at most {MAX_UNPACKED >> 20} MiB of slices")
    places = {index: PurePosixPath(entries[index].filename) for index in kept}
    members = [Member(printable(place.name), path, index, folder=str(place.parent)) for index, place in places.items()]
    if not members:
        raise SliceError(name, "a zip without a CT slice in it", "zip DICOM files or pictures")
    passed = sum(not entry.is_dir() for entry in entries) - len(kept)
    others = "one other file" if passed == 1 else f"{passed} other files"
    return members, [f"{others} in {name} passed over"] if passed else []


def _check_archive(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise SliceError(name, f"a zip of {len(entries)} entries", f"give one of at most {MAX_ENTRIES}")
    if any(entry.flag_bits & 1 for entry in entries):
        raise SliceError(name, "a zip with a password", "zip the series without one")
    # bzip2 and LZMA expand a thousandfold and more, and take memory that the entry itself chooses.
    methods = {entry.compress_type for entry in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if methods:
        found = f"a zip packed by method {min(methods)}, neither stored nor deflated"
        raise SliceError(name, found, "zip the series again by deflate, as is usual")


def _may_be_slice(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """By its name, or where that says nothing by DICOM's magic; links, folders and clutter are none."""
    place = PurePosixPath(entry.filename)
    is_link = (entry.external_attr >> 16) & 0o170000 == 0o120000
    if entry.is_dir() or is_link or entry.file_size == 0 or place.name.startswith(_CLUTTER[1]):
        return False
    if entry.filename.startswith(_CLUTTER[0]) or place.name.upper() == "DICOMDIR":
        return False
    if place.suffix.lower() in IMAGE_SUFFIXES | DICOM_SUFFIXES:
        return True
    if place.suffix and not place.suffix[1:].isdigit():  # a UID's last number looks like a suffix
        return False
    with archive.open(entry) as stream:
        return stream.read(132)[128:] == b"DICM"


def _unpack(path: Path, index: int, name: str) -> bytes:
    """The bytes of one entry, never more than MAX_ENTRY. Raises SliceError."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.infolist()[index]
            if entry.file_size > MAX_ENTRY:
                found = f"{entry.file_size >> 20} MiB unpacked"
                raise SliceError(name, found, f"give slices of at most {MAX_ENTRY >> 20} MiB")
            with archive.open(entry) as stream:
                content = stream.read(MAX_ENTRY + 1)
    except FileNotFoundError as error:
        raise SliceError(name, "an upload that is no longer kept", "upload it again") from error
    except SliceError:
        raise
    except _BROKEN as error:
        raise SliceError(name, f"cannot be unpacked ({printable(error)})", "zip the series again") from error
    if len(content) > MAX_ENTRY:
        raise SliceError(name, "an entry larger than the zip says", "zip the series again")
    return content


def _tell_apart(found: Sequence[Member]) -> tuple[list[list[Placed]], list[Member]]:
    """The slices of each series, most slices first, and what holds no image."""
    apart, unreadable = dict[Any, list[Placed]](), list[Member]()
    for member in found:
        place = _place_of(member)
        if place.size is None:
            unreadable.append(member)
            continue
        stored = None if member.entry is None else (member.path, member.folder)
        apart.setdefault(place.series or stored, []).append((member, place))
    return sorted(apart.values(), key=lambda placed: -sum(place.frames for _, place in placed)), unreadable


def _arrange(placed: Sequence[Placed], unreadable: Sequence[Member], name: str, notes: Sequence[str]) -> Series:
    """One series in order, a member for each frame answered, and what holds no image behind. Raises InputError."""
    keys, order = _order([place for _, place in placed], [member.name for member, _ in placed])
    if len(placed) + len(unreadable) == 1:
        order = "as stored in the file"
    ranked = [placed[index] for index in sorted(range(len(placed)), key=lambda index: keys[index])]
    members, count = _members_of(ranked)
    facts = _describe(count, [place for _, place in ranked])
    thinned = _thinned(len(members), count)
    members += sorted(unreadable, key=lambda member: _natural(member.name))
    odd = order == "by position" and len(set(keys)) < len(keys)
    more = ["several slices lie at one position: this may be more than one series"] if odd else []
    return Series(tuple(members), order, (*notes, *more, *thinned), name, facts)


def _members_of(ranked: Sequence[Placed]) -> tuple[list[Member], int]:
    """At most MAX_SLICES members, evenly through the series, and how many slices it has. Raises InputError.

    Thinned by index, before they are made: headers of a few bytes can claim millions of frames.
    """
    for member, place in ranked:
        if place.frames > MAX_FRAMES:
            raise InputError(f"{member.name} has {place.frames} frames, more than {MAX_FRAMES}; give a part of it.")
    count = sum(max(1, place.frames) for _, place in ranked)
    step = max(1, -(-count // MAX_SLICES))
    members, before = list[Member](), 0
    for member, place in ranked:
        frames = max(1, place.frames)
        chosen = range(-before % step, frames, step)
        members += [member for _ in chosen] if frames == 1 else [_frame_of(member, frame) for frame in chosen]
        before += frames
    return members, count


def _frame_of(member: Member, frame: int) -> Member:
    return Member(f"{member.name}, frame {frame}", member.path, member.entry, frame)  # from 0, as on the command line


def _thinned(kept: int, count: int) -> list[str]:
    """A clause on the slices passed over, where there are any."""
    if kept == count:
        return []
    step = -(-count // MAX_SLICES)
    return [f"one slice in {step} is answered, {kept} of {count}: a series is thinned to {MAX_SLICES}"]


def _describe(count: int, places: Sequence[Place]) -> str:
    """What tells a series from others without a word about the patient: `30 slices of 512 x 512 pixels, 5 mm apart`."""
    said = "1 slice" if count == 1 else f"{count} slices"
    sizes, thick = {place.size for place in places}, {place.thickness for place in places}
    if len(sizes) == 1 and (size := next(iter(sizes))) is not None:
        said += f" of {size[1]} \u00d7 {size[0]} pixels"
    gaps = np.abs(np.diff([place.position for place in places if place.position is not None]))
    if len(gaps) and len({place.normal for place in places}) == 1 and np.median(gaps) > 0:
        said += f", {np.median(gaps):.3g} mm apart"
    if len(thick) == 1 and (thickness := next(iter(thick))):
        said += f", {thickness:.3g} mm thick"
    return said


def _place_of(member: Member) -> Place:
    try:
        return read_place(member.source(), name=member.name)
    except SliceError:
        return Place()  # the reader will refuse the slice, and say why


def _order(places: Sequence[Place], names: Sequence[str]) -> tuple[list[tuple[Any, ...]], str]:
    """A sort key for each place, and the name of the order; all slices must tell for it to be chosen."""
    if len({place.normal for place in places}) == 1 and all(place.position is not None for place in places):
        return [(-round(float(place.position or 0), 3),) for place in places], "by position"
    if all(place.number is not None for place in places):
        return [(place.number,) for place in places], "by instance number"
    return [_natural(name) for name in names], "by name"


def _natural(name: str) -> tuple[Any, ...]:
    """Names with their numbers as numbers: slice 9 before slice 10."""
    parts = re.split(r"([0-9]+)", name.lower())
    return tuple((0, int(part), "") if _is_number(part) else (1, 0, part) for part in parts)


def _is_number(part: str) -> bool:
    """Whether `int` surely reads it: a superscript is a digit to `str.isdigit` alone."""
    return part.isascii() and part.isdecimal() and len(part) <= MAX_DIGITS


# Each slice's answer


@dataclass(frozen=True)
class SliceAnswer:
    """One slice's answer without its pixels: `record` as `Prediction.to_dict` gives it, or None and the `error`."""

    name: str
    record: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def gate(self) -> str | None:
        """The input gate's verdict: accepted, doubtful or refused; None where the checkpoint has no gate."""
        found = (self.record or {}).get("gate")
        return None if found is None else str(found["verdict"])

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """Of every class; None where the slice could not be read, or the gate refused it."""
        return None if self.record is None or self.gate == REFUSED else self.record["probabilities"]


def answer_series(
    classifier: Classifier,
    series: Series,
    *,
    window: Window | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[SliceAnswer]:
    """Answer every slice, in order, a batch at a time; one that cannot be read is answered with its sentence.

    `progress` is told the share done; `cancelled` is asked before each batch. Raises Stopped.
    """
    answers: list[SliceAnswer] = []
    for start in range(0, len(series), BATCH):
        if cancelled is not None and cancelled():
            raise Stopped
        if progress is not None:
            progress(start / len(series))
        answers += _answer_batch(classifier, series.members[start : start + BATCH], window)
    return answers


def _answer_batch(classifier: Classifier, members: Sequence[Member], window: Window | None) -> Iterator[SliceAnswer]:
    read = [_try_read(classifier, member, window) for member in members]
    answers: Iterator[Prediction] = iter(classifier([item for item in read if isinstance(item, Slice)]))
    for member, item in zip(members, read, strict=True):
        if isinstance(item, Slice):
            yield SliceAnswer(member.name, next(answers).to_dict())
        else:
            yield SliceAnswer(member.name, error=str(item))


def _try_read(classifier: Classifier, member: Member, window: Window | None) -> Slice | SliceError:
    try:
        return member.read(classifier, window)
    except SliceError as error:
        return error


# The series' answer


@dataclass(frozen=True)
class Aggregation:
    """`title` is its name in print, `sentence` what it does."""

    title: str
    sentence: str


AGGREGATIONS = {
    "mean_log": Aggregation(
        "mean of log-probabilities",
        "The logarithms of each class's probabilities are averaged over the slices, and the result scaled to sum to 1: "
        "slices that agree weigh more than one that stands alone.",
    ),
    "mean": Aggregation(
        "mean of probabilities",
        "Each class's probabilities are averaged over the slices: one sure slice counts for as much as it says.",
    ),
}


@dataclass(frozen=True)
class SeriesAnswer:
    """`probabilities`, the most probable class first, pooled over `answered` of `slices` slices.

    `agreeing` slices have the same most probable class as the series. `strongest` is the index of the slice in which
    that class is most probable.
    """

    label: str
    probabilities: dict[str, float]
    aggregation: str
    answered: int
    slices: int
    agreeing: int
    strongest: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; slices are counted from 1."""
        return {
            "label": self.label,
            "probabilities": self.probabilities,
            "aggregation": self.aggregation,
            "slices": self.slices,
            "answered": self.answered,
            "agreeing": self.agreeing,
            "strongest_slice": self.strongest + 1,
        }


def answer_together(answers: Sequence[SliceAnswer], aggregation: str = "mean_log") -> SeriesAnswer | None:
    """The series' answer from its slices'; None where not one was answered. `aggregation` is one of AGGREGATIONS.

    Slices that could not be read, or that the gate refused, have no vote.
    """
    voting = [(index, answer.probabilities) for index, answer in enumerate(answers) if answer.probabilities]
    if not voting:
        return None
    probabilities = pool([values for _, values in voting], aggregation)
    label = next(iter(probabilities))
    strongest = max(voting, key=lambda pair: pair[1][label])[0]
    agreeing = sum(max(values, key=lambda name: values[name]) == label for _, values in voting)
    return SeriesAnswer(label, probabilities, aggregation, len(voting), len(answers), agreeing, strongest)


def pool(each: Sequence[Mapping[str, float]], aggregation: str = "mean_log") -> dict[str, float]:
    """One answer from several over the same classes, the most probable first, summing to 1.

    mean_log: p_k proportional to exp(mean of log p_ik), the logarithmic opinion pool; mean: the mean of p_ik, the
    linear one. Raises InputError for another name.
    """
    if aggregation not in AGGREGATIONS:
        raise InputError(f"aggregation {aggregation!r} is unknown; choose from {', '.join(AGGREGATIONS)}.")
    names = list(each[0])
    values = np.array([[answer[name] for name in names] for answer in each], dtype=np.float64)
    if aggregation == "mean":
        pooled = values.mean(axis=0)
    else:
        logs = np.log(np.maximum(values, LEAST)).mean(axis=0)
        pooled = np.exp(logs - logs.max())
    pooled = pooled / pooled.sum()
    ranked = sorted(zip(names, pooled.tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(ranked)
