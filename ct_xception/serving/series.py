"""Many slices as one series: files, frames or zipped ones, told apart and put in order.

Slices of different series never share an answer: where several series are given, one of them is chosen. Files that
nothing ties to one another are SEPARATE: each has its own answer, and they have none together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ct_xception.errors import InputError, SliceError, printable
from ct_xception.imaging.decoders.pictures import MAX_PAGES
from ct_xception.imaging.position import Place
from ct_xception.imaging.reader import read_place
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.archive import MAX_ENTRIES, Archive, hold_all, is_archive
from ct_xception.text import unknown

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier

SERIES, PATIENT = "series", "patient"
MAX_SLICES = 400  # answered of one series: a chest at 1 mm
MAX_FRAMES = MAX_PAGES  # of one file
SEPARATE = "separate files"  # the name of those that nothing ties to one another
MAX_DIGITS = 64  # of a number in a name, as long as a whole UID; Python itself refuses to read 4,301


@dataclass(frozen=True)
class Member:
    """One slice of a series: a file, or the entry of an `archive` by its index; `frame` where there are several.

    `folder` is the entry's place in its archive, to be compared and never shown. `tabular` is the row of a table that
    goes with it, of which a classifier takes the columns that it knows.
    """

    name: str
    path: Path
    entry: int | None = None
    frame: int | None = None
    folder: str = ""
    archive: Archive | None = field(default=None, compare=False)
    tabular: Mapping[str, Any] | None = field(default=None, compare=False)

    def source(self) -> Path | bytes:
        """What the reader takes: a path, or an archive entry's bytes. Raises SliceError."""
        if self.archive is None or self.entry is None:
            return self.path
        return self.archive.read(self.entry, self.name)

    def read(self, classifier: Classifier, window: Window | None = None) -> Slice:
        """This slice as the checkpoint wants it shown. Raises SliceError."""
        slice_ = classifier.read(self.source(), window=window, frame=self.frame, name=self.name)
        if self.tabular is None or classifier.columns is None:
            return slice_
        return replace(slice_, tabular={**(slice_.tabular or {}), **classifier.columns.only(self.tabular)})


@dataclass(frozen=True)
class Series:
    """Slices in their order; `order` says which, and `notes` what was passed over or looks odd, a clause each.

    `name` and `facts` tell one series from the others by its number, slices, matrix and spacing, and by no tag that
    names anybody. `related` says whether the slices may have one answer: they share a SeriesInstanceUID, a zip or a
    file, or were said to be of one series.
    """

    members: tuple[Member, ...]
    order: str
    notes: tuple[str, ...] = ()
    name: str = "series"
    facts: str = ""
    related: bool = True

    def __len__(self) -> int:
        return len(self.members)


Placed: TypeAlias = tuple[Member, Place]


def gather(paths: Sequence[Path], *, names: Sequence[str] | None = None, related: bool = False) -> tuple[Series, ...]:
    """The series in files and zip archives, the largest first; `names` stand for the files in messages.

    They are told apart by SeriesInstanceUID, and without one by their file of several slices, or their folder in an
    archive. What stands alone then is SEPARATE and the last, or one series where it is said to be `related`. Slices are
    ordered by their position along the patient, the highest first (for an axial series the head), else by
    InstanceNumber, else by name. What holds no image goes with what is SEPARATE, else with the first series, to be
    named there as unanswered. Raises InputError where there is nothing to read or too much of it.
    """
    return _read_given(paths, names).arrange(SERIES, related=related)


def gather_readings(
    paths: Sequence[Path], *, related: bool = False, owners: Callable[[Member], str] | None = None
) -> dict[str, tuple[Series, ...]]:
    """What is given as "series" and as "patient", each as `gather` would give it; one of the two where both are alike.

    A patient is what DICOM's identifiers, or `owners` where given, say of each slice; what says none is told apart as
    for series. A patient's slices stand series by series. Raises InputError as `gather` does, and what `owners` raises.
    """
    given = _read_given(paths, None, owners)
    series = given.arrange(SERIES, related=related)
    if related or not given.knows_patients:
        return {SERIES: series}
    patients = given.arrange(PATIENT)
    if {frozenset(one.members) for one in series} != {frozenset(one.members) for one in patients}:
        return {SERIES: series, PATIENT: patients}
    named = len(patients) > 1 and all(one.related for one in patients)
    return {PATIENT: patients} if named else {SERIES: series}


