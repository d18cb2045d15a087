"""The rows of a table as images: whose column says what, where the files are, and what cannot be right."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.cells import ONLY
from ct_xception.corpus.labels import IGNORED_SPLIT, SPLITS, is_fold, split_of
from ct_xception.corpus.layout import like_patients
from ct_xception.corpus.listing import UNLABELLED, CorpusOptions, Item, Listing
from ct_xception.corpus.tables.beside import take_columns
from ct_xception.corpus.tables.boxes import boxes_of_rows
from ct_xception.corpus.tables.columns import (
    COLUMNS,
    OWNERS,
    SPLIT_FLAGS,
    find_column,
    named,
    patient_like,
    plain,
    tabular_columns,
)
from ct_xception.corpus.tables.formats import text_of
from ct_xception.corpus.tables.places import find_elsewhere
from ct_xception.corpus.tables.row_labels import MISSING, check_label_columns, label_column, parts_of, read_labels
from ct_xception.corpus.tables.table_cells import SAMPLE, Rows
from ct_xception.errors import printable
from ct_xception.imaging.source import DICOM_SUFFIXES, IMAGE_SUFFIXES, VOLUME_SUFFIXES, find_files

if TYPE_CHECKING:
    import pandas

MOST_SPLITS = 12


def list_rows(
    table: pandas.DataFrame, path: Path, options: CorpusOptions, kind: str, split: str = "", corpus: Path | None = None
) -> Listing:
    """List a table's rows; `split` is that of its folder, where a folder says it and no column does.

    Files that are not where the table says are looked for below `corpus`, by default the table's own folder.
    """
    listing, rows = Listing(kind, exact_labels=True), Rows(table, path, options, corpus)
    listing.columns = rows.columns
    if not rows.root.is_dir():
        listing.problems.append(f"--image_root {printable(options.image_root or '')}: no such folder; name another")
        return listing
    for name in re.findall(r"\{([^{}]+)\}", options.image_template or ""):
        if name not in rows.columns:
            shown = ", ".join(map(printable, rows.columns))
            listing.problems.append(f"--image_template: {rows.name} has no column {printable(name)!r}; it has {shown}")
    roles = find_roles(rows, listing)
    labels = read_labels(rows, roles.get("label"), listing) if options.labelled else [UNLABELLED] * len(rows)
    if listing.problems:
        return listing
    listing.items = _items(rows, roles, labels, split)
    if "group" in roles:
        listing.group_origin = f"column {roles['group']}"
    if "split" not in roles and not split and options.labelled:
        _split_by_paths(listing, rows)
    if not listing.group_origin:
        _patients_by_paths(listing)
    _check_rows(listing, rows, roles)
    by_template = options.image_template is not None
    if not by_template and not rows.holds_bytes(roles["image"]):
        find_elsewhere(listing, rows.places)
    return listing


def find_roles(rows: Rows, listing: Listing) -> dict[str, str]:
    """{role: column}; what an option names and is not there is a problem, and so is a table without images."""
    found: dict[str, str] = {}
    shown = ", ".join(printable(column) for column in rows.columns)
    for role in COLUMNS:
        given = getattr(rows.options, f"{role}_column")
        column = _ROLES[role](rows) if given is None and role in _ROLES else find_column(rows.columns, role, given)
        if column is not None and (column not in found.values() or given is not None):
            found[role] = column
        elif given is not None and not (role == "label" and parts_of(given, rows.columns)):
            listing.problems.append(f"{rows.name} has no column {printable(given)!r} (--{role}_column); it has {shown}")
        elif role == "image" and rows.options.image_template is None:
            listing.problems.append(
                f"{rows.name} has no column known to hold the image; name one with --image_column: {shown}"
            )
    if rows.options.box_columns:
        listing.problems += boxes_of_rows(rows)[1]
    listing.problems += _taken_twice(rows, found)
    if not rows.options.labelled:
        return {role: column for role, column in found.items() if role not in ("label", "split", "mask")}
    _check_splits(rows, found, listing)
    check_label_columns(rows, found.get("label"), listing)
    return found


def _taken_twice(rows: Rows, found: Mapping[str, str]) -> list[str]:
    """A sentence for each of `--tabular_columns` that is the label, the split or another column with a role."""
    roles = {column: role for role, column in found.items() if role != "site"}  # which may be learnt from
    return [
        f"--tabular_columns: the column {printable(name)} of {rows.name} is that of the {roles[name]}; leave it out"
        for name in tabular_columns(rows.options.tabular_columns)
        if name in roles
    ]


def _image_column(rows: Rows) -> str | None:
    """The first column by name whose cells look like files, else any that does, else the first by name."""
    known = named(rows.columns, "image")
    for column in [*known, *(name for name in rows.columns if name not in known)]:
        if _looks_like_files(rows, column):
            return column
    if rows.options.image_template is not None or any(rows.places.by_name(name) for name in _sample(rows, known[:1])):
        return next(iter(known), None)
    return key_column(rows) or next(iter(known), None)


def key_column(rows: Rows) -> str | None:
    """A column that names series, patients, or something else once a row, which are folders or ids in the files."""
    keys = [*named(rows.columns, "series"), *patient_like(rows.columns)]
    said = {name for role in ("label", "split", "mask", "site") for name in named(rows.columns, role)}
    keys += [name for name in rows.columns if name not in said and len(set(rows.text(name))) == len(rows) > 1]
    return next((name for name in dict.fromkeys(keys) if rows.places.knows(rows.text(name))), None)


def _sample(rows: Rows, columns: Sequence[str]) -> list[str]:
    return [name for column in columns for name in rows.text(column)[:SAMPLE] if name]


def _looks_like_files(rows: Rows, column: str) -> bool:
    cells = [cell for cell in rows.cells(column)[:SAMPLE] if cell is not None]
    if any(isinstance(cell, (bytes, Mapping)) for cell in cells):
        return any(isinstance(cell, bytes) or "bytes" in cell or "path" in cell for cell in cells)
    names = [text_of(cell).lower() for cell in cells if text_of(cell)]
    known = tuple(IMAGE_SUFFIXES | DICOM_SUFFIXES | VOLUME_SUFFIXES)
    return bool(names) and sum(name.endswith(known) for name in names) * 2 > len(names)


def _split_column(rows: Rows) -> str | None:
    """The column that goes by a split's name, or else the only one whose values all do."""
    known = [name for name in named(rows.columns, "split") if not _numbers(rows, name)]
    return next(iter(known), None) or next(iter(_split_like(rows)), None)


