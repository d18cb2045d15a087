"""Whose each image is: what the source says, else DICOM's PatientID, else a folder like a patient's, else its series.

One patient on every image tells nobody apart, and is not taken. What looks like patients and was not taken is said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ct_xception.corpus.inspection import Inspected
from ct_xception.corpus.listing import Item, Listing
from ct_xception.corpus.tables.columns import named
from ct_xception.errors import printable
from ct_xception.imaging.position import NOBODY

# A file's name that begins with a patient: a word for one and a number, or a long number, and then one of its slices.
_FILE_PATIENT = re.compile(
    r"((?:p|pat|pt|patient|subject|subj|sub|case|person|participant)[\s_.-]*\d+|[a-z]{0,4}[_-]?\d{3,})[_-]+\D*\d+.*",
    re.IGNORECASE,
)
# A series' number, which begins anew with every patient; a UID or any other name stands for one series everywhere.
_SERIES_NUMBER = re.compile(r"(s|se|ser|series)?[\s_.-]*\d{1,4}(\.0)?", re.IGNORECASE)
_NUMBERED = re.compile(r"(\D*?)0*(\d+)(?:\.0+)?")
_NO_PATIENT = re.compile("(img|image|im|slice|scan|frame|file|pic|train|test|val|copy|ct|dcm|mask)", re.IGNORECASE)


def settle_groups(listing: Listing, inspected: Sequence[Inspected]) -> None:
    """Give every image its group and its series, and say in the listing where they are from and what was not taken."""
    items = listing.items
    told = dict(zip(items, inspected, strict=True))
    for item in items:
        item.series = item.series or told[item].series
        if NOBODY.fullmatch(item.group):
            item.group = ""
    _drop_the_same(listing, listing.group_origin)
    for name in named({name: None for item in items for name in item.others}, "group"):
        _take(listing, f"column {name}", partial(_other, name))
    ways: tuple[tuple[str, Callable[[Item], str]], ...] = (
        ("DICOM PatientID", lambda item: told[item].patient),
        ("folders like patients'", lambda item: item.folder),
        ("DICOM StudyInstanceUID", lambda item: told[item].study),
        ("series", lambda item: "" if _SERIES_NUMBER.fullmatch(item.series) else item.series),
    )
    for origin, way in ways:
        _take(listing, origin, way)
    _name_untaken(listing, told)
    _join_spellings(listing)
    alone = [item for item in items if not item.group]
    if alone:
        listing.notes.append(f"nothing says whose image it is for {len(alone)} of {len(items)}; each stands alone")
        _hint_at_names(listing, alone)
    if any(_SERIES_NUMBER.fullmatch(item.series) for item in alone):
        listing.untaken.append("series are numbers, which begin anew with every patient, and tell no patients apart")
    for item in items:
        item.group = item.group or item.source
        if _SERIES_NUMBER.fullmatch(item.series):
            item.series = f"{item.group}/{item.series}"


def settle_sites(listing: Listing) -> None:
    """Number the sites in the order of their names, which are told in `details` alone; what tells none is not taken.

    One site for all parts nothing, and one for nearly every patient is no site. An image without one is of site "".
    """
    names = sorted({item.site for item in listing.items if item.site})
    patients = {item.group for item in listing.items}
    if len(names) > max(1, len(patients) // 2):
        listing.untaken.append(
            f"the column of sites has {len(names)} values for {len(patients)} groups, so it names none, and is not used"
        )
        names = []
    numbers = {name: str(number) for number, name in enumerate(names, 1)} if len(names) > 1 else {}
    for item in listing.items:
        item.site = numbers.get(item.site, "")
    listing.sites = len(numbers)
    listing.details += [f"site {number} is {printable(name)!r}" for name, number in numbers.items()]


def _other(name: str, item: Item) -> str:
    return item.others.get(name, "")


def _drop_the_same(listing: Listing, origin: str) -> None:
    """One group on every image is none: it is said, and taken away."""
    groups = {item.group for item in listing.items}
    if len(listing.items) > 1 and len(groups) == 1 and "" not in groups:
        listing.details.append(f"{origin} is {printable(groups.pop())!r} on every image")
        listing.untaken.append(
            f"{origin or 'the patient'} is the same on every image, tells nobody apart and is not used"
        )
        listing.group_origin = ""
        for item in listing.items:
            item.group = ""
    elif origin and groups == {""}:
        listing.untaken.append(
            f"{origin} tells no patient of any image (it is empty, or says anonymous), and is not used"
        )
        listing.group_origin = ""


def _take(listing: Listing, origin: str, way: Callable[[Item], str]) -> None:
    """Take groups one way for the images that have none, unless it says the same of all of them, or nothing."""
    wanting = [item for item in listing.items if not item.group]
    found = {item: value for item in wanting if (value := way(item)) and not NOBODY.fullmatch(value)}
    said = [value for item in wanting if (value := way(item))]
    if len(wanting) > 1 and len(wanting) == len(listing.items) and len(said) == len(wanting) and len(set(said)) == 1:
        listing.details.append(f"{origin} is {printable(said[0])!r} on every image")
        listing.untaken.append(f"{origin} is the same on every image, tells nobody apart and is not used")
        return
    if said and not found:
        listing.untaken.append(f"{origin} names nobody (it says anonymous or the like) and is not used")
    for item, value in found.items():
        item.group = value
    if found and origin.startswith("folders"):
        listing.notes.append(f"{len(set(found.values()))} folders look like patients' and are taken for them")
    if found and not listing.group_origin:
        listing.group_origin = origin


def _join_spellings(listing: Listing) -> None:
    """Patients that differ by case, blanks or zeros alone are one: apart, they would cross the splits unseen."""
    spellings: dict[str, list[str]] = {}
    for group in sorted({item.group for item in listing.items if item.group}):
        spellings.setdefault(folded(group), []).append(group)
    several = {name: names[0] for names in spellings.values() for name in names if len(names) > 1}
    for item in listing.items:
        item.group = several.get(item.group, item.group)
    if several:
        said = f"{len(set(several.values()))} patients are spelt in several ways (case, blanks, zeros)"
        listing.notes.append(f"{said}; each is taken for one")
        listing.details.append(f"patients spelt in several ways: {', '.join(map(printable, list(several)[:6]))}")


def folded(group: str) -> str:
    """A patient's name without what spellings differ by: case, blanks, zeros before a number."""
    text = " ".join(group.casefold().split())
    match = _NUMBERED.fullmatch(text)
    return f"{match[1]}{match[2]}" if match else text


