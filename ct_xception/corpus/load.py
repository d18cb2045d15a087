"""Corpora from folders, tables, DICOM trees, the Hub and the phantom, all as one `datasets.DatasetDict`.

    load_corpus("corpora/chest-ct")            SPLIT/CLASS/…, CLASS/SPLIT/… or CLASS/…, pictures or DICOM
    load_corpus("labels.csv")                  paths and labels, with patients and splits if it has such columns
    load_corpus("saved")                       a folder of `save_to_disk`, or a clone of a Hub dataset
    load_corpus("user/name")                   a dataset of the Hub; user/name@revision for one version of it
    load_corpus("phantom:patients=40,seed=1")  generated once into the cache

Columns: `image` (undecoded), `label` (ClassLabel), `group` (the patient, or the image's own source where nobody knows)
and `source` (its name in the corpus, unique); where the source tells, `series`, `site` (its number), `mask` (the path
of a picture of the lesion, empty where there is none), `boxes` (those around lesions, as text), `tabular` (what its
table says in the columns that were asked for, as JSON) and `frame` (which slice of a file that holds several, -1 where
it holds one).
Splits: any of train, validation and test. Whatever is wrong with a corpus is found before anything slow starts, and
raised as one CorpusError.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.cells import ONLY
from ct_xception.corpus.groups import settle_groups, settle_sites
from ct_xception.corpus.inspection import (
    Inspected,
    drop_masks_nowhere,
    file_problems,
    inspect_all,
    leave_out_kinds,
    modality_problems,
    part_into_slices,
)
from ct_xception.corpus.labels import SPLITS, ClassTable, exact_classes, matched_classes, several_labels
from ct_xception.corpus.listing import CorpusOptions, Item, Listing, apply_group_pattern
from ct_xception.corpus.sources import find_source
from ct_xception.corpus.summary import corpus_report, corpus_summary, public_report
from ct_xception.corpus.tables.beside import settle_tabular
from ct_xception.corpus.tables.boxes import boxes_text
from ct_xception.errors import CorpusError, printable
from ct_xception.files import dump_json
from ct_xception.imaging.modality import CT, several

if TYPE_CHECKING:
    import datasets

__all__ = ["Corpus", "CorpusOptions", "corpus_summary", "load_corpus", "public_report"]


UNREADABLE = "images that cannot be read"


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus that was checked: its data, its classes in the order of their indices, and a report for corpus.json.

    `modality` is what its slices were read as, one of MODALITIES.
    """

    dataset: datasets.DatasetDict
    label_names: list[str]
    report: dict[str, Any]
    modality: str = CT


def load_corpus(source: str | os.PathLike[str], options: CorpusOptions | None = None) -> Corpus:
    """Load a corpus from a folder, a table, a Hub id or `phantom`.

    Raises CorpusError with every problem found, InputError for a source that is none of these.
    """
    options = options or CorpusOptions()
    name = os.fspath(source)
    listing = find_source(name).list_corpus(name, options)
    if options.group_pattern:
        apply_group_pattern(listing, options.group_pattern)
    inspected = inspect_all(listing.items, listing.read, options)
    emptied, inspected = _leave_out_kinds(listing, inspected, options.modality)
    inspected = part_into_slices(listing, inspected)
    if not options.labelled:
        inspected = _leave_out_unreadable(listing, inspected)
    table = _classes(listing, options)
    settle_tabular(listing, options)
    problems = [*listing.problems, *emptied, *table.problems, *_class_problems(listing, table, name, options)]
    if options.box_columns is not None and not any(item.boxes for item in listing.items):
        problems.append(
            "--box_columns: no table of the corpus gives an image of it a box; name the table as the corpus"
        )
    if options.mask_column is None and (without := drop_masks_nowhere(listing.items, inspected)) is not None:
        inspected = without
        listing.notes.append("its column of masks names no file that is there, and is left out")
    problems += [
        *modality_problems(inspected, options.modality),
        *file_problems(listing.items, inspected, options.excludable),
    ]
    if problems:
        raise CorpusError(list(dict.fromkeys(problems)))
    settle_groups(listing, inspected)
    settle_sites(listing)
    digests = [one.digest for one in inspected]
    report = corpus_report(name, listing, table, digests, options.decode)
    return Corpus(_build(listing, table), table.label_names, report, options.modality)


def _leave_out_kinds(listing: Listing, inspected: list[Inspected], modality: str) -> tuple[list[str], list[Inspected]]:
    """Leave out DICOM files that are no slices; a class that would have no other is a problem."""
    before = Counter(item.found for item in listing.items)
    listing.items, kept = leave_out_kinds(listing.items, inspected, listing.passed_over)
    gone = before.keys() - {item.found for item in listing.items}
    return [
        f"all {before[name]} files of the class {printable(name)!r} are no {several(modality)} but localizers, "
        "screen saves or other DICOM files; leave it out with --exclude"
        for name in sorted(gone)
    ], kept