def _numbers(rows: Rows, column: str) -> bool:
    """Whether a column such as `fold` numbers the parts of a cross-validation."""
    values = {value for value in rows.text(column) if value}
    return bool(values) and all(value.isdigit() for value in values) and not values <= set(rows.options.split_map)


def _split_like(rows: Rows) -> list[str]:
    """Columns of text all of whose values are names of splits."""
    texts = [name for name in rows.columns if not rows.holds_bytes(name)]
    return [
        name for name in texts
        if (values := set(rows.text(name))) and len(values) <= MOST_SPLITS
        and all(split_of(value, rows.options.split_map) for value in values)
    ]  # fmt: skip


_ROLES = {"image": _image_column, "label": label_column, "split": _split_column}


def _check_splits(rows: Rows, found: Mapping[str, str], listing: Listing) -> None:
    """Several columns that could say the splits are asked about; one of folds that was not taken is named."""
    if rows.options.split_column is None:
        several = [name for name in _split_like(rows) if rows.text(name) != rows.text(found.get("split", name))]
        if several and "split" in found:
            both = " and ".join(printable(name) for name in [found["split"], *several])
            listing.problems.append(f"{rows.name} has several columns of splits, {both}; name one with --split_column")
        _name_half_splits(rows, found, listing)
        _name_flags(rows, found, listing)
        folds = [name for name in named(rows.columns, "split") if name != found.get("split") and _numbers(rows, name)]
        for name in folds:
            values = sorted({value for value in rows.text(name) if value}, key=lambda value: (len(value), value))[:12]
            listing.untaken.append(
                f"the column {printable(name)} looks like splits ({', '.join(map(printable, values))}) and is not "
                f"used; use it with --split_column {printable(name)} --split_map {values[0]}=test and so on"
            )


def _name_flags(rows: Rows, found: Mapping[str, str], listing: Listing) -> None:
    """Columns that say with zeros and ones whether an image is in a split."""
    for name in rows.columns if "split" not in found else ():
        values = set(rows.text(name)) if plain(name) in SPLIT_FLAGS else set()
        if values and values <= {"0", "1", "True", "False", "true", "false"}:
            split = SPLIT_FLAGS[plain(name)]
            other = "test" if split == "train" else "train"
            told = " ".join(f"{one}={split if one in ('1', 'True', 'true') else other}" for one in sorted(values))
            listing.untaken.append(
                f"the column {printable(name)} looks like splits ({', '.join(sorted(values))}) and is not used; use it "
                f"with --split_column {printable(name)} --split_map {told}"
            )


