"""What a folder or a table holds, before a file of it is opened: every image with its split, class, group and name.

Folders: SPLIT/CLASS/…, CLASS/SPLIT/… or CLASS/…, with a metadata.csv or metadata.parquet beside them if there is one.
Tables: CSV, TSV or Parquet with a column of paths (or of bytes) and one of labels, found by the names in COLUMNS.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.labels import SPLITS, split_of
from ct_xception.errors import CorpusError, InputError, printable
from ct_xception.imaging.source import is_readable_name
from ct_xception.imaging.windows import Window

if TYPE_CHECKING:
    import datasets
    import pandas

# Names that a column of each role goes by, without case; the first one present is it, unless an option names another.
COLUMNS = {
    "image": "file_name filename file filepath file_path path image image_path image_file img".split(),
    "label": "label class class_name category diagnosis target finding".split(),
    "group": "group patient patient_id patientid subject subject_id case case_id study_uid studyinstanceuid".split(),
    "series": "series_uid seriesinstanceuid series_instance_uid".split(),
    "split": "split subset set partition".split(),
    "mask": "mask mask_path mask_file lesion_mask".split(),
}
METADATA = ("metadata.csv", "metadata.parquet")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
IGNORED_SPLIT = "ignore"


@dataclass(frozen=True)
class CorpusOptions:
    """How to read a corpus where its own names do not say enough.

    `class_map` is {folder or label: class} (a folder of one split alone: "train/folder"), `split_map` {folder or
    value: train, validation, test or ignore}. The columns name those of a table or a Hub dataset; masks are of tables
    alone. `group_pattern`
    is a regular expression searched in an image's relative path; its first group, or all it matches, is the patient.
    `window` and `frame` are those that the slices will be read with. `decode` is whether every image is decoded once,
    to find the damaged ones now.
    """

    class_map: Mapping[str, str] = field(default_factory=dict)
    split_map: Mapping[str, str] = field(default_factory=dict)
    image_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    series_column: str | None = None
    split_column: str | None = None
    mask_column: str | None = None
    group_pattern: str | None = None
    window: Window | None = None
    frame: int | None = None
    decode: bool = True

    def __post_init__(self) -> None:
        for name, split in self.split_map.items():
            if split != IGNORED_SPLIT and split not in SPLITS:
                allowed = f"{', '.join(SPLITS)} or {IGNORED_SPLIT}"
                raise InputError(f"--split_map {printable(name)}={printable(split)}: a split is {allowed}.")
        for name, label in self.class_map.items():
            if not label.strip():
                raise InputError(f"--class_map {printable(name)}= gives no class; write FOLDER=CLASS.")
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise InputError(f"--group_pattern {self.group_pattern!r} is no regular expression: {error}.") from None


@dataclass(eq=False)
class Item:
    """One image of a corpus: where it is, and what its source says of it. `content` is set where it lies in no file.

    `mask` is the picture of its lesion, None where there is none.
    """

    source: str
    split: str
    found: str
    group: str = ""
    series: str = ""
    path: Path | None = None
    content: bytes | None = None
    row: int = -1
    mask: Path | None = None


@dataclass(eq=False)
class Listing:
    """What a source holds; `problems` are sentences that must be mended, `notes` are worth knowing.

    `loaded` holds, by split, the one column `image` of a dataset whose images lie in Arrow tables rather than in files.
    """

    kind: str
    items: list[Item] = field(default_factory=list)
    exact_labels: bool = False
    group_origin: str = ""
    ignored_files: int = 0
    ignored_folders: list[str] = field(default_factory=list)
    split_names: dict[str, str] = field(default_factory=dict)
    empty_classes: list[tuple[str, str]] = field(default_factory=list)
    loaded: dict[str, datasets.Dataset] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def list_folder(root: Path, options: CorpusOptions) -> Listing:
    """List a folder's images; a metadata table with a label column says what they are, else their folders do."""
    inner = _unwrap(root, options)
    metadata = next((inner / name for name in METADATA if (inner / name).is_file()), None)
    table = None if metadata is None else _read_table(metadata)
    if metadata is not None and table is not None and (options.label_column or _column(table, "label", None)):
        listing = _list_rows(table, metadata, options, kind="folder")
        listing.notes.append(f"labels are those of {metadata.name}; files that it does not name are left out")
    else:
        listing = Listing("folder")
        _list_class_folders(inner, options, listing)
        if metadata is not None and table is not None:
            _join_metadata(table, metadata, options, listing)
    if inner != root:
        listing.notes.append(f"its only folder with others in it was read, {printable(inner.relative_to(root))}")
    return listing


