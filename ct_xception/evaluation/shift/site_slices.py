"""The slices of a site, with labels or without: listed, read, and looked at once by a checkpoint.

waiting, notes = list_files([Path("scans")])              # or list_items(corpus)
slices = look_at(classifier, waiting)
slices.units, slices.patients_known
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.cells import slice_source
from ct_xception.errors import InputError, SliceError, printable
from ct_xception.evaluation.answers import with_bar
from ct_xception.evaluation.gate_fit import Seen, seen_as
from ct_xception.imaging.reader import read_place
from ct_xception.imaging.source import find_files
from ct_xception.serving.archive import hold_all
from ct_xception.serving.classifier import softmax
from ct_xception.serving.drift import WindowLooks, link_lookalikes
from ct_xception.serving.gate import ACCEPTED, REFUSED, REFUSES
from ct_xception.serving.series import Member, slices_in

if TYPE_CHECKING:
    from ct_xception.corpus.load import Corpus
    from ct_xception.evaluation.patients import Floats
    from ct_xception.imaging.slice import Slice
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier, PreparedSlice
    from ct_xception.serving.gate import Gate

Owners = Callable[[Member], str]


@dataclass(frozen=True)
class Waiting:
    """A slice to be read: its name, its patient ("" where nobody knows), its label's index or -1, and what reads it."""

    name: str
    patient: str
    read: Callable[[Classifier, Window | None], Slice]
    label: int = -1


