"""A folder of images as a corpus: SPLIT/CLASS/…, CLASS/SPLIT/… or CLASS/…, pictures or DICOM, and tables beside them.

A metadata table of any folder in it (`metadata.csv`, `.jsonl` or `.parquet`, as `datasets` reads them) says whose its
images are, and, with a column of labels, what they are. Another table at the top of the corpus says whose they are.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.corpus.labels import split_in
from ct_xception.corpus.layout import (
    Folder,
    drop_without_images,
    grow_tree,
    list_folders,
    list_unlabelled,
    prune,
    unwrap,
)
from ct_xception.corpus.listing import CorpusOptions, Item, Listing
from ct_xception.corpus.sources import Source
from ct_xception.corpus.tables.beside import take_columns
from ct_xception.corpus.tables.boxes import Box, boxes_of_rows
from ct_xception.corpus.tables.columns import find_column, patient_like, tabular_columns
from ct_xception.corpus.tables.contradictions import check_against_folders, names_images, rows_of
from ct_xception.corpus.tables.formats import SHEET_SUFFIXES, TABLE_SUFFIXES, read_table
from ct_xception.corpus.tables.rows import list_rows
from ct_xception.corpus.tables.table_cells import Rows
from ct_xception.errors import CorpusError, printable
from ct_xception.imaging.source import FoundFiles, find_files, stem_of

if TYPE_CHECKING:
    import pandas

MASK_FOLDERS = ("masks", "mask")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".rar", ".7z")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def list_folder(name: str | Path, options: CorpusOptions) -> Listing:
    """List a folder's images; a metadata table with a label column says what they are, else their folders do."""
    found = find_files(Path(name).expanduser())
    listing = Listing(SOURCE.kind)
    tree = grow_tree(found)
    prune(tree, options, listing)
    drop_without_images(tree, listing, options)
    tables = _metadata(found, options)
    if not options.labelled:
        return _list_unlabelled(found, tree, tables, options, listing)
    inner = tree if found.root in {path.parent for path in tables} else unwrap(tree, options)
    top = found.root.joinpath(*inner.parts)
    labelled = {path: table for path, table in tables.items() if _has_labels(table, options)}
    if not labelled or set(labelled) != set(tables):
        before = listing.passed_over.copy()
        list_folders(inner, top, options, listing)
        classes = {item.found for item in listing.items}
        labelled = {} if len(classes) > 1 else _labelled_beside(found, top, options)
        if len(labelled) > 1 and not _one_a_split(labelled, options):
            listing.problems, listing.items = [_which_table(labelled)], []
            return listing
        listing = Listing(SOURCE.kind, passed_over=before) if labelled else listing
        _name_sheets(found, listing)
        if not labelled and len(classes) < 2:
            listing.problems += _unknown_columns(found, top, options)
    if labelled:
        _list_labelled(labelled, found, options, listing)
        used = list(labelled)
    else:
        used = _join_tables(tables, found, top, options, listing)
    _count_masks(listing)
    for kind, paths in found.passed_over.items():
        if number := sum(path not in used for path in paths):
            listing.passed_over[kind] += number
    if inner is not tree:
        listing.details.append(f"its only folder with others in it was read, {printable('/'.join(inner.parts))}")
    return listing


def _list_unlabelled(
    found: FoundFiles, tree: Folder, tables: Mapping[Path, pandas.DataFrame], options: CorpusOptions, listing: Listing
) -> Listing:
    """Every image of a folder, whatever folders say; a table in it says whose they are."""
    list_unlabelled(tree, found.root, listing)
    beside = tables or _read_beside(found, found.root, options)
    for path, table in beside.items():
        if not listing.group_origin:
            _join(Rows(table, path, options, found.root), bool(tables), options, listing)
    for item in listing.items:
        item.mask = None
    listing.passed_over += Counter({kind: len(paths) for kind, paths in found.passed_over.items()})
    return listing


