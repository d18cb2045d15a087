"""Corpora from folders, tables, DICOM trees, the Hub and the phantom, all as one `datasets.DatasetDict`.

    load_corpus("corpora/chest-ct")            SPLIT/CLASS/…, CLASS/SPLIT/… or CLASS/…, pictures or DICOM
    load_corpus("labels.csv")                  paths and labels, with patients and splits if it has such columns
    load_corpus("user/name")                   a dataset of the Hub; user/name@revision for one version of it
    load_corpus("phantom:patients=40,seed=1")  generated once into the cache

Columns: `image` (undecoded), `label` (ClassLabel), `group` (the patient, or the image's own source where nobody knows)
and `source` (its name in the corpus, unique); where the source tells, `series` and `mask` (the path of a picture of the
lesion, empty where there is none). Splits: any of train, validation and test. Whatever is wrong with a
corpus is found before anything slow starts, and raised as one CorpusError.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.inspection import Inspected, Reader, drop_masks_nowhere, file_problems, inspect_all
from ct_xception.corpus.labels import SPLITS, ClassTable, exact_classes, matched_classes, split_of
from ct_xception.corpus.listing import (
    COLUMNS,
    TABLE_SUFFIXES,
    CorpusOptions,
    Item,
    Listing,
    apply_group_pattern,
    list_folder,
    list_table,
)
from ct_xception.corpus.summary import corpus_report, corpus_summary, public_report
from ct_xception.errors import CorpusError, InputError, printable
from ct_xception.hub_download import HubError, HubId, fetch_dataset

if TYPE_CHECKING:
    import datasets

__all__ = ["Corpus", "CorpusOptions", "corpus_summary", "load_corpus", "public_report"]


@dataclass(frozen=True, eq=False)
class Corpus:
    """A corpus that was checked: its data, its classes in the order of their indices, and a report for corpus.json."""

    dataset: datasets.DatasetDict
    label_names: list[str]
    report: dict[str, Any]


def load_corpus(source: str | os.PathLike[str], options: CorpusOptions | None = None) -> Corpus:
    """Load a corpus from a folder, a table, a Hub id or `phantom`.

    Raises CorpusError with every problem found, InputError for a source that is none of these.
    """
    options = options or CorpusOptions()
    name = os.fspath(source)
    listing, read = _list_source(name, options)
    if options.group_pattern:
        apply_group_pattern(listing, options.group_pattern)
    table = _classes(listing, options)
    problems = [*listing.problems, *table.problems, *_class_problems(listing, table, name)]
    inspected = inspect_all(listing.items, read, options)
    if options.mask_column is None and (without := drop_masks_nowhere(listing.items, inspected)) is not None:
        inspected = without
        listing.notes.append("its column of masks names no file that is there, and is left out")
    problems += file_problems(listing.items, inspected)
    if problems:
        raise CorpusError(list(dict.fromkeys(problems)))
    _settle_groups(listing, inspected)
    digests = [one.digest for one in inspected]
    report = corpus_report(name, listing, table, digests, options.decode)
    return Corpus(_build(listing, table, read), table.label_names, report)


def _list_source(name: str, options: CorpusOptions) -> tuple[Listing, Reader]:
    """List a source, whichever kind it is, and say how one of its items is read."""
    if name == "phantom" or name.startswith("phantom:"):
        listing = list_folder(_phantom_folder(name), options)
        listing.kind = "phantom"
        return listing, _read_file
    path = Path(name).expanduser()
    if path.is_dir():
        return list_folder(path, options), _read_file
    if path.is_file():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            kinds = ", ".join(TABLE_SUFFIXES)
            raise InputError(f"{printable(path)} is a file but no table ({kinds}); give a folder or a table of images.")
        return list_table(path, options), _read_file
    if _is_hub_id(name):
        return _list_hub(name, options)
    wanted = "a folder, a CSV or Parquet file, a Hub dataset as USER/NAME, or phantom"
    raise InputError(f"{printable(name)}: no such folder or file; give {wanted}.")


def _read_file(item: Item) -> Path | bytes:
    return item.content if item.path is None and item.content is not None else Path(item.path or "")


def _classes(listing: Listing, options: CorpusOptions) -> ClassTable:
    found = [(item.split, item.found) for item in listing.items if item.found]
    if listing.exact_labels:
        return exact_classes(found, options.class_map)
    return matched_classes([*found, *listing.empty_classes], options.class_map)


def _class_problems(listing: Listing, table: ClassTable, name: str) -> list[str]:
    """Empty classes, one class only, and classes that only the test split (or no training image) has."""
    problems = [
        f"the class folder {printable(folder)!r} of {split} holds no image that can be read; fill it or remove it"
        for split, folder in listing.empty_classes
    ]
    by_class: dict[str, set[str]] = {}
    for item in listing.items:
        by_class.setdefault(table.classes.get((item.split, item.found), item.found), set()).add(item.split)
    if not listing.items and not problems and not listing.problems:
        problems.append(f"{printable(name)} holds no images; name another folder, table or dataset")
    elif len(by_class) == 1 and not listing.empty_classes:
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


def _quoted(name: str) -> str:
    return f"'{printable(name)}'" if " " in name else printable(name)


def _settle_groups(listing: Listing, inspected: list[Inspected]) -> None:
    """Every image gets a group: what the source says, else the DICOM patient, else the series, else its own name."""
    patients = series = 0
    for item, one in zip(listing.items, inspected, strict=True):
        item.series = item.series or one.series
        if not item.group and one.patient:
            item.group, patients = one.patient, patients + 1
        elif not item.group and item.series:
            item.group, series = item.series, series + 1
    if (patients or series) and not listing.group_origin:
        listing.group_origin = "DICOM PatientID" if patients else "series"
    alone = sum(not item.group for item in listing.items)
    if alone:
        listing.notes.append(f"nothing says whose image it is for {alone} of {len(listing.items)}; each stands alone")
    for item in listing.items:
        item.group = item.group or item.source


def _build(listing: Listing, table: ClassTable, read: Reader) -> datasets.DatasetDict:
    import datasets

    features = datasets.Features(
        image=datasets.Image(decode=False),
        label=datasets.ClassLabel(names=table.label_names),
        group=datasets.Value("string"),
        source=datasets.Value("string"),
    )
    if any(item.series for item in listing.items):
        features["series"] = datasets.Value("string")
    if any(item.mask for item in listing.items):
        features["mask"] = datasets.Value("string")
    index = {name: position for position, name in enumerate(table.label_names)}
    splits = {}
    for split in SPLITS:
        items = [item for item in listing.items if item.split == split]
        columns: dict[str, list[Any]] = {
            "label": [index[table.classes[split, item.found]] for item in items],
            "group": [printable(item.group) for item in items],
            "source": [item.source for item in items],
        }
        if "series" in features:
            columns["series"] = [printable(item.series) for item in items]
        if "mask" in features:
            columns["mask"] = ["" if item.mask is None else str(item.mask.absolute()) for item in items]
        if items and split in listing.loaded:  # the images stay where `datasets` has them
            loaded = listing.loaded[split]
            for name, values in columns.items():
                loaded = loaded.add_column(name, values)
            splits[split] = loaded.cast(features)
        elif items:
            images = {"image": [_image_cell(read(item)) for item in items]}
            splits[split] = datasets.Dataset.from_dict(images | columns, features=features)
    return datasets.DatasetDict(splits)


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


def _phantom_folder(name: str) -> Path:
    """The cached phantom of a source such as `phantom:patients=40,classes=benign+malignant,plant=leaks:20`."""
    from ct_xception.phantom import corpus as phantom

    given = _phantom_options(name)
    options = phantom.PhantomOptions(**given)
    # Another version of the code that draws would give other images under the same options.
    code = "".join(file.read_text("utf-8") for file in sorted(Path(phantom.__file__).parent.glob("*.py")))
    key = hashlib.sha256(f"{options!r}{code}".encode()).hexdigest()[:16]
    folder = _cache() / f"phantom-{key}"
    if not (folder / "metadata.csv").is_file():
        try:
            phantom.generate_phantom(folder, **given)
        except (InputError, OSError):
            if not (folder / "metadata.csv").is_file():  # else another process was faster
                raise
    return folder


def _phantom_options(name: str) -> dict[str, Any]:
    from ct_xception.phantom.corpus import REFERENCE_CLASSES, class_names

    numbers = {"patients": "patients", "slices": "slices_per_patient", "size": "size", "seed": "seed"}
    options: dict[str, Any] = {"classes": REFERENCE_CLASSES}
    for part in filter(None, name.removeprefix("phantom").removeprefix(":").split(",")):
        key, _, value = part.partition("=")
        if key in numbers and value.isdecimal():
            options[numbers[key]] = int(value)
        elif key == "classes" and value:
            options["classes"] = class_names(int(value) if value.isdecimal() else value.split("+"))
        elif key == "plant" and value:
            options["plant"] = tuple(value.split("+"))
        else:
            known = "patients=N, slices=N, size=N, seed=N, classes=N or A+B+C, plant=KIND:N+KIND"
            raise InputError(f"{printable(name)}: {printable(part)!r} is no option of the phantom; it takes {known}.")
    return options


def _cache() -> Path:
    own, shared = os.environ.get("CT_XCEPTION_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "ct-xception"


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*(@[\w./-]+)?", name) is not None


def _list_hub(name: str, options: CorpusOptions) -> tuple[Listing, Reader]:
    """List a dataset of the Hub, downloaded into the cache of `datasets`."""
    import datasets

    listing = Listing("hub", exact_labels=True)
    loaded = _download(name)
    listing.split_names = {given: split for given in loaded if (split := split_of(given, options.split_map))}
    for given, part in loaded.items():
        split = split_of(given, options.split_map)
        if split is None:
            said = f"{name} has the split {printable(given)!r}, which is no known name of one"
            listing.problems.append(f"{said}; settle it with --split_map {printable(given)}=train (or ignore)")
        elif split in listing.loaded:
            said = f"two splits of {name} mean {split}"
            listing.problems.append(f"{said}; settle it with --split_map {printable(given)}=ignore")
        elif split in SPLITS:
            columns = _hub_columns(name, part, options, listing.problems)
            if columns and not _add_hub_gaps(part, given, columns, listing.problems):
                _list_hub_split(part, split, columns, listing)
                undecoded = part.cast_column(columns["image"], datasets.Image(decode=False))
                images = undecoded.select_columns([columns["image"]])
                if columns["image"] != "image":  # to its own name `datasets` would not rename it
                    images = images.rename_column(columns["image"], "image")
                listing.loaded[split] = images

    def read(item: Item) -> Path | bytes:
        cell = listing.loaded[item.split][item.row]["image"]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])

    return listing, read


def _download(name: str) -> datasets.DatasetDict:
    """A Hub dataset, or one clear sentence within seconds; code of the dataset's own is never run."""
    source = HubId.parse(name)
    try:
        if source is None:
            raise HubError(name, "neither a file or folder here, nor a dataset of the Hub (user/repo)")
        return fetch_dataset(source)
    except HubError as error:
        raise CorpusError([str(error)]) from error


