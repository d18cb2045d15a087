"""Is another corpus like this one? Its images measured beside these, patient against patient, and what of it matters.

    drift = compare_corpora(sample_of("here", survey, patients), sample_of("there", other, their_patients))
    print(drift.sentences())

What a slice looks like without a network (`serving.drift.slice_traits`, the window that its greys tell, its file) is
averaged over each patient and compared by `statistics.two_sample`; with a checkpoint, where its features lie as well.
With enough patients anything differs, so beside what differs stands whether it is likely to move an answer: a number
that goes with the class in this corpus is one that a network may have learnt, and with a checkpoint its own answers say
whether they go with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.findings import Finding, Severity, enumerate_some
from ct_xception.metrics import ExternalDrift
from ct_xception.serving.drift import LEVEL, TRAITS
from ct_xception.statistics.intervals import group_indices
from ct_xception.statistics.two_sample import Difference, compare_samples, holm, least_chance

if TYPE_CHECKING:
    from ct_xception.audit.overlap import Overlap
    from ct_xception.audit.survey import Survey

Floats = NDArray[np.float64]

DRIFT = "drift"  # the kind of the finding
CLASS_SHARE, FEATURE = "class ", "feature "  # how the names of such columns begin
MOST_CLASSES = 20
MOVES, SURE = 0.2, 0.05  # a rank correlation from which a number matters, and its corrected chance
FEWEST = 20  # patients of whom it is asked whether a number matters

# {number: (its name in print, what it is of)}
NUMBERS = {
    "height": ("height in pixels", "sizes"), "width": ("width in pixels", "sizes"),
    "aspect": ("width over height", "sizes"),
    "shown_low": ("low end of the window, in HU by the picture", "windows"),
    "shown_high": ("high end of the window, in HU by the picture", "windows"),
    "mean": ("mean grey of the body", "grey levels"), "sd": ("spread (sd) of the body's greys", "grey levels"),
    "low": ("10th percentile of the body's greys", "grey levels"),
    "middle": ("median grey of the body", "grey levels"),
    "high": ("90th percentile of the body's greys", "grey levels"),
    "black": ("share of pure black in the body", "grey levels"),
    "white": ("share of pure white in the body", "grey levels"),
    "noise": ("noise (median second difference)", "noise and sharpness"),
    "detail": ("sharpness (fine over coarse differences)", "noise and sharpness"),
    "body": ("share of the picture that the body's box fills", "body size"),
    "cut_share": ("share of the picture's edge that the body touches", "body size"),
    "is_png": ("PNG", "files"), "is_jpeg": ("JPEG", "files"), "is_tiff": ("TIFF", "files"),
    "is_dicom": ("DICOM", "files"), "bit_depth": ("bits a pixel", "files"),
}  # fmt: skip
CLASSES, FEATURES, FILES = "classes", "features", "files"
SHARES = {"black", "white", "body", "cut_share", "is_png", "is_jpeg", "is_tiff", "is_dicom"}  # shown in per cent
# What a family of numbers cannot do to an answer, or how; the network gets a body crop of one size.
MEANS = {
    "sizes": "every slice is resized before the network, which sees only what was lost by it",
    "files": "no network sees a file; what its compression did to the pixels counts under noise and sharpness",
    "body size": "the body crop takes the framing away, where it finds the body",
    CLASSES: "another mix of classes shifts every probability, and no image need differ",
}


@dataclass(frozen=True, eq=False)
class Sample:
    """A corpus as it is compared: numbers of its N slices, their patients and classes.

    `answers` (N, K) are a network's log-probabilities of `answer_names`, NaN where it was not asked.
    """

    name: str
    columns: Mapping[str, Floats]
    units: NDArray[np.intp]
    labels: NDArray[np.intp]
    label_names: Sequence[str]
    answers: Floats | None = None
    answer_names: Sequence[str] = ()

    @property
    def n_units(self) -> int:
        """How many patients there are."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def with_network(self, features: Floats, answers: Floats, names: Sequence[str]) -> Sample:
        """With what a network makes of some slices: features (N, C) and log-probabilities (N, K), NaN of the others."""
        columns = {f"{FEATURE}{place}": column for place, column in enumerate(features.T, 1)}
        return replace(self, columns={**self.columns, **columns}, answers=answers, answer_names=names)

    def means(self, names: Sequence[str]) -> dict[str, Floats]:
        """The mean of some columns over each patient's slices that have them (U,), NaN where none has."""
        return {name: _means(self.columns[name], self.units) for name in names}

    def class_means(self) -> dict[str, Floats]:
        """The share of each class among a patient's slices."""
        return {name: _means((self.labels == k).astype(float), self.units) for k, name in enumerate(self.label_names)}