def _metadata(found: FoundFiles, options: CorpusOptions) -> dict[Path, pandas.DataFrame]:
    """The metadata table of every folder that has one with a column of images, the outermost first."""
    paths = [path for paths in found.passed_over.values() for path in paths if path.name in METADATA and path.is_file()]
    first: dict[Path, Path] = {}
    for path in sorted(paths, key=lambda path: (len(path.parts), path)):
        if not _is_excluded(path, options):
            first.setdefault(path.parent, path)
    tables = {path: read_table(path) for path in first.values()}
    return {path: table for path, table in tables.items() if find_column(table.columns, "image", options.image_column)}


def _is_excluded(path: Path, options: CorpusOptions) -> bool:
    return options.excludes(path.name)


def _has_labels(table: pandas.DataFrame, options: CorpusOptions) -> bool:
    return options.label_column is not None or find_column(table.columns, "label", None) is not None


def _labelled_beside(found: FoundFiles, top: Path, options: CorpusOptions) -> dict[Path, pandas.DataFrame]:
    """Tables beside images that lie in no class folders, which name them and say what they are."""
    tables = _read_beside(found, top, options)
    told = {
        path: table for path, table in tables.items()
        if _has_labels(table, options) and names_images(Rows(table, path, options, found.root))
    }  # fmt: skip
    return {path: table for path, table in told.items() if len(told) == 1 or not _SAMPLE.search(path.stem)}


def _read_beside(found: FoundFiles, top: Path, options: CorpusOptions) -> dict[Path, pandas.DataFrame]:
    tables = {}
    for path in _tables_beside(found, top, options):
        with contextlib.suppress(CorpusError):  # no table after all
            tables[path] = read_table(path)
    return tables


def _unknown_columns(found: FoundFiles, top: Path, options: CorpusOptions) -> list[str]:
    """What to ask of a table beside images without classes, whose columns go by names that nothing here knows."""
    return [
        f"{printable(path.name)} may say the classes, in columns that are not known by their names: "
        f"{', '.join(printable(str(column)) for column in table.columns[:_COLUMNS])}; name them with "
        "--image_column and --label_column"
        for path, table in _read_beside(found, top, options).items()
        if len(table.columns) > 1 and not _SAMPLE.search(path.stem)
    ][:1]


_COLUMNS = 12  # in a sentence
_SAMPLE = re.compile("sample|submission|example", re.IGNORECASE)  # of answers to a competition


def _one_a_split(tables: Mapping[Path, pandas.DataFrame], options: CorpusOptions) -> bool:
    splits = [split_in(path.stem, options.split_map) for path in tables]
    return None not in splits and len(set(splits)) == len(splits)


def _which_table(tables: Mapping[Path, pandas.DataFrame]) -> str:
    names = [printable(path.name) for path in tables]
    said = f"the labels could be those of {' or of '.join(names)}"
    return f"{said}; leave the others out with --exclude {' '.join(names[1:])}, or give one of them as the corpus"


def _name_sheets(found: FoundFiles, listing: Listing) -> None:
    """A spreadsheet or an archive in a folder without classes probably holds them."""
    remedies = dict.fromkeys(SHEET_SUFFIXES, "a spreadsheet, which is not read; save it as CSV in UTF-8")
    remedies |= dict.fromkeys(ARCHIVE_SUFFIXES, "an archive, which is not read here; unpack it")
    if len({item.found for item in listing.items}) < 2:
        for kind in found.passed_over.keys() & remedies.keys():
            name = printable(found.passed_over[kind][0].name)
            listing.problems.append(f"{name} is {remedies[kind]}")


def _count_masks(listing: Listing) -> None:
    """Masks that a table names are used, and no longer among what is left out."""
    named = sum(item.mask is not None for item in listing.items)
    if named and named >= listing.passed_over["masks"]:
        del listing.passed_over["masks"]
        listing.ignored_folders = [name for name in listing.ignored_folders if name not in MASK_FOLDERS]


