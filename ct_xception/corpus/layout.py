"""A tree of folders as levels: which name the split, which the class, which a patient, and which only wrap.

Nothing is guessed: where two levels could be the classes, where folders look like patients rather than classes, and
where a folder beside the splits could be one too, the listing gets a problem that names the option which settles it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ct_xception.corpus.labels import IGNORED_SPLIT, SPLITS, is_fold, split_of, words
from ct_xception.corpus.listing import UNLABELLED, CorpusOptions, Item, Listing
from ct_xception.errors import printable
from ct_xception.imaging.source import FoundFiles, stem_of

# Folders that say how the files in them are kept, not what is on them.
_STRUCTURE = frozenset(
    "images image imgs img pictures ct cts scans scan slices slice dicom dicoms dcm png pngs jpg jpeg jpgs tif tiff "
    "nifti nii original originals raw data files frames axial coronal sagittal series study".split()
)
_BATCH = re.compile(r"(part|batch|chunk|set|vol|volume|dir|folder|zip)[\s_.-]*\d+", re.IGNORECASE)
_MASKS = frozenset("mask masks segmentation segmentations annotation annotations groundtruth".split())
_MASKS_ALONE = frozenset(
    "label labels gt seg segs roi rois contour contours outline outlines labelstr labelsts groundtruth".split()
)
_MASK_FILE = re.compile(
    r"(?P<image>.+?)[\s_.-]*(?:(?:lesion|lung|infection|tumou?r|nodule)[\s_-]*)?"
    r"(?:mask|seg|segmentation|annotation|groundtruth|gt|roi|label|contour)s?[\s_-]*\d*",
    re.IGNORECASE,
)
_THUMBNAILS = frozenset("thumb thumbs thumbnail thumbnails preview previews".split())
_THUMBNAIL_FILE = re.compile(r"(?P<image>.+?)[\s_.-]*(?:thumb(?:nail)?|preview)", re.IGNORECASE)
# Folders that rather hold what nobody has sorted than a class.
_UNSORTED = frozenset("unlabeled unlabelled unannotated unsorted unclassified unknown".split())
_MASK_FIRST = re.compile(r"(?:mask|seg|segmentation|label|gt)s?[\s_-]+(?P<image>.+)", re.IGNORECASE)
# Names of people's files: a word for a patient with a number, a long number, or a UID.
_PATIENT = re.compile(
    r"(p|pat|pt|patient|subject|subj|sub|case|person|participant|id|mrn)s?[\s_.#-]*0*\d+\D{0,2}|"
    r"(?!class|grade|stage|label|type|category|birads|rads|covid|cls)[a-z][a-z _.-]{0,20}\d{3,}[\w.-]*|"
    r"\d{3,}[\w.-]*|[\d.]{9,}|[0-9a-f]{16,}",
    re.IGNORECASE,
)
_DAY = re.compile(r"(19|20)\d\d([-_.])\d\d?\2\d\d?|\d\d?([-_.])\d\d?\3(19|20)\d\d")
_MOST_NAMED = 4
MOST_GRADES = 6  # folders called by numbers, which may be grades or stages; more of them count patients


@dataclass(eq=False)
class Folder:
    """A folder below a corpus's own: `parts` are the names that lead to it, `files` its images."""

    parts: tuple[str, ...]
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def count(self) -> int:
        """How many images lie in it, however deep."""
        return len(self.files) + sum(folder.count() for folder in self.folders.values())

    def held(self) -> dict[str, Folder]:
        """The folders in it that hold an image."""
        return {name: folder for name, folder in self.folders.items() if folder.count()}


@dataclass(frozen=True, eq=False)
class Route:
    """The way to an image, or to a folder without any (`path` None): its split, and (level, name) of what is left."""

    path: Path | None
    split: str | None
    levels: tuple[tuple[int, str], ...]

    def name(self, index: int) -> str | None:
        """The name at a place in what is left; None where the way is shorter."""
        return self.levels[index][1] if index < len(self.levels) else None


def grow_tree(found: FoundFiles) -> Folder:
    """What was found below a folder as a tree."""
    root = Folder(())
    folders: dict[tuple[str, ...], Folder] = {(): root}
    for path in found.folders:
        parts = path.relative_to(found.root).parts
        folders[parts] = folders[parts[:-1]].folders[parts[-1]] = Folder(parts)
    for path in found.files:
        folders[path.relative_to(found.root).parts[:-1]].files.append(path)
    return root


