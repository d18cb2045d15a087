"""Twins: files that show one and the same picture; and images that probably show one and the same patient.

Three kinds of twins: equal bytes, equal decoded pixels, and near ones, whose picture was re-encoded, rescaled, cropped,
brightened or drawn upon. Near ones are looked for twice, in whole pictures and in body crops (another framing of the
same slice), by `lookalikes`, and confirmed by `registration`: laid upon each other they must agree in the small, which
two patients, and mostly two neighbouring slices of one patient, do not.

Where nobody knows the patients, images whose body crops correlate above 0.85 are taken for one (single linkage, as
neighbouring slices of a scan form chains): pseudo-patients, too few rather than too many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ct_xception.audit.survey import Survey
from ct_xception.audit.twins.lookalikes import (
    OUTRIGHT,
    WHOLE,
    Candidates,
    Describer,
    Index,
    Window,
    cut_windows,
    find_candidates,
)
from ct_xception.audit.twins.registration import (
    local_similarity,
    nested,
    register,
    resample,
    shrink,
    soften,
    standardise,
)

NEAR = 0.96  # similarity of twins in the small; neighbouring slices of one patient mostly stay below
SAME_PATIENT = 0.85  # correlation of body crops at 96 pixels
LOOKED_AT = 12  # candidates an image
CONFIRMED = 4  # of them, the best ones, compared in detail
LEAST_LIKE = 0.6  # similarity of descriptors below which no twin was ever found
COARSE_SIDE, COARSE_STEPS, COARSE_LEAST = 24, 6, 0.94
FINE_SIDE, FINE_STEPS, FINE_LEAST = 64, 3, 0.96
DETAIL_SIDE, DETAIL_STEPS = 96, 1
RELATED_NEIGHBOURS = 16  # an image, in corpora too large to compare outright
ALL_PAIRS_UP_TO = 32  # copies of one file; of more, each is paired with the first of every split
BATCH = 256  # pairs laid upon each other, or rows of correlations, at once
NEIGHBOUR_BATCH = 64  # images whose neighbours' whole body crops are compared at once

Kind = Literal["bytes", "pixels", "near"]
Related = tuple[int, int, float]
Pixels = NDArray[np.uint8]
Indices = NDArray[np.intp]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TwinPair:
    """Two indices into a survey, `first` below `second`; `similarity` in [0, 1], 1 for equal pixels."""

    first: int
    second: int
    kind: Kind
    similarity: float


@dataclass(frozen=True, eq=False)
class Twins:
    """What `find_twins` found among N images.

    `pairs`: of copies of one file all (of more than 32 those with each split's first), of near twins those of the first
    copies. `clusters` (N,): images that show one picture, through any chain of pairs, share a number. `related`: pairs
    that are no twins and probably show one patient, with the correlation of their body crops. `patients`: one name an
    image, the known groups or pseudo-patients, twins always together.
    """

    pairs: list[TwinPair]
    related: list[Related]
    patients: list[str]
    clusters: Indices


def find_twins(survey: Survey, *, progress: bool = False) -> Twins:
    """Find all twins and probable patients of a survey; unreadable images have none."""
    pairs = list(_equal(survey, survey.byte_hash, "bytes"))
    known = {(pair.first, pair.second) for pair in pairs}
    same_pixels = _equal(survey, survey.pixel_hash, "pixels")
    pairs += [pair for pair in same_pixels if (pair.first, pair.second) not in known]
    distinct = _first_of_each(survey)
    pairs += _near(survey, distinct, progress)
    count = len(survey)
    clusters = linked(count, [(pair.first, pair.second) for pair in pairs])
    related = _related(survey, distinct, clusters)
    pairs.sort(key=lambda pair: (pair.first, pair.second))
    return Twins(pairs, related, _patients(survey, clusters, related), clusters)


def twin_of_other_split(
    twins: Twins, survey: Survey, wanted: str = "test", others: Collection[str] = ("train", "validation")
) -> NDArray[np.bool_]:
    """Which of the N images are in the split `wanted` and have a twin, by any chain, in one of the `others`."""
    splits = np.array(survey.splits)
    leaked = np.unique(twins.clusters[np.isin(splits, list(others))])
    return (splits == wanted) & np.isin(twins.clusters, leaked)


def linked(count: int, pairs: Iterable[tuple[int, int]]) -> Indices:
    """The connected components of `count` things and their pairs, as numbers (count,) in order of first appearance."""
    ends = np.array(list(pairs), dtype=np.intp).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    found = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.intp)


def _equal(survey: Survey, digests: Sequence[str], kind: Kind) -> Iterator[TwinPair]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest:
            members[digest].append(index)
    for same in members.values():
        if len(same) <= ALL_PAIRS_UP_TO:
            chosen = set(combinations(same, 2))
        else:
            heads = {survey.splits[index]: index for index in reversed(same)}.values()
            chosen = {(min(a, b), max(a, b)) for a in heads for b in same if a != b}
        yield from (TwinPair(first, second, kind, 1.0) for first, second in sorted(chosen))


def _first_of_each(survey: Survey) -> Indices:
    """The first image of each distinct picture, without those that could not be read."""
    first: dict[str, int] = {}
    for index, digest in enumerate(survey.pixel_hash):
        if digest:
            first.setdefault(digest, index)
    return np.array(sorted(first.values()), dtype=np.intp)


def _near(survey: Survey, distinct: Indices, progress: bool) -> list[TwinPair]:
    """Near twins among distinct pictures, each pair once with its better similarity."""
    if len(distinct) < 2:
        return []
    whole = np.tile(np.array(WHOLE, dtype=np.float32), (len(survey), 1))
    channels = (Channel(survey.raw, whole, cut_windows()), Channel(survey.aligned, survey.boxes, WHOLE))
    found: dict[tuple[int, int], float] = {}
    with tqdm(total=2 * len(distinct), desc="looking for twins", unit="image", disable=not progress) as bar:
        for channel in channels:
            tried: set[tuple[int, int]] = set()
            look = channel.thumbnails, distinct, channel.windows, LOOKED_AT, LEAST_LIKE
            for candidates in find_candidates(*look, bar.update):
                untried = _untried(candidates, tried, found)
                for first, second, similarity in _confirmed(survey, channel, untried):
                    pair = min(first, second), max(first, second)
                    found[pair] = max(similarity, found.get(pair, 0.0))
    return [TwinPair(first, second, "near", similarity) for (first, second), similarity in found.items()]


def _untried(pairs: Candidates, tried: set[tuple[int, int]], found: Collection[tuple[int, int]]) -> Candidates:
    """The pairs not found yet, and of those looked at as a whole, from either end, only the first; grows `tried`."""
    kept = []
    whole = (pairs.windows == np.array(WHOLE[0], dtype=np.float32)).all(axis=1)
    ends = np.sort(np.stack([pairs.first, pairs.second], axis=1), axis=1).tolist()
    for index, (first, second) in enumerate(ends):
        pair = (first, second)
        if pair not in found and not (whole[index] and pair in tried):
            kept.append(index)
        if whole[index]:
            tried.add(pair)
    return pairs.chosen(np.array(kept, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Channel:
    """One way of seeing every image: thumbnails (N, S, S), where they lie in the whole pictures, how they are cut."""

    thumbnails: Pixels
    frames: Floats
    windows: list[Window]


def _confirmed(survey: Survey, channel: Channel, pairs: Candidates) -> Iterator[Related]:
    """The look-alikes that prove to be twins, with their similarity."""
    pairs, score = _laid_upon(channel.thumbnails, pairs, COARSE_SIDE, COARSE_STEPS, COARSE_LEAST)
    pairs, _ = _laid_upon(channel.thumbnails, _best_of_each(pairs, score), FINE_SIDE, FINE_STEPS, FINE_LEAST)
    for batch in _batches(pairs):
        similarity = _similarity_in_detail(survey.detail, channel.frames, batch)
        for index in np.flatnonzero(similarity >= NEAR).tolist():
            yield int(batch.first[index]), int(batch.second[index]), min(float(similarity[index]), 1.0)


def _batches(pairs: Candidates) -> Iterator[Candidates]:
    for at in range(0, len(pairs.first), BATCH):
        yield pairs.chosen(slice(at, at + BATCH))


def _laid_upon(thumbnails: Pixels, pairs: Candidates, side: int, steps: int, least: float) -> tuple[Candidates, Floats]:
    """The pairs that correlate at least so much when laid upon each other, with the windows where they do, and how."""
    windows, scores = [np.empty((0, 4), dtype=np.float32)], [np.empty(0, dtype=np.float32)]
    for batch in _batches(pairs):
        first, second = (soften(shrink(thumbnails[ends], side)) for ends in (batch.first, batch.second))
        fitted, score = register(first, second, batch.windows, steps)
        windows.append(fitted)
        scores.append(score)
    score = np.concatenate(scores)
    kept = score >= least
    return Candidates(pairs.first[kept], pairs.second[kept], np.concatenate(windows)[kept]), score[kept]


def _best_of_each(pairs: Candidates, score: Floats) -> Candidates:
    """Of each first image's pairs the few that correlate best: the rest are neighbours at most."""
    order = np.lexsort((-score, pairs.first))
    first = pairs.first[order]
    rank = np.arange(len(first)) - np.searchsorted(first, first)
    return pairs.chosen(np.sort(order[rank < CONFIRMED]))


def _similarity_in_detail(detail: Pixels, frames: Floats, pairs: Candidates) -> Floats:
    """The agreement in the small (P,) of two pictures' common part."""
    first, second = (soften(detail[ends].astype(np.float32)) for ends in (pairs.first, pairs.second))
    second = resample(second, frames[pairs.second], DETAIL_SIDE)
    windows, _ = register(first, second, nested(frames[pairs.first], pairs.windows), DETAIL_STEPS)
    return local_similarity(resample(first, windows, DETAIL_SIDE), second)


def _related(survey: Survey, distinct: Indices, clusters: Indices) -> list[Related]:
    """Pairs of distinct pictures, twins apart, whose body crops correlate above SAME_PATIENT."""
    if len(distinct) < 2:
        return []
    search = _correlated if len(distinct) <= OUTRIGHT else _correlated_neighbours
    found = {}
    for first, second, correlation in search(survey.aligned, distinct):
        above = (correlation > SAME_PATIENT) & (clusters[first] != clusters[second])
        for a, b, value in zip(first[above].tolist(), second[above].tolist(), correlation[above].tolist(), strict=True):
            found[min(a, b), max(a, b)] = min(value, 1.0)
    return [(first, second, value) for (first, second), value in sorted(found.items())]


def _correlated(aligned: Pixels, distinct: Indices) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Every pair with its correlation, in blocks."""
    everyone = standardise(aligned[distinct].astype(np.float32))
    for at in range(0, len(distinct), BATCH):
        correlation = everyone[at : at + BATCH] @ everyone.T
        above = np.triu(correlation > SAME_PATIENT, at + 1)
        rows, columns = np.nonzero(above)
        yield distinct[at + rows], distinct[columns], correlation[rows, columns]


def _correlated_neighbours(aligned: Pixels, distinct: Indices) -> Iterator[tuple[Indices, Indices, Floats]]:
    """The nearest few of each by principal components, with their true correlation, in blocks."""
    describer = Describer(aligned, distinct, components=128, whitened=0.0)
    blocks = [distinct[at : at + NEIGHBOUR_BATCH] for at in range(0, len(distinct), NEIGHBOUR_BATCH)]
    vectors = [describer.describe(aligned[block], WHOLE)[:, 0] for block in blocks]
    index = Index(np.concatenate(vectors))
    for block, queries in zip(blocks, vectors, strict=True):
        _, found = index.search(queries, RELATED_NEIGHBOURS + 1)
        rows, places = np.nonzero((found >= 0) & (distinct[found] != block[:, None]))
        others = distinct[found[rows, places]]
        ends = standardise(aligned[block].astype(np.float32)), standardise(aligned[others].astype(np.float32))
        yield block[rows], others, np.einsum("pd,pd->p", ends[0][rows], ends[1])


def _patients(survey: Survey, clusters: Indices, related: Sequence[Related]) -> list[str]:
    """Groups merged across twins and series where they are known, else single linkage of twins and related images."""
    count = len(survey)
    first_of_cluster = np.unique(clusters, return_index=True)[1]
    twins = [(int(first_of_cluster[cluster]), index) for index, cluster in enumerate(clusters.tolist())]
    if not survey.groups_known:
        return [f"pseudo-patient {1 + number}" for number in linked(count, twins + [pair[:2] for pair in related])]
    first_of_group: dict[str, int] = {}
    same = [(first_of_group.setdefault(group, index), index) for index, group in enumerate(survey.groups)]
    first_of_series: dict[str, int] = {}
    same += [(first_of_series.setdefault(one, index), index) for index, one in enumerate(survey.series) if one]
    component = linked(count, twins + same)
    first_of_component = np.unique(component, return_index=True)[1]
    return [survey.groups[first_of_component[number]] for number in component]
