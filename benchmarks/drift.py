"""Whether a set of slices is told from another corpus, and not from held-out patients of its own.

    python -m benchmarks.drift --model CHECKPOINT --corpora ../shared/corpora [--store FILE.json]

Of each corpus up to SLICES slices of whole patients are looked at once by one network. Then, many times over, half of a
corpus's patients are training, a quarter validation, and the last quarter is a set of slices of which nobody says whose
they are, as are the slices of each other corpus. Counted is how often such a set is called unlike.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from ct_xception.audit.survey import survey_corpus
from ct_xception.audit.twins.twins import find_twins
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.evaluation.gate_fit import Seen, fit_distance, see_items
from ct_xception.evaluation.shift.drift_fit import fit_reference
from ct_xception.imaging.decoded import keep_decoded
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.drift import Reference, judge_set, link_lookalikes
from ct_xception.statistics.intervals import wilson_interval

SLICES, DRAWS = 150, 20
PHANTOM = "phantom:patients=80,slices=3,seed=5"


def look(classifier: Classifier, name: str, source: str, seed: int) -> Seen:
    """The slices of some whole patients of a corpus, as the network sees them; look-alikes for unknown patients."""
    rows = unlabelled(source) if name == "lung-dx-dicom" else labelled(source)
    order = np.random.default_rng(seed).permutation(sorted(set(rows["group"])))
    place = {group: number for number, group in enumerate(order.tolist())}
    turns = sorted(range(len(rows)), key=lambda row: (place[rows[row]["group"]], row))
    return see_items(classifier, rows.select(turns[:SLICES]), progress=name)


def labelled(source: str) -> Dataset:
    """All images of a corpus with its patients, or with look-alikes where it knows none."""
    corpus = load_corpus(source, CorpusOptions(decode=False))
    whole = concatenate_datasets(list(corpus.dataset.values()))
    if corpus.report["groups"]["origin"] is None:
        rows = np.random.default_rng(0).permutation(len(whole))[:SLICES]
        whole = whole.select(np.sort(rows))
        survey = survey_corpus(DatasetDict({"test": whole}))
        alike = dict(zip(survey.sources, find_twins(survey).patients, strict=True))
        whole = whole.remove_columns("group").add_column("group", [alike[source] for source in whole["source"]])
    return whole


def unlabelled(source: str) -> Dataset:
    """Every DICOM file below a folder, a folder a patient."""
    files = sorted(Path(source).rglob("*.dcm"))
    rows = [
        {"image": {"path": str(file), "bytes": None}, "group": file.parent.name, "source": str(file)} for file in files
    ]
    return Dataset.from_list(rows)


def part(seen: Seen, mask: np.ndarray) -> Seen:
    """The slices where `mask` (N,) is true."""
    rows = np.flatnonzero(mask)
    columns = ("heights", "widths", "bodies", "lungs", "modalities", "windows", "traits", "thumbnails", "groups")
    chosen = {name: tuple(getattr(seen, name)[row] for row in rows) for name in columns}
    return Seen(seen.features[rows], **chosen)


def called_unlike(reference: Reference, distance: Any, seen: Seen, seed: int) -> bool:
    """Whether a set of slices of unknown patients is called unlike."""
    units = link_lookalikes(np.stack(seen.thumbnails))
    return judge_set(reference, distance, np.array(seen.traits), seen.features, units, seed=seed).unlike


def measure(found: Mapping[str, Seen], draws: int, seed: int) -> dict[str, dict[str, list[int]]]:
    """{corpus: {set: [times called unlike, times asked]}}; "itself" are its own held-out patients."""
    counts: dict[str, dict[str, list[int]]] = {}
    for name, seen in found.items():
        groups = np.array(seen.groups)
        known, own = np.unique(groups), dict[str, list[int]]()
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(known)
            cuts = np.split(order, [len(order) // 2, 3 * len(order) // 4])
            train, validation, held_out = (part(seen, np.isin(groups, cut)) for cut in cuts)
            distance = fit_distance(train.features)
            if distance is None or not (fitted := fit_reference(train, validation, distance))[0]:
                break
            rule, arrays = fitted
            reference = Reference(arrays["traits"], arrays["features"], rule["units_each"])
            for other, slices in {
                "itself": held_out,
                **{key: one for key, one in found.items() if key != name},
            }.items():
                hits = own.setdefault(other, [0, 0])
                hits[0] += called_unlike(reference, distance, slices, draw)
                hits[1] += 1
        counts[name] = own
    return counts


def main() -> None:
    """Measure, print a table, and store the counts where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="CHECKPOINT")
    parser.add_argument("--corpora", required=True, type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    classifier = Classifier.from_pretrained(options.model)
    sources = {path.name: str(path) for path in sorted(options.corpora.iterdir()) if path.is_dir()}
    sources = {
        name: f"{path}/slices.csv" if Path(path, "slices.csv").is_file() else path for name, path in sources.items()
    }
    with keep_decoded():
        found = {
            name: look(classifier, name, source, options.seed)
            for name, source in (sources | {"phantom": PHANTOM}).items()
        }
    counts = measure(found, options.draws, options.seed)
    for name, own in counts.items():
        for other, (hits, asked) in own.items():
            low, high = wilson_interval(hits / asked, asked)
            print(f"{name:24} {other:24} unlike {hits:3} of {asked:3} ({100 * low:.0f} to {100 * high:.0f} %)")
    if options.store:
        options.store.write_text(json.dumps({"counts": counts, "slices": {k: len(v.groups) for k, v in found.items()}}))


if __name__ == "__main__":
    main()