def _leave_out_unreadable(listing: Listing, inspected: list[Inspected]) -> list[Inspected]:
    """Nobody chose the images of a corpus without labels one by one: what is not there or cannot be opened is left."""
    pairs = list(zip(listing.items, inspected, strict=True))
    kept = [(item, one) for item, one in pairs if not (one.problem or one.missing)]
    gone = [(item, one) for item, one in pairs if one.problem or one.missing]
    if gone:
        listing.passed_over[UNREADABLE] += len(gone)
        item, one = gone[0]
        listing.details.append(one.problem or f"{item.source}: is not there")
    listing.items = [item for item, _ in kept]
    return [one for _, one in kept]


def _classes(listing: Listing, options: CorpusOptions) -> ClassTable:
    found = [(item.split, item.found) for item in listing.items if item.found]
    if listing.exact_labels:
        table = exact_classes(found, options.class_map)
        table.problems += several_labels([name for _, name in found], options.class_map)
        return table
    return matched_classes([*found, *listing.empty_classes], options.class_map)


def _class_problems(listing: Listing, table: ClassTable, name: str, options: CorpusOptions) -> list[str]:
    """Empty classes, one class only, and classes that only the test split (or no training image) has."""
    if not options.labelled:
        return [] if listing.items or listing.problems else [_holds_none(listing, name)]
    problems = [
        f"the class folder {printable(folder)!r} of {split} holds no image that can be read; "
        "fill it, remove it or --exclude it"
        for split, folder in listing.empty_classes
    ]
    by_class: dict[str, set[str]] = {}
    for item in listing.items:
        by_class.setdefault(table.classes.get((item.split, item.found), item.found), set()).add(item.split)
    if not listing.items and not problems and not listing.problems:
        problems.append(f"{printable(name)} holds no images; name another folder, table or dataset")
    elif len(by_class) == 1 and not (listing.empty_classes or options.one_class):
        problems.append(f"there is only one class, {printable(next(iter(by_class)))!r}; a classifier needs two or more")
    if any("train" in splits for splits in by_class.values()):
        for label, splits in sorted(by_class.items()):
            if "train" not in splits:
                where = " and ".join(split for split in SPLITS if split in splits)
                found = next(given for (split, given), one in table.classes.items() if one == label)
                said = f"the class {printable(label)!r} is in {where} but not in train"
                remedy = f"add training images, or say which class it is with --class_map {_quoted(found)}=CLASS"
                problems.append(f"{said}; {remedy}")
    return problems


def _holds_none(listing: Listing, name: str) -> str:
    if not listing.passed_over[UNREADABLE]:
        return f"{printable(name)} holds no images; name another source"
    return (
        f"{printable(name)} holds no images that can be read ({listing.details[-1]}); name another source, or with "
        "--image_root what the paths of a table are relative to"
    )


def _quoted(name: str) -> str:
    return f"'{printable(name)}'" if " " in name else printable(name)


def _build(listing: Listing, table: ClassTable) -> datasets.DatasetDict:
    import datasets

    features = datasets.Features(
        image=datasets.Image(decode=False),
        label=datasets.ClassLabel(names=table.label_names),
        group=datasets.Value("string"),
        source=datasets.Value("string"),
    )
    if any(item.series for item in listing.items):
        features["series"] = datasets.Value("string")
    if listing.sites:
        features["site"] = datasets.Value("string")
    if any(item.mask for item in listing.items):
        features["mask"] = datasets.Value("string")
    if any(item.boxes for item in listing.items):
        features["boxes"] = datasets.Value("string")
    if any(item.tabular for item in listing.items):
        features["tabular"] = datasets.Value("string")
    if any(item.frame != ONLY for item in listing.items):
        features["frame"] = datasets.Value("int32")
    splits = {}
    for split in SPLITS:
        items = [item for item in listing.items if item.split == split]
        columns = {name: values for name, values in _cells(items, table).items() if name in features}
        if items and split in listing.loaded:  # the images stay where `datasets` has them
            loaded = listing.loaded[split]
            if len(rows := [item.row for item in items]) != len(loaded) or len(set(rows)) < len(rows):
                loaded = loaded.select(rows)
            for name, values in columns.items():
                loaded = loaded.add_column(name, values)
            splits[split] = loaded.cast(features)
        elif items:
            images = {"image": [_image_cell(listing.read(item)) for item in items]}
            splits[split] = datasets.Dataset.from_dict(images | columns, features=features)
    return datasets.DatasetDict(splits)


def _cells(items: Sequence[Item], table: ClassTable) -> dict[str, list[Any]]:
    """The columns beside the images."""
    index = {name: position for position, name in enumerate(table.label_names)}
    return {
        "label": [index[table.classes[item.split, item.found]] for item in items],
        "group": [printable(item.group) for item in items],
        "source": [item.source for item in items],
        "series": [printable(item.series) for item in items],
        "site": [item.site for item in items],
        "frame": [item.frame for item in items],
        "boxes": [boxes_text(item.boxes) for item in items],
        "tabular": [dump_json(dict(item.tabular)) for item in items],
        "mask": ["" if item.mask is None else str(item.mask.absolute()) for item in items],
    }


def _image_cell(content: Path | bytes) -> dict[str, Any]:
    """A cell of an Image column: the path, or the bytes where there is none or Arrow cannot hold its name."""
    if isinstance(content, bytes):
        return {"path": None, "bytes": content}
    path = str(content.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8
        return {"path": None, "bytes": content.read_bytes()}
    return {"path": path, "bytes": None}
