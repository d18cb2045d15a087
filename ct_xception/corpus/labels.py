"""Names of splits and classes: what a folder or column calls them, and what they mean.

Corpora name one class differently in their splits (`adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib` in one,
`adenocarcinoma` in another), and stock loaders then make two classes of it. Here two names mean one class if they are
made of the same words, or if one begins with all the words of the other and no split holds both. What that leaves open
is refused, with the option that settles it; nothing is decided by resemblance alone.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ct_xception.errors import printable

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "validation", "val": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

Found = tuple[str, str]  # the split, and the class as the source names it
Words = tuple[str, ...]


def split_of(name: str, split_map: Mapping[str, str]) -> str | None:
    """The split that a folder or a value of a split column means, None if it is no name of one."""
    return split_map.get(name) or SPLIT_NAMES.get(name.strip().casefold())


def display_name(name: str) -> str:
    """A class name for people: dots (but not decimal points) and underscores become spaces."""
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|_", " ", unicodedata.normalize("NFC", name))
    return " ".join(text.split()) or name


def words(name: str) -> Words:
    """What two spellings of one class have in common: the words, without case and separators."""
    parts = re.split(r"[\s._\-]+", unicodedata.normalize("NFC", name).casefold())
    return tuple(part for part in parts if part) or (name,)


@dataclass
class ClassTable:
    """Which class each name found means; `problems` are sentences for the user, and leave the table incomplete."""

    classes: dict[Found, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def label_names(self) -> list[str]:
        """The classes in the order of their indices: alphabetical, without case."""
        return sorted(set(self.classes.values()), key=lambda name: (name.casefold(), name))


def exact_classes(found: Iterable[Found], class_map: Mapping[str, str]) -> ClassTable:
    """Labels of a column mean themselves, unless `class_map` says otherwise."""
    names = sorted(set(found))
    table = ClassTable({(split, name): class_map.get(name, name) for split, name in names})
    table.problems += _unused(class_map, names)
    return table


def matched_classes(found: Iterable[Found], class_map: Mapping[str, str]) -> ClassTable:
    """Class folders of several splits, matched by their words. `class_map` is asked first: FOLDER or SPLIT/FOLDER."""
    names = sorted(set(found), key=lambda one: (SPLITS.index(one[0]), one[1]))
    table = ClassTable(problems=_unused(class_map, names))
    given = {(split, name): class_map.get(f"{split}/{name}") or class_map.get(name) for split, name in names}
    families: dict[Words, list[Found]] = {}
    for one in names:
        families.setdefault(words(given[one] or one[1]), []).append(one)
    settled = {words(name) for name in given.values() if name}
    for members in _merge(families, settled, table.problems):
        table.problems += _twins([one for one in members if not given[one]])
        shortest = min(members, key=lambda one: len(words(one[1])))
        chosen = next((name for one in members if (name := given[one])), None)
        table.classes |= dict.fromkeys(members, chosen or display_name(printable(shortest[1])))
    return table


def _unused(class_map: Mapping[str, str], names: list[Found]) -> list[str]:
    known = {name for _, name in names} | {f"{split}/{name}" for split, name in names}
    problems = []
    for key in class_map:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {printable(near[0])!r}?" if near else f"there are {_listed(sorted(known))}"
            problems.append(f"--class_map names {printable(key)!r}, which the corpus does not have; {hint}")
    return problems


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = [printable(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _twins(members: list[Found]) -> list[str]:
    """Two folders of one split may mean one class, but only the user can say so."""
    problems = []
    for split in SPLITS:
        twins = [name for one, name in members if one == split]
        if len(twins) > 1:
            quoted = " and ".join(repr(printable(name)) for name in twins)
            said = f"the {split} folders {quoted} are one class spelt twice, or two"
            problems.append(f"{said}; settle it with --class_map {_quote(twins[0])}=CLASS for each")
    return problems


def _quote(name: str) -> str:
    text = printable(name)
    return f"'{text}'" if " " in text else text


def _merge(families: dict[Words, list[Found]], settled: set[Words], problems: list[str]) -> list[list[Found]]:
    """Join every family, unless it is settled, to the one whose words it begins with, where no split holds both."""
    merged: dict[Words, list[Found]] = {}
    for longer in sorted(families, key=len):
        held = families[longer]
        shorter = [one for one in merged if longer not in settled and _continues(longer, held, one, merged[one])]
        rivals = [one for one in families if shorter and _rival(one, longer, shorter[0], families)]
        if len(shorter) > 1:
            choices = " or of ".join(_place(merged[one]) for one in shorter)
            said = f"{_place(families[longer])} could be the class of {choices}"
            problems.append(f"{said}; settle it with --class_map {_quote(families[longer][0][1])}=CLASS")
        elif rivals and longer < min(rivals):  # said once, by the first of them
            both = " and ".join(_place(families[one]) for one in [longer, *rivals])
            said = f"{both} could each be the class of {_place(families[shorter[0]])}"
            problems.append(f"{said}; settle it with --class_map {_quote(families[longer][0][1])}=CLASS for each")
        if shorter:
            merged[shorter[0]] = merged[shorter[0]] + families[longer]
        else:
            merged[longer] = list(families[longer])
    return list(merged.values())


def _continues(longer: Words, of_longer: list[Found], shorter: Words, of_shorter: list[Found]) -> bool:
    apart = {split for split, _ in of_longer}.isdisjoint(split for split, _ in of_shorter)
    return longer[: len(shorter)] == shorter and apart


def _rival(other: Words, longer: Words, shorter: Words, families: dict[Words, list[Found]]) -> bool:
    """Whether another family, which lies in a split with `longer`, could be the class of `shorter` just as well."""
    together = {split for split, _ in families[other]} & {split for split, _ in families[longer]}
    if other in (longer, shorter) or not together:
        return False
    return _continues(other, families[other], shorter, families[shorter])


def _place(members: list[Found]) -> str:
    return repr(printable("/".join(members[0])))