def _hub_columns(name: str, part: datasets.Dataset, options: CorpusOptions, problems: list[str]) -> dict[str, str]:
    """The columns of image, label and perhaps group: by option, by type, or by the known names."""
    import datasets

    typed = {"image": datasets.Image, "label": datasets.ClassLabel}
    found = {}
    if options.mask_column is not None:
        problems.append("--mask_column: masks are read from files that a table names, not from datasets of the Hub")
    for role in ("image", "label", "group", "series"):
        given = getattr(options, f"{role}_column")
        of_type = [column for column, kind in part.features.items() if isinstance(kind, typed.get(role, ()))]
        named = [column for known in COLUMNS[role] for column in part.column_names if column.lower() == known]
        both = [column for column in named if column in of_type]
        choices = [given] if given else of_type if len(of_type) == 1 else both or named
        if choices and choices[0] in part.column_names:
            found[role] = choices[0]
        elif given or role not in ("group", "series"):
            shown = ", ".join(printable(column) for column in part.column_names)
            problems.append(f"{name} has no column known to hold the {role}; name one with --{role}_column: {shown}")
    return found if {"image", "label"} <= set(found) else {}


def _add_hub_gaps(part: datasets.Dataset, given: str, columns: dict[str, str], problems: list[str]) -> bool:
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


def _list_hub_split(part: datasets.Dataset, split: str, columns: dict[str, str], listing: Listing) -> None:
    import datasets

    kind = part.features[columns["label"]]
    labels = list(part[columns["label"]])
    names = kind.int2str(labels) if isinstance(kind, datasets.ClassLabel) else [str(label) for label in labels]
    groups = list(part[columns["group"]]) if "group" in columns else [""] * len(names)
    if "group" in columns:
        listing.group_origin = f"column {columns['group']}"
    series = list(part[columns["series"]]) if "series" in columns else [""] * len(names)
    for row, (name, group, one) in enumerate(zip(names, groups, series, strict=True)):
        item = Item(f"{split}/{row}", split, name, row=row)
        item.group, item.series = ("" if value is None else str(value) for value in (group, one))
        listing.items.append(item)
