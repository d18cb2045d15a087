"""The split that an audit would rather have: what lies on both sides is put on one, what cannot be trusted left out.

    write_split(audit, "repaired")     # split.csv, reasons.csv, and the images as links by split and class

A patient (or pseudo-patient: an image and its look-alikes) whose images lie in several splits goes to the one of them
that has room for it, the largest patients first, so that sizes stay near those published. Left out are files
that cannot be read, pictures under two labels, and every further copy of a picture. Nothing is drawn: the same audit
gives the same split.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ct_xception.corpus.cells import frame_of
from ct_xception.corpus.labels import SPLITS
from ct_xception.corpus.split import split_corpus
from ct_xception.errors import InputError, printable
from ct_xception.files import atomic_folder, write_atomically

if TYPE_CHECKING:
    from ct_xception.audit.report import Audit

SPLIT_TABLE, REASONS, IMAGES = "split.csv", "reasons.csv", "images"
LEFT_OUT = "left out"
FRACTIONS = (0.7, 0.15, 0.15)  # of the parts that a corpus does not bring

Move = dict[str, str]


@dataclass(frozen=True, eq=False)
class RepairedSplit:
    """Where every image goes: `split` {source: split} of those kept; `label` and `group` {source: …} of all.

    `moves` say of each image that is elsewhere than before: `source`, `was`, `now` (a split, or `left out`), `reason`.
    """

    split: dict[str, str]
    label: dict[str, str]
    group: dict[str, str]
    moves: list[Move]

    def summary(self) -> str:
        """What was done, in one sentence."""
        sizes = Counter(self.split.values())
        left = sum(move["now"] == LEFT_OUT for move in self.moves)
        kept = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS)
        return f"{kept} images; {len(self.moves) - left:,} moved, {left:,} left out"


def repair_split(audit: Audit, *, seed: int = 0) -> RepairedSplit:
    """The splits of the audited corpus without its leaks; those that it does not bring are carved by patient first."""
    splits, _, _ = split_corpus(audit.corpus, audit.patients, fractions=FRACTIONS, seed=seed)
    was = {source: name for name, part in splits.items() for source in part.select_columns(["source"])[:]["source"]}
    reasons = _left_out(audit)
    kept = [source for source in audit.survey.sources if source not in reasons]
    names, labels = audit.survey.label_names, audit.survey.labels.tolist()
    label = {source: names[k] for source, k in zip(audit.survey.sources, labels, strict=True)}
    now = _one_side(kept, was, label, audit.patients)
    moves = [
        {"source": source, "was": was[source], "now": now.get(source, LEFT_OUT), "reason": reason}
        for source in audit.survey.sources
        if (reason := reasons.get(source) or _reason(source, was, now, audit.patients))
    ]
    return RepairedSplit(now, label, audit.patients, moves)


def _left_out(audit: Audit) -> dict[str, str]:
    """{source: why} of what takes part in nothing."""
    survey, clusters = audit.survey, audit.twins.clusters.tolist()
    reasons = {source: f"cannot be read: {reason}" for source, reason in survey.failed.items()}
    labels: dict[int, set[int]] = defaultdict(set)
    for cluster, label in zip(clusters, survey.labels.tolist(), strict=True):
        labels[cluster].add(label)
    seen: dict[str, str] = {}
    for source, cluster, pixels in zip(survey.sources, clusters, survey.pixel_hash, strict=True):
        if source in reasons:
            continue
        if len(labels[cluster]) > 1:
            named = " and ".join(survey.label_names[label] for label in sorted(labels[cluster]))
            reasons[source] = f"one picture is labelled {named}"
        elif seen.setdefault(pixels, source) != source:
            reasons[source] = f"a copy of {printable(seen[pixels])}, pixel for pixel"
    return reasons


def _one_side(
    kept: list[str], was: Mapping[str, str], label: Mapping[str, str], patients: Mapping[str, str]
) -> dict[str, str]:
    """{source: split} with every patient in one split, which keep their images by class as far as that allows."""
    wanted = Counter((was[source], label[source]) for source in kept)
    members: dict[str, list[str]] = defaultdict(list)
    for source in kept:
        members[patients[source]].append(source)
    placed: Counter[tuple[str, str]] = Counter()
    chosen: dict[str, str] = {}
    # Those of one split are placed already; of the others the largest come first, while there is room to balance.
    for patient, own in sorted(members.items(), key=lambda one: (len({was[s] for s in one[1]}) > 1, -len(one[1]))):
        spans, classes = Counter(was[source] for source in own), Counter(label[source] for source in own)
        chosen[patient] = min(
            (split for split in SPLITS if split in spans),
            key=lambda split: (
                _too_many(split, classes, wanted, placed),
                all(placed[split, name] for name in classes),  # a split that still lacks a class comes first
                -spans[split],
            ),
        )
        placed.update({(chosen[patient], name): number for name, number in classes.items()})
    return {source: chosen[patients[source]] for source in kept}


def _too_many(
    split: str, classes: Mapping[str, int], wanted: Mapping[tuple[str, str], int], placed: Mapping[tuple[str, str], int]
) -> int:
    """How many more images of its classes a split would hold than it had."""
    over = ((split, name, number) for name, number in classes.items())
    return sum(max(0, placed.get((at, name), 0) + number - wanted.get((at, name), 0)) for at, name, number in over)


def _reason(source: str, was: Mapping[str, str], now: Mapping[str, str], patients: Mapping[str, str]) -> str:
    if now[source] == was[source]:
        return ""
    return f"its patient, {printable(patients[source])}, or a look-alike, has images in {now[source]} as well"


def check_new(folder: str | Path) -> None:
    """Raises InputError where the folder for a split is there already, unless it is empty."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--write-split: {printable(folder)} is there already; name a new folder.")


