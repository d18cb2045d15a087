"""Test images of one corpus that another one trains on: copies and near copies, and patients of one name.

A network that goes on with new images and replayed old ones has learnt both, so a new test image among the old training
images, or an old one among the new, tests its memory. The audit of each corpus cannot see that: here the twins of all
corpora together are searched, as each one's were, and only those count that join a test image with a training or
validation image of another corpus.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.cache import THUMBNAILS, code_hash
from ct_xception.audit.findings import Finding, Severity
from ct_xception.audit.leaks import CHANCE
from ct_xception.audit.survey import COLUMN_GROUPS, Survey, pictures, survey_corpus
from ct_xception.audit.twins.twins import find_twins
from ct_xception.corpus.cells import digest_of
from ct_xception.corpus.groups import folded
from ct_xception.corpus.split import PSEUDO_PATIENTS
from ct_xception.files import read_json, write_json
from ct_xception.imaging.modality import CT

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ct_xception.imaging.windows import Window

ACROSS, NAMESAKES = "leak_across", "namesakes"
TWIN = "twin"  # begins the name that copies and look-alikes share
# What is left of an identifier such as patient_012 that a counter gave: two corpora may well count alike.
_COUNTED = re.compile(r"(?:(?:patient|subject|person|case|study|series|scan|group|anon|ct|id|pt|p|s)[\s_.-]*)*\d{0,5}")


@dataclass(frozen=True, eq=False)
class SplitCorpus:
    """A corpus by the splits that a run uses, with the reports on it and on them; its `survey` where it was made."""

    splits: DatasetDict
    corpus: Mapping[str, Any]
    split: Mapping[str, Any]
    survey: Survey | None = None

    @property
    def name(self) -> str:
        """The last part of where it comes from."""
        return Path(str(self.corpus.get("source", ""))).name


@dataclass(frozen=True)
class Overlap:
    """What the test split of the corpus `test`, of `n` images, shares with what other corpora train on.

    `exact` (equal pixels), `near` and `namesakes` are sources of test images. The first two have twins, in the corpora
    `others`; `twins` {source: [corpus, source]} has one of each. A namesake has none, and its patient's name is in
    another training or validation split as well.
    """

    test: str
    others: list[str]
    n: int
    exact: list[str]
    near: list[str]
    namesakes: list[str]
    twins: dict[str, list[str]]

    def mask(self, sources: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these test images (M,) have a twin in another corpus."""
        seen = {*self.exact, *self.near}
        return np.array([source in seen for source in sources], dtype=bool)

    def summary(self) -> dict[str, Any]:
        """JSON-able counts, without the names of files: what may be published."""
        counts = {name: len(getattr(self, name)) for name in ("exact", "near", "namesakes")}
        return {"test": self.test, "others": self.others, "n": self.n, **counts}


def find_overlaps(
    corpora: Sequence[SplitCorpus],
    *,
    window: Window | None,
    frame: int | None,
    modality: str = CT,
    cache: Path,
    progress: bool = True,
) -> list[Overlap]:
    """One `Overlap` a corpus, in their order; kept under `cache`, a folder, for a run that goes on.

    Files are read with `window`, `frame` and `modality`, once, where a corpus brings no survey.
    """
    file = cache / f"overlap-{_key(corpora, window, frame, modality)}.json"
    try:
        return [Overlap(**one) for one in read_json(file)]
    except (OSError, ValueError, TypeError):
        pass
    reading: dict[str, Any] = {"window": window, "frame": frame, "modality": modality}
    surveys = [
        survey_corpus(one.splits, progress=progress, **reading) if one.survey is None else one.survey for one in corpora
    ]
    found = search_overlaps(corpora, surveys, progress=progress)
    write_json(file, [dataclasses.asdict(one) for one in found])
    return found