@dataclass(frozen=True)
class _Given:
    """Slices with their places and whose they are (None where nothing says so), and what holds no image."""

    placed: Sequence[Placed]
    owned: Sequence[str | None]
    unreadable: Sequence[Member]
    notes: Sequence[str]

    @property
    def knows_patients(self) -> bool:
        return any(self.owned)

    def arrange(self, by: str, *, related: bool = False) -> tuple[Series, ...]:
        """Its series or patients, the largest first, and last what stands alone, which takes what holds no image."""
        apart = self._tell_apart(by) or [_Group([])]
        odd = len(apart) - 1 if apart[-1].stand_alone else 0
        names = [f"{by} {number}" if len(apart) > 1 else by for number in range(1, len(apart) + 1)]
        found = tuple(
            _arrange(group, by, self.unreadable if place == odd else [], names[place], self.notes, related)
            for place, group in enumerate(apart)
        )
        return found if by == SERIES else tuple(self._say_unknown(one) for one in found)

    def _say_unknown(self, patient: Series) -> Series:
        """A patient that no slice names is said to be taken for one."""
        known = {
            (member.path, member.entry) for (member, _), owner in zip(self.placed, self.owned, strict=True) if owner
        }
        if not patient.related or any((member.path, member.entry) in known for member in patient.members):
            return patient
        return replace(patient, facts=f"{patient.facts}; no patient is named, its folder or file is taken for one")

    def _tell_apart(self, by: str) -> list[_Group]:
        """The slices of each series or patient, most slices first, and behind them those that stand alone."""
        apart = dict[Any, list[Placed]]()
        for (member, place), owner in zip(self.placed, self.owned, strict=True):
            stored = (member.path, member.folder) if member.entry is not None or place.frames > 1 else None
            told = place.series if by == SERIES else owner
            apart.setdefault(told or stored, []).append((member, place))
        loose = apart.pop(None, [])
        groups = [_Group(placed) for placed in apart.values()]
        single = [group for group in groups if group.slices == 1]
        # A patient of one slice is a patient, unless all are: then they are a table of files.
        if (loose or len(single) > 1) and (by == SERIES or len(single) == len(groups)):
            groups = [group for group in groups if group.slices > 1]
            loose += [pair for group in single for pair in group.placed]
        alone = [_Group(loose, stand_alone=True)] if loose else []
        return sorted(groups, key=lambda group: -group.slices) + alone


def _read_given(
    paths: Sequence[Path], names: Sequence[str] | None, owners: Callable[[Member], str] | None = None
) -> _Given:
    """The slices in files and archives, and where each of them stands. Raises InputError."""
    shown = [printable(name) for name in names or [path.name for path in paths]]
    found, notes = list[Member](), list[str]()
    for path, name in zip(paths, shown, strict=True):
        if is_archive(path):
            members, more = _look_into(path, name)
            found, notes = found + members, notes + more
        else:
            found.append(Member(name, path))
    if not found:
        raise InputError("no slice was given; give one, several, or a zip of a series.")
    if len(found) > MAX_ENTRIES:
        raise InputError(f"{len(found)} files, more than {MAX_ENTRIES}; give one series at a time.")
    with hold_all(member.archive for member in found):
        places = [_place_of(member) for member in found]
    placed = [(member, place) for member, place in zip(found, places, strict=True) if place.size is not None]
    unreadable = [member for member, place in zip(found, places, strict=True) if place.size is None]
    owned = [place.patient if owners is None else owners(member) for member, place in placed]
    return _Given(placed, owned, unreadable, notes)