def _unwrap(root: Path, options: CorpusOptions) -> Path:
    """Descend through folders that hold nothing but one folder, as unpacked archives do, if they end in a corpus."""
    inner = root
    while True:
        folders = _folders(inner)
        if len(folders) != 1 or split_of(folders[0].name, options.split_map) or any(_images(inner)):
            break
        inner = folders[0]
    corpus = len(folders) > 1 or (inner != root and folders) or any((inner / name).is_file() for name in METADATA)
    return inner if corpus else root


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries by name, without hidden ones (`.DS_Store`, `._image.png`) and archivers' own."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    return sorted(shown, key=lambda entry: entry.name)


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _visible(folder) if entry.is_dir()]


def _images(folder: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in _visible(folder) if not entry.is_dir() and is_readable_name(entry.path))


def _list_class_folders(root: Path, options: CorpusOptions, listing: Listing) -> None:
    folders = _folders(root)
    splits = {folder: split for folder in folders if (split := split_of(folder.name, options.split_map))}
    listing.ignored_files += _loose_files(root, listing, "no class folder")
    if not splits:
        for folder in folders:
            _list_class(folder, root, "train", options, listing)
    for folder in folders if splits else []:
        if splits.get(folder) in SPLITS:
            listing.split_names[folder.name] = splits[folder]
            listing.ignored_files += _loose_files(folder, listing, f"no class folder of {printable(folder.name)}")
            for class_folder in _folders(folder):
                _list_class(class_folder, root, splits[folder], options, listing)
        else:
            listing.ignored_folders.append(folder.name)
    _refuse_double_splits(listing, options.split_map)
    if not listing.items and not listing.empty_classes:
        listing.problems.append(
            f"{printable(root)} holds no class folders with images; make one folder a class, "
            "or give a CSV of paths and labels"
        )


def _loose_files(folder: Path, listing: Listing, where: str) -> int:
    """Count the files that lie in no class folder; images among them are worth a note."""
    files = [entry for entry in _visible(folder) if not entry.is_dir() and entry.name not in METADATA]
    images = sum(is_readable_name(entry.path) for entry in files)
    if images:
        listing.notes.append(f"{images} images lie in {where} and are left out")
    return len(files)


def _list_class(folder: Path, root: Path, split: str, options: CorpusOptions, listing: Listing) -> None:
    """All images below a class folder, whose own folders may be splits (CLASS/SPLIT/…) or anything."""
    inner = {sub: split_of(sub.name, options.split_map) for sub in _folders(folder)}
    by_split = bool(inner) and all(inner.values()) and not any(_images(folder))
    before = len(listing.items)
    for part, part_split in inner.items() if by_split else [(folder, split)]:
        if by_split:
            listing.split_names[part.name] = str(part_split)
        for path in _walk(part, listing, frozenset()) if part_split in SPLITS else []:
            name = path.relative_to(root).as_posix()
            listing.items.append(Item(printable(name), str(part_split), folder.name, path=path))
    if len(listing.items) == before:
        listing.empty_classes.append((split, folder.name))