def prune(folder: Folder, options: CorpusOptions, listing: Listing) -> None:
    """Take out what --exclude names, and masks that lie beside images; both are counted."""
    for name, inner in list(folder.folders.items()):
        if options.excludes(name, "/".join(inner.parts)):
            listing.passed_over["excluded by name"] += inner.count()
            del folder.folders[name]
    kept = [path for path in folder.files if not options.excludes(path.name, "/".join([*folder.parts, path.name]))]
    if len(kept) < len(folder.files):
        listing.passed_over["excluded by name"] += len(folder.files) - len(kept)
    folder.files = kept
    for inner in folder.folders.values():
        prune(inner, options, listing)
    _drop_beside(folder, "masks", _is_mask, (_MASK_FILE, _MASK_FIRST), options, listing)
    _drop_beside(folder, "thumbnails", _is_thumbnails, (_THUMBNAIL_FILE,), options, listing)


def _drop_beside(
    folder: Folder, kind: str, is_one: Callable[[str, Folder], bool], names: Sequence[re.Pattern[str]],
    options: CorpusOptions, listing: Listing,
) -> None:  # fmt: skip
    """Take out folders and files of a kind that goes with images, where there are images beside them."""
    known = {*options.class_map, *options.split_map}
    found = [name for name in folder.folders if is_one(name, folder.folders[name]) and name not in known]
    images = folder.count() - sum(folder.folders[name].count() for name in found)
    for name in found if images else ():
        listing.passed_over[kind] += folder.folders[name].count()
        if folder.folders[name].count():
            listing.ignored_folders += [name] if name not in listing.ignored_folders else []
        del folder.folders[name]
    files = _files_beside(folder.files, names)
    if files:
        listing.passed_over[kind] += len(files)
    folder.files = [path for path in folder.files if path not in files]


def drop_without_images(folder: Folder, listing: Listing, options: CorpusOptions) -> None:
    """Take out folders of folders in which no image lies, such as those of lists; a class folder may yet be empty."""
    for name, inner in list(folder.folders.items()):
        if not inner.count() and inner.folders and folder.count() and not split_of(name, options.split_map):
            listing.ignored_folders.append(name)
            del folder.folders[name]


def _is_thumbnails(name: str, folder: Folder) -> bool:
    return bool(_THUMBNAILS & set(words(name)))


def _is_mask(name: str, folder: Folder) -> bool:
    """Whether a folder is called as masks are, and holds no images of its own beside them."""
    if any(_named_images(one) for one in folder.folders.values()):
        return False
    parts = words(re.sub("(?<=[a-z])(?=[A-Z])", " ", name))
    return bool(_MASKS & set(parts)) or parts[-1] in _MASKS_ALONE or "".join(parts) in _MASKS_ALONE


def _named_images(folder: Folder) -> bool:
    return folder.parts[-1].casefold() in ("images", "image", "imgs") or any(
        map(_named_images, folder.folders.values())
    )


def _files_beside(files: Sequence[Path], names: Sequence[re.Pattern[str]]) -> set[Path]:
    """Pictures named as something of another that lies beside them: `x_mask.png` beside `x.png`."""
    stems = {stem_of(path).casefold() for path in files}
    matches = {path: next(filter(None, (name.fullmatch(stem_of(path)) for name in names)), None) for path in files}
    return {path for path, match in matches.items() if match and match["image"].casefold() in stems}


def unwrap(folder: Folder, options: CorpusOptions) -> Folder:
    """Descend through folders that hold nothing but one folder, as unpacked archives do, if they end in a corpus."""
    inner = folder
    while len(inner.folders) == 1 and not inner.files:
        ((name, only),) = inner.folders.items()
        if split_of(name, options.split_map) or name in options.class_map or not only.folders:
            break
        inner = only
    return inner


def list_folders(inner: Folder, top: Path, options: CorpusOptions, listing: Listing) -> None:
    """Fill a listing with the images below `inner`, the folder at `top`, by the names of the folders above them."""
    routes = list(_routes(inner, inner, None, (), options, listing))
    images = [route for route in routes if route.path is not None]
    place = None if listing.problems else _class_place(images, options, listing)
    if place is None:
        return
    loose = [route for route in images if place(route) is None]
    _leave_loose(loose, images, options, listing)
    for route in images:
        if (at := place(route)) is not None:
            listing.items.append(_item(route, at, top))
    held = {(item.split, item.found) for item in listing.items}
    empty = {(route.split or "train", route.levels[at][1]) for route in routes if (at := place(route)) is not None}
    _name_empty(sorted(empty - held), {split for split, _ in held}, listing)
    _ask_about_unsorted(options, listing)
    _name_splits_in_names(listing)
    if not listing.items and not listing.empty_classes and not listing.problems:
        listing.problems.append(
            f"{printable(top)} holds no class folders with images; make one folder a class, "
            "or give a CSV of paths and labels"
        )