@dataclass(frozen=True)
class Unit:
    """The slices of one series or patient, in their order. `name` numbers it, and is nobody's.

    `place` is the file or folder that its slices have in common, as the user named it.
    """

    name: str
    place: str
    members: tuple[Member, ...]


def gather_units(
    members: Sequence[Member], by: str, owners: Callable[[Member], str] | None = None
) -> tuple[tuple[Unit, ...], tuple[str, ...]]:
    """Slices by the series or patients that they are of, in the order of the first of each, and sentences to be said.

    `by` is "series" or "patient". `owners`, where given, names each slice's; "" for none. Else DICOM's identifiers tell
    them apart, and where a file has none its folder does, or the file itself where it holds several slices. What cannot
    be opened is with the others of its folder. Raises InputError for another `by`.
    """
    if by not in (SERIES, PATIENT):
        raise InputError(unknown("--by", by, ("slice", SERIES, PATIENT)))
    places, apart, folders = dict[tuple[Path, int | None], Place](), dict[Any, list[Placed]](), set[Any]()
    with hold_all(member.archive for member in members):
        for member in members:
            file = (member.path, member.entry)
            place = places[file] if file in places else places.setdefault(file, _place_of(member))
            key = _owner(member, place, by) if owners is None else owners(member)
            if isinstance(key, tuple):
                folders.add(key)
            apart.setdefault(key, []).append((member, place))
    found = [_unit(f"{by} {number}", placed) for number, placed in enumerate(apart.values(), 1)]
    return tuple(found), _said(by, apart, folders)


def _owner(member: Member, place: Place, by: str) -> str | tuple[Path, str]:
    """What tells the slice's series or patient: an identifier, or a place on disk."""
    told = place.patient if by == PATIENT else place.series
    if told:
        return told
    if place.frames > 1:
        return member.path, f"{member.entry}"
    return (member.path, member.folder) if member.entry is not None else (member.path.parent, "")


def _said(by: str, apart: Mapping[Any, Sequence[Placed]], folders: Collection[Any]) -> tuple[str, ...]:
    if not folders:
        return ()
    slices = sum(len(apart[key]) for key in folders)
    counted = "1 slice says" if slices == 1 else f"{slices} slices say"
    held = "folder or file" if len(folders) == 1 else f"{len(folders)} folders or files"
    taken = "is taken for one" if len(folders) == 1 else "are taken for one each"
    return (f"{counted} no {by}: the {held} that hold{'s' * (len(folders) == 1)} them {taken}",)


def _unit(name: str, placed: Sequence[Placed]) -> Unit:
    """A unit with its slices in order: series by series, and within each as `gather` orders them."""
    ordered = [member for member, _ in _in_order(placed, _series_or_folder)[0]]
    names = [PurePosixPath(member.name.partition("#")[0]) for member in ordered]
    common = os.path.commonpath([*names]) if len(set(names)) > 1 and _comparable(names) else str(names[0])
    return Unit(name, common or ".", tuple(ordered))


def _series_of(one: Placed) -> Any:
    return one[1].series


def _series_or_folder(one: Placed) -> Any:
    member, place = one
    return place.series or (member.path.parent, member.folder)


def _whole(_: Placed) -> Any:
    return None


def _in_order(
    placed: Sequence[Placed], series_of: Callable[[Placed], Any], *, by_name: bool = False
) -> tuple[list[Placed], str, bool]:
    """Slices series by series, each in order; the order's name, and whether several lie at one position."""
    series = dict[Any, list[Placed]]()
    for pair in placed:
        series.setdefault(series_of(pair), []).append(pair)
    ordered, orders, odd = list[Placed](), list[str](), False
    for own in series.values():
        places = [Place() if by_name else place for _, place in own]
        keys, order = _order(places, [member.name for member, _ in own])
        ordered += [own[index] for index in sorted(range(len(own)), key=keys.__getitem__)]
        orders.append(order)
        odd |= order == "by position" and len(set(keys)) < len(keys)
    named = " and ".join(dict.fromkeys(orders))
    return ordered, f"series by series, {named}" if len(series) > 1 else named, odd