def _name_half_splits(rows: Rows, found: Mapping[str, str], listing: Listing) -> None:
    """Columns some of whose few values are names of splits."""
    for name in rows.columns:
        values = sorted(set(rows.text(name))) if name not in found.values() and not rows.holds_bytes(name) else []
        told = [value for value in values if split_of(value, rows.options.split_map)]
        if told and len(told) < len(values) <= MOST_SPLITS:
            other = next(value for value in values if value not in told)
            listing.untaken.append(
                f"the column {printable(name)} looks like splits ({', '.join(map(printable, values))}) and is not "
                f"used; use it with --split_column {printable(name)} --split_map '{printable(other)}=test' and so on"
            )


def _items(rows: Rows, roles: Mapping[str, str], labels: Sequence[str], split: str) -> list[Item]:
    cells = rows.cells(roles["image"]) if "image" in roles and rows.options.image_template is None else None
    texts = {role: rows.text(roles[role]) for role in ("group", "series", "site", "split", "mask") if role in roles}
    others = [name for name in patient_like(rows.columns) if name not in (roles.get("group"), roles.get("label"))]
    frames, boxes = _frames(rows), boxes_of_rows(rows)[0] if rows.options.box_columns else []
    beside = take_columns({name: rows.text(name) for name in rows.columns if not rows.holds_bytes(name)}, rows.options)
    items = []
    for row, label in enumerate(labels):
        item = _row_item(cells[row], row, rows) if cells is not None else _template_item(row, rows)
        item.found = label
        item.group, item.series, item.site = (texts[role][row] if role in texts else "" for role in OWNERS)
        item.split = texts["split"][row] if "split" in texts else split or "train"
        item.mask = rows.file(texts["mask"][row]) if "mask" in texts else None
        item.frame = frames[row] if frames else ONLY
        item.boxes = (box,) if boxes and (box := boxes[row]) is not None else ()
        item.others = {name: rows.text(name)[row] for name in others}
        item.tabular = beside[row]
        items += _images_in(item)
    return items


def _frames(rows: Rows) -> list[int]:
    """The slices, from 0, that a column `frame` names in files that hold several; empty where there is none."""
    column = next((name for name in rows.columns if plain(name) == "frame"), None)
    values = rows.text(column) if column is not None else []
    whole = all(re.fullmatch(r"-1|[0-9]{1,6}", value) for value in values)
    return [int(value) for value in values] if whole else []


def _split_by_paths(listing: Listing, rows: Rows) -> None:
    """The splits that the folders of all paths name, where no column does: `train/a/1.png`."""
    told: dict[Item, str] = {}
    for item in listing.items:
        parts = item.source.replace("\\", "/").split("/")[:-1]
        splits = [split for part in parts if (split := split_of(part, rows.options.split_map))]
        told |= {item: splits[-1]} if splits else {}
    if len(told) == len(listing.items) and "train" in told.values():
        for item, split in told.items():
            item.split = split
    elif told:
        listing.untaken.append(
            f"{len(told)} of {len(listing.items)} paths of {rows.name} lie in folders called as splits are, which are "
            "not used; add a column split"
        )


def _patients_by_paths(listing: Listing) -> None:
    """The outermost folders of all paths that look like patients': `data/patient00001/study1/view.jpg`."""
    ways = {item: item.source.replace("\\", "/").split("/")[:-1] for item in listing.items}
    for depth in range(min(map(len, ways.values()), default=0)):
        names = {way[depth] for way in ways.values()}
        if len(names) > 1 and like_patients(names) and not any(split_of(name, {}) for name in names):
            for item, way in ways.items():
                item.folder = item.folder or "/".join(way[: depth + 1])
            return


def _images_in(item: Item) -> list[Item]:
    """An item for each image of the folder that a row names, as a table of patients does; the item itself otherwise."""
    if item.path is None or item.source in ("", ".") or not item.path.is_dir():
        return [item]
    files = find_files(item.path).files
    return [
        Item(printable(f"{item.source}/{file.relative_to(item.path).as_posix()}"), item.split, item.found, item.group,
             item.series, file, row=item.row, folder="" if item.group else item.source, others=item.others,
             tabular=item.tabular)
        for file in files
    ]  # fmt: skip