def list_unlabelled(inner: Folder, top: Path, listing: Listing) -> None:
    """Fill a listing with all images below `inner`, the folder at `top`; a folder like a patient's says whose."""
    for path in sorted(_all_files(inner)):
        place = path.relative_to(top)
        patient = next((name for name in place.parts[:-1] if _tells_patient(name)), "")
        listing.items.append(Item(printable(place.as_posix()), "train", UNLABELLED, path=path, folder=patient))


def _all_files(folder: Folder) -> Iterator[Path]:
    yield from folder.files
    for inner in folder.folders.values():
        yield from _all_files(inner)


def _name_empty(empty: Sequence[tuple[str, str]], held: set[str], listing: Listing) -> None:
    """Class folders without images are a problem, but in a split without any they are a note."""
    listing.empty_classes += [(split, name) for split, name in empty if split in held or not held]
    told = {split: name for name, split in listing.split_names.items() if split not in held}
    if held:
        listing.notes += [f"the folder {printable(name)} of {split} holds no images" for split, name in told.items()]


def _ask_about_unsorted(options: CorpusOptions, listing: Listing) -> None:
    """A folder of what nobody has sorted is no class."""
    for name in sorted({item.found for item in listing.items}):
        if "".join(words(name)) in _UNSORTED and name not in options.class_map:
            said = f"the folder {printable(name)!r} seems to hold what has no label"
            quoted = _quoted(name)
            remedy = f"leave it out with --exclude {quoted}, or make it a class with --class_map {quoted}=CLASS"
            listing.problems.append(f"{said}; {remedy}")


def _name_splits_in_names(listing: Listing) -> None:
    """Names of files that end or begin with a split are pointed at, and not used."""
    if listing.split_names:
        return
    told: Counter[str] = Counter()
    for item in listing.items:
        parts = words(Path(item.source).stem)
        told.update({split for part in (parts[0], parts[-1]) if len(parts) > 1 and (split := split_of(part, {}))})
    if len(told) > 1 and 2 * sum(told.values()) > len(listing.items):
        shown = ", ".join(f"{number} {split}" for split, number in sorted(told.items()))
        listing.untaken.append(
            f"the names of files tell splits ({shown}), which are not used; sort them into folders of these names, or "
            "give a table with a column split"
        )


def _routes(
    folder: Folder, top: Folder, split: str | None, levels: tuple[tuple[int, str], ...], options: CorpusOptions,
    listing: Listing,
) -> Iterator[Route]:  # fmt: skip
    """The ways to all images, those of folders without any last; splits and folders that say nothing are taken off."""
    splits = _splits_in(folder, top, options)
    _check_siblings(folder, splits, options, listing)
    if not folder.folders and not folder.files and levels:
        yield Route(None, split, levels)
    says_nothing = options.class_level is None and _say_nothing(folder, options)
    for path, inner in _in_order(folder):
        if inner is None:
            yield Route(path, split, levels)
        elif path.name in splits:
            yield from _split_routes(path.name, inner, splits[path.name], top, levels, options, listing)
        elif splits and folder is top:
            listing.ignored_folders.append(path.name)
            listing.passed_over["images in other folders"] += inner.count()
        else:
            own = () if says_nothing else ((len(inner.parts), path.name),)
            yield from _routes(inner, top, split, levels + own, options, listing)


def _split_routes(
    name: str, folder: Folder, split: str, top: Folder, levels: tuple[tuple[int, str], ...], options: CorpusOptions,
    listing: Listing,
) -> Iterator[Route]:  # fmt: skip
    listing.split_names[name] = split
    if split == IGNORED_SPLIT:
        del listing.split_names[name]
        listing.ignored_folders.append("/".join(folder.parts[len(top.parts) :]))
        listing.passed_over["in a split to be ignored"] += folder.count()
    else:
        yield from _routes(folder, top, split, levels, options, listing)