def _means(values: Floats, units: NDArray[np.intp]) -> Floats:
    known = np.isfinite(values)
    count = np.bincount(units, weights=known)
    sums = np.bincount(units, weights=np.where(known, values, 0.0))
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def sample_of(name: str, surveys: Sequence[Survey], patients: Sequence[str]) -> Sample:
    """One corpus, or several as one, from their surveys; `patients` (N,) are those of all, in order.

    What could not be read is left out.
    """
    read = np.concatenate([survey.readable for survey in surveys])
    groups: dict[str, Iterable[str]] = {"traits": TRAITS, "foreign": NUMBERS, "attributes": NUMBERS}
    columns = {
        key: np.concatenate([getattr(survey, group)[key] for survey in surveys])[read]
        for group, wanted in groups.items()
        for key in wanted
        if key in NUMBERS and all(key in getattr(survey, group) for survey in surveys)
    }
    names = list(dict.fromkeys(one for survey in surveys for one in survey.label_names))
    labels = [names.index(survey.label_names[label]) for survey in surveys for label in survey.labels]
    kept = [patient for patient, known in zip(patients, read, strict=True) if known]
    return Sample(name, columns, group_indices(kept, len(kept)), np.array(labels, np.intp)[read], names)


@dataclass(frozen=True)
class Moves:
    """How a number goes with the classes of a corpus, or with a network's answers: a rank correlation by patient."""

    what: str  # the class
    by: str  # "label" or "answer"
    correlation: float
    corrected: float

    @property
    def matters(self) -> bool:
        """Whether it surely goes with them, and not by little."""
        return self.corrected < SURE and abs(self.correlation) >= MOVES


@dataclass(frozen=True)
class Number:
    """One number of both corpora, and what it does to answers; `moves` is None where that cannot be asked."""

    difference: Difference
    moves: Moves | None = None

    @property
    def name(self) -> str:
        """Its column."""
        return self.difference.name

    @property
    def title(self) -> str:
        """Its name in print."""
        if self.name.startswith(CLASS_SHARE):
            return f"share of {self.name.removeprefix(CLASS_SHARE)}"
        if self.name.startswith(FEATURE):
            return f"direction {self.name.removeprefix(FEATURE)} of the network's features"
        return NUMBERS[self.name][0]

    @property
    def family(self) -> str:
        """What it is of."""
        if self.name.startswith(CLASS_SHARE):
            return CLASSES
        return FEATURES if self.name.startswith(FEATURE) else NUMBERS[self.name][1]

    @property
    def told(self) -> bool:
        """Whether the corpora are told apart by it."""
        return self.difference.corrected < LEVEL

    @property
    def matters(self) -> bool:
        """Whether it differs, and is likely to move an answer."""
        seen = self.moves is not None and self.moves.matters and self.family != FILES  # of which no network sees any
        return self.told and (self.family == FEATURES or seen)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        head = {"title": self.title, "family": self.family, "told": self.told, "matters": self.matters}
        moves = None if self.moves is None else dict(vars(self.moves))
        return dict(vars(self.difference)) | head | {"moves": moves}


