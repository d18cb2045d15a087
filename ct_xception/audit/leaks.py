"""Leaks, copies and contradictions, read off a corpus's twins: what of the test set was seen before, and as what."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.findings import Finding, Severity, class_counts, images, name_classes, sources

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.audit.twins.twins import Twins

CHANCE = 0.01  # of a split: as many near copies may be mistaken neighbours, and alone do not make it worthless
SURE_PATIENT = 0.9  # correlation of body crops, beside the lower one that `twins` links by
LEAKS = ("leak_exact", "leak_near", "leak_patient", "leak_group", "leak_series", "leak_across")

Hit = NDArray[np.bool_]


def find_leaks(survey: Survey, twins: Twins) -> list[Finding]:
    """Test images, and validation images, that a split before theirs holds already, exactly, nearly or by patient."""
    findings: list[Finding] = []
    for held_out, seen in (("test", ("train", "validation")), ("validation", ("train",))):
        if held_out in survey.splits and set(seen) & set(survey.splits):
            findings += _leaks_of(survey, twins, held_out, tuple(split for split in seen if split in survey.splits))
    return findings


def _leaks_of(survey: Survey, twins: Twins, held_out: str, seen: tuple[str, ...]) -> Iterator[Finding]:
    splits = np.array(survey.splits, dtype=object)
    within, before = splits == held_out, np.isin(splits, seen)
    pictures = _numbered(survey.pixel_hash)
    exact = within & survey.readable & np.isin(pictures, pictures[before & survey.readable])
    near = within & np.isin(twins.clusters, twins.clusters[before]) & ~exact
    yield from _exact_leak(survey, held_out, exact, splits)
    yield from _near_leak(survey, twins, held_out, near, before)
    if survey.groups_known:
        yield from _group_leak(survey, held_out, within, before)
        yield from _series_leak(survey, held_out, within, before)
    else:
        yield from _patient_leak(survey, twins, held_out, exact | near, before)


def _numbered(names: list[str]) -> NDArray[np.intp]:
    return np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1]


def _severity(held_out: str) -> Severity:
    """A leak into validation misleads the choice of a model; one into test, whoever reads its figures."""
    return "critical" if held_out == "test" else "warning"


def _exact_leak(survey: Survey, held_out: str, exact: Hit, splits: NDArray) -> Iterator[Finding]:
    if not exact.any():
        return
    within = splits == held_out
    by_bytes = _numbered(survey.byte_hash)
    trained = exact & np.isin(by_bytes, by_bytes[splits == "train"])
    counts, total = class_counts(survey, exact, within), int(within.sum())
    n = int(exact.sum())
    title = f"{n:,} of {total:,} {held_out} images ({name_classes(counts)}) are in "
    if n == trained.sum():
        title += "the training set, byte for byte"
    else:
        same = name_classes(class_counts(survey, trained, within)) or "none"
        title += f"an earlier split pixel for pixel; byte for byte in the training set: {same}"
    detail = {"classes": counts, "figures": {"byte-identical to a training file": int(trained.sum())}}
    detail["pairs"] = _pairs_of_copies(survey, np.flatnonzero(exact), splits)
    yield Finding("leak_exact", _severity(held_out), title + ".", n, total, sources(survey, np.flatnonzero(exact)),
                  detail | {"split": held_out})  # fmt: skip


def _pairs_of_copies(survey: Survey, chosen: NDArray[np.intp], splits: NDArray) -> list[list[object]]:
    """Each held-out image with the first of the earlier splits that shows the same pixels."""
    first: dict[str, int] = {}
    for index, digest in enumerate(survey.pixel_hash):
        if splits[index] != splits[chosen[0]]:
            first.setdefault(digest, index)
    return [[survey.sources[one], survey.sources[first[survey.pixel_hash[one]]], 1.0] for one in chosen.tolist()]


def _near_leak(survey: Survey, twins: Twins, held_out: str, near: Hit, before: Hit) -> Iterator[Finding]:
    if not near.any():
        return
    within = np.array(survey.splits, dtype=object) == held_out
    n, total, counts = int(near.sum()), int(within.sum()), class_counts(survey, near, within)
    title = (
        f"{n:,} of {total:,} {held_out} images ({name_classes(counts)}) are near copies of an image of an earlier "
        "split: the same picture in another crop, size, window or encoding, or drawn upon"
    )
    severity = _severity(held_out) if n > CHANCE * total else "warning"
    pairs = sorted(_pairs_across(survey, twins, near, before), key=lambda pair: -pair[2])
    detail = {"classes": counts, "split": held_out, "pairs": [[*sources(survey, pair[:2]), pair[2]] for pair in pairs]}
    yield Finding("leak_near", severity, title + ".", n, total, sources(survey, np.flatnonzero(near)), detail)


def _pairs_across(survey: Survey, twins: Twins, held: Hit, before: Hit) -> Iterator[tuple[int, int, float]]:
    """Near pairs with one end held out and one seen before; a pair stands for all copies of its two pictures."""
    copies: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(survey.pixel_hash):
        copies[digest].append(index)
    for pair in twins.pairs:
        if pair.kind == "near":
            ends = [copies[survey.pixel_hash[end]] for end in (pair.first, pair.second)]
            for here, there in (ends, ends[::-1]):
                held_out = next((index for index in here if held[index]), None)
                seen = next((index for index in there if before[index]), None)
                if held_out is not None and seen is not None:
                    yield held_out, seen, round(pair.similarity, 4)


def _patient_leak(survey: Survey, twins: Twins, held_out: str, twinned: Hit, before: Hit) -> Iterator[Finding]:
    """Held-out images that are no twins but correlate with an earlier split's as one patient's neighbouring slices."""
    within = np.array(survey.splits, dtype=object) == held_out
    best: dict[int, tuple[float, int]] = {}
    members = _members(twins.clusters)
    for first, second, correlation in twins.related:
        for here, there in ((first, second), (second, first)):
            seen = next((index for index in members[twins.clusters[there]] if before[index]), None)
            for index in members[twins.clusters[here]] if seen is not None else ():
                if within[index] and not twinned[index] and seen is not None:
                    best[index] = max(best.get(index, (0.0, -1)), (correlation, seen))
    if not best:
        return
    hit = np.zeros(len(survey.sources), dtype=bool)
    hit[list(best)] = True
    n, total, counts = len(best), int(within.sum()), class_counts(survey, hit, within)
    either = name_classes(class_counts(survey, hit | twinned, within))
    sure = sum(correlation > SURE_PATIENT for correlation, _ in best.values())
    title = f"{n:,} {'more ' if twinned.any() else ''}of {total:,} {held_out} images probably show a patient of an "
    title += f"earlier split ({name_classes(counts)}" + (f"; with the twins {either})" if twinned.any() else ")")
    order = sorted(best, key=lambda index: -best[index][0])
    pairs = [[*sources(survey, (index, best[index][1])), round(best[index][0], 4)] for index in order]
    detail = {"classes": counts, "figures": {f"body-aligned correlation above {SURE_PATIENT}": sure}, "pairs": pairs}
    yield Finding(
        "leak_patient", "warning", title + ".", n, total, sources(survey, order), detail | {"split": held_out}
    )


def _members(clusters: NDArray[np.intp]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for index, cluster in enumerate(clusters.tolist()):
        members[cluster].append(index)
    return members


def _group_leak(survey: Survey, held_out: str, within: Hit, before: Hit) -> Iterator[Finding]:
    groups = _numbered(survey.groups)
    hit = within & np.isin(groups, groups[before])
    words = ("1 patient crosses the splits", "patients cross the splits", "are of a patient of an earlier split")
    yield from _crossing(survey, "leak_group", held_out, (hit, within), ("patients", survey.groups), words)


def _series_leak(survey: Survey, held_out: str, within: Hit, before: Hit) -> Iterator[Finding]:
    """Series that cross where their patients seem not to: files of one series under several patients' names."""
    if not any(survey.series):
        return
    named = np.array([bool(one) for one in survey.series])
    series, groups = _numbered(survey.series), _numbered(survey.groups)
    hit = within & named & np.isin(series, series[before & named]) & ~np.isin(groups, groups[before])
    whose = "the splits under other patients' names"
    words = (f"1 series crosses {whose}", f"series cross {whose}", "are of a series of an earlier split")
    yield from _crossing(survey, "leak_series", held_out, (hit, within), ("series", survey.series), words)