def _in_order(folder: Folder) -> list[tuple[Path, Folder | None]]:
    """Files and folders by their names."""
    entries: list[tuple[Path, Folder | None]] = [(path, None) for path in folder.files]
    entries += [(Path(*inner.parts), inner) for inner in folder.folders.values()]
    return sorted(entries, key=lambda entry: entry[0].name)


def _splits_in(folder: Folder, top: Folder, options: CorpusOptions) -> dict[str, str]:
    """{name: split} of the folders in one; below the corpus's own folder only where all of them are splits."""
    told = {
        name: split for name, inner in folder.folders.items()
        if (split := options.split_map.get("/".join(inner.parts)) or split_of(name, options.split_map))
    }  # fmt: skip
    given = any(name in options.split_map or "/".join(folder.folders[name].parts) in options.split_map for name in told)
    whole = set(folder.held()) <= set(told) and not folder.files
    return told if folder is top or given or whole else {}


def _say_nothing(folder: Folder, options: CorpusOptions) -> bool:
    """Whether the folders in one only say how files are kept: images, dicom, part1."""
    names = [name for name in folder.held() if name not in options.class_map]
    return bool(names) and all(_is_structure(name) for name in names) and len(names) == len(folder.held())


def _is_structure(name: str) -> bool:
    return set(words(name)) <= _STRUCTURE or _BATCH.fullmatch(name) is not None


def _check_siblings(folder: Folder, splits: Mapping[str, str], options: CorpusOptions, listing: Listing) -> None:
    """Two folders for one split, folds, and a folder beside the splits that could be one: all are asked about."""
    for split, times in Counter(splits.values()).items():
        names = [name for name, meant in splits.items() if meant == split]
        if times > 1 and split in SPLITS and not all(name in options.split_map for name in names):
            quoted = " and ".join(printable(name) for name in names)
            settled = f"--split_map {_quoted(names[0])}={IGNORED_SPLIT} (or name both {split})"
            listing.problems.append(f"the folders {quoted} both mean {split}; settle it with {settled}")
    folds = [name for name in folder.held() if is_fold(name) and name not in splits]
    if folds:
        said = f"the folders {_listed(folds)} are parts of a cross-validation"
        example = " ".join(f"{_quoted(name)}={split}" for name, split in zip(folds, ("test", "train"), strict=False))
        listing.problems.append(f"{said}; say what each is with --split_map {example} and so on (or ignore)")
    if splits and "train" not in splits.values():
        _ask_for_training(folder, splits, listing)
    _ask_for_twins_of_splits(folder, splits, listing)


def _ask_for_training(folder: Folder, splits: Mapping[str, str], listing: Listing) -> None:
    """Class folders in a folder beside a test split are probably the training images."""
    others = {name: inner for name, inner in folder.held().items() if name not in splits}
    named = next(iter(splits))
    for name, inner in others.items():
        below = f"holds {_listed(list(inner.held()))}" if inner.held() else "holds images"
        said = f"the folder {printable(name)!r} {below}, and {printable(named)!r} beside it is called as a split is"
        remedy = f"--split_map {_quoted(name)}=train {_quoted(named)}={splits[named]} (or {_quoted(named)}=ignore)"
        listing.problems.append(f"{said}; settle it with {remedy}")


def _ask_for_twins_of_splits(folder: Folder, splits: Mapping[str, str], listing: Listing) -> None:
    within = {words(name) for split in splits for name in folder.folders[split].held()}
    for name, inner in folder.held().items() if "train" in splits.values() else ():
        shared = [one for one in inner.held() if words(one) in within]
        if name not in splits and len(shared) > 1 and not is_fold(name):
            said = f"the folder {printable(name)!r} beside the splits holds {_listed(shared)} as they do"
            listing.problems.append(f"{said}; settle it with --split_map {_quoted(name)}=validation (or ignore)")


def _class_place(
    images: Sequence[Route], options: CorpusOptions, listing: Listing
) -> Callable[[Route], int | None] | None:
    """A function that says which of a way's levels is its class; None where that has to be asked."""
    if options.class_level is not None:
        return lambda route: next((at for at, one in enumerate(route.levels) if one[0] == options.class_level), None)
    at = _first_place(images)
    names = [sorted({name for route in images if (name := route.name(place))}) for place in (at, at + 1)]
    mapped = [set(options.class_map) & {*here, *_with_splits(here)} for here in names]
    if mapped[1] and not mapped[0]:
        at, names = at + 1, [names[1], []]
    elif not mapped[0] and (question := _question(images, at, names)):
        listing.problems.append(question)
        return None
    return lambda route: at if len(route.levels) > at else None