def write_split(audit: Audit, folder: str | Path, *, copy: bool = False, seed: int = 0) -> RepairedSplit:
    """Write a repaired split into a new `folder`: split.csv (path, label, split, group), reasons.csv, and images/.

    The images are links, or copies with `copy`, in SPLIT/CLASS folders; `path` is relative to the table, which training
    takes as its corpus. Raises InputError where the folder is not empty, DiskError where it cannot be written.
    """
    folder = Path(folder)
    check_new(folder)
    repaired = repair_split(audit, seed=seed)
    with atomic_folder(folder) as partial:
        _fill(partial, audit, repaired, copy)
    return repaired


def _fill(folder: Path, audit: Audit, repaired: RepairedSplit, copy: bool) -> None:
    rows, taken, placed = [], set[str](), dict[tuple[str, str], str]()
    framed = any("frame" in part.column_names for part in audit.corpus.dataset.values())
    for _, item in _items(audit):
        source, frame = item["source"], frame_of(item)
        if source not in repaired.split:
            continue
        file = source if frame is None else source.rpartition("#")[0]  # which is placed once for all of its slices
        where = f"{IMAGES}/{repaired.split[source]}/{_safe(repaired.label[source])}"
        if (where, file) not in placed:
            placed[where, file] = _free(where, file, taken)
            _place(item["image"], folder / placed[where, file], copy)
        row = {"path": placed[where, file], "label": repaired.label[source], "split": repaired.split[source]}
        rows.append(row | {"group": repaired.group[source]} | ({"frame": str(item["frame"])} if framed else {}))
    write_atomically(folder / SPLIT_TABLE, _table(("path", "label", "split", "group", *["frame"] * framed), rows))
    write_atomically(folder / REASONS, _table(("source", "was", "now", "reason"), repaired.moves))


def _items(audit: Audit) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for split, part in audit.corpus.dataset.items():
        columns = [name for name in ("image", "source", "frame") if name in part.column_names]
        yield from ((split, item) for item in part.select_columns(columns))


def _safe(name: str) -> str:
    """A class's name as that of a folder."""
    return name.replace("/", "_").replace("\0", "_").strip(". ") or "_"


def _free(folder: str, source: str, taken: set[str]) -> str:
    """A path for an image in a folder, by its own name, numbered where that is taken."""
    name = PurePosixPath(_safe(PurePosixPath(source).name))
    for number in range(len(taken) + 1):
        path = f"{folder}/{name}" if not number else f"{folder}/{name.stem}-{number + 1}{name.suffix}"
        if path.lower() not in taken:
            break
    taken.add(path.lower())
    return path


def _place(image: Mapping[str, Any], path: Path, copy: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.get("bytes") is not None:
        path.write_bytes(image["bytes"])
    elif copy:
        shutil.copyfile(image["path"], path)
    else:
        path.symlink_to(Path(image["path"]).resolve())


def _table(columns: tuple[str, ...], rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