def _crossing(
    survey: Survey,
    kind: str,
    held_out: str,
    marks: tuple[Hit, Hit],
    named: tuple[str, list[str]],
    words: tuple[str, str, str],
) -> Iterator[Finding]:
    """A finding on the images hit, of those within, and on the patients or series that they are of."""
    (hit, within), (what, names), (one, many, are) = marks, named, words
    if not hit.any():
        return
    n, total, counts = int(hit.sum()), int(within.sum()), class_counts(survey, hit, within)
    crossing = sorted({names[index] for index in np.flatnonzero(hit).tolist()})
    said = one if len(crossing) == 1 else f"{len(crossing):,} {many}"
    title = f"{said}: {n:,} of {total:,} {held_out} images ({name_classes(counts)}) {are}."
    detail = {"classes": counts, "figures": {what: len(crossing)}, "split": held_out, "groups": crossing}
    yield Finding(kind, _severity(held_out), title, n, total, sources(survey, np.flatnonzero(hit)), detail)


def find_conflicts(survey: Survey, twins: Twins) -> list[Finding]:
    """One picture under two labels, exactly or nearly."""
    exact = [pair for pair in twins.pairs if pair.kind != "near" and _contradicts(survey, pair.first, pair.second)]
    near = [pair for pair in twins.pairs if pair.kind == "near" and _contradicts(survey, pair.first, pair.second)]
    found = []
    for kind, severity, pairs, said in (
        ("conflict", "critical", exact, "one and the same picture under two labels"),
        ("conflict_near", "warning", near, "nearly the same picture under two labels"),
    ):
        if pairs:
            ends = sorted({end for pair in pairs for end in (pair.first, pair.second)})
            labels = Counter(_labels_of(survey, pair.first, pair.second) for pair in pairs)
            which = ", ".join(
                f"{number:,} {'pair' if number == 1 else 'pairs'} as {both}" for both, number in labels.most_common()
            )
            title = f"{images(len(ends))} show {said}: {which}."
            detail = {"found": dict(labels), "pairs": [
                [*sources(survey, (pair.first, pair.second)), round(pair.similarity, 4)]
                for pair in sorted(pairs, key=lambda pair: -pair.similarity)
            ]}  # fmt: skip
            rank: Severity = "critical" if severity == "critical" else "warning"
            found.append(Finding(kind, rank, title, len(ends), len(survey.sources), sources(survey, ends), detail))
    return found


