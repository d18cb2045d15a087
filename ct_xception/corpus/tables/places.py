"""Where the images are that a table means: by the end of a path, by a name alone, by a folder, or by DICOM's own ids.

People move corpora and keep their tables: paths of another machine, names without folder or suffix, and tables of
patients, studies or series that name no file at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from ct_xception.corpus.listing import Item, Listing
from ct_xception.errors import SliceError, printable
from ct_xception.imaging.source import find_files, is_dicom, open_source, stem_of

SAMPLE = 200  # names looked up to tell whether a column means files


class Places:
    """The images below a table's folder, by all that a table may call them; read when they are first asked for."""

    def __init__(self, root: Path, table: Path) -> None:
        self.root, self.table = root, table

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every image below the folder."""
        return find_files(self.root).files

    @cached_property
    def _named(self) -> Mapping[str, list[Path]]:
        known: dict[str, list[Path]] = {}
        for path in self.files:
            for name in {path.name, stem_of(path)}:
                known.setdefault(name, []).append(path)
        return known

    @cached_property
    def _folders(self) -> Mapping[str, list[Path]]:
        known: dict[str, list[Path]] = {}
        for path in self.files:
            for name in set(path.relative_to(self.root).parts[:-1]):
                known.setdefault(name, []).append(path)
        return known

    @cached_property
    def _identified(self) -> Mapping[str, list[Path]]:
        """Files by the ids in them: of the image, its series, its study and its patient."""
        known: dict[str, list[Path]] = {}
        for path in self.files:
            for one in _ids(path):
                known.setdefault(one, []).append(path)
        return known

    def by_name(self, name: str) -> list[Path]:
        """The files of a name; of several, the one whose folders end as the name's do, or lie in the table's own."""
        parts = name.replace("\\", "/").split("/")
        found = self._named.get(parts[-1], [])
        above = [self.table.stem, *parts[:-1]]
        alike = [_alike(above, path.relative_to(self.root).parts[:-1]) for path in found]
        best = [path for path, number in zip(found, alike, strict=True) if number == max(alike)]
        return best if len(best) == 1 else found

    def by_key(self, name: str) -> list[Path]:
        """The files of a patient, a study or a series: below a folder of that name, else by what DICOM says."""
        return self._folders.get(name) or self._identified.get(name, [])

    def knows(self, names: Sequence[str]) -> bool:
        """Whether more than half of some names are folders' or ids in the files."""
        told = list(dict.fromkeys(name for name in names if name))[:SAMPLE]
        kinds = (lambda: self._folders, lambda: self._identified)  # headers are read where folders do not tell
        return bool(told and self.files) and any(2 * sum(name in kind() for name in told) > len(told) for kind in kinds)


def _alike(first: Sequence[str], second: Sequence[str]) -> int:
    """How many folders two ways have in common, counted from their ends."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _ids(path: Path) -> Iterable[str]:
    try:
        with open_source(path, path.name) as stream:
            if not is_dicom(stream):
                return ()
        from ct_xception.imaging.decoders.dicom import read_header

        header = read_header(path)
    except SliceError:  # told when it is opened as an image
        return ()
    return {header.sop_instance, header.series_uid, header.study_uid, header.patient_id} - {""}


def find_elsewhere(listing: Listing, places: Places) -> None:
    """Give items whose files are not where their table says the files that it means, or say why that cannot be."""
    missing = [item for item in listing.items if item.path is not None and not item.path.exists()]
    if not missing or len(missing) < len(listing.items):
        return
    table = printable(places.table.name)
    found = {item: places.by_name(item.source) for item in missing}
    if several := sum(len(paths) > 1 for paths in found.values()):
        said = f"{table} names files that are not there, and {several} of them by names that several files have"
        remedy = "say where they are with --image_root DIR or --image_template 'DIR/{id}.png'"
        listing.problems.append(f"{said}; {remedy}")
        listing.items = []
        return
    if any(found.values()):
        for item, paths in found.items():
            item.path = paths[0] if paths else item.path
        listing.notes.append(f"the files of {table} were found by their names below its folder")
        return
    _take_keys(listing, places, table)


def _take_keys(listing: Listing, places: Places, table: str) -> None:
    """Items of patients, studies or series become one item for each of their files."""
    found = {item: places.by_key(item.source) for item in listing.items}
    if any(found.values()):
        nowhere = [item for item, paths in found.items() if not paths]
        listing.items = [_of_key(item, path, places.root) for item, paths in found.items() for path in paths]
        listing.notes.append(f"the images of {table} are those of the folders or DICOM ids that it names")
        if nowhere:
            listing.notes.append(f"{len(nowhere)} rows of {table} name no image that is there, and are left out")
    elif one_each := _row_for_each_class(listing.items):
        said = f"{table} has a row for each image and class ({', '.join(map(printable, one_each))}, …)"
        listing.problems.append(f"{said}; make it a row an image with a column a class, or a column of labels")
        listing.items = []


def _of_key(item: Item, path: Path, root: Path) -> Item:
    source = printable(path.relative_to(root).as_posix())
    return replace(item, path=path, source=source, folder=item.folder or item.source)


def _row_for_each_class(items: Sequence[Item]) -> list[str]:
    """The first names of a table whose rows are `IMAGE_CLASS` with a zero or a one for each; none of any other."""
    parts = [item.source.rsplit("_", 1) for item in items]
    if any(len(part) < 2 for part in parts) or {item.found for item in items} != {"0", "1"}:
        return []
    images, classes = Counter(part[0] for part in parts), Counter(part[1] for part in parts)
    whole = len(set(images.values())) == len(set(classes.values())) == 1 and len(classes) > 1 and len(images) > 1
    return [item.source for item in items[:2]] if whole else []
