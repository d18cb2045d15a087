"""The splits of a `datasets.DatasetDict` as a listing: its images stay in the Arrow tables where they lie."""

from __future__ import annotations

from collections.abc import Mapping

import datasets

from ct_xception.corpus.labels import SPLITS, split_of
from ct_xception.corpus.listing import UNLABELLED, CorpusOptions, Item, Listing
from ct_xception.corpus.tables.beside import take_columns
from ct_xception.corpus.tables.columns import OWNERS, named, patient_like, tabular_columns
from ct_xception.corpus.tables.formats import text_of
from ct_xception.errors import printable


def list_splits(listing: Listing, name: str, loaded: Mapping[str, datasets.Dataset], options: CorpusOptions) -> Listing:
    """Fill a listing with the splits of a dataset, which is called `name` in sentences."""
    if not options.labelled:
        return _list_unlabelled(listing, name, loaded, options)
    listing.split_names = {given: split for given in loaded if (split := split_of(given, options.split_map))}
    if options.mask_column is not None:
        listing.problems.append("--mask_column: masks are read from files that a table names, not from datasets")
    for given, part in loaded.items():
        split = split_of(given, options.split_map)
        if split is None:
            said = f"{name} has the split {printable(given)!r}, which is no known name of one"
            listing.problems.append(f"{said}; settle it with --split_map {printable(given)}=train (or ignore)")
        elif split in listing.loaded:
            said = f"two splits of {name} mean {split}"
            listing.problems.append(f"{said}; settle it with --split_map {printable(given)}=ignore")
        elif split in SPLITS:
            columns = _columns(name, part, options, listing.problems)
            if columns and not _add_gaps(part, given, columns, listing.problems):
                _list_split(part, split, columns, listing, options)
        else:
            listing.passed_over["in a split to be ignored"] += len(part)
    return listing


def _list_unlabelled(
    listing: Listing, name: str, loaded: Mapping[str, datasets.Dataset], options: CorpusOptions
) -> Listing:
    """All splits of a dataset as one, whatever they are called; rows without an image are passed over."""
    parts = []
    for part in loaded.values():
        columns = _columns(name, part, options, listing.problems)
        held = part.data.column(columns["image"]).is_valid().to_pylist() if columns else []
        listing.passed_over["rows without an image"] += held.count(False)
        if columns:
            parts.append((part.select([row for row, there in enumerate(held) if there]), columns))
    images = []
    for part, columns in parts:
        texts = {role: [text_of(one) for one in part[columns[role]]] for role in OWNERS if role in columns}
        listing.group_origin = f"column {columns['group']}" if "group" in columns else listing.group_origin
        for row in range(len(part)):
            place = len(listing.items)
            group, series, site = (texts[role][row] if role in texts else "" for role in OWNERS)
            listing.items.append(Item(f"train/{place}", "train", UNLABELLED, group, series, row=place, site=site))
        images.append(_images(part, columns["image"]))
    listing.loaded = {"train": datasets.concatenate_datasets(images)} if images else {}
    return listing


def _columns(name: str, part: datasets.Dataset, options: CorpusOptions, problems: list[str]) -> dict[str, str]:
    """The columns of image, label and perhaps group: by option, by type, or by the known names."""
    typed = {"image": datasets.Image, "label": datasets.ClassLabel}
    found = {}
    for role in ("image", "label", *OWNERS):
        given = getattr(options, f"{role}_column")
        of_type = [column for column, kind in part.features.items() if isinstance(kind, typed.get(role, ()))]
        known = named(part.column_names, role)
        both = [column for column in known if column in of_type]
        choices = [given] if given else of_type if len(of_type) == 1 else both or known
        if choices and choices[0] in part.column_names:
            found[role] = choices[0]
        elif given or (role not in OWNERS and (role != "label" or options.labelled)):
            shown = ", ".join(printable(column) for column in part.column_names)
            problems.append(f"{name} has no column known to hold the {role}; name one with --{role}_column: {shown}")
    return found if ({"image", "label"} if options.labelled else {"image"}) <= set(found) else {}


def _add_gaps(part: datasets.Dataset, given: str, columns: dict[str, str], problems: list[str]) -> bool:
    """Whether rows of a split lack a label (null, or -1 as on the Hub's unlabelled test splits) or an image."""
    gaps = {
        "label": sum(label is None or label == -1 for label in part[columns["label"]]),
        "image": part.data.column(columns["image"]).null_count,  # of the table itself: no image is decoded
    }
    for role, count in gaps.items():
        if count:
            said = f"{count} of {len(part)} rows of the split {printable(given)!r} have no {role}"
            problems.append(f"{said}; leave the split out with --split_map {printable(given)}=ignore, or complete it")
    return any(gaps.values())


def _list_split(
    part: datasets.Dataset, split: str, columns: Mapping[str, str], listing: Listing, options: CorpusOptions
) -> None:
    kind = part.features[columns["label"]]
    labels = part[columns["label"]]
    names = kind.int2str(list(labels)) if isinstance(kind, datasets.ClassLabel) else [text_of(one) for one in labels]
    if "group" in columns:
        listing.group_origin = f"column {columns['group']}"
    texts = {role: [text_of(one) for one in part[columns[role]]] for role in OWNERS if role in columns}
    others = {
        name: [text_of(one) for one in part[name]]
        for name in patient_like(part.column_names)
        if name not in columns.values()
    }
    listing.columns += part.column_names
    asked = [name for name in tabular_columns(options.tabular_columns) if name in part.column_names]
    beside = take_columns({name: _cells(part, name) for name in asked}, options)
    kept = [row for row, name in enumerate(names) if not options.excludes(name, f"{split}/{row}")]
    for new, row in enumerate(kept):
        item = Item(f"{split}/{row}", split, names[row], row=new)
        item.group, item.series, item.site = (texts[role][row] if role in texts else "" for role in OWNERS)
        item.others = {name: values[row] for name, values in others.items()}
        item.tabular = beside[row] if beside else {}
        listing.items.append(item)
    listing.passed_over["excluded by name"] += len(names) - len(kept)
    listing.loaded[split] = _images(part.select(kept) if len(kept) < len(names) else part, columns["image"])


def _cells(part: datasets.Dataset, column: str) -> list[object]:
    """A column's cells, numbers of classes as the classes' names."""
    kind, cells = part.features[column], list(part[column])
    if isinstance(kind, datasets.ClassLabel):
        return [None if cell is None or cell < 0 else kind.int2str(cell) for cell in cells]
    return cells


def _images(part: datasets.Dataset, column: str) -> datasets.Dataset:
    """The one column `image`, undecoded."""
    images = part.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    # To its own name `datasets` would not rename it.
    return images if column == "image" else images.rename_column(column, "image")