def _row_item(image: Any, row: int, rows: Rows) -> Item:
    """An item from a cell: a path, the bytes of a file, or both as `datasets` stores them."""
    if isinstance(image, Mapping):
        name, content = image.get("path"), image.get("bytes")
    else:
        name, content = (None, image) if isinstance(image, bytes) else (text_of(image), None)
    if content is not None:
        return Item(printable(name or f"row {row}"), "", "", content=bytes(content), row=row)
    return Item(printable(name or ""), "", "", path=rows.file(str(name or "")), row=row)


def _template_item(row: int, rows: Rows) -> Item:
    """An item by --image_template, whose braces name columns."""
    template = rows.options.image_template or ""
    name = re.sub(r"\{([^{}]+)\}", lambda match: rows.text(match[1])[row] if match[1] in rows.columns else "", template)
    return Item(printable(name), "", "", path=rows.file(name), row=row)


def _check_rows(listing: Listing, rows: Rows, roles: Mapping[str, str]) -> None:
    """Settle the splits of a table's rows and find what is wrong with them, each fault in one sentence."""
    faults: dict[str, list[int]] = {}
    unknown: Counter[str] = Counter()
    kept: dict[tuple[str, int], Item] = {}
    used: list[Item] = []
    image, label = roles.get("image", "the image"), roles.get("label", "the label")
    for item in listing.items:
        split = split_of(item.split, rows.options.split_map)
        if rows.options.excludes(item.found, item.source):
            listing.passed_over["excluded by name"] += 1
            continue
        if split is None:
            unknown[item.split] += 1
        missing = rows.options.labelled and MISSING.fullmatch(item.found)
        if missing and item.found not in rows.options.class_map:
            faults.setdefault(f"no value in {label}", []).append(item.row)
        if not item.source:
            faults.setdefault(f"no value in {image}", []).append(item.row)
            continue
        if split != IGNORED_SPLIT and (fault := _said_before(item, kept, rows.options)) is not None:
            faults.setdefault(fault, []).append(item.row)
        elif split in SPLITS:
            listing.split_names[item.split] = str(split)
            item.split = str(split)
            used.append(item)
        elif split == IGNORED_SPLIT:
            listing.passed_over["in a split to be ignored"] += 1
    listing.items = used
    if repeated := faults.pop(REPEATED, None):
        listing.notes.append(f"{len(repeated)} rows of {rows.name} repeat an earlier one, and are read once")
    _say_faults(listing, rows, faults, unknown, roles.get("label"))


REPEATED = "an earlier row's words"


def _said_before(item: Item, kept: dict[tuple[str, int], Item], options: CorpusOptions) -> str | None:
    """What is wrong with a row whose image an earlier one has named: REPEATED where it says the same; None if new."""
    place = item.source if item.path is None else os.path.normpath(item.path)
    other = kept.setdefault((place, item.frame), item)
    if other is item:
        return None
    said = {(one.found, one.group, split_of(one.split, options.split_map)) for one in (item, other)}
    if len(said) > 1:
        return "an image that an earlier row has named otherwise"
    other.boxes += item.boxes
    return REPEATED


def _leave_out(rows: Rows, found: Sequence[int], column: str) -> str:
    values = dict.fromkeys(rows.text(column)[row] for row in found)
    return " (--exclude " + " ".join(f"'{glob.escape(printable(value))}'" for value in values) + " leaves them out)"


def _say_faults(
    listing: Listing, rows: Rows, faults: Mapping[str, list[int]], unknown: Counter[str], label: str | None
) -> None:
    for fault, found in faults.items():
        shown = ", ".join(str(row + 1) for row in found[:5]) + (", …" if len(found) > 5 else "")
        remedy = "mend or remove them" + (_leave_out(rows, found, label) if label and label in fault else "")
        listing.problems.append(f"{rows.name} has {fault} in {len(found)} rows (row {shown}); {remedy}")
    folds = [value for value in unknown if is_fold(value)]
    if len(folds) > 1:
        example = " ".join(f"{printable(name)}={split}" for name, split in zip(folds, ("test", "train"), strict=False))
        listing.problems.append(
            f"the splits {', '.join(map(printable, folds))} of {rows.name} are parts of a cross-validation; say what "
            f"each is with --split_map {example} and so on (or ignore)"
        )
    for value, times in unknown.items() if len(folds) < 2 else ():
        listing.problems.append(
            f"{rows.name} has the split {printable(value)!r} in {times} rows, which is no known name of one; "
            f"settle it with --split_map {printable(value) or 'NAME'}={'test' if is_fold(value) else 'train'} "
            "(or validation, test, ignore)"
        )