def _name_untaken(listing: Listing, told: Mapping[Item, Inspected]) -> None:
    """Columns, and DICOM's PatientID, that join images which the groups that were taken set apart."""
    columns = list(dict.fromkeys(name for item in listing.items for name in item.others))
    found = {f"the column {printable(name)}": [item.others.get(name, "") for item in listing.items] for name in columns}
    found["DICOM PatientID"] = [told[item].patient for item in listing.items]
    for what, values in found.items():
        crossed = _crossed(listing.items, values)
        if crossed:
            column = what.removeprefix("the column ")
            remedy = f"use it with --group_column '{column}'" if column != what else "leave the other out to use it"
            listing.untaken.append(
                f"{what} looks like patients and is not used, though it joins {crossed} groups that are apart; {remedy}"
            )


def _crossed(items: Sequence[Item], values: Sequence[str]) -> int:
    """How many groups share a value that some of several have; nothing where all images have the same."""
    held: dict[str, set[str]] = {}
    for item, value in zip(items, values, strict=True):
        if value and not NOBODY.fullmatch(value):
            held.setdefault(value, set()).add(item.group or item.source)
    return sum(len(groups) for groups in held.values() if len(groups) > 1) if len(held) > 1 else 0


def _hint_at_names(listing: Listing, alone: Sequence[Item]) -> None:
    """Names of files that begin as a patient's would, several slices each, are pointed at and never taken."""
    found: Counter[str] = Counter()
    for item in alone:
        name = item.source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        match = _FILE_PATIENT.fullmatch(name)
        if match and not _NO_PATIENT.match(match[1]):
            found[match[1]] += 1
    if 2 * sum(found.values()) > len(alone) and 1 < len(found) < sum(found.values()):
        listing.untaken.append(
            f"the names of {sum(found.values())} files begin like patients, {len(found)} of them, and are not used; "
            "use them with --group_pattern '([A-Za-z]*[_-]?[0-9]+)[_-][^/]*$'"
        )
        listing.details.append(f"files begin like patients: {', '.join(printable(name) for name in sorted(found)[:4])}")
