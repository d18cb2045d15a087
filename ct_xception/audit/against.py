"""One corpus held against another: what they share, how their images differ, and what a network makes of both.

    audit = audit_against(audit_corpus(corpus), other, checkpoint="runs/phantom/model")

The audit gains the findings, and `drift` with all that was measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit.drift import Sample, compare_corpora, sample_of
from ct_xception.audit.overlap import Overlap, SplitCorpus, find_shared, is_counted
from ct_xception.audit.report import Audit
from ct_xception.audit.survey import survey_corpus
from ct_xception.corpus.cells import slice_source
from ct_xception.corpus.labels import SPLITS
from ct_xception.errors import InputError, SliceError, printable
from ct_xception.serving.checkpoint import read_provenance
from ct_xception.serving.drift import feature_coordinates

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.corpus.listing import CorpusOptions
    from ct_xception.corpus.load import Corpus
    from ct_xception.serving.classifier import Classifier

Floats = NDArray[np.float64]

MOST_SEEN = 300  # slices of each corpus that a network looks at, whole patients


def audit_against(
    audit: Audit,
    other: Corpus,
    *,
    options: CorpusOptions | None = None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Audit:
    """The audit of a corpus with what another one has of it, and differs in; `options` are those of reading the other.

    Raises InputError where both are the same corpus, and CheckpointError.
    """
    mine = audit.corpus
    if mine.report["hash"] == other.report["hash"]:
        raise InputError(f"--against {printable(str(other.report['source']))}: is the corpus itself; name another.")
    classifier = None if checkpoint is None else _classifier(checkpoint)
    window, frame = (audit.window, audit.frame) if options is None else (options.window, options.frame)
    survey = survey_corpus(other.dataset, window=window, frame=frame, modality=other.modality, progress=progress)
    known = [SplitCorpus(mine.dataset, mine.report, {}, audit.survey)]
    overlap, alike = find_shared(known, SplitCorpus(other.dataset, other.report, {}, survey), progress=progress)
    patients = alike[len(audit.survey) :] if other.report["groups"]["origin"] is None else survey.groups
    overlap = without_counted(overlap, dict(zip(survey.sources, survey.groups, strict=True)))
    here_name, there_name = _names(mine, other)
    here = sample_of(here_name, [audit.survey], audit.twins.patients)
    there = sample_of(there_name, [survey], patients)
    notes = list[str]()
    known_features = None
    if classifier is not None:
        known_features, notes = _known_features(classifier, mine)
        here = _seen(classifier, mine, audit, here, seed, progress)
        theirs = dataclasses.replace(audit, survey=survey, corpus=other, window=window, frame=frame)
        there = _seen(classifier, other, theirs, there, seed, progress)
    name = None if classifier is None else classifier.name
    drift = compare_corpora(here, there, overlap=overlap, known_features=known_features, checkpoint=name, notes=notes)
    found = dataclasses.replace(audit, drift=drift)
    return found.with_findings(drift.findings())


def without_counted(overlap: Overlap, named: dict[str, str]) -> Overlap:
    """An overlap without the patients whose name is a mere count: two corpora may well count alike."""
    kept = [source for source in overlap.namesakes if not is_counted(named[source])]
    return dataclasses.replace(overlap, namesakes=kept)


def _names(mine: Corpus, other: Corpus) -> tuple[str, str]:
    """What the two are called: the last part of where they lie, or all of it where that is the same."""
    whole = [printable(str(one.report["source"])) for one in (mine, other)]
    short = ["/".join(Path(one).parts[-2 if Path(one).suffix else -1 :]) or one for one in whole]
    first, second = short if short[0] != short[1] else whole
    return first, second if first != second else f"{second} (against)"


def _classifier(checkpoint: str | Path) -> Classifier:
    from ct_xception.serving.classifier import Classifier

    found = Classifier.from_pretrained(checkpoint)
    if found.gate is None:
        raise InputError(
            f"--checkpoint {printable(checkpoint)}: it has no input gate, by which features are told; train it anew."
        )
    return found


def _known_features(classifier: Classifier, mine: Corpus) -> tuple[Floats | None, list[str]]:
    """The checkpoint's own values where it was trained on this very corpus, whose slices it knows."""
    assert classifier.checkpoint is not None
    trained_on = read_provenance(classifier.checkpoint.folder).get("corpus", {}).get("hash")
    if trained_on != mine.report["hash"]:
        return None, []
    if classifier.checkpoint.drift is None:
        return None, ["The network knows the slices that it was trained on: its features differ for that, too."]
    return classifier.checkpoint.drift.features.astype(np.float64), []


def _seen(classifier: Classifier, corpus: Corpus, audit: Audit, sample: Sample, seed: int, progress: bool) -> Sample:
    """The sample with what the network makes of some whole patients' slices."""
    from tqdm import tqdm

    assert classifier.gate is not None
    read = np.flatnonzero(audit.survey.readable)
    chosen = _some_patients(sample.units, seed)
    rows = _rows(corpus, read[chosen].tolist())
    shown = tqdm(rows, desc=f"network, {sample.name}", unit="image", disable=not progress)
    answers = list(
        classifier.predict_many((slice_source(row) for row in shown), window=audit.window, frame=audit.frame)
    )
    names = classifier.label_names
    logs = np.full((len(sample.units), len(names)), np.nan)
    coordinates: Floats | None = None
    for place, answer in zip(chosen, answers, strict=True):
        if isinstance(answer, SliceError) or answer.outputs is None:
            continue
        found = feature_coordinates(classifier.gate.distance, answer.outputs.features[None])[0]
        coordinates = np.full((len(sample.units), len(found)), np.nan) if coordinates is None else coordinates
        coordinates[place] = found
        logs[place] = np.log(np.maximum([answer.probabilities[name] for name in names], 1e-12))
    if coordinates is None:
        return sample
    return sample.with_network(coordinates, logs, names)


def _some_patients(units: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """The rows of whole patients at random, MOST_SEEN slices or the first patient's; in order."""
    order = np.random.default_rng(seed).permutation(int(units.max()) + 1)
    place = np.argsort(order)[units]
    turns = np.argsort(place, kind="stable")
    last = place[turns[min(MOST_SEEN, len(turns)) - 1]]
    whole = turns[place[turns] < last] if len(turns) > MOST_SEEN and last > 0 else turns[place[turns] <= last]
    return np.sort(whole)


def _rows(corpus: Corpus, rows: Sequence[int]) -> Dataset:
    """Some rows of a corpus, in a survey's order."""
    from datasets import concatenate_datasets

    columns = ("image", "source", "frame")
    parts = [corpus.dataset[name] for name in SPLITS if name in corpus.dataset]
    kept = [part.select_columns([name for name in columns if name in part.column_names]) for part in parts]
    return concatenate_datasets(kept).select(rows)