def _contradicts(survey: Survey, first: int, second: int) -> bool:
    return bool(survey.labels[first] != survey.labels[second])


def _labels_of(survey: Survey, first: int, second: int) -> str:
    names = sorted(survey.label_names[survey.labels[end]] for end in (first, second))
    return f"{names[0]} and {names[1]}"


def find_copies(survey: Survey, twins: Twins) -> list[Finding]:
    """Files that add nothing: byte duplicates, equal pixels in another file, near copies; wherever they lie."""
    same_bytes, same_pixels = _redundant(survey.byte_hash), _redundant(survey.pixel_hash) & survey.readable
    findings = []
    for kind, redundant, keys, said in (
        ("duplicates", same_bytes, survey.byte_hash, "byte for byte"),
        ("duplicates_pixels", same_pixels & ~same_bytes, survey.pixel_hash, "pixel for pixel, in another file"),
    ):
        if redundant.any():
            n, total = int(redundant.sum()), len(survey.sources)
            distinct = total - int((redundant | same_bytes).sum())
            counts = class_counts(survey, redundant, np.ones(total, dtype=bool))
            groups = len({keys[row] for row in np.flatnonzero(redundant)})
            title = f"{n:,} of {total:,} images repeat another {said} ({name_classes(counts)}), in {groups:,} groups: "
            title += f"{distinct:,} are distinct."
            detail = {"classes": counts, "figures": {"groups": groups, "distinct": distinct}}
            items = sources(survey, np.flatnonzero(redundant))
            findings.append(Finding(kind, "warning", title, n, total, items, detail))
    return findings + _near_copies(survey, twins)


def _redundant(keys: list[str]) -> Hit:
    """Which keys were seen before; empty ones never count."""
    seen: set[str] = set()
    repeated = []
    for key in keys:
        repeated.append(bool(key) and key in seen)
        seen.add(key)
    return np.array(repeated, dtype=bool)


def _near_copies(survey: Survey, twins: Twins) -> list[Finding]:
    pairs = [pair for pair in twins.pairs if pair.kind == "near"]
    inside = [pair for pair in pairs if survey.splits[pair.first] == survey.splits[pair.second]]
    if not inside:
        return []
    ends = sorted({end for pair in inside for end in (pair.first, pair.second)})
    hit = np.zeros(len(survey.sources), dtype=bool)
    hit[ends] = True
    counts = class_counts(survey, hit, np.ones_like(hit))
    title = (
        f"{images(len(ends))} of {len(survey.sources):,} have a near copy or a close neighbour in their split "
        f"({name_classes(counts)})."
    )
    ordered = sorted(inside, key=lambda pair: -pair.similarity)
    detail = {"classes": counts, "pairs": [
        [*sources(survey, (pair.first, pair.second)), round(pair.similarity, 4)] for pair in ordered
    ]}  # fmt: skip
    return [Finding("duplicates_near", "note", title, len(ends), len(survey.sources), sources(survey, ends), detail)]