def _walk(folder: Path, listing: Listing, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Images below a folder, links followed, but never into a folder that holds this one."""
    status = folder.stat()
    above = above | {(status.st_dev, status.st_ino)}
    for entry in _visible(folder):
        path = Path(entry.path)
        if entry.is_dir():
            inner = entry.stat()
            if (inner.st_dev, inner.st_ino) in above:
                listing.notes.append(f"{printable(path)} links to a folder that holds it and is left out")
            else:
                yield from _walk(path, listing, above)
        elif is_readable_name(path):
            yield path
        else:
            listing.ignored_files += 1


def _refuse_double_splits(listing: Listing, split_map: Mapping[str, str]) -> None:
    for split, times in Counter(listing.split_names.values()).items():
        names = [name for name, meant in listing.split_names.items() if meant == split]
        if times > 1 and not all(name in split_map for name in names):
            quoted = " and ".join(printable(name) for name in names)
            settled = f"--split_map {printable(names[0])}={IGNORED_SPLIT} (or name both {split})"
            listing.problems.append(f"the folders {quoted} both mean {split}; settle it with {settled}")


def list_table(path: Path, options: CorpusOptions) -> Listing:
    """List the rows of a CSV, TSV or Parquet file; paths are relative to it."""
    return _list_rows(_read_table(path), path, options, kind="table")


def _read_table(path: Path) -> pandas.DataFrame:
    import pandas

    try:
        if path.suffix.lower() == ".parquet":
            return pandas.read_parquet(path)
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        return pandas.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' and Arrow's parsing errors are ValueErrors
        reason = printable(" ".join(str(error).split()))[:200]
        problem = f"{printable(path)} cannot be read as a table ({reason}); save it as CSV in UTF-8"
        raise CorpusError([problem]) from error


def _column(table: pandas.DataFrame, role: str, given: str | None) -> str | None:
    """The column that an option names, or else the first known name for its role."""
    if given is not None:
        return given if given in table.columns else None
    lower = {str(name).strip().lower(): str(name) for name in reversed(table.columns)}
    return next((lower[name] for name in COLUMNS[role] if name in lower), None)


def _find_columns(table: pandas.DataFrame, name: str, options: CorpusOptions, problems: list[str]) -> dict[str, str]:
    found = {}
    shown = ", ".join(printable(column) for column in table.columns)
    for role in COLUMNS:
        given = getattr(options, f"{role}_column")
        column = _column(table, role, given)
        if column is not None:
            found[role] = column
        elif given is not None:
            problems.append(f"{name} has no column {printable(given)!r} (--{role}_column); it has {shown}")
        elif role in ("image", "label"):
            problems.append(f"{name} has no column known to hold the {role}; name one with --{role}_column: {shown}")
    return found


def _list_rows(table: pandas.DataFrame, path: Path, options: CorpusOptions, kind: str) -> Listing:
    listing = Listing(kind, exact_labels=True)
    columns = _find_columns(table, printable(path.name), options, listing.problems)
    if listing.problems:
        return listing
    values = {role: [_text(value) for value in table[columns[role]]] for role in columns if role != "image"}
    if "group" in columns:
        listing.group_origin = f"column {columns['group']}"
    for row, image in enumerate(table[columns["image"]].tolist()):
        item = _row_item(image, row, path.parent)
        item.found = values["label"][row]
        item.group = values["group"][row] if "group" in values else ""
        item.series = values["series"][row] if "series" in values else ""
        item.split = values["split"][row] if "split" in values else "train"
        item.mask = _in_folder(path.parent, values["mask"][row]) if "mask" in values else None
        listing.items.append(item)
    _check_rows(listing, printable(path.name), columns, options)
    return listing


def _text(value: Any) -> str:
    """A cell as text: nothing for a missing one, and no .0 after the whole numbers that a gap made floats."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _row_item(image: Any, row: int, folder: Path) -> Item:
    """An item from a cell: a path, the bytes of a file, or both as `datasets` stores them."""
    if isinstance(image, Mapping):
        name, content = image.get("path"), image.get("bytes")
    else:
        name, content = (None, image) if isinstance(image, bytes) else (_text(image), None)
    if content is not None:
        return Item(printable(name or f"row {row}"), "", "", content=bytes(content), row=row)
    return Item(printable(name or ""), "", "", path=_in_folder(folder, str(name or "")), row=row)


def _in_folder(folder: Path, name: str) -> Path | None:
    """The file that a cell names; None for an empty one."""
    if not name:
        return None
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _check_rows(listing: Listing, name: str, columns: Mapping[str, str], options: CorpusOptions) -> None:
    """Settle the splits of a table's rows and find what is wrong with them, each fault in one sentence."""
    faults: dict[str, list[int]] = {}
    unknown: Counter[str] = Counter()
    kept: dict[str, Item] = {}
    used: list[Item] = []
    for item in listing.items:
        split = split_of(item.split, options.split_map)
        if split is None:
            unknown[item.split] += 1
        if not item.found:
            faults.setdefault(f"no value in {columns['label']}", []).append(item.row)
        if not item.source:
            faults.setdefault(f"no value in {columns['image']}", []).append(item.row)
        elif split != IGNORED_SPLIT and kept.setdefault(item.source, item) is not item:
            faults.setdefault("an image that an earlier row has named", []).append(item.row)
        if split in SPLITS:
            listing.split_names[item.split] = str(split)
            item.split = str(split)
            used.append(item)
    listing.items = used
    for fault, rows in faults.items():
        shown = ", ".join(str(row + 1) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        listing.problems.append(f"{name} has {fault} in {len(rows)} rows (row {shown}); mend or remove them")
    for value, times in unknown.items():
        listing.problems.append(
            f"{name} has the split {printable(value)!r} in {times} rows, which is no known name of one; "
            f"settle it with --split_map {printable(value) or 'NAME'}=train (or validation, test, ignore)"
        )


def _join_metadata(table: pandas.DataFrame, path: Path, options: CorpusOptions, listing: Listing) -> None:
    """Groups and masks for images in class folders, from a table beside them that has no labels."""
    image, group = _column(table, "image", options.image_column), _column(table, "group", options.group_column)
    mask = _column(table, "mask", options.mask_column)
    for role, given, found in (("group", options.group_column, group), ("mask", options.mask_column, mask)):
        if given is not None and found is None:
            shown = ", ".join(printable(column) for column in table.columns)
            listing.problems.append(f"{path.name} has no column {printable(given)!r} (--{role}_column); it has {shown}")
    if image is None or (group is None and mask is None):
        listing.notes.append(f"{path.name} has no columns of images and groups and is left out")
        return
    rows = _rows_of(table[image].tolist(), listing.items)
    if not rows and len(table):
        example = printable(_text(table[image].iloc[0]))
        said = f"{path.name} names none of the images (it has {example!r} where they are {listing.items[0].source!r})"
        if options.group_column or options.mask_column:
            listing.problems.append(f"{said}; give paths relative to it")
        else:
            listing.notes.append(f"{said} and is left out")
    if not rows:
        return
    if len(rows) < len(listing.items):
        listing.notes.append(f"{path.name} names {len(rows)} of {len(listing.items)} images")
    listing.group_origin = "" if group is None else f"column {group}"
    for item in listing.items:
        row = rows.get(item.source)
        if row is not None and group is not None:
            item.group = _text(table[group].iloc[row])
        if row is not None and mask is not None:
            item.mask = _in_folder(path.parent, _text(table[mask].iloc[row]))


def _rows_of(names: Sequence[Any], items: Sequence[Item]) -> dict[str, int]:
    """{source: row} of the images that a table names by path, or, where it so names none, by unique file names."""
    rows = {printable(_text(name)): row for row, name in enumerate(names)}
    found = {item.source: rows[item.source] for item in items if item.source in rows}
    files = Counter(PurePosixPath(item.source).name for item in items)
    if found or any(times > 1 for times in files.values()) or len(rows) < len(names):
        return found
    bare = {item.source: PurePosixPath(item.source).name for item in items}
    return {source: rows[name] for source, name in bare.items() if name in rows}


def apply_group_pattern(listing: Listing, pattern: str) -> None:
    """Groups from the images' relative paths; a pattern that no path matches is a problem."""
    matched = 0
    for item in listing.items:
        match = re.search(pattern, item.source)
        if match:
            item.group = next((part for part in match.groups() if part), match.group())
            matched += 1
    listing.group_origin = f"pattern {pattern}"
    if listing.items and not matched:
        example = listing.items[0].source
        listing.problems.append(f"--group_pattern {pattern!r} matches no image's path, such as {example!r}; mend it")
    elif matched < len(listing.items):
        listing.notes.append(f"--group_pattern matches {matched} of {len(listing.items)} images; others stand alone")