def _key(corpora: Sequence[SplitCorpus], window: Window | None, frame: int | None, modality: str) -> str:
    told = [[one.name, one.corpus["hash"], one.corpus["groups"], one.split["name"]] for one in corpora]
    reading = None if window is None else dataclasses.asdict(window)
    text = json.dumps([told, reading, frame, modality, code_hash()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def search_overlaps(
    corpora: Sequence[SplitCorpus], surveys: Sequence[Survey], *, progress: bool = False
) -> list[Overlap]:
    """The overlaps of corpora that were surveyed, by whatever splits."""
    whole = _together(corpora, surveys)
    home = np.repeat(np.arange(len(surveys)), [len(survey) for survey in surveys])
    clusters = find_twins(whole, progress=progress).clusters.tolist()
    return [_overlap(corpora, number, whole, home, clusters) for number in range(len(corpora))]


def find_shared(
    learnt: Sequence[SplitCorpus], other: SplitCorpus, *, progress: bool = False
) -> tuple[Overlap, list[str]]:
    """What all of a corpus shares with all of those that were learnt, by any split; and everybody's pseudo-patients.

    These are (N,), of the learnt corpora one after another and the other one at the end. Every one of them brings its
    survey. The splits of `other` count as one, test, and those of the rest as train.
    """
    corpora = [*(_as_one_split(one, "train") for one in learnt), _as_one_split(other, "test")]
    surveys = [one.survey for one in corpora if one.survey is not None]
    whole = _together(corpora, surveys)
    home = np.repeat(np.arange(len(surveys)), [len(survey) for survey in surveys])
    twins = find_twins(whole, progress=progress)
    return _overlap(corpora, len(surveys) - 1, whole, home, twins.clusters.tolist()), twins.patients


def find_kin(
    corpora: Sequence[SplitCorpus], *, window: Window | None, frame: int | None, modality: str, cache: Path, alike: bool
) -> list[dict[str, list[str]]]:
    """{source: names} for each corpus, in which two images that are not to be apart by name share one of theirs.

    Such are images with the same pixels or look-alikes, those of patients of one name, and, where a corpus does not
    know its patients, of one pseudo-patient. Where none are to be found that look `alike`, files are compared byte for
    byte. Kept under `cache`, a folder, for a run that goes on.
    """
    file = cache / f"kin-{_key(corpora, window, frame, modality)}-{int(alike)}.json"
    with contextlib.suppress(OSError, ValueError):
        return read_json(file)
    found = _alike(corpora, window, frame, modality) if alike else [_bytes_of(one) for one in corpora]
    for number, one in enumerate(corpora):
        for split in one.splits:
            for source, group in _named(one, split):
                found[number][source].append(f"patient {folded(group)}")
    write_json(file, found)
    return found


def _alike(
    corpora: Sequence[SplitCorpus], window: Window | None, frame: int | None, modality: str
) -> list[dict[str, list[str]]]:
    """By clusters of twins, and by pseudo-patients where a corpus does not know its own."""
    surveys = [
        one.survey or survey_corpus(one.splits, window=window, frame=frame, modality=modality) for one in corpora
    ]
    twins = find_twins(_together(corpora, surveys), progress=True)
    known = all(_knows_patients(one) for one in corpora)
    names = [
        [f"{TWIN} {cluster}", *([] if known else [f"pseudo-patient {patient}"])]
        for cluster, patient in zip(twins.clusters.tolist(), twins.patients, strict=True)
    ]
    rows = iter(names)
    return [{source: next(rows) for source in survey.sources} for survey in surveys]


def _bytes_of(one: SplitCorpus) -> dict[str, list[str]]:
    found = dict[str, list[str]]()
    for part in one.splits.values():
        columns = [name for name in ("image", "source", "frame") if name in part.column_names]
        found |= {row["source"]: [f"{TWIN} {digest_of(row)}"] for row in part.select_columns(columns)}
    return found


def _as_one_split(one: SplitCorpus, name: str) -> SplitCorpus:
    from datasets import DatasetDict, concatenate_datasets

    rows = [part.select_columns(["source", "group"]) for part in one.splits.values()]
    return dataclasses.replace(one, splits=DatasetDict({name: concatenate_datasets(rows)}))


def _together(corpora: Sequence[SplitCorpus], surveys: Sequence[Survey]) -> Survey:
    """All that the search for twins needs, one corpus after another; splits are `0 train`, `1 test` and so on."""
    splits = []
    for number, (one, survey) in enumerate(zip(corpora, surveys, strict=True)):
        split_of = {source: name for name, part in one.splits.items() for source in part["source"]}
        splits += [f"{number} {split_of[source]}" for source in survey.sources]
    texts: dict[str, Any] = {
        name: [one for survey in surveys for one in getattr(survey, name)]
        for name in ("sources", "groups", "byte_hash", "pixel_hash", "windows")
    }
    arrays: dict[str, Any] = {name: _stacked([getattr(one, name) for one in surveys]) for name in THUMBNAILS}
    arrays |= {name: np.concatenate([getattr(one, name) for one in surveys]) for name in ("labels", "boxes")}
    blank: dict[str, Any] = {name: {} for name in (*COLUMN_GROUPS, "metadata", "failed")}
    return dataclasses.replace(surveys[0], splits=splits, groups_known=False, series=[], **texts, **arrays, **blank)


def _stacked(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Thumbnails one after another; many of them in a file, as a survey has them."""
    whole = pictures(sum(map(len, parts)), parts[0].shape[1])
    np.concatenate(parts, out=whole)
    return whole


def _overlap(
    corpora: Sequence[SplitCorpus], number: int, whole: Survey, home: NDArray[np.intp], clusters: Sequence[int]
) -> Overlap:
    """The overlap of one of the corpora; `whole` are all images, (N,) `home` and `clusters` their corpora and twins."""
    test = np.array([split.endswith(" test") for split in whole.splits], dtype=bool)
    within, learnt = (home == number) & test, (home != number) & ~test
    learnt_rows = np.flatnonzero(learnt).tolist()
    first = {clusters[row]: row for row in reversed(learnt_rows)}
    pixels = {whole.pixel_hash[row] for row in learnt_rows} - {""}
    rows = [row for row in np.flatnonzero(within).tolist() if clusters[row] in first]
    exact = [whole.sources[row] for row in rows if whole.pixel_hash[row] in pixels]
    ends = {row: first[clusters[row]] for row in rows}
    twins = {whole.sources[row]: [corpora[home[end]].name, whole.sources[end]] for row, end in ends.items()}
    return Overlap(
        corpora[number].name,
        sorted({name for name, _ in twins.values()}),
        int(within.sum()),
        exact,
        [source for source in twins if source not in set(exact)],
        [source for source in _namesakes(corpora, number) if source not in twins],
        twins,
    )


def _namesakes(corpora: Sequence[SplitCorpus], number: int) -> list[str]:
    """The test images whose patient has the name of one that another corpus trains on."""
    known = {
        group
        for place, other in enumerate(corpora)
        for split in ("train", "validation")
        if split in other.splits
        for _, group in _named(other, split)
        if place != number
    }
    return [source for source, group in _named(corpora[number], "test") if group in known]


def _knows_patients(one: SplitCorpus) -> bool:
    return one.corpus["groups"]["origin"] not in (None, PSEUDO_PATIENTS)


def _named(one: SplitCorpus, split: str) -> Iterator[tuple[str, str]]:
    """Images and their patients' names, where the corpus knows them."""
    if _knows_patients(one):
        part = one.splits[split]
        pairs = zip(part["source"], part["group"], strict=True)
        yield from ((source, group) for source, group in pairs if source != group)  # itself: nobody knows whose it is


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What `Overlap.summary` comes to; nothing where nothing was found."""
    said = []
    exact, near, of = summary["exact"], summary["near"], f"{summary['n']:,} test images of {summary['test']}"
    if exact + near:
        said.append(
            f"{exact + near:,} of {of} show a picture that is in training or validation of "
            f"{' and '.join(summary['others'])} too: {exact:,} pixel for pixel, {near:,} in another crop, size, window "
            "or encoding."
        )
    if summary["namesakes"]:
        more = "more " if exact + near else ""
        said.append(
            f"{summary['namesakes']:,} {more}of {of} are of patients whose identifiers are in training or validation "
            "of another corpus too: the same patients, or others of the same name."
        )
    return said


def overlap_findings(overlaps: Sequence[Overlap]) -> list[Finding]:
    """What an audit of the first of the corpora says of them all."""
    findings = []
    for number, one in enumerate(overlaps):
        summary = one.summary()
        said = iter(sentences(summary))
        figures = {"figures": {name: summary[name] for name in ("exact", "near", "namesakes")}}
        # Only the first one's images are in the audit; its page looks nothing up of the others.
        detail = figures | {"twins": one.twins, "split": f"test of {one.test}" if number else "test"}
        items = tuple(one.twins) if not number else ()
        if one.twins:
            sure = not number and (one.exact or len(one.near) > CHANCE * one.n)
            severity: Severity = "critical" if sure else "warning"
            findings.append(Finding(ACROSS, severity, next(said), len(one.twins), one.n, items, detail))
        if one.namesakes:
            items = () if number else tuple(one.namesakes)
            findings.append(Finding(NAMESAKES, "warning", next(said), len(one.namesakes), one.n, items, figures))
    return findings


def is_counted(name: str) -> bool:
    """Whether an identifier is no more than a number, as patient_012: the same one elsewhere says little."""
    return _COUNTED.fullmatch(name.casefold().strip()) is not None