def _comparable(names: Sequence[PurePosixPath]) -> bool:
    return len({name.is_absolute() for name in names}) == 1


def slices_in(path: Path, name: str) -> tuple[list[Member], list[str]]:
    """Every slice of one file, each to be answered by itself, and clauses on what was passed over. Raises SliceError.

    The file itself; its frames, pages or axial slices where there are several; or those of each entry of a zip, whose
    names begin with the zip's.
    """
    members, notes = _look_into(path, name) if is_archive(path) else ([Member(name, path)], [])
    named = [replace(one, name=_place_in_archive(one, name)) for one in members]
    with hold_all(member.archive for member in named):
        return [frame for member in named for frame in _frames_of(member)], notes


def _place_in_archive(member: Member, name: str) -> str:
    return name if member.entry is None else printable(PurePosixPath(name) / member.folder / member.name)


def _frames_of(member: Member) -> list[Member]:
    """A member for each frame; of more than can be answered the reader asks which."""
    frames = _place_of(member).frames
    return [_frame_of(member, frame) for frame in range(frames)] if 1 < frames <= MAX_FRAMES else [member]


def _head_first(place: Place) -> Sequence[int]:
    """A file's frames in the order of their positions, the highest first, where it tells them; else as stored."""
    frames = range(max(1, place.frames))
    return sorted(frames, key=lambda frame: -place.positions[frame]) if len(place.positions) == len(frames) else frames


def _look_into(path: Path, name: str) -> tuple[list[Member], list[str]]:
    """The entries of an archive that may be slices, and a clause on the others. Raises SliceError."""
    archive = Archive(path, name)
    entries, passed = archive.slices()
    members = [Member(entry.name, path, entry.index, folder=entry.folder, archive=archive) for entry in entries]
    others = "one other file" if passed == 1 else f"{passed} other files"
    return members, [f"{others} in {name} passed over"] if passed else []


@dataclass(frozen=True)
class _Group:
    """Slices of one series; or those that `stand_alone`, each without another of its own."""

    placed: Sequence[Placed]
    stand_alone: bool = False

    @property
    def slices(self) -> int:
        return sum(max(1, place.frames) for _, place in self.placed)


def _arrange(
    group: _Group, by: str, unreadable: Sequence[Member], name: str, notes: Sequence[str], related: bool
) -> Series:
    """One series or patient in order, a member a frame, what holds no image behind. Raises InputError."""
    separate = group.stand_alone and not related and len(group.placed) + len(unreadable) > 1
    placed, order, odd = _in_order(group.placed, _series_of if by == PATIENT else _whole, by_name=separate)
    if len(placed) + len(unreadable) == 1:
        order = "by position" if placed and placed[0][1].positions else "as stored in the file"
    members, count = _members_of(placed)
    facts = _describe(count, [place for _, place in placed])
    thinned = _thinned(len(members), count)
    members += sorted(unreadable, key=lambda member: _natural(member.name))
    more = ["several slices lie at one position: this may be more than one series"] if odd else []
    name = SEPARATE if separate else name
    return Series(tuple(members), order, (*notes, *more, *thinned), name, facts, related=not separate)


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
        chosen = _head_first(place)[-before % step :: step]
        members += [member for _ in chosen] if frames == 1 else [_frame_of(member, frame) for frame in chosen]
        before += frames
    return members, count


def _frame_of(member: Member, frame: int) -> Member:
    name = f"{member.name}#{frame}"  # from 0, as a corpus names the slices of a file
    return Member(name, member.path, member.entry, frame, archive=member.archive)


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
    gaps = np.abs(np.diff([position for place in places for position in _positions_of(place)]))
    if len(gaps) and len({place.normal for place in places}) == 1 and np.median(gaps) > 0:
        said += f", {np.median(gaps):.3g} mm apart"
    if len(thick) == 1 and (thickness := next(iter(thick))):
        said += f", {thickness:.3g} mm thick"
    return said


def _positions_of(place: Place) -> Sequence[float]:
    return sorted(place.positions) or ([] if place.position is None else [place.position])


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
