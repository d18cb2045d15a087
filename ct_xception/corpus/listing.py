"""What a source holds before a file of it is opened: every image with its split, class, group and name."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.cells import ONLY
from ct_xception.corpus.external_options import own_fields
from ct_xception.corpus.labels import IGNORED_SPLIT, SPLITS
from ct_xception.corpus.tables.columns import COLUMNS, box_columns, tabular_columns
from ct_xception.errors import InputError, printable
from ct_xception.imaging.frames import check_slices_per_file
from ct_xception.imaging.modality import CT
from ct_xception.imaging.windows import Window

if TYPE_CHECKING:
    import datasets

UNLABELLED = "unlabelled"  # the class of images whose labels are not looked at
__all__ = ["COLUMNS", "CorpusOptions", "Item", "Listing"]


@dataclass(frozen=True)
class CorpusOptions:
    """How to read a corpus where its own names do not say enough.

    `class_map` is {folder or label: class} (a folder of one split alone: "train/folder"), `split_map` {folder, its path
    in the corpus, or value: train, validation, test or ignore}. `exclude` names folders and labels that are left out,
    by name, path or pattern ("Test*"), and is offered for what cannot be read where
    that is `excludable`. `class_level` says how many folders below the corpus's own the class folders
    lie. The columns name those of a table or a Hub dataset; a `label_column` of several names, joined by commas, is one
    of zeros and ones a class; `box_columns` are four, for the left, top, right and bottom of a lesion's box;
    `site_column` says where an image was made;
    `tabular_columns` are what the network takes beside the image, joined by commas, and `tabular_needed` whether the
    corpus must have them. Paths of a table are relative to `image_root` (default: the table's folder), and made from
    its columns by `image_template` ("{id}.png"). `group_pattern` is a regular expression searched in an image's
    relative path; its first group, or all it matches, is the patient. `window` and `frame` are those that the slices
    will be read with, `modality`, one of MODALITIES, is what they are slices of. Without a `frame` a volume is one item
    a slice; `slices_per_file` is a number of them, or all, and then holds of files of several pages, too. `decode` is
    whether every image is decoded once, to find the damaged ones now. Where the corpus is not `labelled`, neither its
    classes nor its splits are looked at: all its images are of one class, UNLABELLED, and of training. `one_class` is
    enough to test a network on. `of_external` is {"NAME.option": text}, how external corpora are to be read.
    """

    class_map: Mapping[str, str] = field(default_factory=dict)
    split_map: Mapping[str, str] = field(default_factory=dict)
    exclude: Sequence[str] = ()
    excludable: bool = True
    class_level: int | None = None
    image_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    series_column: str | None = None
    site_column: str | None = None
    split_column: str | None = None
    mask_column: str | None = None
    box_columns: str | None = None
    tabular_columns: str | None = None
    tabular_needed: bool = True
    image_root: str | None = None
    image_template: str | None = None
    group_pattern: str | None = None
    window: Window | None = None
    frame: int | None = None
    slices_per_file: str | None = None
    modality: str = CT
    decode: bool = True
    labelled: bool = True
    one_class: bool = False
    of_external: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, split in self.split_map.items():
            if split != IGNORED_SPLIT and split not in SPLITS:
                allowed = f"{', '.join(SPLITS)} or {IGNORED_SPLIT}"
                raise InputError(f"--split_map {printable(name)}={printable(split)}: a split is {allowed}.")
        for name, label in self.class_map.items():
            if not label.strip():
                raise InputError(
                    f"--class_map {printable(name)}= gives no class; write FOLDER=CLASS, or --exclude the folder."
                )
        if self.class_level is not None and self.class_level < 1:
            raise InputError(f"--class_level {self.class_level}: the folders of the corpus itself are level 1.")
        check_slices_per_file(self.slices_per_file)
        box_columns(self.box_columns)
        tabular_columns(self.tabular_columns)
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise InputError(f"--group_pattern {self.group_pattern!r} is no regular expression: {error}.") from None

    def without_external(self, names: Collection[str]) -> CorpusOptions:
        """These options for the own corpus: without what is said of external ones."""
        others = tuple(f"{name}/" for name in names)
        own = {key: one for key, one in self.class_map.items() if not key.startswith(others)} if others else None
        return self if own is None else replace(self, class_map=own, of_external={})

    def for_external(self, name: str) -> CorpusOptions:
        """These options for an external corpus: how files are read, its entries "NAME/label" of the class map, its own.

        Its columns and folders need not be called like the own corpus's. Damaged files are listed when they are asked.
        """
        check_external_name(name)
        prefix = f"{name}/"
        mapped = {key.removeprefix(prefix): one for key, one in self.class_map.items() if key.startswith(prefix)}
        reading = ("window", "frame", "slices_per_file", "modality", "tabular_columns")
        fields = {key: getattr(self, key) for key in reading} | own_fields(name, self.of_external)
        fields["class_map"] = mapped | fields.get("class_map", {})
        return CorpusOptions(decode=False, tabular_needed=False, one_class=True, excludable=False, **fields)

    def with_columns(self, stated: Mapping[str, Any] | None) -> CorpusOptions:
        """These options with the columns that a checkpoint takes beside the image, as its config.json states them."""
        if stated is None:
            return self
        names = ",".join(column["name"] for column in stated["columns"])
        return replace(self, tabular_columns=names, tabular_needed=False)

    def without_labels(self) -> CorpusOptions:
        """These options for a corpus whose labels and splits are not looked at, read as the own one is."""
        kept = ("window", "frame", "slices_per_file", "modality", "image_root", "image_template", "group_pattern")
        reading = {key: getattr(self, key) for key in (*kept, "image_column", "group_column", "series_column")}
        return CorpusOptions(labelled=False, decode=False, **reading)

    def excludes(self, *names: str) -> bool:
        """Whether --exclude names one of these, as it is or as a pattern."""
        return any(name == one or fnmatch.fnmatchcase(name, one) for one in self.exclude for name in names)


def check_external_name(name: str) -> None:
    """Raise InputError for a name of an external corpus that cannot go into figures and names of files."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name, re.ASCII):
        raise InputError(
            f"--external {printable(name)}=…: a name is of letters, digits, dots, dashes and underscores; write "
            "--external NAME=SOURCE."
        )


@dataclass(eq=False)
class Item:
    """One image of a corpus: where it is, and what its source says. `content` is set where it lies in no file.

    `mask` is the picture of its lesion, None where there is none, and `boxes` those around its lesions (left, top,
    right, bottom). `folder` is the folder that looks like its patient's, `others` {column: value} of columns that look
    like a patient's and were not taken, `tabular` those of `--tabular_columns`. `frame` is the slice of a file that
    holds several, ONLY where it holds one.
    """

    source: str
    split: str
    found: str
    group: str = ""
    series: str = ""
    path: Path | None = None
    content: bytes | None = None
    row: int = -1
    frame: int = ONLY
    mask: Path | None = None
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    folder: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    tabular: Mapping[str, str] = field(default_factory=dict)
    site: str = ""


@dataclass(eq=False)
class Listing:
    """What a source holds; `problems` are sentences that must be mended, `notes` are worth knowing.

    A note names no file and no patient, since it goes where the checkpoint goes; `details` may. `untaken` are sentences
    on what looks like patients or splits and was not taken, `columns` the names of its tables' columns. `passed_over`
    counts by kind what was not read. `loaded` holds, by split, the one column `image` of a dataset whose images lie in
    Arrow tables rather than in files.
    """

    kind: str
    items: list[Item] = field(default_factory=list)
    exact_labels: bool = False
    group_origin: str = ""
    sites: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    ignored_folders: list[str] = field(default_factory=list)
    split_names: dict[str, str] = field(default_factory=dict)
    empty_classes: list[tuple[str, str]] = field(default_factory=list)
    loaded: dict[str, datasets.Dataset] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    untaken: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

    def read(self, item: Item) -> Path | bytes:
        """Where an item's untouched file is: its path, or its bytes."""
        if item.path is not None:
            return item.path
        if item.content is not None:
            return item.content
        if item.split not in self.loaded:
            return Path()
        cell = self.loaded[item.split][item.row]["image"]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])


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
