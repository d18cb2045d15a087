"""What was loaded: the report that becomes corpus.json, and its lines for the terminal."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ct_xception.corpus.labels import SPLITS, ClassTable
from ct_xception.corpus.listing import Item, Listing
from ct_xception.corpus.sources import source_of
from ct_xception.errors import printable
from ct_xception.imaging.source import describe_passed_over


def corpus_report(
    name: str, listing: Listing, table: ClassTable, digests: Sequence[str], decoded: bool
) -> dict[str, Any]:
    """Everything about a loaded corpus that a later stage or a reader of corpus.json asks for; `digests` per item."""
    items = listing.items
    counts = Counter((item.split, table.classes[item.split, item.found]) for item in items)
    found = Counter((item.split, item.found) for item in items)
    splits = [split for split in SPLITS if any(item.split == split for item in items)]
    return {
        "source": printable(name),
        "kind": listing.kind,
        "hash": content_hash(items, table, digests),
        "images": len(items),
        "label_names": table.label_names,
        "counts": {split: {label: counts[split, label] for label in table.label_names} for split in splits},
        "class_table": [
            {"split": split, "found": printable(given), "class": table.classes[split, given], "images": number}
            for (split, given), number in sorted(found.items(), key=lambda one: (SPLITS.index(one[0][0]), one[0][1]))
        ],
        "split_table": {printable(given): split for given, split in sorted(listing.split_names.items())},
        "groups": {"count": len({item.group for item in items}), "origin": listing.group_origin or None},
        "sites": listing.sites,
        "passed_over": {kind: number for kind, number in sorted(listing.passed_over.items()) if number},
        "ignored_folders": [printable(one) for one in listing.ignored_folders],
        "decoded": decoded,
        "untaken": listing.untaken,
        "notes": [*_class_notes(counts, splits, table), *listing.notes],
        "details": listing.details,
    }


def public_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A corpus report as a checkpoint may carry it to the world: no file's name, and of a path its last part alone."""
    return {name: value for name, value in report.items() if name != "details"} | {"source": public_name(report)}


def public_name(report: Mapping[str, Any]) -> str:
    """What a corpus is called where others read it."""
    return str(report["source"]) if is_public(report) else Path(report["source"]).name


def is_public(report: Mapping[str, Any]) -> bool:
    """Whether a corpus goes by a name that means the same to everybody, rather than by a path of one machine."""
    source = source_of(str(report.get("kind")))
    return source is not None and source.public


def is_generated(report: Mapping[str, Any]) -> bool:
    """Whether a corpus's images were drawn by a program, so that they belong to nobody."""
    source = source_of(str(report.get("kind")))
    return source is not None and source.generated


def content_hash(items: Iterable[Item], table: ClassTable, digests: Iterable[str]) -> str:
    """SHA-256 over the sorted (split, label, source, hash of the file): equal corpora have equal hashes anywhere."""
    rows = sorted(
        (item.split, table.classes[item.split, item.found], item.source, digest)
        for item, digest in zip(items, digests, strict=True)
    )
    return hashlib.sha256("".join("\0".join(row) + "\n" for row in rows).encode()).hexdigest()


def _class_notes(counts: Mapping[tuple[str, str], int], splits: list[str], table: ClassTable) -> list[str]:
    absent = [(label, split) for split in splits for label in table.label_names if not counts[split, label]]
    notes = [f"the class {label!r} has no image in {split}" for label, split in absent]
    if table.label_names and all(name.isdigit() for name in table.label_names):
        first = table.label_names[0]
        notes.append(f"the classes are called by numbers; --class_map {first}=NAME and so on gives them names")
    return notes


def corpus_summary(report: Mapping[str, Any]) -> str:
    """A corpus report as lines for the terminal: images per split and class, and what each folder was taken for."""
    groups, digest = report["groups"]["count"], report["hash"][:12]
    sites = f", {report['sites']} sites" if report.get("sites") else ""
    lines = [f"{report['source']}: {report['images']} images, {groups} groups{sites}, hash {digest}"]
    width = max(len(name) for name in report["label_names"])
    lines.append("  ".join([" " * width, *(f"{split:>10}" for split in report["counts"])]))
    for label in report["label_names"]:
        lines.append("  ".join([f"{label:<{width}}", *(f"{row[label]:>10}" for row in report["counts"].values())]))
    for row in report["class_table"]:
        if row["found"] != row["class"]:
            lines.append(f"{row['split']}/{row['found']} is {row['class']!r} ({row['images']} images)")
    if report["passed_over"] or report["ignored_folders"]:
        lines.append(f"left out: {left_out(report)}")
    said = [*report["untaken"], *report["notes"], *report["details"]]
    return "\n".join([*lines, *(f"note: {note}" for note in said)])


def left_out(report: Mapping[str, Any]) -> str:
    """What lies in a corpus and is not read, by kind and in numbers."""
    folders = f"the folders {', '.join(report['ignored_folders'])}" if report["ignored_folders"] else ""
    return " and ".join(filter(None, [describe_passed_over(report["passed_over"]), folders]))