def _with_splits(names: Sequence[str]) -> set[str]:
    return {f"{split}/{name}" for split in SPLITS for name in names}


def _first_place(images: Sequence[Route]) -> int:
    """The first place at which names differ within a split, passing those that only wrap what lies below."""
    at = 0
    while True:
        here: dict[str | None, set[str | None]] = {}
        for route in images:
            here.setdefault(route.split, set()).add(route.name(at))
        below = {name for route in images if (name := route.name(at + 1))}
        one_each = all(len(names) == 1 and None not in names for names in here.values())
        whole = all(route.name(at + 1) for route in images)
        if not images or not one_each or not whole or len(below) < 2 or like_patients(below):
            return at
        at += 1


def _question(images: Sequence[Route], at: int, names: Sequence[Sequence[str]]) -> str:
    """What has to be asked of folders that could be classes at two levels, or that are rather patients."""
    here, below = names
    if like_patients(here) and len(here) > 1:
        said = f"the folders {_listed(here)} look like patients, not classes"
        inner = bool(below) and not like_patients(below)
        deeper = f"say where the classes are with --class_level {_depth(images, at + 1)}" if inner else ""
        here_too = f"--class_level {_depth(images, at)} takes them for classes"
        table = "give a table that says the class of each folder"
        return f"{said}; {deeper or table} ({here_too})"
    told = [name for name in below if not _is_structure(name)]
    if not told or like_patients(told):
        return ""
    levels = [_depth(images, at), _depth(images, at + 1)]
    said = f"the classes could be {_listed(here)}, or the folders in them, {_listed(told)}"
    remedy = f"--class_level {levels[0]} or --class_level {levels[1]} (--exclude NAME leaves folders out)"
    return f"{said}; settle it with {remedy}"


def _depth(images: Sequence[Route], at: int) -> int:
    return min(route.levels[at][0] for route in images if len(route.levels) > at)


def like_patients(names: Sequence[str] | set[str]) -> bool:
    """Whether four of five names look like those of patients, studies or series."""
    told = [name for name in names if looks_like_patient(name)]
    counted = len(names) > MOST_GRADES and all(name.isdigit() for name in names)
    return counted or (bool(names) and len(told) * 5 >= len(names) * 4)


def looks_like_patient(name: str) -> bool:
    """Whether a name is made like a patient's, a study's or a series': `P0012`, `patient 3`, `000119`, a UID."""
    return _PATIENT.fullmatch(name.strip()) is not None or re.search(r"\d+-\d+-\d+", name) is not None


def _leave_loose(loose: Sequence[Route], images: Sequence[Route], options: CorpusOptions, listing: Listing) -> None:
    """Images in no class folder: a note, or, where a split has no others, a question."""
    placed = Counter(route.split for route in images)
    for split, number in Counter(route.split for route in loose).items():
        names = [name for name, meant in listing.split_names.items() if meant == split]
        where = f" of {printable(names[0])}" if names else ""
        if split is not None and number == placed[split] and any(one.split != split for one in images):
            said = f"{number} images of the split {split} lie in no class folder{where}"
            listing.problems.append(f"{said}; leave them out with --split_map {_quoted(names[0])}=ignore, or sort them")
        else:
            listing.notes.append(f"{number} images lie in no class folder{where} and are left out")
        listing.passed_over["images in no class folder"] += number


def _item(route: Route, at: int, top: Path) -> Item:
    assert route.path is not None
    split, found = route.split or "train", route.levels[at][1]
    others = [(place, name) for place, (_, name) in enumerate(route.levels) if place != at]
    told = (name for place, name in others if _tells_patient(name) or (place > at and name.isdigit()))
    patient = next(told, "")
    if re.fullmatch(r"\d{1,3}", patient):  # a counter that begins anew in every folder
        patient = "/".join([split, found, patient])
    return Item(printable(route.path.relative_to(top).as_posix()), split, found, path=route.path, folder=patient)


def _tells_patient(name: str) -> bool:
    """A day on which several were scanned is no patient."""
    return looks_like_patient(name) and not _DAY.fullmatch(name.strip())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _quoted(name: str) -> str:
    text = printable(name)
    return f"'{text}'" if " " in text else text
