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
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ct_xception.errors import printable

SPLITS = ("train", "validation", "test")
IGNORED_SPLIT = "ignore"
_SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "valid": "validation", "val": "validation", "validation": "validation", "validate": "validation",
    "dev": "validation",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test",
}  # fmt: skip
_SHORT_WORDS = {"tr": "train", "ts": "test", "te": "test", "va": "validation"}  # beside another word: imagesTr
# What people write beside the word of a split: train_set, seg_train, Test cases, Train_data, COCO's train2017.
_BESIDE = frozenset(
    "set sets data dataset datasets images image imgs img pictures folder split splits subset partition files samples "
    "cases scans scan slices ct cts xray mri dicom png jpg seg cls classification original raw new final the".split()
)
_GLUED = re.compile(
    "(train|training|trn|test|testing|tst|val|valid|validation|dev)(?:set|data|dataset|images?|imgs?|split|samples)?"
    r"(?:(?:19|20)\d\d)?"
)
_FOLD = re.compile(r"(cv|k|cross)?[\s_-]*folds?[\s_-]*\d+", re.IGNORECASE)

Found = tuple[str, str]  # the split, and the class as the source names it
Words = tuple[str, ...]


def split_of(name: str, split_map: Mapping[str, str]) -> str | None:
    """The split that a folder or a value of a split column means, None if it is no name of one."""
    if name in split_map:
        return split_map[name]
    parts = words(re.sub("(?<=[a-z])(?=[A-Z])", " ", name.strip()))
    told = [part for part in parts if part not in _BESIDE]
    if len(told) != 1:
        return None
    if len(parts) > 1 and told[0] in _SHORT_WORDS:
        return _SHORT_WORDS[told[0]]
    glued = _GLUED.fullmatch(told[0])
    return _SPLIT_WORDS.get(glued[1] if glued else told[0])


def split_in(name: str, split_map: Mapping[str, str]) -> str | None:
    """The split that the name of a list means: as `split_of`, or by its only word that is a split's."""
    told = {part: split for part in words(name) if (split := split_of(part, {}))}
    return split_of(name, split_map) or (next(iter(told.values())) if len(told) == 1 else None)


def is_fold(name: str) -> bool:
    """Whether a name is that of a part of a cross-validation, such as `fold1`."""
    return _FOLD.fullmatch(name.strip()) is not None


def display_name(name: str) -> str:
    """A class name for people: dots (but not decimal points) and underscores become spaces."""
    text = re.sub(r"(?<!\d)\.|\.(?!\d)|_", " ", unicodedata.normalize("NFC", name))
    return " ".join(text.split()) or name


def words(name: str) -> Words:
    """What two spellings of one class have in common: the words, without case, separators and zeros before a number."""
    parts = re.split(r"[\s._\-]+", unicodedata.normalize("NFC", name).casefold())
    return tuple(_number(part) for part in parts if part) or (name,)


def _number(part: str) -> str:
    return part.lstrip("0") or "0" if part.isdecimal() else part


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
    """Labels of a column mean themselves, unless `class_map` says otherwise; a label spelt twice is asked about."""
    names = sorted(set(found))
    given = {(split, name): class_map.get(f"{split}/{name}") or class_map.get(name) for split, name in names}
    table = ClassTable({one: mapped or one[1] for one, mapped in given.items()})
    table.problems += _unused(class_map, names)
    spellings: dict[str, set[str]] = {}
    for one, mapped in given.items():
        if not mapped:
            parts = re.split(r"[\s_]+", re.sub(r"^(\d+)\.0+$", r"\1", one[1].casefold()))
            spellings.setdefault(" ".join(map(_number, parts)), set()).add(one[1])
    table.problems += [_spelt_twice(sorted(names), "labels") for names in spellings.values() if len(names) > 1]
    return table


def several_labels(names: Iterable[str], class_map: Mapping[str, str]) -> list[str]:
    """Cells that seem to name several classes, as `A|B` where A or B is a label too: a classifier takes one of them."""
    rows = Counter(name for name in names if name not in class_map)
    parts = {name: _parts(name) for name in rows}
    used = Counter(part for several in parts.values() for part in set(several))
    found = [
        name for name, several in parts.items()
        if len(several) > 1 and (re.search(r"[|;/\[]", name) or all(used[part] > 1 for part in several))
        and any(used[part] > 1 for part in several)
    ]  # fmt: skip
    if not found:
        return []
    said = f"{sum(rows[name] for name in found)} rows name several classes in one cell, such as {printable(found[0])!r}"
    remedy = (
        f"--exclude '{_between(found)}' leaves them out, --class_map '{printable(found[0])}=CLASS' gives one a class"
    )
    return [f"{said}, and a classifier takes one; {remedy}"]


def _parts(name: str) -> list[str]:
    """The classes that a cell could name, of a list as Python writes it, too."""
    inner = re.sub(r"""^\[|\]$|['"]""", "", name) if name.startswith("[") else name
    return [part.strip() for part in re.split(r"\||;|/|,(?=\s*\S)|\s\+\s", inner)]


def _between(found: list[str]) -> str:
    """A pattern of --exclude for cells of several classes."""
    mark = next((mark for mark in "|;/,+" if all(mark in name for name in found)), "|")
    return f"*{mark}*"


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
    held = {split: [name for one, name in members if one == split] for split in SPLITS}
    return [_spelt_twice(names, f"{split} folders") for split, names in held.items() if len(names) > 1]


def _spelt_twice(names: list[str], what: str) -> str:
    quoted = " and ".join(repr(printable(name)) for name in names)
    times = "twice, or two" if len(names) == 2 else f"{len(names)} times, or several"
    said = f"the {what} {quoted} are one class spelt {times}"
    return f"{said}; settle it with --class_map {_quote(names[0])}=CLASS for each"


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