@dataclass(frozen=True)
class Drift:
    """What two corpora are to one another: `here` and `there` with their slices and patients.

    `judged` says that there are patients enough for any of `numbers` to be told. `overlap` counts images and patients
    that are in both, None where that was not looked for. `checkpoint` names the network whose features and answers were
    looked at; `notes` say what was not.
    """

    here: str
    there: str
    n: tuple[int, int]
    patients: tuple[int, int]
    judged: bool
    numbers: tuple[Number, ...]
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    overlap: Mapping[str, int] | None = None
    checkpoint: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[Number, ...]:
        """The numbers by which images are told apart, the surest first; a mix of classes is none of an image."""
        found = [one for one in self.numbers if one.told and one.family != CLASSES]
        return tuple(sorted(found, key=lambda one: (one.difference.corrected, -one.difference.distance)))

    @property
    def families(self) -> tuple[str, ...]:
        """What images differ in, the surest first."""
        return tuple(dict.fromkeys(one.family for one in self.told))

    @property
    def unlike(self) -> bool:
        """Whether the images of the one are told from those of the other."""
        return bool(self.told)

    @property
    def matters(self) -> tuple[Number, ...]:
        """What of it is likely to move answers."""
        return tuple(one for one in self.told if one.matters)

    @property
    def chance(self) -> float | None:
        """The smallest corrected chance of an image's number."""
        found = [one.difference.corrected for one in self.numbers if one.family != CLASSES]
        return min(found, default=None)

    def sentences(self) -> list[str]:
        """What was found, for a reader: whether they differ and in what, what may move answers, what they share."""
        return [self.verdict(), *self._moving(), *self._mix(), *self._shared(), *self.notes]

    def verdict(self) -> str:
        """The first of the sentences."""
        both = f"{self.n[1]:,} images of {self.patients[1]:,} patients against {self.n[0]:,} of {self.patients[0]:,}"
        if not self.judged:
            return f"{self.there} has too few patients to be told from {self.here} by them ({both})."
        tested = sum(one.family != CLASSES for one in self.numbers)
        if not self.unlike:
            told = f"are not told from those of {self.here} by any of {tested} numbers"
            return f"The images of {self.there} {told} ({both})."
        return (
            f"The images of {self.there} are told from those of {self.here} by their {_listed(self.families)}: "
            f"{len(self.told)} of {tested} numbers differ ({both}; each at p < {LEVEL:g}, corrected for all)."
        )

    def _moving(self) -> list[str]:
        if not self.unlike:
            return []
        goes = [one for one in self.matters if one.moves is not None and one.moves.matters]
        seen = any(one.family == FEATURES for one in self.matters)
        said = []
        if goes:
            whose = "the answers of the network" if goes[0].moves and goes[0].moves.by == "answer" else "the class"
            each = [f"{one.title} (with {one.moves.what} {one.moves.correlation:+.2f})" for one in goes if one.moves]
            why = f"since in {self.here} {whose} go{'' if whose.endswith('work') else 'es'} with it"
            said.append(f"Likely to move answers, {why}: {enumerate_some(each, '; ')}.")
        if seen:
            said.append("The network's features differ: what it sees there, it did not see here.")
        if said or all(one.moves is None for one in self.told):
            return said or ["Whether any of it moves answers cannot be told from so few patients."]
        return [f"Nothing of it goes with the class in {self.here}; a network may depend on it all the same."]

    def _mix(self) -> list[str]:
        told = [one for one in self.numbers if one.told and one.family == CLASSES]
        each = [f"{one.title.removeprefix('share of ')} {_percent(one.difference)}" for one in told]
        said = [f"The mix of classes differs, by patient: {enumerate_some(each, '; ')}."] if each else []
        only = {name: found for name, found in self.only.items() if found}
        if only:
            lacking = [f"{enumerate_some(found)} only in {name}" for name, found in only.items()]
            said.append(f"Not every class is in both: {'; '.join(lacking)}.")
        return said

    def _shared(self) -> list[str]:
        if self.overlap is None:
            return []
        exact, near, names = (self.overlap.get(key, 0) for key in ("exact", "near", "namesakes"))
        said = []
        if exact + near:
            said.append(
                f"{exact + near:,} of {self.n[1]:,} images of {self.there} are in {self.here} too: {exact:,} pixel for "
                f"pixel, {near:,} in another crop, size, window or encoding."
            )
        if names:
            said.append(f"{names:,} images of {self.there} are of patients who are named in {self.here} too.")
        return said or [f"No image or named patient of {self.there} was found in {self.here}."]

    def findings(self, twins: Sequence[str] = ()) -> list[Finding]:
        """For an audit of the corpus `here`."""
        severity: Severity = "warning" if self.unlike else "note"
        title = " ".join([self.verdict(), *self._moving(), *self._mix()])
        return [Finding(DRIFT, severity, title, len(self.told), max(len(self.numbers), 1), tuple(twins))]

    def summary(self) -> ExternalDrift:
        """What metrics.json says of it."""
        return ExternalDrift(
            unlike=self.unlike,
            judged=self.judged,
            patients=self.patients,
            numbers=sum(one.family != CLASSES for one in self.numbers),
            told=len(self.told),
            families=self.families,
            matters=tuple(one.title for one in self.matters),
            chance=self.chance,
            sentences=tuple([self.verdict(), *self._moving(), *self._mix()]),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without names of files."""
        told = {"unlike": self.unlike, "families": list(self.families), "sentences": self.sentences()}
        plain = ("here", "there", "judged", "checkpoint")
        return {name: getattr(self, name) for name in plain} | {
            "n": list(self.n),
            "patients": list(self.patients),
            **told,
            "numbers": [one.to_dict() for one in self.numbers],
            "only": {name: list(found) for name, found in self.only.items()},
            "overlap": None if self.overlap is None else dict(self.overlap),
            "notes": list(self.notes),
        }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(one: Difference) -> str:
    return f"{100 * one.here:.0f} % here, {100 * one.there:.0f} % there"


def compare_corpora(
    here: Sample,
    there: Sample,
    *,
    overlap: Overlap | None = None,
    known_features: Floats | None = None,
    checkpoint: str | None = None,
    notes: Sequence[str] = (),
) -> Drift:
    """How the corpus `there` differs from the one `here`, and what of it is likely to move answers.

    `known_features` (C, V) are the checkpoint's own values of patients, to compare with in place of those of `here`.
    """
    names = [name for name in here.columns if name in there.columns]
    mine, theirs = here.means(names), there.means(names)
    if known_features is not None:
        mine |= {f"{FEATURE}{place}": row.astype(np.float64) for place, row in enumerate(known_features, 1)}
    shared = [name for name in here.label_names if name in there.label_names][:MOST_CLASSES]
    own, other = here.class_means(), there.class_means()
    columns = [(name, mine[name], theirs[name]) for name in names]
    columns += [(f"{CLASS_SHARE}{name}", own[name], other[name]) for name in shared] if len(shared) > 1 else []
    found, moves = compare_samples(columns), _moves(here, mine)
    only = {
        one.name: tuple(name for name in one.label_names if name not in another.label_names)
        for one, another in ((here, there), (there, here))
    }
    shares = None if overlap is None else {key: overlap.summary()[key] for key in ("exact", "near", "namesakes")}
    return Drift(
        here.name,
        there.name,
        (len(here.units), len(there.units)),
        (here.n_units, there.n_units),
        least_chance(len(columns), here.n_units, there.n_units) < LEVEL,
        tuple(Number(one, moves.get(one.name)) for one in found),
        only,
        shares,
        checkpoint,
        tuple(notes),
    )


def _moves(here: Sample, means: Mapping[str, Floats]) -> dict[str, Moves]:
    """How each number goes with the network's answers, or where there are none with the classes, by patient."""
    from scipy.stats import spearmanr

    if here.answers is None:
        by, targets = "label", here.class_means()
    else:
        by, targets = (
            "answer",
            {name: _means(column, here.units) for name, column in zip(here.answer_names, here.answers.T, strict=True)},
        )
    tried = list[tuple[str, str, float, float]]()
    for name in (name for name in means if not name.startswith(FEATURE)):
        for label, target in targets.items():
            known = np.isfinite(means[name]) & np.isfinite(target)
            pair = means[name][known], target[known]
            if known.sum() >= FEWEST and all(np.ptp(column) > 0 for column in pair):
                rank = spearmanr(*pair)
                tried.append((name, label, float(rank.statistic), float(rank.pvalue)))
    corrected = holm([chance for *_, chance in tried]).tolist() if tried else []
    found = dict[str, Moves]()
    for (name, label, value, _), chance in zip(tried, corrected, strict=True):
        if name not in found or abs(value) > abs(found[name].correlation):
            found[name] = Moves(label, by, value, chance)
    return found