def _list_labelled(
    tables: Mapping[Path, pandas.DataFrame], found: FoundFiles, options: CorpusOptions, listing: Listing
) -> None:
    """The rows of metadata tables that say what the images are; the folder of a split says the split."""
    listing.exact_labels = True
    for path, table in tables.items():
        above = path.parent.relative_to(found.root)
        parts = above.parts if path.name in METADATA else (*above.parts, path.stem)
        told = [split for part in parts if (split := split_in(part, options.split_map))]
        rows = list_rows(table, path, options, SOURCE.kind, split=told[-1] if told else "", corpus=found.root)
        for item in rows.items:
            item.source = (above / item.source).as_posix()
        for name in ("items", "problems", "notes", "untaken", "columns"):
            getattr(listing, name).extend(getattr(rows, name))
        listing.passed_over += rows.passed_over
        listing.split_names |= rows.split_names
        listing.group_origin = rows.group_origin or listing.group_origin
    names = sorted({path.name for path in tables})
    used = {item.path for item in listing.items}
    unnamed = sum(path not in used for path in found.files)
    listing.passed_over["images that the metadata does not name"] += unnamed
    others = f"files that {'it does' if len(names) == 1 else 'they do'} not name are left out"
    listing.notes.append(f"labels are those of {' and '.join(names)}; {others}")


def _join_tables(
    metadata: Mapping[Path, pandas.DataFrame], found: FoundFiles, top: Path, options: CorpusOptions, listing: Listing
) -> list[Path]:
    """Give images their patients, masks and splits from the tables that name them; gives those that were used."""
    if metadata:
        _check_given(metadata, options, listing)
        return [
            path
            for path, table in metadata.items()
            if _join(Rows(table, path, options, found.root), True, options, listing)
        ]
    used: list[Path] = []
    for path in _tables_beside(found, top, options):
        try:
            table = read_table(path)
        except CorpusError:
            continue  # whatever it is, it is counted with the files that were passed over
        check_against_folders(Rows(table, path, options, found.root), listing)
        if path.suffix.lower() == ".txt":
            used += [path] * _join_list(Rows(table, path, options, found.root), path, options, listing)
        elif not listing.group_origin:
            used += [path] * _join(Rows(table, path, options, found.root), False, options, listing)
        else:
            _name_untaken(Rows(table, path, options, found.root), listing)
    return used


def _tables_beside(found: FoundFiles, top: Path, options: CorpusOptions) -> list[Path]:
    """Tables at the top of a corpus, and one folder below for lists of splits; no image's own `.json` or `.txt`."""
    paths = [path for paths in found.passed_over.values() for path in paths if path.suffix.lower() in TABLE_SUFFIXES]
    own = {(path.parent, stem_of(path)) for path in found.files}
    near = [
        path for path in paths
        if (path.parent in (found.root, top) or path.parent.parent in (found.root, top))
        and (path.parent, path.stem) not in own and not _is_excluded(path, options)
    ]  # fmt: skip
    at_top = [path for path in near if path.suffix.lower() != ".json" or path.parent in (found.root, top)]
    return [path for path in at_top if path.suffix.lower() != ".txt" or split_in(path.stem, {})]


def _check_given(metadata: Mapping[Path, pandas.DataFrame], options: CorpusOptions, listing: Listing) -> None:
    """A column that an option names has to be in one of the tables."""
    shown = {str(column) for table in metadata.values() for column in table.columns}
    for role in ("group", "mask"):
        given = getattr(options, f"{role}_column")
        if given is not None and given not in shown:
            name = " and ".join(sorted({path.name for path in metadata}))
            columns = ", ".join(printable(str(column)) for table in metadata.values() for column in table.columns)
            listing.problems.append(f"{name} has no column {printable(given)!r} (--{role}_column); it has {columns}")


