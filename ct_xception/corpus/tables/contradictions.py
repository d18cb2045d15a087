"""A table of labels beside class folders: whether the two say the same of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct_xception.corpus.labels import words
from ct_xception.corpus.listing import Item, Listing
from ct_xception.corpus.tables.columns import find_column
from ct_xception.corpus.tables.row_labels import MISSING, MOST_CLASSES, label_column
from ct_xception.corpus.tables.rows import key_column
from ct_xception.corpus.tables.table_cells import Rows
from ct_xception.errors import printable

SHOWN = 3


def rows_of(rows: Rows, image: str, items: Sequence[Item]) -> dict[Item, int]:
    """{image: row} of those that a table names by path, or, where it so names none, by unique file names or stems."""
    names = rows.text(image)
    paths = {rows.file(name): row for row, name in enumerate(names) if name}
    found = {item: paths[item.path] for item in items if item.path in paths}
    if found or len(set(names)) < len(names):
        return found
    for part in ("name", "stem"):
        files = Counter(getattr(item.path, part) for item in items)
        bare = {getattr(Path(name), part): row for row, name in enumerate(names)}
        if all(times == 1 for times in files.values()) and set(files) & set(bare):
            return {item: bare[own] for item in items if (own := getattr(item.path, part)) in bare}
    return {}


def check_against_folders(rows: Rows, listing: Listing) -> None:
    """Ask where a table's labels and the folders' are not one and the same; a finer label is only named."""
    column = label_column(rows)
    if column is None or rows.options.class_level is not None or not listing.items:
        return
    told = _labels(rows, column, listing.items)
    if len(set(told.values())) < 2 or len(set(told.values())) > MOST_CLASSES:
        return
    pairs = Counter((item.found, label) for item, label in told.items())
    of_label: dict[str, set[str]] = {}
    for folder, label in pairs:
        of_label.setdefault(label, set()).add(folder)
    names = {words(folder) for folder, _ in pairs}
    swapped = any(words(label) in names - {words(folder)} for folder, label in pairs)
    if swapped or any(len(folders) > 1 for folders in of_label.values()):
        listing.problems.append(_which(rows, column, pairs))
    elif len(pairs) > len({folder for folder, _ in pairs}):
        listing.notes.append(f"the folders are the classes; the column {printable(column)} of {rows.name} is not used")


def _labels(rows: Rows, column: str, items: Sequence[Item]) -> Mapping[Item, str]:
    """What a table says of the images that it names, one by one or by their folders or DICOM ids."""
    labels = rows.text(column)
    image = find_column(rows.columns, "image", rows.options.image_column)
    found = rows_of(rows, image, items) if image is not None else {}
    if not found:
        found = _by_key(rows, items)
    return {item: labels[row] for item, row in found.items() if not MISSING.fullmatch(labels[row])}


def names_images(rows: Rows) -> bool:
    """Whether a table names images, or patients, studies or series that are there."""
    return find_column(rows.columns, "image", rows.options.image_column) is not None or key_column(rows) is not None


def _by_key(rows: Rows, items: Sequence[Item]) -> dict[Item, int]:
    if (key := key_column(rows)) is None:
        return {}
    of_path = {path: row for row, name in enumerate(rows.text(key)) if name for path in rows.places.by_key(name)}
    return {item: of_path[item.path] for item in items if item.path in of_path}


def _which(rows: Rows, column: str, pairs: Counter[tuple[str, str]]) -> str:
    folders, labels = ({pair[side]: 0 for pair in pairs} for side in (0, 1))
    same = {words(name) for name in folders} & {words(name) for name in labels}
    wrong = sum(number for (folder, label), number in pairs.items() if words(folder) != words(label))
    if same:
        said = f"the column {printable(column)} of {rows.name} says otherwise than the folders of {wrong} images"
    else:
        said = f"the classes could be the folders {_listed(folders)}, or {_listed(labels)} of {rows.name}"
    return f"{said}; give {rows.name} as the corpus, or leave it out with --exclude {rows.name}"


def _listed(names: Mapping[str, int]) -> str:
    shown = [printable(name) for name in sorted(names)]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