@dataclass(frozen=True, eq=False)
class SiteSlices:
    """N slices that could be read, in their order, as one network sees them.

    `logits` (N, K); `verdicts` (N,) of the input gate, None without one, and `foreign` what it refuses whatever the
    network sees in it: another modality, no body, a colour picture. `inputs` (N, 3, S, S) and `slices`, as read, where
    they were kept. `unreadable` {name: why} of the others. `attention` (N,) is what a slice counts beside others of its
    patient, where the checkpoint learnt that. `window_hint` says in which window those in HU may want to be read.
    """

    names: list[str]
    patients: list[str]
    labels: NDArray[np.intp]
    seen: Seen
    logits: NDArray[np.float32]
    verdicts: list[str | None]
    foreign: NDArray[np.bool_]
    unreadable: dict[str, str]
    inputs: NDArray[np.float32] | None = None
    slices: tuple[Slice, ...] = ()
    attention: Floats | None = None
    window_hint: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def patients_known(self) -> bool:
        """Whether it is known of every slice whose it is."""
        return all(self.patients)

    @property
    def units(self) -> list[str]:
        """The patient of each slice; where not all are known, look-alikes stand for patients."""
        if self.patients_known:
            return self.patients
        return [f"look-alikes {number}" for number in link_lookalikes(np.stack(self.seen.thumbnails))]

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Which slices (N,) the input gate does not refuse."""
        return np.array([verdict != REFUSED for verdict in self.verdicts], bool)

    def select(self, mask: NDArray[np.bool_]) -> SiteSlices:
        """The slices where `mask` (N,) is true."""
        rows = np.flatnonzero(mask).tolist()
        kept = tuple(self.slices[row] for row in rows) if self.slices else ()
        return SiteSlices(
            [self.names[row] for row in rows],
            [self.patients[row] for row in rows],
            self.labels[rows],
            self.seen.select(rows),
            self.logits[rows],
            [self.verdicts[row] for row in rows],
            self.foreign[rows],
            self.unreadable,
            None if self.inputs is None else self.inputs[rows],
            kept,
            None if self.attention is None else self.attention[rows],
            self.window_hint,
        )

    def shared_with(self, other: SiteSlices) -> NDArray[np.bool_]:
        """Which slices (N,) are of a unit that has a slice, or its patient, in `other`; both kept their inputs.

        A slice is the same where the network is given the same, whatever its file is called.
        """
        known, patients = set(other.digests), set(other.patients) - {""}
        pairs = zip(self.digests, self.patients, strict=True)
        same = [digest in known or patient in patients for digest, patient in pairs]
        units = self.units
        seen = {unit for unit, one in zip(units, same, strict=True) if one}
        return np.array([unit in seen for unit in units], bool)

    @property
    def digests(self) -> list[bytes]:
        """The SHA-256 of what the network was given of each slice, which was kept."""
        assert self.inputs is not None
        return [hashlib.sha256(one.tobytes()).digest() for one in self.inputs]

    def probabilities(self, temperature: float = 1.0) -> Floats:
        """The answers (N, K), their logits divided by `temperature`."""
        return softmax(self.logits / temperature)


def list_files(paths: Sequence[Path], owners: Owners | None = None) -> tuple[list[Waiting], list[str]]:
    """The slices in files, folders and zips, and sentences on what was passed over.

    Whose they are, `owners` say, else DICOM's PatientID; the slices of one volume are of one patient. Raises SliceError
    for a place that is not there, InputError where nothing is.
    """
    members, notes = list[Member](), list[str]()
    for path in paths:
        if not path.exists():
            raise SliceError(path, "no such file or folder", "check the name")
        for file in find_files(path).files if path.is_dir() else [path]:
            found, said = slices_in(file, printable(file))
            members, notes = members + found, notes + said
    if not members:
        raise InputError(f"{printable(paths[0])}: holds no image or DICOM file; name another folder.")
    with hold_all(member.archive for member in members):
        return [Waiting(one.name, _owner(one, owners), one.read) for one in members], notes


def _owner(member: Member, owners: Owners | None) -> str:
    if owners is not None:
        return owners(member)
    try:
        told = read_place(member.source(), name=member.name).patient
    except SliceError:
        told = None
    return told or ("" if member.frame is None else f"{member.path}\0{member.entry}")


def list_items(corpus: Corpus, frame: int | None = None) -> list[Waiting]:
    """Every image of a corpus, whatever its split; patients are those of the corpus, labels its own."""
    known = corpus.report["groups"]["origin"] is not None
    found = []
    for part in corpus.dataset.values():
        found += [_row(part, index, known, frame) for index in range(len(part))]
    return found


def _row(part: Any, index: int, known: bool, frame: int | None) -> Waiting:
    columns = part[index]
    name = str(columns["source"])

    def read(classifier: Classifier, window: Window | None) -> Slice:
        return classifier.read(slice_source(part[index]), window=window, frame=frame, name=name)

    return Waiting(name, str(columns["group"]) if known else "", read, int(columns["label"]))


def draw_evenly(waiting: Sequence[Waiting], most: int, seed: int = 0) -> list[Waiting]:
    """At most so many, patient by patient in turn, so that none of them fills the sample; in their order."""
    if len(waiting) <= most:
        return list(waiting)
    rng, turn = np.random.default_rng(seed), dict[str, int]()
    ranked = list[tuple[int, int]]()
    for row in rng.permutation(len(waiting)).tolist():
        patient = waiting[row].patient
        turn[patient] = turn.get(patient, 0) + 1
        ranked.append((turn[patient], row))
    ranked.sort(key=lambda one: one[0])
    return [waiting[row] for row in sorted(row for _, row in ranked[:most])]


def look_at(
    classifier: Classifier,
    waiting: Iterable[Waiting],
    *,
    window: Window | None = None,
    batch_size: int = 16,
    keep: bool = False,
    progress: str | None = None,
) -> SiteSlices:
    """Read, crop and answer each slice once; what cannot be read is left out, and told.

    `keep` holds what the network was given, and the slices, in memory; `progress` is the title of a bar. Raises
    InputError where none can be read.
    """
    parts, unreadable, looks = list[SiteSlices](), dict[str, str](), WindowLooks()
    remaining = iter(with_bar(waiting, progress))
    while batch := list(itertools.islice(remaining, batch_size)):
        read: list[tuple[Waiting, Slice]] = []
        for one in batch:
            try:
                read.append((one, one.read(classifier, window)))
            except SliceError as error:
                unreadable[one.name] = str(error)
        if read:
            parts.append(_look_at(classifier, read, keep))
            _look_through(classifier, [slice_ for _, slice_ in read], parts[-1].verdicts, looks)
    if not parts:
        first = next(iter(unreadable.values()), "there is none")
        raise InputError(f"none of {len(unreadable):,} slices can be read; the first: {first}")
    return replace(_join(parts, unreadable), window_hint=looks.hint())


def _look_through(
    classifier: Classifier, slices: Sequence[Slice], verdicts: Sequence[str | None], looks: WindowLooks
) -> None:
    """Look at some of the slices that the gate doubts through other windows, and count what would do."""
    for slice_, verdict in zip(slices, verdicts, strict=True):
        if verdict not in (None, ACCEPTED) and classifier.may_want_a_window(slice_) and looks.wants():
            looks.note(classifier.accepted_windows(slice_))


def _look_at(classifier: Classifier, read: Sequence[tuple[Waiting, Slice]], keep: bool) -> SiteSlices:
    slices = [slice_ for _, slice_ in read]
    prepared = [classifier.prepare(slice_) for slice_ in slices]
    inputs = np.stack([one.values for one in prepared])
    outputs, gate = classifier.network(inputs), classifier.gate
    verdicts = [
        None if gate is None else gate.judge(slice_, one.crop, outputs.features[row]).verdict
        for row, (slice_, one) in enumerate(zip(slices, prepared, strict=True))
    ]
    return SiteSlices(
        [one.name for one, _ in read],
        [one.patient for one, _ in read],
        np.array([one.label for one, _ in read], np.intp),
        seen_as(slices, prepared, outputs),
        outputs.logits,
        verdicts,
        np.array([_is_foreign(gate, *pair) for pair in zip(slices, prepared, strict=True)], bool),
        {},
        inputs if keep else None,
        tuple(replace(slice_, values=None) for slice_ in slices) if keep else (),
        None if classifier.attention is None else classifier.attention(outputs.features),
    )


def _is_foreign(gate: Gate | None, slice_: Slice, prepared: PreparedSlice) -> bool:
    """By one sign alone: doubts about size or window add up at a new site, and are what makes it one."""
    return gate is not None and any(sign.weight >= REFUSES for sign in gate.signs.against(slice_, prepared.crop))


def _join(parts: Sequence[SiteSlices], unreadable: dict[str, str]) -> SiteSlices:
    kept = [part.inputs for part in parts if part.inputs is not None]
    scored = [part.attention for part in parts if part.attention is not None]
    return SiteSlices(
        [name for part in parts for name in part.names],
        [patient for part in parts for patient in part.patients],
        np.concatenate([part.labels for part in parts]),
        Seen.join([part.seen for part in parts]),
        np.concatenate([part.logits for part in parts]),
        [verdict for part in parts for verdict in part.verdicts],
        np.concatenate([part.foreign for part in parts]),
        unreadable,
        np.concatenate(kept) if kept else None,
        tuple(slice_ for part in parts for slice_ in part.slices),
        np.concatenate(scored) if scored else None,
    )


def with_network(slices: SiteSlices, classifier: Classifier, batch_size: int = 16) -> SiteSlices:
    """The same slices as another network sees them, which takes the same inputs (kept); no gate is asked."""
    assert slices.inputs is not None
    batches = np.array_split(slices.inputs, max(1, -(-len(slices) // batch_size)))
    outputs = [classifier.network(batch) for batch in batches]
    logits = np.concatenate([one.logits for one in outputs])
    seen = replace(slices.seen, features=np.concatenate([one.features for one in outputs]), logits=tuple(logits))
    return replace(slices, seen=seen, logits=logits, verdicts=[None] * len(slices), attention=None)