def _join(rows: Rows, metadata: bool, options: CorpusOptions, listing: Listing) -> bool:
    """Groups, masks and, where folders say none, splits of the images that a table names; whether it was used."""
    image, group, mask = (
        find_column(rows.columns, role, getattr(options, f"{role}_column")) for role in ("image", "group", "mask")
    )
    listing.columns += rows.columns
    beside = set(tabular_columns(options.tabular_columns)) & set(rows.columns)
    if image is None or (group is None and mask is None and not options.box_columns and not beside):
        if metadata:
            listing.notes.append(f"{rows.name} has no columns of images and groups and is left out")
        return False
    named = rows_of(rows, image, listing.items)
    if not named:
        _say_nothing_named(rows, image, metadata, options, listing)
        return False
    missing = len({name for name in rows.text(image) if name}) - len(named)
    if metadata and missing > 0:
        listing.notes.append(f"{missing} files that {rows.name} names are not among the images")
    if len(named) < len(listing.items) and (rows.path.parent / "").samefile(_common(listing.items)):
        listing.notes.append(f"{rows.name} names {len(named)} of {len(listing.items)} images")
    if not metadata and group is not None:
        listing.notes.append(f"{rows.name} beside the images says whose they are")
    listing.group_origin = "" if group is None else f"column {group}"
    others = [name for name in patient_like(rows.columns) if name not in (group, image)]
    for item, row in named.items():
        item.group = rows.text(group)[row] if group is not None else item.group
        item.mask = rows.file(rows.text(mask)[row]) if mask is not None else item.mask
        item.others = {name: rows.text(name)[row] for name in others}
    if beside:
        for item, cells in zip(named, take_columns(_texts(rows, beside, named.values()), options), strict=True):
            item.tabular = {**item.tabular, **cells}
    if options.box_columns:
        _take_boxes(rows, image, named, listing)
    return True


def _texts(rows: Rows, columns: Collection[str], taken: Iterable[int]) -> dict[str, list[str]]:
    """Some columns' cells as text, in the rows that are taken."""
    chosen = list(taken)
    return {name: [rows.text(name)[row] for row in chosen] for name in columns}


def _take_boxes(rows: Rows, image: str, named: Mapping[Item, int], listing: Listing) -> None:
    """All the boxes of each image: a table has a row a box."""
    boxes, problems = boxes_of_rows(rows)
    listing.problems += problems
    names, held = rows.text(image), dict[str, list[Box]]()
    for name, box in zip(names, boxes, strict=True):
        held.setdefault(name, []).extend([] if box is None else [box])
    for item, row in named.items():
        item.boxes = tuple(held[names[row]])


def _common(items: Sequence[Item]) -> Path:
    """The folder that sources are relative to."""
    path, depth = items[0].path, len(Path(items[0].source).parts)
    assert path is not None
    return path.parents[depth - 1]


def _say_nothing_named(rows: Rows, image: str, metadata: bool, options: CorpusOptions, listing: Listing) -> None:
    if not metadata or not len(rows) or not listing.items:
        return
    example = printable(rows.text(image)[0])
    said = f"{rows.name} names none of the images"
    detail = f"{said} (it has {example!r} where they are {listing.items[0].source!r})"
    if options.group_column or options.mask_column:
        listing.problems.append(f"{detail}; give paths relative to it")
    else:
        listing.notes.append(f"{said} and is left out")
        listing.details.append(f"{detail} and is left out")


def _join_list(rows: Rows, path: Path, options: CorpusOptions, listing: Listing) -> bool:
    """The split of the images that a list such as `train.txt` names, where no folder says another."""
    split = split_in(path.stem, options.split_map)
    named = rows_of(rows, rows.columns[0], listing.items)
    if not named or split is None:
        return False
    for item in named:
        item.split = split
    listing.split_names[path.name] = split
    return True


def _name_untaken(rows: Rows, listing: Listing) -> None:
    for column in patient_like(rows.columns)[:1]:
        listing.untaken.append(
            f"the column {printable(column)} of {rows.name} looks like patients and is not used; give that table as "
            "the corpus, or name it metadata.csv"
        )


SOURCE = Source("folder", "a folder", lambda name: Path(name).expanduser().is_dir(), list_folder, rank=2)
